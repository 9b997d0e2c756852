"""Connections to a lake's server: HTTP, or the Unix socket of a local lake.

`Connection` opens one connection per request, so several threads can use the same `Connection`. It
starts the lake's server if needed, and sends each request at most once. It raises error responses
as exceptions.
"""

from __future__ import annotations

import http.client
import io
import json
import os
import socket
import ssl
import subprocess
import sysconfig
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote, urlencode, urlsplit

from .errors import HeadwaterError, from_problem, make
from .profiles import Profile, find_profile, set_branch

LAKE_FOLDER = ".headwater"
JSON = "application/json"
ARROW = "application/vnd.apache.arrow.stream"

# The body of a request: JSON, the bytes of an Arrow stream, or a file.
Body = Mapping[str, Any] | list[dict[str, Any]] | bytes | io.BufferedReader | None

# The file in a lake's folder with the server's addresses.
RECORD = "server.json"

# The file in a lake's folder that names its active branch.
HEAD = "HEAD"

# The maximum length of a socket path, in bytes.
SOCKET_PATH_BYTES_MAX = 107

# The time limit for starting a server and running a query, in seconds.
START_SECONDS_MAX = 120


def segments(*parts: str) -> str:
    """Percent-encodes the segments of a path: `/v1/branches/feature%2Fx`."""
    for part in parts:
        if not isinstance(part, str) or not part:
            raise make("invalid_argument", f"`{part!r}` is not a valid name")
    return "".join("/" + quote(part, safe="-._~") for part in parts)


def find_lake(lake: str | os.PathLike[str] | None, start: str | None = None) -> str:
    """Returns the absolute path of the `.headwater` folder of `lake`. Without `lake`, searches the
    parent folders."""
    if lake is not None:
        return _lake_at(os.path.abspath(os.fspath(lake)))
    folder = os.path.abspath(start or os.getcwd())
    while True:
        found = os.path.join(folder, LAKE_FOLDER)
        if os.path.isdir(found):
            return os.path.realpath(found)
        if folder == os.path.dirname(folder):
            hint = "Run `headwater init` to create one, or name one with `lake=` or `url=`."
            raise make("file_not_found", "no lake in this folder or its parents", hint)
        folder = os.path.dirname(folder)


def _lake_at(folder: str) -> str:
    is_lake = os.path.basename(folder) == LAKE_FOLDER
    is_lake = is_lake or os.path.isfile(os.path.join(folder, "lake.db"))
    found = folder if is_lake else os.path.join(folder, LAKE_FOLDER)
    if not os.path.isdir(found):
        hint = "Run `headwater init` to create one."
        raise make("file_not_found", f"no lake in `{folder}`", hint)
    return os.path.realpath(found)


class SocketConnection(http.client.HTTPConnection):
    """HTTP over a Unix socket, at a path of any length."""

    def __init__(self, path: str) -> None:
        super().__init__("localhost")
        self.path = path

    def connect(self) -> None:
        """Opens the connection. A path that exceeds the limit is opened through its folder's file
        descriptor."""
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            if len(os.fsencode(self.path)) <= SOCKET_PATH_BYTES_MAX:
                self.sock.connect(self.path)
                return
            folder = os.open(os.path.dirname(self.path), os.O_RDONLY)
            try:
                self.sock.connect(f"/proc/self/fd/{folder}/{os.path.basename(self.path)}")
            finally:
                os.close(folder)
        except OSError:
            self.close()
            raise


