"""Runs one function of a user's project in an instance: for one call, or for several calls if these
allow the reuse of the process.

Descriptor 3 is a `SOCK_SEQPACKET` socket to the server. The worker receives a task as JSON (in a
memory file if the task is long) and the files of the input tables, which are read-only. Tables are
memory-mapped, never copied. Each printed line is sent with the line of code that printed it. The
result is sent in a memory file that is written once. A short result that is not a table is sent in
the message. Exceptions are sent with the frames of the user's code. This module imports few
modules, and none that a project could shadow.
"""

import fcntl
import json
import linecache
import os
import signal
import sys
import threading
import traceback

sys.path.append(os.path.dirname(os.path.abspath(__file__)))
import headwater_batches as batches  # noqa: E402
import headwater_cleanup as cleanup  # noqa: E402
import headwater_lake as lake  # noqa: E402
import headwater_tables as tables  # noqa: E402
from headwater_connection import CONTROL, SHORT_BYTES_MAX, Server  # noqa: E402
from headwater_conversion import (  # noqa: E402
    BATCH_ROWS_MAX,
    UnsupportedValue,
    is_tabular,
    plain_value,
    to_arrow,
    to_bool,
)
from headwater_hints import (  # noqa: E402
    TEXT_CHARS_MAX,
    chain,
    hint_for,
    is_unreachable,
    message_of,
)
from headwater_printer import Printer, relative  # noqa: E402
from headwater_rows import type_name  # noqa: E402

FRAMES_MAX = 50
HUGE_BYTES_MIN = 4 << 20  # In a smaller table, most of a huge page would be empty.
SEALS = fcntl.F_SEAL_SEAL | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE

# Top-level modules of packages that the zygote imported before the project was known.
PRELOADED = set()
SDK_FOLDER = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))


class Stopped(BaseException):
    """Raised in the user's code to stop it; `except Exception` does not catch it."""


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
    bytes_estimate = tables.size_of(table)
    if bytes_estimate < tables.REFERRED_BYTES_MIN:
        send_small(server, table)
        return
    large = task["huge_pages"] and bytes_estimate >= HUGE_BYTES_MIN
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


def send_small(server, table):
    """Sends an in-memory table that is too small to refer to the files of the inputs."""
    descriptor = lake.memory_file("headwater-output")
    left = memoryview(tables.to_ipc(table, BATCH_ROWS_MAX))
    while left:
        left = left[os.write(descriptor, left) :]
    fcntl.fcntl(descriptor, fcntl.F_ADD_SEALS, SEALS)
    server.hold("table", [descriptor])


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
