"""Runs one function of a user's project in an instance: for one call, or for several calls if these
allow the reuse of the process.

Descriptor 3 is a `SOCK_SEQPACKET` socket to the server. The worker receives a task as JSON (in a
memory file if the task is long) and the files of the input tables, which are read-only. Tables are
memory-mapped, never copied. Each printed line is sent with the line of code that printed it. The
result is sent in a memory file that is written once. A short result that is not a table is sent in
the message. Exceptions are sent with the frames of the user's code. This module imports few
modules, and none that a project could shadow.
"""

import base64
import fcntl
import json
import linecache
import os
import signal
import socket
import sys
import threading
import traceback

sys.path.append(os.path.dirname(os.path.abspath(__file__)))
import headwater_batches as batches  # noqa: E402
import headwater_cleanup as cleanup  # noqa: E402
import headwater_lake as lake  # noqa: E402
import headwater_tables as tables  # noqa: E402
from headwater_hints import chain, hint_for, is_unreachable  # noqa: E402
from headwater_printer import Printer, relative, shorten  # noqa: E402
from headwater_rows import shown, type_name, why_no_column, why_no_rows  # noqa: E402

CONTROL = 3
DESCRIPTORS_MAX = 100
MESSAGE_BYTES_MAX = 64 << 10
PART_BYTES_MAX = 32 << 10  # Maximum size of a part of an answer, before Base64.
SHORT_BYTES_MAX = 8 << 10  # Longer tasks and values are sent in a memory file.
TEXT_CHARS_MAX = 8 << 10
FRAMES_MAX = 50
BATCH_ROWS_MAX = 1 << 17  # Maximum rows of a batch. Readers can process the output in batches.
HUGE_BYTES_MIN = 4 << 20  # In a smaller table, most of a huge page would be empty.
SEALS = fcntl.F_SEAL_SEAL | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE

# Top-level modules of packages that the zygote imported before the project was known.
PRELOADED = set()
SDK_FOLDER = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))


class Stopped(BaseException):
    """Raised in the user's code to stop it; `except Exception` does not catch it."""


class UnsupportedValue(Exception):
    """The returned value has an unsupported type. The message is the type. The optional `reason`
    explains why the value cannot be converted, and `hint` names a supported value."""

    def __init__(self, returned, reason=None, hint=None):
        super().__init__(returned)
        self.reason = reason
        self.hint = hint


class NoColumns(UnsupportedValue):
    """A value without rows, whose columns are unknown."""


class UnsupportedColumn(UnsupportedValue):
    """A list of dicts with values that one column cannot have."""


DECIMAL_DIGITS_MAX = 38
EMPTY_TABLE = 'pyarrow.schema([("id", pyarrow.int64())]).empty_table()'
EMPTY_HINT = f"Return an empty table that has its columns, such as `{EMPTY_TABLE}`."
PIECES_HINT = "Yield at least one table; each must have the columns of the first."


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


def forget_shadowed(folders):
    """Gives modules of the project precedence over preloaded packages of the same name."""
    own = set()
    for folder in folders - SHADOWED:
        SHADOWED.add(folder)
        try:
            own.update(name[:-3] if name.endswith(".py") else name for name in os.listdir(folder))
        except OSError:
            pass
    shadowed = own & PRELOADED
    if not shadowed:
        return  # Iterating over the names would copy their pages, which are shared with the zygote.
    for name in [name for name in sys.modules if name.split(".")[0] in shadowed]:
        del sys.modules[name]


SHADOWED = set()  # The folders whose modules have precedence already.
FOLDERS = []  # Folders in `/tmp` that existed before the first call, created by packages.
STDIN = [None]  # The standard input of all calls of a process: an empty file.
FOUND = {}  # The functions that were found, by module and name.


def found(task):
    """Returns the function of a call, if an earlier call of this process has found it."""
    return FOUND.get((task["module"], task["function"]))


