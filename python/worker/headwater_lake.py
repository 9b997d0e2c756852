"""Requests of a function to the lake. Used by `headwater.lake`.

A request is a message on the worker's socket, with its content in a memory file. The response is a
memory file with a line of JSON and the content. A request waits for its response before the next
request is sent. """

import fcntl
import json
import os
import socket
import threading

import headwater_conversion as conversion
import headwater_tables as tables

REQUEST_CHARS_MAX = 32 << 10

# The worker's module and its connection to the server. Set at the start of the process.
_worker = None
_lock = threading.Lock()


def connect(worker, server):
    """Allows requests of this process."""
    global _worker
    _worker = (worker, server)


def memory_file(name):
    return os.memfd_create(name, os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)


def write(content):
    """Returns a sealed memory file with this content."""
    worker, _ = _worker
    descriptor = memory_file("headwater-content")
    with open(descriptor, "wb", closefd=False) as file:
        file.write(content)
    fcntl.fcntl(descriptor, fcntl.F_ADD_SEALS, worker.SEALS)
    return descriptor


TABLE_HINT = "Append a list of dicts, or a table of pyarrow, pandas or polars."
COLUMN_HINT = (
    "Use values of one type in each column. "
    "For integers of more than 64 bits, use `decimal.Decimal`."
)


class UnsupportedRows(Exception):
    """The rows cannot be converted to a table."""

    def __init__(self, message, hint):
        super().__init__(message)
        self.hint = hint


def write_table(rows):
    """Returns a sealed memory file with a table of these rows, and the number of rows. For a value
    without rows and columns, such as an empty list, the file is None. Raises `UnsupportedRows`."""
    try:
        return _write_table(rows)
    except conversion.NoColumns:
        return None, 0
    # The worker would report these exceptions as an error of the function's returned value.
    except conversion.UnsupportedColumn as error:
        raise UnsupportedRows(error.reason, COLUMN_HINT) from error
    except conversion.UnsupportedValue as error:
        reason = f": {error.reason}" if error.reason else ""
        raise UnsupportedRows(f"`{error}` is not a table{reason}", TABLE_HINT) from error


def _write_table(rows):
    worker, _ = _worker
    table = conversion.to_arrow(rows)
    if not table.schema.names and getattr(table, "num_rows", None) == 0:
        return None, 0
    schema = tables.plain(table.schema)
    batches = table.to_batches() if hasattr(table, "to_batches") else table
    output, count = worker.Output(schema), 0
    for batch in tables.in_schema(batches, schema):
        output.writer.write_batch(batch)
        count += batch.num_rows
    return output.seal(), count


def request(content=None, **fields):
    """Sends a request. Returns the value, the content and the problem of the response."""
    if sum(len(str(value)) for value in fields.values()) > REQUEST_CHARS_MAX:
        raise ValueError(f"the request is longer than {REQUEST_CHARS_MAX} characters")
    _, server = _worker
    if os.getpid() != server.pid:
        raise RuntimeError("`headwater.lake` works only in the function's first process")
    with _lock:
        server.send("lake", [] if content is None else [content], request=fields)
        _, received, _, _ = socket.recv_fds(server.socket, 64, 1)
    if not received:
        raise RuntimeError("the server has no memory for the response")
    with open(received[0], "rb") as file:
        file.seek(0)
        head = json.loads(file.readline())
        return head.get("value"), file.read(), head.get("error")


def is_connected():
    return _worker is not None
