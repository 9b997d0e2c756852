"""A zygote: holds an environment's packages imported, and forks itself for each function.

It has one thread and runs nobody's code but that of the packages. Descriptor 3 is a socket to the
server, descriptor 4 one on which orders come. An order carries the namespaces of a sandbox that was
made for one function: the zygote forks into them (by a small library that it has preloaded), and the
fork, which is the first process of that sandbox to run anything, gives up what it gained, puts up the
last walls, draws its random state anew, waits for its call and becomes the function's worker.

A package that starts a thread when it is imported, or holds a socket or a pipe open, cannot be
forked: the zygote starts itself again without it, and each function imports it by itself.
"""

import ctypes
import gc
import json
import os
import random
import resource
import signal
import socket
import stat
import sys
import time

sys.path.append(os.path.dirname(os.path.abspath(__file__)))
import headwater_worker as worker  # noqa: E402

SERVER = 3
ORDERS = 4
DESCRIPTORS_MAX = 64
ORDER_BYTES_MAX = 128 << 10

# What every worker needs. Modules of the standard library that pandas and the like import late.
OWN = ["pyarrow", "pyarrow.ipc", "importlib.util", "faulthandler", "uuid", "tempfile", "logging"]
# What was left out of a start, beside packages.
REHEARSAL = "/rehearsal"
# Nearly every function's module imports it. One of the project's own takes its place.
SDK = "headwater"

PR_SET_DUMPABLE = 4
PR_SET_SECCOMP = 22
SECCOMP_FILTER = 2
SYS_LANDLOCK_RESTRICT_SELF = 446
SYS_CAPSET = {"x86_64": 126, "aarch64": 91}
CAPABILITY_VERSION_3 = 0x20080522

LIBC = ctypes.CDLL(None, use_errno=True)
# What is called with Python's lock held, looked up before the first fork.
SNAPSHOT = ctypes.PyDLL(None).headwater_snapshot
FORK = ctypes.PyDLL(None).headwater_fork
BEFORE_FORK = ctypes.pythonapi.PyOS_BeforeFork
AFTER_FORK = ctypes.pythonapi.PyOS_AfterFork_Parent
AFTER_FORK_IN_CHILD = ctypes.pythonapi.PyOS_AfterFork_Child


class Failed(Exception):
    """A step that failed."""


def check(step, answer):
    if answer != 0:
        raise Failed(step, os.strerror(ctypes.get_errno()))


class Filter(ctypes.Structure):
    _fields_ = [("length", ctypes.c_ushort), ("program", ctypes.c_char_p)]


def modules_of(distributions):
    """The modules that packages bring at the top level. The standard library's own way to tell imports and
    makes so much that it takes a tenth of what pandas does."""
    described = {}
    for folder in sys.path:
        for name in os.listdir(folder) if os.path.isdir(folder) else []:
            if name.endswith(".dist-info"):
                described.setdefault(plain(name.partition("-")[0]), os.path.join(folder, name))
    for distribution in distributions:
        folder = described.get(plain(distribution))
        if folder is not None:
            names = text_of(folder, "top_level.txt").split() or listed(folder)
            yield from sorted(name for name in set(names) if name.isidentifier() and not name.startswith("_"))


def plain(distribution):
    """Returns the normalized name of a package."""
    return "-".join(filter(None, distribution.lower().replace("_", "-").replace(".", "-").split("-")))


def text_of(folder, name):
    try:
        with open(os.path.join(folder, name), encoding="utf-8", errors="replace") as file:
            return file.read()
    except OSError:
        return ""


def listed(folder):
    """The modules at the top level among the files that a package lists."""
    for line in text_of(folder, "RECORD").splitlines():
        first, _, rest = line.partition(",")[0].partition("/")
        if rest == "__init__.py":
            yield first
        elif not rest and first.endswith(".py"):
            yield first[:-3]