def find_function(task):
    """Imports the user's module and finds the function in the module."""
    function = found(task)
    if function is not None:
        return function
    project = task["project"]
    path = task["module"]
    path = path[:-3] if path.endswith(".py") else path.replace(".", "/")
    folder = os.path.dirname(os.path.join(project, path))
    first = list(dict.fromkeys([project, folder, SDK_FOLDER]))
    sys.path[:] = first + [entry for entry in sys.path if entry not in first]
    forget_shadowed({project, folder})
    import importlib
    import importlib.util

    name = path.replace("/", ".")
    outermost = name.partition(".")[0]
    if os.path.isfile(os.path.join(folder, outermost + ".py")) and outermost != name:
        # Create the package of a file such as `models/models.py`. Otherwise, Python would import
        # the file as the package `models`.
        package = sys.modules.setdefault(outermost, type(sys)(outermost))
        package.__path__ = [os.path.join(project, outermost)]
    if all(part.isidentifier() for part in name.split(".")):
        module = importlib.import_module(name)
    else:
        file = os.path.join(project, path + ".py")
        # The module's name contains its folders, because `.headwater/functions/json.py` must not
        # replace `json`.
        spec = importlib.util.spec_from_file_location(name.replace(".", "_"), file)
        module = importlib.util.module_from_spec(spec)
        sys.modules[spec.name] = module
        spec.loader.exec_module(module)
    try:
        function = getattr(module, task["function"])
    except AttributeError:
        raise AttributeError(f"`{path}.py` has no function `{task['function']}`") from None
    FOUND[task["module"], task["function"]] = function
    return function


def to_arrow(value):
    """Converts a returned value to a table or a reader of record batches."""
    import pyarrow

    if isinstance(value, (pyarrow.Table, pyarrow.RecordBatchReader)):
        return value
    if isinstance(value, batches.Batches):
        return value.to_reader()
    if hasattr(value, "__next__"):
        return Pieces(value)
    if isinstance(value, pyarrow.RecordBatch):
        return pyarrow.Table.from_batches([value])
    name = type_name(value)
    try:
        if name == "polars.LazyFrame":
            value = value.collect()
        if name in ("polars.LazyFrame", "polars.DataFrame"):
            return value.to_arrow()
        if name == "pandas.DataFrame":
            return from_pandas(pyarrow, value)
        if isinstance(value, list) and all(isinstance(row, dict) for row in value) and any(value):
            return from_rows(pyarrow, value)
        if hasattr(value, "__arrow_c_stream__") and not name.endswith("Series"):
            return pyarrow.table(value)
    except (pyarrow.ArrowException, TypeError, ValueError) as error:
        raise UnsupportedValue(name, message_of(error)) from error
    if isinstance(value, list):
        if not value:
            raise NoColumns("list", "an empty list has no columns", EMPTY_HINT)
        hint = "Return a list of dicts, each with the values of one row by column."
        raise UnsupportedValue("list", why_no_rows(value), hint)
    raise UnsupportedValue("None" if value is None else name)


# Marks the end of a generator.
END = object()


class Pieces:
    """The values of a generator as the batches of one table. Each value can be anything that
    converts to a table; the first determines the columns."""

    def __init__(self, pieces):
        self._pieces = iter(pieces)
        first = next(self._pieces, END)
        if first is END:
            reason = "the generator yields nothing, so its columns are unknown"
            raise NoColumns("generator", reason, PIECES_HINT)
        self._first = as_table(first)
        self.schema = self._first.schema

    def __iter__(self):
        piece, self._first = self._first, None
        yield from piece.to_batches(max_chunksize=BATCH_ROWS_MAX)
        for piece in self._pieces:
            piece = self._fit(as_table(piece))
            yield from piece.to_batches(max_chunksize=BATCH_ROWS_MAX)

    def _fit(self, table):
        import pyarrow

        more = [name for name in table.schema.names if name not in self.schema.names]
        if more:
            reason = f"a piece has the column `{more[0]}`, which the first does not have"
            raise UnsupportedValue("generator", reason, PIECES_HINT)
        try:
            return table.select(self.schema.names).cast(self.schema)
        except (pyarrow.ArrowException, KeyError, ValueError) as error:
            reason = f"a piece does not have the columns of the first: {message_of(error)}"
            raise UnsupportedValue("generator", reason, PIECES_HINT) from error


