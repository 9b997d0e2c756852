"""A zygote: imports an environment's packages, and forks itself for each function.

The zygote has one thread, and runs only code of the packages. Descriptor 3 is a socket to the
server; descriptor 4 receives fork requests. A request contains the namespaces of a sandbox that was
created for one function. With a small preloaded C library, the zygote forks into these namespaces.
The fork is the first process of the sandbox. It drops its privileges, applies landlock and seccomp,
reseeds its random generators, waits for a call and becomes the function's worker.

A process cannot be forked after it has imported a package that starts a thread on import, or that
keeps a socket or a pipe open. The zygote then restarts without this package, and functions import
the package themselves.
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

# Modules that every worker needs, and modules of the standard library that packages such as pandas
# import only when they are used.
OWN = ["pyarrow", "pyarrow.ipc", "importlib.util", "faulthandler", "uuid", "tempfile", "logging"]
# The key in `skipped` that turns off the warm-up calls. All other keys are packages.
WARM_UP = "/warm-up"
# The SDK, which nearly every function imports. A module of this name in the project takes
# precedence.
SDK = "headwater"

PR_SET_DUMPABLE = 4
PR_SET_SECCOMP = 22
SECCOMP_FILTER = 2
SYS_LANDLOCK_RESTRICT_SELF = 446
SYS_CAPSET = {"x86_64": 126, "aarch64": 91}
CAPABILITY_VERSION_3 = 0x20080522

LIBC = ctypes.CDLL(None, use_errno=True)
# C functions that are called with the GIL held. They are looked up before the first fork.
SNAPSHOT = ctypes.PyDLL(None).headwater_snapshot
FORK = ctypes.PyDLL(None).headwater_fork
BEFORE_FORK = ctypes.pythonapi.PyOS_BeforeFork
AFTER_FORK = ctypes.pythonapi.PyOS_AfterFork_Parent
AFTER_FORK_IN_CHILD = ctypes.pythonapi.PyOS_AfterFork_Child


class Failed(Exception):
    """A step of a fork failed."""


def check(step, answer):
    if answer != 0:
        raise Failed(step, os.strerror(ctypes.get_errno()))


class Filter(ctypes.Structure):
    _fields_ = [("length", ctypes.c_ushort), ("program", ctypes.c_char_p)]


def modules_of(distributions):
    """Yields the top-level modules of packages. `importlib.metadata` is not used, because
    importing it takes a tenth of the time of importing pandas."""
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
    """Yields the top-level modules that a package's RECORD lists."""
    for line in text_of(folder, "RECORD").splitlines():
        first, _, rest = line.partition(",")[0].partition("/")
        if rest == "__init__.py":
            yield first
        elif not rest and first.endswith(".py"):
            yield first[:-3]


def unfit():
    """Returns the reason why this process cannot be forked now, or None."""
    threads = len(os.listdir("/proc/self/task"))
    if threads > 1:
        # Some libraries, such as OpenBLAS, stop their threads before a fork.
        pid = os.fork()
        if pid == 0:
            os._exit(0)
        os.waitpid(pid, 0)
        threads = len(os.listdir("/proc/self/task"))
    if threads > 1:
        count = f"{threads - 1} thread{'s' if threads > 2 else ''}"
        return f"the package starts {count} when it is imported"
    for name in os.listdir("/proc/self/fd"):
        if int(name) > ORDERS:
            try:
                mode = os.fstat(int(name)).st_mode
            except OSError:
                continue
            if stat.S_ISSOCK(mode) or stat.S_ISFIFO(mode):
                return "the package holds a connection open when it is imported"
    return None


def load(names, skipped):
    """Imports packages. If the process cannot be forked after an import, restarts it without this
    package."""
    import importlib

    loaded = []
    for name in names:
        if name in skipped:
            continue
        try:
            importlib.import_module(name)
        except BaseException as error:
            # Ignore the error here. Functions that import the package get the error.
            skipped[name] = f"the package raises {type(error).__name__} when it is imported"
            continue
        reason = unfit()
        if reason is not None:
            skipped[name] = reason
            restart(skipped)
        loaded.append(name)
    return loaded


def load_sdk():
    """Imports the SDK from its own folder. Must run before the import of packages, because a
    package may have the same name or import the SDK."""
    import importlib

    sys.path.insert(0, worker.SDK_FOLDER)
    importlib.import_module(SDK)
    del sys.path[0]


def warm_up(skipped):
    """Runs warm-up calls. If the process cannot be forked afterwards, restarts it without warm-up
    calls."""
    if WARM_UP in skipped:
        return
    import headwater_warm_up

    headwater_warm_up.warm_up(worker, refresh)
    if unfit() is not None:
        restart({**skipped, WARM_UP: ""})


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
    """Returns the size of this process's writable private mappings (VmData), in bytes."""
    with open("/proc/self/status") as lines:
        return 1024 * next(int(line.split()[1]) for line in lines if line.startswith("VmData:"))


