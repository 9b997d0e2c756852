"""The response body of a query: an Arrow stream that is checked for completeness."""

from __future__ import annotations

import http.client

# The end-of-stream marker of Arrow.
ARROW_END = b"\xff\xff\xff\xff\x00\x00\x00\x00"


class ArrowBody:
    """A response body as a file for pyarrow. `check_end` checks that the body is complete.

    pyarrow accepts the end of a file as the end of a stream. If a statement fails, the server omits
    the end-of-stream marker.
    """

    def __init__(self, response: http.client.HTTPResponse) -> None:
        self.response = response
        self.closed = False
        self._tail = b""

    def readable(self) -> bool:
        """Returns True."""
        return True

    def read(self, size: int = -1) -> bytes:
        """Returns `size` bytes, or fewer at the end of the body."""
        content = self.response.read(None if size < 0 else size)
        self._tail = (self._tail + content[-len(ARROW_END) :])[-len(ARROW_END) :]
        return content

    def close(self) -> None:
        """Marks the file as closed; the response stays open for `check_end`."""
        self.closed = True

    def check_end(self) -> None:
        """Raises `EOFError` if the stream does not end with its marker."""
        while self.read(65_536):
            pass
        if self._tail != ARROW_END:
            raise EOFError("the stream of record batches is incomplete")
