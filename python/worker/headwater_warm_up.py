"""Warm-up calls in a zygote. They make the first call of each clone faster.

Python writes to memory even when it only reads objects: it updates reference counts, specialized
bytecode and type caches. When a clone writes to a page, the kernel copies the page for this clone,
which costs time and memory. All clones share the caches that the zygote has filled.

The warm-up runs calls as a worker does, with generated rows. It runs only code of the packages and
its own functions. It restores all changed state, and leaves no thread, descriptor or file.
"""

import faulthandler
import json
import os
import signal
import socket
import sys
import tempfile

from headwater_connection import MESSAGE_BYTES_MAX, Server

ROUNDS = 3  # Further rounds have little effect.
MODULE = "headwater_warm_up_call"
SOURCE = """import headwater


@headwater.function(memory="1GiB")
@headwater.python(pip={"none": "1"})
def warm_up_call(rows=None):
    return 1
"""

TASK = {
    "project": "/",
    "module": MODULE + ".py",
    "function": "warm_up_call",
    "returns": "any",
    "arguments": [],
    "files": [],
    "feeds": 0,
    "huge_pages": False,
    "network": False,
    "settings": "decorator",
    "reuse": False,
    "prepare": False,
    "part_bytes": 1 << 20,
    "variables": {},
}


def warm_up(worker, refresh):
    """Runs the warm-up calls. Their errors are ignored: a real call reports an unusable package."""
    kept = [sys.stdin, sys.stdout, sys.stderr, sys.argv, sys.path[:], signal.getsignal(signal.SIGTERM)]
    folder, variables = os.getcwd(), dict(os.environ)
    mine, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    mine.setblocking(False)
    server = Server(theirs.detach())
    try:
        with mine:
            WarmUp(worker, server, mine, refresh).run()
    finally:
        worker.FOUND.clear()
        worker.SHADOWED.clear()
        server.socket.close()
        sys.stdin, sys.stdout, sys.stderr, sys.argv, sys.path[:] = kept[:5]
        # Clones close all descriptors. If a file object stayed open, it would later close another
        # file whose descriptor has the same number.
        if worker.STDIN[0] is not None:
            worker.STDIN[0].close()
            worker.STDIN[0] = None
        signal.signal(signal.SIGTERM, kept[5])
        faulthandler.disable()
        os.chdir(folder)
        os.environ.clear()
        os.environ.update(variables)


class WarmUp:
    """One series of warm-up calls."""

    def __init__(self, worker, server, mine, refresh):
        self._worker = worker
        self._server = server
        self._mine = mine
        self._refresh = refresh

    def run(self):
        calls = [lambda: print("warm-up"), fail]
        if "pandas" in sys.modules:
            calls.append(frame)
        steps = [self._import]
        steps += [lambda call=call: self._call(call) for call in calls]
        if "pyarrow" in sys.modules:
            steps.append(self._call_with_table)
        steps.append(lambda: self._refresh({"variables": {}}, []))
        for step in steps:
            for _ in range(ROUNDS):
                try:
                    step()
                except Exception:
                    break

    def _import(self):
        """Imports a module and finds a function in the module, as for a project."""
        with tempfile.TemporaryDirectory() as folder:
            with open(os.path.join(folder, MODULE + ".py"), "w", encoding="utf-8") as file:
                file.write(SOURCE)
            before = sys.path[:]
            try:
                self._worker.FOUND.clear()
                self._worker.find_function({**TASK, "project": folder})
            finally:
                self._worker.FOUND.clear()
                sys.modules.pop(MODULE, None)
                for entry in set(sys.path) - set(before):
                    sys.path_importer_cache.pop(entry, None)
                sys.path[:] = before

    def _call(self, function, given=(), **fields):
        """Runs a function in the worker, and discards its messages."""
        worker = self._worker
        worker.FOUND[TASK["module"], TASK["function"]] = function
        socket.send_fds(self._mine, [json.dumps({**TASK, **fields}).encode()], given)
        worker.call(self._server, *self._server.receive_task())
        while True:
            try:
                _, found, _, _ = socket.recv_fds(self._mine, MESSAGE_BYTES_MAX, 8)
            except BlockingIOError:
                return
            for descriptor in found:
                os.close(descriptor)

    def _call_with_table(self):
        import pyarrow

        worker = self._worker
        table = pyarrow.table({"n": [1, 2, 3], "s": ["a", None, "b"]})
        output = worker.Output(table.schema)
        output.writer.write_table(table)
        descriptor = output.seal()
        size = os.fstat(descriptor).st_size
        rows = {
            "name": "rows",
            "bytes": size,
            "extents": [[0, size, 0, 0]],
            "batches": False,
        }
        try:
            self._call(lambda rows: rows, [descriptor], files=[True], arguments=[rows])
        finally:
            os.close(descriptor)


def fail():
    raise ValueError("warm-up")


def frame():
    """Runs common operations on a data frame."""
    import pandas

    frame = pandas.DataFrame({"n": [1, 2, 3], "x": [0.5, 1.5, 2.5], "s": ["a", "b", "a"]})
    frame["y"] = frame["n"] * frame["x"]
    int(frame["n"].sum())
    return frame[frame["n"] > 1]