def as_table(piece):
    """Converts one value of a generator to a table."""
    try:
        table = to_arrow(piece)
    except NoColumns as error:
        # Other pieces may have rows, so `lake.append` must not treat the value as empty.
        raise UnsupportedValue(str(error), error.reason, error.hint) from error
    if isinstance(table, Pieces):
        raise UnsupportedValue("generator", "the generator yields a generator", PIECES_HINT)
    return table if hasattr(table, "to_batches") else table.read_all()


def from_rows(pyarrow, rows):
    """Converts a list of dicts; the columns are the keys of all rows."""
    names = list(dict.fromkeys(name for row in rows for name in row))
    columns = {}
    for name in names:
        if not isinstance(name, str):
            reason = f"a row has the key {shown(name)}, but column names must be strings"
            hint = "Use strings as the keys of each dict: the keys are the column names."
            raise UnsupportedValue("list", reason, hint)
        values = [row.get(name) for row in rows]
        try:
            columns[name] = widened(pyarrow, pyarrow.array(values))
        except (pyarrow.ArrowException, TypeError, ValueError, OverflowError) as error:
            reason = why_no_column(pyarrow, name, values, error)
            raise UnsupportedColumn("list", reason) from error
    return pyarrow.table(columns)


def from_pandas(pyarrow, frame):
    """Converts a data frame. A named index, as after `groupby`, becomes columns."""
    if any(name is not None for name in frame.index.names):
        clash = [name for name in frame.index.names if name in frame.columns]
        frame = frame.reset_index(drop=bool(clash))
    frame.columns = [str(name) for name in frame.columns]
    table = pyarrow.Table.from_pandas(frame, preserve_index=False)
    # For a column of Python objects, Arrow infers the type from the values.
    for index, kind in enumerate(frame.dtypes):
        if kind == object and holds_decimals(pyarrow, table.schema.field(index).type):
            column = widened(pyarrow, table.column(index))
            table = table.set_column(index, table.schema.names[index], column)
    return table.replace_schema_metadata(None)


def holds_decimals(pyarrow, kind):
    return widened_type(pyarrow, kind) != kind


def widened(pyarrow, column):
    """Casts the decimals of a column of Python objects to the maximum precision, because the
    precision that Arrow infers depends on the values."""
    kind = widened_type(pyarrow, column.type)
    return column if kind == column.type else column.cast(kind)


def widened_type(pyarrow, kind):
    types = pyarrow.types
    if types.is_decimal(kind) and kind.precision <= DECIMAL_DIGITS_MAX:
        return pyarrow.decimal128(DECIMAL_DIGITS_MAX, kind.scale)
    if types.is_list(kind):
        return pyarrow.list_(kind.value_field.with_type(widened_type(pyarrow, kind.value_type)))
    if types.is_struct(kind):
        fields = [kind.field(index) for index in range(kind.num_fields)]
        return pyarrow.struct([field.with_type(widened_type(pyarrow, field.type)) for field in fields])
    return kind


def to_bool(value):
    if isinstance(value, bool):
        return value
    if type_name(value) in ("numpy.bool_", "numpy.bool"):
        return bool(value)
    if hasattr(value, "as_py") and isinstance(value.as_py(), bool):
        return value.as_py()
    raise UnsupportedValue("None" if value is None else type_name(value))