def folders_of(root):
    return [folder for folder, _, _ in os.walk(root)][1:]


def fork(order, descriptors, folders):
    """Forks for one request. Returns only in the zygote."""
    call_socket, status = descriptors[:2]
    rest = descriptors[2:]
    rules = rest.pop(0) if order["rules"] else None
    namespaces, cgroups = rest[: order["namespaces"]], rest[order["namespaces"]:]
    if not fork_inside(cgroups, namespaces, status):
        return
    try:
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        os.setsid()
        give_up(order, rules)
        refresh(order, folders)
    except BaseException as error:
        step, reason = error.args if isinstance(error, Failed) else ("fork a process", str(error))
        tell(status, {"Failed": {"step": step, "error": reason}})
        os._exit(1)
    try:
        begin(call_socket)
        worker.main()
    finally:
        os._exit(1)


def fork_inside(cgroups, namespaces, status):
    """Forks into control groups and namespaces, which are given as descriptors. Returns true in the
    fork. The library writes errors to the descriptor `status` instead of ending the zygote, because
    the zygote must not exit while clones run."""
    of = [(ctypes.c_int * len(numbers))(*numbers) for numbers in (cgroups, namespaces)]
    BEFORE_FORK()
    if FORK(of[0], len(cgroups), of[1], len(namespaces), status):
        AFTER_FORK_IN_CHILD()
        return True
    AFTER_FORK()
    return False


CONTROL_NEXT = worker.CONTROL + 1


def tell(status, note):
    os.write(status, json.dumps(note).encode() + b"\n")


def begin(call_socket):
    """Waits for the call, and moves the call's descriptors to the numbers that a worker expects."""
    with socket.socket(fileno=call_socket) as waiting:
        data, given, _, _ = socket.recv_fds(waiting, 64, DESCRIPTORS_MAX)
    if not data:
        os._exit(0)
    high = [os.dup(descriptor) for descriptor in given]
    for target, descriptor in enumerate(high, start=1):
        os.dup2(descriptor, target)
    os.closerange(CONTROL_NEXT, 1 << 16)


def give_up(order, rules):
    """Drops privileges: sets the sandbox's user, drops all capabilities, applies landlock and
    seccomp."""
    user = order["user"]
    os.setresgid(user, user, user)
    os.setresuid(user, user, user)
    if order["data_bytes_max"] is not None:
        # Add the memory that the packages reserved in the zygote. The fork inherits this memory and
        # never touches most of it.
        most = order["data_bytes_max"] + reserved_bytes()
        resource.setrlimit(resource.RLIMIT_DATA, (most, most))
    header = (ctypes.c_uint32 * 2)(CAPABILITY_VERSION_3, 0)
    nothing = (ctypes.c_uint32 * 6)()
    check("drop capabilities", LIBC.syscall(SYS_CAPSET[os.uname().machine], header, nothing))
    # Needed because after a change of user, a process's files in `/proc` belong to root.
    check("own its files in /proc", LIBC.prctl(PR_SET_DUMPABLE, 1, 0, 0, 0))
    if rules is not None:
        check("restrict by landlock", LIBC.syscall(SYS_LANDLOCK_RESTRICT_SELF, rules, 0))
    program = bytes.fromhex(order["filter"])
    filter_ = Filter(len(program) // 8, program)
    set_filter = LIBC.prctl(PR_SET_SECCOMP, SECCOMP_FILTER, ctypes.byref(filter_), 0, 0)
    check("filter system calls", set_filter)


def refresh(order, folders):
    """Resets the state that clones must not share: environment variables, folders, random seeds and
    unique ids."""
    os.environ.update(order["variables"])
    os.chdir("/")
    for folder in folders:
        os.makedirs(folder, exist_ok=True)
    seed = os.urandom(32)
    random.seed(int.from_bytes(seed, "big"))
    modules = sys.modules
    if "numpy.random" in modules:
        # Pass a seed, because numpy would allocate half a megabyte to generate one.
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
    # Disable garbage collection during the imports. It would only cost time, because imported
    # modules are never freed.
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
    warm_up(skipped)
    # Clear the environment variables once here, so that forks do not copy their pages.
    os.environ.clear()
    # Let the kernel reap ended forks, so that no zombies remain.
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    gc.freeze()
    gc.enable()
    ready = {
        "skipped": {name: why for name, why in skipped.items() if name != WARM_UP},
        "took_ms": int((time.monotonic() - began) * 1000),
        "memory_bytes": memory_bytes(),
    }
    # A clone shares the pages that have the same content as this snapshot, even after it wrote to
    # these pages.
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
