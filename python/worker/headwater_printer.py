"""Standard output and standard error of the user's code. Each line is sent with the line of code
that printed it."""

import functools
import io
import os
import sys
import threading

LINE_CHARS_MAX = 8 << 10


class Printer(io.TextIOBase):
    """Standard output or standard error of the user's code. Sends each line with its location in
    the source."""

    encoding = "utf-8"
    errors = "replace"

    def __init__(self, server, stream, descriptor, project):
        self._server = server
        self._stream = stream
        self._descriptor = descriptor
        self._project = project
        self._pending = ""
        self._where = (None, None)
        self._lock = threading.RLock()

    @functools.cached_property
    def buffer(self):
        return io.FileIO(self._descriptor, "wb", closefd=False)

    def writable(self):
        return True

    def fileno(self):
        return self._descriptor

    def isatty(self):
        return False

    def reconfigure(self, **_):
        """Does nothing. Exists for code that sets the encoding of its output."""

    def write(self, text):
        if not isinstance(text, str):
            raise TypeError(f"write() argument must be str, not {type(text).__name__}")
        with self._lock:
            if text.strip("\r\n"):
                self._where = self._find(sys._getframe(1))
            *lines, self._pending = (self._pending + text).split("\n")
            for line in lines:
                self._send(line)
            while len(self._pending) > LINE_CHARS_MAX:
                cut, self._pending = self._pending[:LINE_CHARS_MAX], self._pending[LINE_CHARS_MAX:]
                self._send(cut)
        return len(text)

    def finish(self):
        """Sends the last line if the line has no newline."""
        with self._lock:
            if self._pending:
                self._send(self._pending)
                self._pending = ""

    def _find(self, frame):
        """Returns the file and line of the innermost frame that belongs to the user's code."""
        while frame is not None:
            file = relative(frame.f_code.co_filename, self._project)
            if file is not None:
                return file, frame.f_lineno
            frame = frame.f_back
        return None, None

    def _send(self, line):
        # A terminal shows only the text after the last carriage return.
        line = line.rstrip("\r").rsplit("\r", 1)[-1]
        file, number = self._where
        while True:
            self._server.send(
                "line", stream=self._stream, file=file, line=number, text=line[:LINE_CHARS_MAX]
            )
            line = line[LINE_CHARS_MAX:]
            if not line:
                return


def relative(file, project):
    """Returns the path of a project file relative to the project; None for other files."""
    prefix, hidden = project + os.sep, os.path.join(project, ".headwater")
    return file[len(prefix):] if file.startswith(prefix) and hidden not in file else None


def shorten(value):
    """Shortens a long text by omitting its middle, or a list by omitting all but its last items."""
    if isinstance(value, str) and len(value) > 2000:
        return f"{value[:1500]} ... {value[-400:]}"
    if isinstance(value, list):
        return value[-10:]
    return value