def unfit():
    """Returns why this process cannot be forked now, or None."""
    threads = len(os.listdir("/proc/self/task"))
    if threads > 1:
        # Libraries that can be forked stop their threads for it: OpenBLAS does.
        pid = os.fork()
        if pid == 0:
            os._exit(0)
        os.waitpid(pid, 0)
        threads = len(os.listdir("/proc/self/task"))
    if threads > 1:
        return f"it starts {threads - 1} thread{'s' if threads > 2 else ''} when it is imported"
    for name in os.listdir("/proc/self/fd"):
        if int(name) > ORDERS:
            try:
                mode = os.fstat(int(name)).st_mode
            except OSError:
                continue
            if stat.S_ISSOCK(mode) or stat.S_ISFIFO(mode):
                return "it holds a connection open when it is imported"
    return None


def load(names, skipped):
    """Imports packages; those that do not fit send this process back to its start."""
    import importlib

    loaded = []
    for name in names:
        if name in skipped:
            continue
        try:
            importlib.import_module(name)
        except BaseException as error:
            # Whoever imports it will be told; others may not need it.
            skipped[name] = f"it raises {type(error).__name__} when it is imported"
            continue
        reason = unfit()
        if reason is not None:
            skipped[name] = reason
            restart(skipped)
        loaded.append(name)
    return loaded


def load_sdk():
    """Imports the SDK from its own folder, before any package that has its name, or imports it."""
    import importlib

    sys.path.insert(0, worker.SDK_FOLDER)
    importlib.import_module(SDK)
    del sys.path[0]


def rehearse(skipped):
    """Does beforehand what every clone would do; a package that starts a thread for it has this process
    start again without."""
    if REHEARSAL in skipped:
        return
    import headwater_rehearsal

    headwater_rehearsal.rehearse(worker, refresh)
    if unfit() is not None:
        restart({**skipped, REHEARSAL: ""})


def restart(skipped):
    for descriptor in (SERVER, ORDERS):
        os.set_inheritable(descriptor, True)
    os.execv(sys.executable, [sys.executable, "-I", "-B", __file__, json.dumps(skipped)])


def memory_bytes():
    """Returns the private memory of this process in bytes."""
    with open("/proc/self/smaps_rollup") as lines:
        private = [line.split()[1] for line in lines if line.startswith("Private_")]
    return 1024 * sum(map(int, private))


def reserved_bytes():
    """Private memory that this process may write, whether or not it has touched it, in bytes."""
    with open("/proc/self/status") as lines:
        return 1024 * next(int(line.split()[1]) for line in lines if line.startswith("VmData:"))


def folders_of(root):
    return [folder for folder, _, _ in os.walk(root)][1:]


def fork(order, descriptors, folders):
    """Forks for one order; returns only in the zygote."""
    seat, status = descriptors[:2]
    rest = descriptors[2:]
    rules = rest.pop(0) if order["rules"] else None
    namespaces, doors = rest[: order["namespaces"]], rest[order["namespaces"]:]
    if not fork_inside(doors, namespaces, status):
        return
    try:
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        os.setsid()
        give_up(order, rules)
        refresh(order, folders)
    except BaseException as error:
        step, reason = error.args if isinstance(error, Failed) else ("fork the zygote", str(error))
        tell(status, {"Failed": {"step": step, "error": reason}})
        os._exit(1)
    try:
        begin(seat)
        worker.main()
    finally:
        os._exit(1)


def fork_inside(doors, namespaces, status):
    """Forks through the doors of control groups into namespaces; true in the fork. The library tells what
    failed: the clones that run need the zygote to live."""
    of = [(ctypes.c_int * len(numbers))(*numbers) for numbers in (doors, namespaces)]
    BEFORE_FORK()
    if FORK(of[0], len(doors), of[1], len(namespaces), status):
        AFTER_FORK_IN_CHILD()
        return True
    AFTER_FORK()
    return False


CONTROL_NEXT = worker.CONTROL + 1


def tell(status, note):
    os.write(status, json.dumps(note).encode() + b"\n")


def begin(seat):
    """Waits for the call, and puts its descriptors where a worker looks for them."""
    with socket.socket(fileno=seat) as waiting:
        data, given, _, _ = socket.recv_fds(waiting, 64, DESCRIPTORS_MAX)
    if not data:
        os._exit(0)
    high = [os.dup(descriptor) for descriptor in given]
    for target, descriptor in enumerate(high, start=1):
        os.dup2(descriptor, target)
    os.closerange(CONTROL_NEXT, 1 << 16)