class Output:
    """A memory file of record batches, which is sealed when it is complete."""

    def __init__(self, schema):
        import pyarrow

        self.descriptor = lake.memory_file("headwater-output")
        self._file = open(self.descriptor, "wb", buffering=0, closefd=False)
        self.writer = pyarrow.ipc.new_file(self._file, schema)

    def bytes(self):
        return os.fstat(self.descriptor).st_size

    def seal(self):
        self.writer.close()
        self._file.close()
        fcntl.fcntl(self.descriptor, fcntl.F_ADD_SEALS, SEALS)
        return self.descriptor


def send_whole(server, table, task, inputs):
    """Sends an in-memory table as a list of extents. Some extents may refer to the files of the
    inputs."""
    large = task["huge_pages"] and tables.size_of(table) >= HUGE_BYTES_MIN
    given = server.ask_for_file() if large else None
    own = lake.memory_file("headwater-output") if given is None else given
    size, extents = tables.write_whole(table, BATCH_ROWS_MAX, own, inputs)
    outline = lake.memory_file("headwater-outline")
    with open(outline, "wb", closefd=False) as file:
        file.write(json.dumps({"bytes": size, "extents": extents}).encode())
    if given is None:
        fcntl.fcntl(own, fcntl.F_ADD_SEALS, SEALS)
        server.hold("laid", [outline, own])
        return
    # This is the last writable descriptor, so the file can no longer change.
    os.close(own)
    server.send("laid", [outline])
    os.close(outline)


def send_table(server, table, task, inputs):
    """Sends an in-memory table as a whole, and other tables in parts. While this function writes a
    part, the server may still be storing the previous part, but has stored all earlier parts."""
    if hasattr(table, "to_batches"):
        send_whole(server, table, task, inputs)
        return
    # Dictionaries cannot be shared between parts.
    schema = tables.plain(table.schema)
    output, sent = Output(schema), 0
    for batch in tables.in_schema(table, schema):
        if output.bytes() >= task["part_bytes"]:
            if sent:
                server.wait_for_next()
            send_output(server, "part", output)
            server.unanswered = True
            sent += 1
            output = Output(schema)
        output.writer.write_batch(batch)
    if sent:
        server.wait_for_next()
    send_output(server, "table", output)


def is_tabular(value):
    """Returns true if a value is a table, or an iterator of tables."""
    if type(value).__module__ == "builtins":
        return hasattr(value, "__next__")
    name = type_name(value)
    if name in ("polars.LazyFrame", "polars.DataFrame", "pandas.DataFrame"):
        return True
    if hasattr(value, "__next__"):
        return True
    return hasattr(value, "__arrow_c_stream__") and not name.endswith("Series")


def plain_value(value):
    """Converts a value that JSON does not support: dates, numpy values, decimals and UUIDs."""
    if hasattr(value, "isoformat"):
        return value.isoformat()
    if hasattr(value, "tolist"):
        return value.tolist()
    if type_name(value) in ("decimal.Decimal", "uuid.UUID"):
        return str(value)
    raise UnsupportedValue(type_name(value), "JSON cannot represent it")


def send_value(server, value, function):
    """Sends a value that is not a table as JSON."""
    try:
        text = json.dumps(value, default=plain_value, allow_nan=False)
    except (TypeError, ValueError, RecursionError) as error:
        raise UnsupportedValue(type_name(value), message_of(error)) from error
    if len(text) <= SHORT_BYTES_MAX and not hasattr(function, "end_call"):
        server.hold("value", text=text)
        return
    if len(text) <= SHORT_BYTES_MAX:
        # Send the result now, because the runtime of another language may take a long time to end
        # the call.
        server.send("value", text=text)
        return
    descriptor = lake.memory_file("headwater-value")
    with open(descriptor, "wb", closefd=False) as file:
        file.write(text.encode())
    server.send("value", [descriptor])
    os.close(descriptor)


def send_output(server, said, output):
    descriptor = output.seal()
    server.send(said, [descriptor])
    os.close(descriptor)


