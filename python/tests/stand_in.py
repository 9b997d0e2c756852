"""A fake Headwater server. It returns responses that a test sets, and records the requests."""

from __future__ import annotations

import http.server
import json
import os
import socketserver
import tempfile
import threading
import unittest
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import headwater


@dataclass
class Answer:
    """A response: a status, a body (JSON unless it is bytes) and headers.

    With `chunks`, the body is sent in these chunks. With `cut`, the connection ends before the
    final empty chunk.
    """

    body: object = None
    status: int = 200
    headers: dict = field(default_factory=dict)
    chunks: list | None = None
    cut: bool = False


@dataclass
class Seen:
    """A received request. Its path is still percent-encoded."""

    method: str
    path: str
    parameters: dict
    body: object
    headers: dict


class StandIn:
    """The responses by method and path, and the received requests. Several responses are returned
    in order, and the last response is repeated."""

    def __init__(self):
        self.answers = {}
        self.seen = []

    def on(self, method, path, *answers):
        """Sets the responses to a method and path."""
        self.answers[method, path] = list(answers)

    def last(self):
        """Returns the latest request."""
        return self.seen[-1]

    def find(self, seen):
        """Returns the response to a request."""
        answers = self.answers.get((seen.method, seen.path))
        if answers is None:
            return Answer({"code": "route_not_found", "message": f"no `{seen.path}`"}, 404)
        return answers.pop(0) if len(answers) > 1 else answers[0]


class Handler(http.server.BaseHTTPRequestHandler):
    """Handles one request."""

    protocol_version = "HTTP/1.1"

    def handle_any(self):
        """Records the request and sends a response."""
        stand_in = self.server.stand_in
        parts = urlsplit(self.path)
        content = self.rfile.read(int(self.headers.get("content-length", 0)))
        parameters = {name: values[0] for name, values in parse_qs(parts.query).items()}
        is_json = self.headers.get("content-type", "application/json") == "application/json"
        body = (json.loads(content) if is_json else content) if content else None
        headers = {name.lower(): value for name, value in self.headers.items()}
        seen = Seen(self.command, parts.path, parameters, body, headers)
        stand_in.seen.append(seen)
        # A client may close the connection before it has read the whole response.
        with suppress(ConnectionError):
            self.answer(stand_in.find(seen))

    do_GET = do_POST = do_PUT = do_DELETE = do_PATCH = handle_any

    def answer(self, answer):
        """Sends a response."""
        self.close_connection = True
        self.send_response(answer.status)
        for name, value in {"Connection": "close", **answer.headers}.items():
            self.send_header(name, value)
        if answer.chunks is not None:
            self.send_chunks(answer)
            return
        body = answer.body if isinstance(answer.body, bytes) else json.dumps(answer.body).encode()
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def send_chunks(self, answer):
        """Sends a chunked body, with or without its final chunk."""
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        for chunk in answer.chunks:
            self.wfile.write(b"%x\r\n%b\r\n" % (len(chunk), chunk))
        if not answer.cut:
            self.wfile.write(b"0\r\n\r\n")

    def log_message(self, *_):
        """Does nothing, so that requests are not logged."""


class TcpServer(socketserver.ThreadingMixIn, socketserver.TCPServer):
    """A server on a TCP port."""

    daemon_threads = True


class SocketServer(socketserver.ThreadingMixIn, socketserver.UnixStreamServer):
    """A server on a Unix socket."""

    daemon_threads = True


@contextmanager
def _serving(server):
    server.stand_in = StandIn()
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    try:
        yield server.stand_in
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@contextmanager
def serve_tcp():
    """Runs a fake server on a free TCP port. Yields the server and its address."""
    server = TcpServer(("127.0.0.1", 0), Handler)
    with _serving(server) as stand_in:
        yield stand_in, f"http://127.0.0.1:{server.server_address[1]}"


@contextmanager
def serve_lake(lake):
    """Runs a fake server of the lake in this `.headwater` folder. Yields the server."""
    os.makedirs(lake, exist_ok=True)
    path = os.path.join(lake, "server.sock")
    # Bind the socket through a descriptor of its folder, as the real server does, because the path
    # may be too long.
    folder = os.open(lake, os.O_RDONLY)
    try:
        server = SocketServer(f"/proc/self/fd/{folder}/server.sock", Handler)
    finally:
        os.close(folder)
    record = {"pid": os.getpid(), "version": "0.1.0", "socket": path, "http": None}
    with open(os.path.join(lake, "server.json"), "w") as file:
        json.dump(record, file)
    try:
        with _serving(server) as stand_in:
            yield stand_in
    finally:
        os.remove(path)


class WithServer(unittest.TestCase):
    """The base of tests with a fake server on a TCP port and a client of it."""

    def setUp(self):
        serving = serve_tcp()
        self.server, url = serving.__enter__()
        self.addCleanup(serving.__exit__, None, None, None)
        self.client = headwater.Client(url=url, author="mø@here")

    def folder(self):
        """Creates a temporary folder."""
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        return Path(folder.name)

    def check(self, call, method, path, parameters=None, body=None, answer=None):
        """Checks that a call sends this request, and returns the server's response."""
        answer = [{"name": "x"}] if answer is None else answer
        self.server.on(method, path, Answer(answer))
        self.assertEqual(call(), answer)
        seen = self.server.last()
        self.assertEqual(seen.parameters, parameters or {})
        self.assertEqual(seen.body, body)
