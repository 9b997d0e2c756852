"""Requests of a function to the lake, for `headwater.lake`.

A request is a message on the worker's socket, with its content in a memory file. The answer is a
memory file: a line of JSON, and the content. One request at a time; each waits for its answer.
"""

import fcntl
import json
import os
import socket
import threading

REQUEST_CHARS_MAX = 32 << 10

# The worker's connection to the server and its functions; set at the start of each call.
_worker = None
_lock = threading.Lock()


def connect(worker, server):
    """Allows requests of this process."""
    global _worker
    _worker = (worker, server)


def memory_file(name):
    return os.memfd_create(name, os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)


def write(content):
    """Returns a sealed memory file with a content."""
    worker, _ = _worker
    descriptor = memory_file("headwater-content")
    with open(descriptor, "wb", closefd=False) as file:
        file.write(content)
    fcntl.fcntl(descriptor, fcntl.F_ADD_SEALS, worker.SEALS)
    return descriptor


def write_table(rows):
    """Returns a sealed memory file with a table, and the number of rows."""
    worker, _ = _worker
    table = worker.to_arrow(rows)
    schema = worker.plain(table.schema)
    batches = table.to_batches() if hasattr(table, "to_batches") else table
    output, count = worker.Output(schema), 0
    for batch in worker.in_schema(batches, schema):
        output.writer.write_batch(batch)
        count += batch.num_rows
    return output.seal(), count


def request(content=None, **fields):
    """Sends a request. Returns the value and the content of the answer, or the problem."""
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