def frames_of(error, project):
    """Returns the user's frames, outermost first."""
    frames = []
    for frame, line in traceback.walk_tb(error.__traceback__):
        file = relative(frame.f_code.co_filename, project)
        if file is not None:
            source = linecache.getline(frame.f_code.co_filename, line).strip()
            function = frame.f_code.co_name
            frames.append({"file": file, "line": line, "function": function, "source": source})
    if isinstance(error, SyntaxError) and error.filename:
        file = relative(error.filename, project)
        if file is not None:
            source = (error.text or "").strip()
            line = error.lineno or 1
            frames.append({"file": file, "line": line, "function": "<module>", "source": source})
    for frame in frames:
        frame["source"] = frame["source"][:200]
    return frames[-FRAMES_MAX:]


def bytes_in_full_tmp(error):
    """Returns the number of bytes used in `/tmp` if the exception means that `/tmp` is full;
    otherwise None."""
    if any(isinstance(cause, OSError) and cause.errno == 28 for cause in chain(error)):
        try:
            found = os.statvfs("/tmp")
        except OSError:
            return None
        return (found.f_blocks - found.f_bfree) * found.f_frsize
    return None


def message_of(error):
    if isinstance(error, SyntaxError):
        return str(error.msg)
    try:
        text = str(error)
    except Exception:
        text = "<its message cannot be shown>"
    return text[:TEXT_CHARS_MAX]


def exception_name(error):
    kind = type(error)
    if kind.__module__ in ("builtins", "__main__"):
        return kind.__qualname__
    if hasattr(error, "headwater_name"):
        return error.headwater_name
    return f"{kind.__module__}.{kind.__qualname__}"


def stop(_signal, frame):
    """Handles SIGTERM. Raises `Stopped` once in the user's code, so that the code can clean up."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    raise Stopped


def hold_back():
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})


def let_through():
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})


def be_ended():
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    let_through()


def run(server, task, descriptors):
    """Calls the function and sends its result."""
    files = len(task["files"])
    feeds = []
    try:
        run_fed(server, task, descriptors[:files], descriptors[files:], feeds)
    finally:
        for feed in feeds:
            feed.close()


def run_fed(server, task, files, fed, feeds):
    arguments = {}
    inputs = tables.Inputs(files, task["files"])
    for argument in task["arguments"]:
        name = argument["name"]
        if "feed" in argument:
            number = 2 * argument["feed"]
            feeds.append(batches.Feed(name, *fed[number : number + 2]))
            value = batches.Batches(name, feeds[-1])
        elif "extents" in argument:
            value = inputs.open(argument["bytes"], argument["extents"])
            if argument["batches"]:
                value = batches.Batches(name, batches.TableBatches(value))
        else:
            value = argument["value"]
        arguments[name] = value
    inputs.close()
    function = find_function(task)
    hook = "prepare_call" if task["prepare"] else "begin_call"
    if hasattr(function, hook):
        getattr(function, hook)(task["call"], server)
    if task["prepare"]:
        return  # Wait for the call: a preparation does not run the function.
    value = function(**arguments)
    if hasattr(value, "headwater_answer"):
        value = value.headwater_answer(server, task["call"]["streams"])
    if task["returns"] == "bool":
        server.hold("bool", value=to_bool(value))
        return
    arguments.clear()
    if task["returns"] == "any" and not is_tabular(value):
        send_value(server, value, function)
        return
    send_table(server, to_arrow(value), task, inputs)


def unfit_to_go_on(error):
    return isinstance(error, (Stopped, MemoryError, SystemExit))


def can_go_on(server, task, error):
    """Returns true if this process can run another call. To prepare the process, empties `/tmp`,
    kills other processes, and returns to the project's folder."""
    # Continue only in the first process of a sandbox, which has the id 2. There, the other
    # processes, which are killed below, are all processes of this call.
    if server.unanswered or not task["reuse"] or server.pid != 2:
        return False
    function = found(task)
    if function is None or unfit_to_go_on(error):
        return False
    if threading.active_count() > 1 or cleanup.leaves_something():
        return False  # Threads would continue to run during the next call.
    if hasattr(function, "end_call"):
        return function.end_call()  # Do not kill the processes of the runtime of another language.
    try:
        cleanup.clean(FOLDERS)
        enter(task["project"])
    except OSError:
        return False
    return True


