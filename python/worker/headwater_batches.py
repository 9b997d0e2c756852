"""Inputs that a function reads batch by batch. The rows come from the server, which produces them
while the function runs, or from an existing table.

A feed is a `SOCK_SEQPACKET` socket. The worker requests each batch; the response contains the
number of a file, and the length of the batch in this file. The server sends the file's descriptor
with the file's first batch, and the worker keeps the file mapped. The server reuses the file after
the function has dropped the batch. No bytes are copied.
"""

import collections
import json
import os
import socket
import threading
import weakref

import headwater_tables as tables

ANSWER_BYTES_MAX = 64 << 10
ROWS_MAX = 1 << 17


class InputFailed(Exception):
    """An input cannot be read completely. The call fails, even if the function catches this
    error."""


class Batches:
    """An input as record batches. Each iteration begins at the first row."""

    def __init__(self, name, source):
        self._name = name
        self._source = source

    @property
    def schema(self):
        """Returns the columns as a `pyarrow.Schema`."""
        return self._source.schema

    def __iter__(self):
        return self._source.begin()

    def to_batches(self, max_chunksize=None):
        """Iterates over the record batches, like `pyarrow.Table.to_batches`."""
        return self._source.begin() if max_chunksize is None else cut(self, max_chunksize)

    def to_reader(self, max_chunksize=None):
        """Returns a `pyarrow.RecordBatchReader`, which begins at the first row."""
        import pyarrow

        return pyarrow.RecordBatchReader.from_batches(self.schema, self.to_batches(max_chunksize))

    def __arrow_c_stream__(self, requested_schema=None):
        return self.to_reader().__arrow_c_stream__(requested_schema)

    def __getattr__(self, name):
        if name.startswith("__"):
            raise AttributeError(name)
        raise AttributeError(
            f"`{self._name}` is read as batches and has no `{name}`: iterate over it, or leave out "
            "`batches=True` to be passed a `pyarrow.Table`"
        )


def cut(batches, rows_max):
    for batch in batches:
        for start in range(0, batch.num_rows, rows_max):
            yield batch.slice(start, rows_max)


class TableBatches:
    """The batches of an existing table."""

    def __init__(self, table):
        self._table = table
        self.schema = table.schema

    def begin(self):
        return iter(self._table.to_batches(max_chunksize=ROWS_MAX))


class Lease:
    """The owner of a buffer in a file. Records that the last reference to the buffer was
    dropped."""

    __slots__ = ("_dropped", "_mapped", "_number")

    def __init__(self, dropped, number, mapped):
        self._dropped = dropped
        self._number = number
        self._mapped = mapped

    def __del__(self):
        # The garbage collector can call this method at any time, so only record the file's number.
        self._dropped.append(self._number)


