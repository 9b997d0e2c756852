"""The connection of a worker to the server: receives tasks, and sends output and results."""

import base64
import json
import os
import socket
import threading

import headwater_cleanup as cleanup
from headwater_printer import shorten

CONTROL = 3
DESCRIPTORS_MAX = 100
MESSAGE_BYTES_MAX = 64 << 10
PART_BYTES_MAX = 32 << 10  # Maximum size of a part of an answer, before Base64.
SHORT_BYTES_MAX = 8 << 10  # Longer tasks and values are sent in a memory file.


class Server:
    """The connection to the server."""

    def __init__(self, descriptor=CONTROL):
        self.socket = socket.socket(fileno=descriptor)
        self.lock = threading.RLock()
        self.pid = os.getpid()
        self.unanswered = False
        #: The last message of the call and its descriptors, which are sent when the call ends; None
        #: for a call without such a message.
        self.outcome = None

    def send(self, said, descriptors=(), **fields):
        message = json.dumps({"said": said, **fields}).encode()
        if len(message) > MESSAGE_BYTES_MAX:
            fields = {key: shorten(value) for key, value in fields.items()}
            message = json.dumps({"said": said, **fields}).encode()
        with self.lock:
            socket.send_fds(self.socket, [message], list(descriptors))

    def hold(self, said, descriptors=(), **fields):
        """Keeps the last message of a call, which `finish` sends with the end of the call: one
        message instead of two wakes the server only once. `finish` also closes the descriptors."""
        self.outcome = said, descriptors, fields

    def finish(self, goes_on):
        """Sends the last message. `goes_on` is true if the process waits for another call. If it is
        false, the server reads no more messages."""
        if self.outcome is not None:
            (said, descriptors, fields), self.outcome = self.outcome, None
            self.send(said, descriptors, kept=goes_on, **fields)
            for descriptor in descriptors:
                os.close(descriptor)
        elif goes_on:
            self.send("kept")

    def begin_answer(self, media_type):
        """Begins a response that is sent in parts."""
        self.send("answer", media_type=media_type[:200])

    def send_bytes(self, content):
        """Sends the next part of a response. Blocks if the client reads slowly."""
        content = memoryview(content)
        for start in range(0, len(content), PART_BYTES_MAX):
            part = base64.b64encode(content[start : start + PART_BYTES_MAX])
            self.send("bytes", bytes=part.decode())

    def report(self, text):
        """Adds a log line that is written by Headwater, not by the function."""
        self.send("line", stream="system", file=None, line=None, text=text)

    def wait_for_next(self):
        """Waits until the server has stored a part. Ends this process if the server needs no more
        parts."""
        if self.socket.recv(64) != b"next":
            os._exit(0)
        self.unanswered = False

    def ask_for_file(self):
        """Requests a file with huge pages from the server, for the returned table."""
        self.send("file")
        data, received, _, _ = socket.recv_fds(self.socket, 64, 1)
        if not data:
            os._exit(0)
        return received[0] if received else None

    def receive_task(self):
        """Receives the task, and the descriptors of its tables and feeds."""
        descriptors = []
        task = None
        while task is None or len(descriptors) < len(task["files"]) + 2 * task["feeds"]:
            data, received, _, _ = socket.recv_fds(self.socket, SHORT_BYTES_MAX, DESCRIPTORS_MAX)
            if not data:
                os._exit(1)
            if data == b"rest":
                cleanup.rest()
                self.send("rested")
                continue
            if task is None:
                task = json.loads(data) if data != b"task" else read_task(received.pop(0))
            descriptors.extend(received)
        return task, descriptors


def read_task(descriptor):
    with open(descriptor, "rb") as file:
        file.seek(0)
        return json.load(file)