class Connection:
    """Sends requests to one server.

    `url` is the server's address, such as `http://127.0.0.1:4280`. Without it, `lake` is a local
    lake, whose server `command` starts if needed. HTTP requests need a token: `token`, or the token
    of the nearest lake's server if that server has the address `url`. `certificate` is a PEM file
    to trust instead of the system's certificates. `profile` names a server of `headwater login`;
    the server of the last login is used if there is no lake.
    """

    def __init__(
        self,
        lake: str | os.PathLike[str] | None,
        url: str | None,
        command: str | None,
        author: str,
        token: str | None = None,
        certificate: str | os.PathLike[str] | None = None,
        profile: str | None = None,
    ) -> None:
        if [lake, url, profile].count(None) < 2:
            message = "more than one of `lake`, `url` and `profile` is given"
            raise make("invalid_argument", message, "Give one of them.")
        self.author = author
        self.profile = _choose_profile(lake, url, profile)
        if self.profile is not None:
            url, token = self.profile.url, token or self.profile.token
            certificate = certificate or self.profile.certificate
        self.token = None if token is None else _check_token(token)
        self.command = command or _installed_command()
        self.url = None if url is None else _check_url(url)
        self.lake = None if url is not None else find_lake(lake)
        self.trusted = None if certificate is None else _read_certificate(certificate)

    def active_branch(self) -> str | None:
        """Returns the branch set by `headwater checkout`; None with `url`, or if none is set."""
        if self.profile is not None:
            return self.profile.branch
        if self.lake is None:
            return None
        try:
            with open(os.path.join(self.lake, HEAD), encoding="utf-8") as file:
                return file.read().strip() or None
        except (OSError, ValueError):
            return None

    def set_active_branch(self, branch: str) -> None:
        """Sets the active branch, as `headwater checkout` does."""
        if self.profile is None and self.lake is None:
            message = "a client with `url=` has no active branch"
            raise make("invalid_argument", message, "Pass `ref=` to each method.")
        try:
            if self.profile is not None:
                self.profile = set_branch(self.profile, branch)
            else:
                path = os.path.join(str(self.lake), HEAD)
                temporary = f"{path}.{os.getpid()}"
                with open(temporary, "w", encoding="utf-8") as file:
                    file.write(f"{branch}\n")
                os.replace(temporary, path)
        except (OSError, ValueError, KeyError) as error:
            message = "the active branch cannot be stored"
            raise make("storage", message, causes=[_cause(error)]) from error

    def send(
        self,
        method: str,
        path: str,
        body: Body = None,
        parameters: Mapping[str, Any] | None = None,
        accept: str = JSON,
    ) -> http.client.HTTPResponse:
        """Sends a request and returns the response with its body unread. A request body of type
        `bytes` is sent as Arrow, an open file with its contents, and any other body as JSON.

        Raises the error of the response, or `UnavailableError` if the server is unreachable.
        """
        connection, token = self._connect()
        try:
            target = _target(path, parameters)
            response = self._exchange(connection, token, method, target, body, accept)
            if response.status >= 400:
                raise _error(response)
            return response
        except (OSError, http.client.HTTPException) as error:
            connection.close()
            message = "the server closed the connection before it responded"
            hint = "Check with `headwater job ls` whether the request was executed."
            raise make("unavailable", message, hint, causes=[_cause(error)]) from error
        except BaseException:
            connection.close()
            raise

    def json(
        self,
        method: str,
        path: str,
        body: Body = None,
        parameters: Mapping[str, Any] | None = None,
    ) -> Any:
        """Sends a request and returns the JSON of the response; None if it is empty."""
        with self.send(method, path, body, parameters) as response:
            try:
                content = response.read()
                return json.loads(content) if content else None
            except (OSError, http.client.HTTPException, ValueError) as error:
                message = "the server's response was cut off"
                raise make("unavailable", message, causes=[_cause(error)]) from error

    def _exchange(
        self,
        connection: http.client.HTTPConnection,
        token: str | None,
        method: str,
        target: str,
        body: Body,
        accept: str,
    ) -> http.client.HTTPResponse:
        is_raw = body is None or isinstance(body, (bytes, io.BufferedReader))
        content: Any = body if is_raw else json.dumps(body).encode()
        headers: dict[str, Any] = {
            "Accept": accept,
            # The server closes the connection after this request.
            "Connection": "close",
            "X-Headwater-Author": self.author.encode(),
        }
        if isinstance(body, io.BufferedReader):
            headers["Content-Type"] = "application/octet-stream"
            headers["Content-Length"] = str(os.fstat(body.fileno()).st_size)
        elif content is not None:
            headers["Content-Type"] = ARROW if isinstance(body, bytes) else JSON
        if token is not None:
            headers["Authorization"] = f"Bearer {token}"
        connection.request(method, target, content, headers)
        return connection.getresponse()

    def _connect(self) -> tuple[http.client.HTTPConnection, str | None]:
        """Returns a connection and its token."""
        if self.url is not None:
            record = _noted_record(self.url)
            trusted = self.trusted or _noted_certificate(record)
            return _open_url(self.url, trusted), self.token or _read_token(record)
        found = self._open_lake()
        if found is None:
            self._start()
            found = self._open_lake()
        if found is None:
            log = os.path.join(str(self.lake), "server.log")
            hint = f"Read the server's log, `{log}`, for the reason."
            raise make("unavailable", "the lake's server does not start", hint)
        return found

    def _open_lake(self) -> tuple[http.client.HTTPConnection, str | None] | None:
        """Returns a connection to the lake's server and its token; None if no server responds."""
        record = _read_record(str(self.lake))
        # A killed server does not remove its record, so only a connection shows whether the server
        # runs.
        for name, opener in (("socket", SocketConnection), ("http", http.client.HTTPConnection)):
            # Use the Unix socket of a server with TLS. The server's record contains the socket,
            # too.
            if record.get(name) and not (name == "http" and record.get("tls")):
                connection = opener(record[name])
                try:
                    connection.connect()
                    return connection, self.token or _read_token(record)
                except OSError:
                    connection.close()
        return None

    def _start(self) -> None:
        """Starts the lake's server by running the command. The server continues to run after the
        command has ended."""
        arguments = [self.command, "query", "SELECT 1", "--lake", str(self.lake)]
        message = "the lake's server does not start"
        try:
            ended = subprocess.run(
                arguments,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                timeout=START_SECONDS_MAX,
                check=False,
            )
        except FileNotFoundError as error:
            message = f"the command `{self.command}`, which starts the lake's server, was not found"
            hint = "Add the command to PATH, name it with `command=`, or run `headwater serve`."
            raise make("unavailable", message, hint) from error
        except (OSError, subprocess.TimeoutExpired) as error:
            raise make("unavailable", message, causes=[_cause(error)]) from error
        if ended.returncode != 0:
            said = ended.stderr.decode(errors="replace").strip()
            raise make("unavailable", message, causes=[said] if said else [])