class Feed:
    """The batches of an input that the server produces while the function reads it."""

    def __init__(self, name, descriptor, columns):
        import pyarrow

        self._name = name
        with open(columns, "rb") as file:
            file.seek(0)
            self.schema = pyarrow.ipc.open_stream(file.read()).schema
        self._socket = socket.socket(fileno=descriptor)
        self._lock = threading.Lock()
        self._pid = os.getpid()
        self._files = {}
        self._leased = set()
        self._dropped = collections.deque()
        self._forked = set()
        self._last = 0
        self._ended = True
        self._asked = None
        self._lost = None
        here = weakref.ref(self)
        os.register_at_fork(before=lambda: here() and here()._note_fork())

    def begin(self):
        """Returns an iterator that begins at the first row. An earlier iterator becomes invalid."""
        with self._lock:
            self._last += 1
            self._ended = False
            return Scan(self, self._last)

    def next(self, number):
        """Returns the next batch of an iteration; None after the last batch."""
        import pyarrow

        if os.getpid() != self._pid:
            raise RuntimeError(
                f"`{self._name}` cannot be read in a child process: iterate in the function's own "
                "process, and pass the batches on"
            )
        taken = False
        try:
            with self._lock:
                self._check(number)
                if self._ended:
                    return None
                while True:
                    self._wait(number)
                    taken = True
                    answer, buffer = self._receive(pyarrow)
                    if answer["scan"] == number:
                        break
                    # The batch belongs to an earlier, cancelled iteration.
                    taken, buffer = False, None
                self._asked = None
                self._ended = buffer is None
                if "failed" in answer:
                    failure = answer["failed"]
                    raise InputFailed(f"the rows of `{self._name}` cannot be read: {failure}")
                if buffer is None:
                    return None
                return pyarrow.ipc.read_record_batch(buffer, self.schema)
        except BaseException:
            # If the iteration is interrupted here, the received batch would be lost.
            if taken:
                self._lost = number
            raise

    def _check(self, number):
        if self._socket is None:
            raise RuntimeError(f"the call that `{self._name}` was passed to has ended")
        if number != self._last:
            raise RuntimeError(
                f"`{self._name}` has a newer iteration: finish one "
                "iteration before the next, or leave out `batches=True`"
            )
        if number == self._lost:
            try:
                self._say(broken=True)
            except OSError:
                pass
            raise InputFailed(
                f"a batch of `{self._name}` was lost by an earlier exception: iterate again"
            )

    def _wait(self, number):
        """Requests a batch and waits for the response. An interrupted wait loses no batch."""
        # If an earlier wait was interrupted, the request is already sent.
        if self._asked != number:
            self._say(next=number)
            self._asked = number
        self._socket.recv(1, socket.MSG_PEEK)

    def _receive(self, pyarrow):
        data, received, _, _ = socket.recv_fds(
            self._socket, ANSWER_BYTES_MAX, 1, socket.MSG_CMSG_CLOEXEC
        )
        if not data:
            raise InputFailed(f"the rows of `{self._name}` ended early")
        answer = json.loads(data)
        return answer, self._take(answer, received, pyarrow)

    def _take(self, answer, received, pyarrow):
        for gone in answer["gone"]:
            self._files.pop(gone, None)
        number = answer.get("file")
        if number is None:
            return None
        if received:
            size = answer["size"]
            try:
                self._files[number] = tables.Mapped(size, [(0, size, 0, 0)], received)
            finally:
                os.close(received[0])
        mapped = self._files.get(number)
        if mapped is None:
            raise InputFailed(f"a batch of `{self._name}` cannot be opened: too many files are open")
        self._leased.add(number)
        lease = Lease(self._dropped, number, mapped)
        return pyarrow.foreign_buffer(mapped.address, answer["bytes"], lease)

    def stop(self, number):
        """Cancels an iteration."""
        if os.getpid() != self._pid or not self._lock.acquire(blocking=False):
            return
        try:
            if self._socket is not None and number == self._last and not self._ended:
                self._ended = True
                self._say(end=True)
        except OSError:
            pass
        finally:
            self._lock.release()

    def _say(self, **asked):
        free, lost = [], []
        while self._dropped:
            number = self._dropped.popleft()
            self._leased.discard(number)
            forked = number in self._forked
            self._forked.discard(number)
            (lost if forked else free).append(number)
        # Limit the size of a message. This is needed only if the function has dropped many batches
        # since the last message.
        while len(free) + len(lost) > 2000:
            self._socket.send(json.dumps({"free": free[:1000], "lost": lost[:1000]}).encode())
            free, lost = free[1000:], lost[1000:]
        self._socket.send(json.dumps({"free": free, "lost": lost, **asked}).encode())

    def _note_fork(self):
        """Marks the files in use, so that they are not reused: a forked process can still read
        them."""
        if os.getpid() == self._pid:
            self._forked.update(self._leased)

    def close(self):
        """Closes the feed at the end of the call. Existing batches stay valid."""
        with self._lock:
            if self._socket is not None:
                self._socket.close()
                self._socket = None


class Scan:
    """One iteration over a feed."""

    def __init__(self, feed, number):
        self._feed = feed
        self._number = number

    def __iter__(self):
        return self

    def __next__(self):
        batch = self._feed.next(self._number)
        if batch is None:
            raise StopIteration
        return batch

    def __del__(self):
        self._feed.stop(self._number)