def give_up(order, rules):
    """Becomes the user of the sandbox, without a capability, behind the last walls."""
    user = order["user"]
    os.setresgid(user, user, user)
    os.setresuid(user, user, user)
    if order["data_bytes_max"] is not None:
        # What the packages have reserved is inherited, and most of it never touched.
        most = order["data_bytes_max"] + reserved_bytes()
        resource.setrlimit(resource.RLIMIT_DATA, (most, most))
    header = (ctypes.c_uint32 * 2)(CAPABILITY_VERSION_3, 0)
    nothing = (ctypes.c_uint32 * 6)()
    check("drop capabilities", LIBC.syscall(SYS_CAPSET[os.uname().machine], header, nothing))
    # After a change of user a process's own files in `/proc` are root's alone.
    check("own its files in /proc", LIBC.prctl(PR_SET_DUMPABLE, 1, 0, 0, 0))
    if rules is not None:
        check("restrict by landlock", LIBC.syscall(SYS_LANDLOCK_RESTRICT_SELF, rules, 0))
    program = bytes.fromhex(order["filter"])
    filter_ = Filter(len(program) // 8, program)
    set_filter = LIBC.prctl(PR_SET_SECCOMP, SECCOMP_FILTER, ctypes.byref(filter_), 0, 0)
    check("filter system calls", set_filter)


def refresh(order, folders):
    """Makes this process one that could not have been another clone."""
    os.environ.update(order["variables"])
    os.chdir("/")
    for folder in folders:
        os.makedirs(folder, exist_ok=True)
    seed = os.urandom(32)
    random.seed(int.from_bytes(seed, "big"))
    modules = sys.modules
    if "numpy.random" in modules:
        # Without a seed it makes objects of half a megabyte to draw one.
        modules["numpy.random"].seed(memoryview(seed).cast("I").tolist())
    if "ssl" in modules:
        modules["ssl"].RAND_add(seed, 32.0)
    if "tempfile" in modules:
        modules["tempfile"]._name_sequence = None
    if "uuid" in modules:
        modules["uuid"]._last_timestamp = None
        modules["uuid"]._node = None
    if "torch" in modules:
        modules["torch"].seed()


def main():
    skipped = json.loads(sys.argv[1]) if len(sys.argv) > 1 else {}
    began = time.monotonic()
    # What is imported stays: to look for what is to go would take longer than all but the imports.
    gc.disable()
    for descriptor in (SERVER, ORDERS):
        os.set_inheritable(descriptor, False)
    server = socket.socket(fileno=SERVER)
    orders = socket.socket(fileno=ORDERS)
    wanted = json.loads(os.environ.pop("HEADWATER_PACKAGES"))
    os.environ["HEADWATER_PACKAGES"] = json.dumps(wanted)
    names = list(dict.fromkeys([*OWN, *modules_of(wanted)]))
    load_sdk()
    loaded = load(names, skipped)
    worker.PRELOADED.update(name for name in [*loaded, SDK] if name not in OWN)
    folders = folders_of(os.environ["TMPDIR"])
    rehearse(skipped)
    # What a fork need not do itself, its own memory need not hold.
    os.environ.clear()
    # A fork that is done leaves nothing to wait for.
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    gc.freeze()
    gc.enable()
    ready = {
        "skipped": {name: why for name, why in skipped.items() if name != REHEARSAL},
        "took_ms": int((time.monotonic() - began) * 1000),
        "memory_bytes": memory_bytes(),
    }
    # Clones share what they have not changed, also after they have written to it.
    SNAPSHOT()
    server.send(json.dumps(ready).encode())
    server.close()
    while True:
        data, descriptors, _, _ = socket.recv_fds(orders, ORDER_BYTES_MAX, DESCRIPTORS_MAX)
        if not data:
            os._exit(0)
        fork(json.loads(data), descriptors, folders)
        for descriptor in descriptors:
            os.close(descriptor)


if __name__ == "__main__":
    main()
