"""A server that stands in for Headwater's: it answers what a test tells it to, and notes what it got."""

from __future__ import annotations

import http.server
import json
import os
import socketserver
import threading
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from urllib.parse import parse_qs, urlsplit


@dataclass
class Answer:
    """What to answer: a status, a body (JSON unless it is bytes), headers.

    With `chunks` the body is sent in those; with `cut` the connection ends before the last chunk.
    """

    body: object = None
    status: int = 200
    headers: dict = field(default_factory=dict)
    chunks: list | None = None
    cut: bool = False


@dataclass
class Seen:
    """A request as it arrived, its path still encoded."""

    method: str
    path: str
    parameters: dict
    body: object
    headers: dict


class StandIn:
    """Answers by method and path; a list of answers is used up in order, its last one kept."""

    def __init__(self):
        self.answers = {}
        self.seen = []

    def on(self, method, path, *answers):
        """Says what to answer to a method and path."""
        self.answers[method, path] = list(answers)

    def last(self):
        """The newest request."""
        return self.seen[-1]

    def find(self, seen):
        """The answer to a request."""
        answers = self.answers.get((seen.method, seen.path))
        if answers is None:
            return Answer({"code": "route_not_found", "message": f"no `{seen.path}`"}, 404)
        return answers.pop(0) if len(answers) > 1 else answers[0]


class Handler(http.server.BaseHTTPRequestHandler):
    """One request of the stand-in's."""

    protocol_version = "HTTP/1.1"

    def handle_any(self):
        """Notes the request and answers it."""
        stand_in = self.server.stand_in
        parts = urlsplit(self.path)
        content = self.rfile.read(int(self.headers.get("content-length", 0)))
        parameters = {name: values[0] for name, values in parse_qs(parts.query).items()}
        is_json = self.headers.get("content-type", "application/json") == "application/json"
        body = (json.loads(content) if is_json else content) if content else None
        headers = {name.lower(): value for name, value in self.headers.items()}
        seen = Seen(self.command, parts.path, parameters, body, headers)
        stand_in.seen.append(seen)
        # A client may close the connection before it has read everything.
        with suppress(ConnectionError):
            self.answer(stand_in.find(seen))

    do_GET = do_POST = do_PUT = do_DELETE = do_PATCH = handle_any

    def answer(self, answer):
        """Sends an answer."""
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
        """Sends a chunked body, whole or cut."""
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        for chunk in answer.chunks:
            self.wfile.write(b"%x\r\n%b\r\n" % (len(chunk), chunk))
        if not answer.cut:
            self.wfile.write(b"0\r\n\r\n")

    def log_message(self, *_):
        """Says nothing."""


class TcpServer(socketserver.ThreadingMixIn, socketserver.TCPServer):
    """Over TCP, on a port that the system picks."""

    daemon_threads = True


class SocketServer(socketserver.ThreadingMixIn, socketserver.UnixStreamServer):
    """Over a Unix socket."""

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
    """A stand-in over TCP, and its address."""
    server = TcpServer(("127.0.0.1", 0), Handler)
    with _serving(server) as stand_in:
        yield stand_in, f"http://127.0.0.1:{server.server_address[1]}"


@contextmanager
def serve_lake(lake):
    """A stand-in for the server of the lake in this `.headwater` folder."""
    os.makedirs(lake, exist_ok=True)
    path = os.path.join(lake, "server.sock")
    # A long path is bound through a descriptor of its folder, as in the real server.
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