def _choose_profile(
    lake: str | os.PathLike[str] | None, url: str | None, profile: str | None
) -> Profile | None:
    """Returns the profile to use, by the same rules as the command line. Returns None if the caller
    specifies a lake or a URL, or is in a lake's folder."""
    if lake is not None or url is not None:
        return None
    named = profile or os.environ.get("HEADWATER_PROFILE") or None
    if named is not None:
        return find_profile(named)
    try:
        find_lake(None)
    except HeadwaterError:
        return find_profile(None)
    return None


def _installed_command() -> str:
    """Returns the path of the command that the wheel installed for this interpreter, or else the
    name of the command, which is then found in `PATH`."""
    installed = os.path.join(sysconfig.get_path("scripts"), "headwater")
    return installed if os.path.isfile(installed) else "headwater"


def _read_record(lake: str) -> dict[str, Any]:
    """Reads the record of the lake's server. Returns an empty dict if no record exists."""
    try:
        with open(os.path.join(lake, RECORD), "rb") as file:
            record = json.load(file)
    except (OSError, ValueError):
        return {}
    return record if isinstance(record, dict) else {}


def _read_token(record: Mapping[str, Any]) -> str | None:
    try:
        with open(record.get("token_file") or "", encoding="ascii") as file:
            return file.read().strip() or None
    except (OSError, ValueError):
        return None


