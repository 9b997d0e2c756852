"""One HTTP/1.1 connection of the Lambda Runtime API, which parses requests incrementally and
without threads.

Bodies may be chunked, with trailers. A body over the limit is rejected, which limits the memory of
a request.
"""

from __future__ import annotations

import socket

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable
    from typing import Any

#: Maximum size of a request line with its headers, in bytes.
HEAD_BYTES_MAX = 64 << 10

#: Maximum size of a chunk's header line in bytes.
_CHUNK_HEAD_BYTES_MAX = 1 << 10

_REASONS = {
    200: "OK",
    202: "Accepted",
    400: "Bad Request",
    401: "Unauthorized",
    403: "Forbidden",
    404: "Not Found",
    409: "Conflict",
    413: "Payload Too Large",
    431: "Request Header Fields Too Large",
    500: "Internal Server Error",
    503: "Service Unavailable",
}


class BadRequest(Exception):
    """A request is invalid HTTP or too large. Its connection is closed after the response."""

    def __init__(self, status: int, reason: str, path: str = "") -> None:
        super().__init__(reason)
        self.status = status
        self.path = path


class Request:
    """A complete request."""

    def __init__(
        self, method: str, path: str, headers: dict[str, str], keep_alive: bool
    ) -> None:
        self.method = method
        self.path = path
        #: Values of headers by lower-case name.
        self.headers = headers
        self.keep_alive = keep_alive
        self.body = b""
        self.trailers: dict[str, str] = {}


class Connection:
    """A connection that a Lambda runtime opened."""

    def __init__(self, accepted: socket.socket, body_bytes_max: int) -> None:
        self.socket = accepted
        self._body_bytes_max = body_bytes_max
        self._unread = bytearray()
        self._requests = self._parse()
        #: Returns the function that receives the parts of a chunked body; None to collect the body.
        self.sink_of: Callable[[Request], Callable[[bytes], object] | None] = lambda _: None
        #: The path of the request that is being received; empty between requests.
        self.path = ""
        #: True after an invalid request. Everything that is received afterwards is discarded.
        self.is_discarding = False

    def receive(self) -> list[Request] | None:
        """Reads the bytes that have arrived. Returns the complete requests; None if the connection
        has ended.

        Raises `BadRequest`.
        """
        try:
            received = self.socket.recv(1 << 18)
        except OSError:
            return None
        if not received:
            return None
        if self.is_discarding:
            return []
        self._unread += received
        complete: list[Request] = []
        while (request := next(self._requests)) is not None:
            complete.append(request)
        return complete

    def reply(
        self,
        status: int,
        body: bytes,
        headers: Iterable[tuple[str, Any]] = (),
        keep_alive: bool = True,
    ) -> bool:
        """Sends a response. Returns False if the connection has ended."""
        lines = [f"HTTP/1.1 {status} {_REASONS[status]}", f"Content-Length: {len(body)}"]
        lines.extend(f"{name}: {value}" for name, value in headers)
        if not keep_alive:
            lines.append("Connection: close")
        head = "\r\n".join([*lines, "", ""]).encode("latin-1", "replace")
        try:
            self.socket.sendall(head + body)
            if not keep_alive:
                self.is_discarding = True
                self.socket.shutdown(socket.SHUT_WR)
        except OSError:
            return False
        return True

    def _parse(self) -> Generator[Request | None, None, None]:
        """Parses received bytes. Yields each complete request, and None to wait for more bytes."""
        while True:
            request = yield from self._head()
            self.path = request.path
            if request.headers.get("expect", "").lower() == "100-continue":
                self.socket.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")
            if "chunked" in request.headers.get("transfer-encoding", "").lower():
                yield from self._chunks(request)
            else:
                request.body = yield from self._take(self._length(request.headers))
            self.path = ""
            yield request

    def _head(self) -> Generator[None, None, Request]:
        line = b""
        while not line:  # Empty lines may precede a request.
            line = yield from self._line(HEAD_BYTES_MAX)
        words = line.decode("latin-1").split(" ")
        if len(words) != 3 or not words[2].startswith("HTTP/1."):
            raise BadRequest(400, "the request line is not valid HTTP/1.1")
        headers = yield from self._fields()
        connection = headers.get("connection", "").lower()
        keep_alive = "close" not in connection and words[2] != "HTTP/1.0"
        return Request(words[0], words[1].partition("?")[0], headers, keep_alive)

    def _fields(self) -> Generator[None, None, dict[str, str]]:
        """Reads headers or trailers, up to the empty line. Returns values by lower-case name."""
        fields: dict[str, str] = {}
        left = HEAD_BYTES_MAX
        while line := (yield from self._line(left)):
            left -= len(line)
            name, colon, value = line.decode("latin-1").partition(":")
            if not colon or left <= 0:
                raise BadRequest(431 if colon else 400, "the headers are not valid")
            fields[name.strip().lower()] = value.strip()
        return fields

    def _length(self, headers: dict[str, str]) -> int:
        text = headers.get("content-length", "0")
        if not text.isdecimal():
            raise BadRequest(400, f"`{text[:40]}` is not a content length", self.path)
        self._check_size(int(text))
        return int(text)

    def _chunks(self, request: Request) -> Generator[None, None, None]:
        body = bytearray()
        sink = self.sink_of(request)
        while True:
            line = yield from self._line(_CHUNK_HEAD_BYTES_MAX)
            try:
                length = int(line.partition(b";")[0], 16)
            except ValueError:
                length = -1
            if length < 0:
                raise BadRequest(400, "a chunk of the body has no valid length", self.path)
            if length == 0:
                break
            self._check_size(len(body) + length)
            part = yield from self._take(length)
            if sink is None:
                body += part
            else:
                sink(part)
            yield from self._line(_CHUNK_HEAD_BYTES_MAX)
        request.body = bytes(body)
        request.trailers = yield from self._fields()

    def _check_size(self, size: int) -> None:
        if size > self._body_bytes_max:
            most = self._body_bytes_max >> 20
            raise BadRequest(413, f"the body has more than {most} MiB", self.path)

    def _line(self, bytes_max: int) -> Generator[None, None, bytes]:
        while (end := self._unread.find(b"\n")) < 0:
            if len(self._unread) > bytes_max:
                raise BadRequest(431, "a line of the request is too long", self.path)
            yield None
        line = bytes(self._unread[:end]).rstrip(b"\r")
        del self._unread[: end + 1]
        return line

    def _take(self, count: int) -> Generator[None, None, bytes]:
        while len(self._unread) < count:
            yield None
        taken = bytes(self._unread[:count])
        del self._unread[:count]
        return taken
