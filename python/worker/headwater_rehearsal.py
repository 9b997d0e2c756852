"""What every clone does first, done by its zygote beforehand.

Python writes wherever it goes: how many refer to an object, code that it makes faster while it runs, what it
remembers of types. A clone gets a copy of each page that it writes to, which takes time and is memory of its
own. What its zygote has done already is there in all clones, and need not be written again.

Calls are played as a worker runs them, on rows that are made up here. Only code of the packages runs.
Whatever is changed for it is put back; no thread, no descriptor and no file is left.
"""

import faulthandler
import json
import os
import signal
import socket
import sys
import tempfile

ROUNDS = 3  # More change little.
MODULE = "headwater_rehearsed"
SOURCE = """import headwater


@headwater.function(memory="1GiB")
@headwater.python(pip={"none": "1"})
def rehearsed(rows=None):
    return 1
"""

TASK = {
    "project": "/",
    "module": MODULE + ".py",
    "function": "rehearsed",
    "returns": "any",
    "arguments": [],
    "files": [],
    "feeds": 0,
    "huge_pages": False,
    "network": False,
    "reuse": False,
    "part_bytes": 1 << 20,
    "variables": {},
}


def rehearse(worker, refresh):
    """Plays some calls. Packages may be of any version, or be of no use: that is for calls to find out."""
    kept = [sys.stdin, sys.stdout, sys.stderr, sys.argv, sys.path[:], signal.getsignal(signal.SIGTERM)]
    folder, variables = os.getcwd(), dict(os.environ)
    mine, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    mine.setblocking(False)
    server = worker.Server(theirs.detach())
    try:
        with mine:
            Play(worker, server, mine, refresh).run()
    finally:
        worker.FOUND.clear()
        server.socket.close()
        sys.stdin, sys.stdout, sys.stderr, sys.argv, sys.path[:] = kept[:5]
        signal.signal(signal.SIGTERM, kept[5])
        faulthandler.disable()
        os.chdir(folder)
        os.environ.clear()
        os.environ.update(variables)


class Play:
    """One rehearsal."""

    def __init__(self, worker, server, mine, refresh):
        self._worker = worker
        self._server = server
        self._mine = mine
        self._refresh = refresh

    def run(self):
        calls = [lambda: print("rehearsed"), fail]
        if "pandas" in sys.modules:
            calls.append(frame)
        played = [self._import]
        played += [lambda call=call: self._call(call) for call in calls]
        if "pyarrow" in sys.modules:
            played.append(self._call_with_table)
        played.append(lambda: self._refresh({"variables": {}}, []))
        for play in played:
            for _ in range(ROUNDS):
                try:
                    play()
                except Exception:
                    break

    def _import(self):
        """Finds a function as that of a project is found."""
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
        """Has the worker run a function, and takes what it says."""
        worker = self._worker
        worker.FOUND[:] = [function]
        socket.send_fds(self._mine, [json.dumps({**TASK, **fields}).encode()], given)
        worker.call(self._server, *self._server.receive_task())
        while True:
            try:
                _, found, _, _ = socket.recv_fds(self._mine, worker.MESSAGE_BYTES_MAX, 8)
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
    raise ValueError("rehearsed")


def frame():
    """A little of what most functions do with data frames."""
    import pandas

    frame = pandas.DataFrame({"n": [1, 2, 3], "x": [0.5, 1.5, 2.5], "s": ["a", "b", "a"]})
    frame["y"] = frame["n"] * frame["x"]
    int(frame["n"].sum())
    return frame[frame["n"] > 1]