def _noted_record(url: str) -> dict[str, Any]:
    """Returns the record of the nearest lake's server if `url` is the HTTP address of this server,
    and otherwise an empty dict."""
    try:
        record = _read_record(find_lake(None))
        noted = urlsplit(f"http://{record['http']}")
        given = urlsplit(url)
        port = given.port or (443 if given.scheme == "https" else 80)
        # A server that listens on all addresses is also reachable on loopback.
        bound = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(str(noted.hostname), noted.hostname)
        same = port == noted.port and given.hostname in (bound, "localhost")
    except (HeadwaterError, KeyError, OSError, ValueError):
        return {}
    return record if same else {}


def _noted_certificate(record: Mapping[str, Any]) -> str | None:
    path = record.get("certificate_file")
    try:
        return _read_certificate(path) if path else None
    except HeadwaterError:
        return None


def _read_certificate(path: str | os.PathLike[str]) -> str:
    try:
        with open(path, encoding="ascii") as file:
            return file.read()
    except (OSError, ValueError) as error:
        message = f"the certificate `{os.fspath(path)}` cannot be read"
        raise make("invalid_argument", message, causes=[_cause(error)]) from error


def _check_token(token: str) -> str:
    if not token or not token.isascii() or not token.isprintable() or " " in token:
        message = "the token is empty, or contains spaces or other invalid characters"
        hint = "Pass the contents of `.headwater/server.token`, without the line break."
        raise make("invalid_argument", message, hint)
    return token


def _check_url(url: str) -> str:
    parts = urlsplit(url)
    try:
        usable = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        usable = False
    if not usable or parts.path.strip("/") or parts.query or parts.fragment:
        hint = "Write a URL such as `http://127.0.0.1:4280`."
        raise make("invalid_argument", f"`{url}` is not a server's address", hint)
    return url.rstrip("/")


def _open_url(url: str, trusted: str | None) -> http.client.HTTPConnection:
    parts = urlsplit(url)
    host = str(parts.hostname)
    # Put an IPv6 address in brackets; otherwise its last part would be parsed as the port.
    host = f"[{host}]" if ":" in host else host
    connection: http.client.HTTPConnection
    if parts.scheme == "https":
        connection = _secure_connection(host, parts.port, trusted)
    else:
        connection = http.client.HTTPConnection(host, parts.port)
    try:
        connection.connect()
        return connection
    except ssl.SSLCertVerificationError as error:
        connection.close()
        message = f"the certificate of `{url}` is not trusted"
        hint = "Name the file of the certificate with `certificate=`."
        raise make("unavailable", message, hint, causes=[_cause(error)]) from error
    except OSError as error:
        connection.close()
        hint = "Start the server with `headwater serve`, or correct `url=`."
        message = f"no server responds at `{url}`"
        if isinstance(error, ssl.SSLError):
            message = f"the server at `{url}` does not use TLS"
            hint = "Use `http://` for a server without TLS."
        raise make("unavailable", message, hint, causes=[_cause(error)]) from error


def _secure_connection(
    host: str, port: int | None, trusted: str | None
) -> http.client.HTTPSConnection:
    try:
        context = ssl.create_default_context(cadata=trusted)
    except (ssl.SSLError, ValueError) as error:
        message = "the trusted certificate is not a PEM file"
        raise make("invalid_argument", message, causes=[_cause(error)]) from error
    return http.client.HTTPSConnection(host, port, context=context)


def _target(path: str, parameters: Mapping[str, Any] | None) -> str:
    given = {name: value for name, value in (parameters or {}).items() if value is not None}
    flags = {True: "true", False: "false"}
    texts = {
        name: flags[value] if isinstance(value, bool) else str(value)
        for name, value in given.items()
    }
    return f"{path}?{urlencode(texts)}" if texts else path


def _error(response: http.client.HTTPResponse) -> HeadwaterError:
    """Returns the error of an error response."""
    with response:
        content = response.read()
    try:
        problem = json.loads(content)
    except ValueError:
        problem = None
    if isinstance(problem, dict) and "code" in problem:
        return from_problem(problem)
    message = f"the server responded with HTTP status `{response.status}` and no error message"
    return make("internal", message, "Check that the address is a Headwater server's.")


def _cause(error: BaseException) -> str:
    return str(error) or type(error).__name__