def enter(project):
    try:
        os.chdir(project)
    except OSError:
        os.chdir("/")  # A project without files has no folder.


def main():
    # Processes that `multiprocessing` spawns would run this file as the parent's `__main__`.
    vars(sys.modules["__main__"]).pop("__file__", None)
    server = Server()
    lake.connect(sys.modules[__name__], server)
    server.send("begun")
    FOLDERS.extend(folder for folder, _, _ in os.walk("/tmp") if folder != "/tmp")
    task, descriptors = server.receive_task()
    while call(server, task, descriptors):
        task, descriptors = server.receive_task()
    # Skip the normal exit of the interpreter, which takes a long time with large packages.
    os._exit(0)


def call(server, task, descriptors):
    """Runs one call. Returns true if the process can run another call."""
    for descriptor in descriptors:
        os.set_inheritable(descriptor, False)
    project = task["project"]
    if not FOUND:
        import faulthandler

        os.set_inheritable(CONTROL, False)
        faulthandler.enable(file=2)
        enter(project)
    printers = [Printer(server, name, fd, project) for name, fd in (("stdout", 1), ("stderr", 2))]
    sys.stdout, sys.stderr = printers
    sys.argv = [task["module"]]
    os.environ.update(task["variables"])
    if sys.stdin is not STDIN[0] or not is_open(sys.stdin):
        STDIN[0] = sys.stdin = open(os.devnull, encoding="utf-8")
    if signal.getsignal(signal.SIGTERM) is not stop:
        signal.signal(signal.SIGTERM, stop)
    if not FOUND:
        # SIGTERM must end a process that the user's code forks, as `multiprocessing` expects. Block
        # the signal during the fork, because Python discards pending signals when it forks.
        os.register_at_fork(
            before=hold_back, after_in_parent=let_through, after_in_child=be_ended
        )
    raised = None
    try:
        run(server, task, descriptors)
    except BaseException as error:
        if os.getpid() != server.pid:
            end_child(error, printers)
        raised = report(server, task, error)
    if os.getpid() != server.pid:
        os._exit(0)  # A child that the user's code forked, in which the call has returned.
    for printer in printers:
        printer.finish()
    goes_on = False
    try:
        goes_on = can_go_on(server, task, raised)
    finally:
        server.finish(goes_on)
    return goes_on


def is_open(file):
    try:
        return not file.closed
    except ValueError:
        return False  # The user's code detached the buffer of this stream.


def report(server, task, error):
    """Reports the exception of a call. Returns the exception; None if only the result was
    unsupported."""
    if isinstance(error, UnsupportedValue) and hasattr(found(task), "unfit"):
        error = found(task).unfit(str(error), error.reason)
    if isinstance(error, UnsupportedValue):
        reason = error.reason and error.reason[:TEXT_CHARS_MAX]
        server.send("unfit", returned=str(error)[:TEXT_CHARS_MAX], reason=reason, hint=error.hint)
        return None
    server.hold(
        "raised",
        exception=exception_name(error),
        message=message_of(error),
        frames=frames_of(error, task["project"]),
        hint=hint_for(error, task),
        unreachable=is_unreachable(error),
        full=bytes_in_full_tmp(error),
    )
    return error


def end_child(error, printers):
    """Ends a child that the user's code forked. Prints the exception and exits, as Python does."""
    status = 1
    if not isinstance(error, SystemExit):
        traceback.print_exception(error, file=printers[1])
    elif error.code is None or isinstance(error.code, int):
        status = (error.code or 0) & 0xFF
    else:
        print(error.code, file=printers[1])
    for printer in printers:
        printer.finish()
    os._exit(status)


if __name__ == "__main__":
    main()
