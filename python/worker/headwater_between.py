"""Steps between two calls of a reused process: detects leftover kernel state, and releases memory.
"""

import ctypes
import os
import signal


def leaves_something():
    """Returns true if kernel objects of this call would be visible to the next: timers, or
    System V shared memory, semaphores and message queues."""
    for timer in (signal.ITIMER_REAL, signal.ITIMER_VIRTUAL, signal.ITIMER_PROF):
        signal.setitimer(timer, 0)
    return any(beginning_of(file).count(b"\n") > empty for file, empty in LISTS)


# Files that list kernel objects, and the number of lines of an empty list.
LISTS = [("/proc/self/timers", 0)] + [(f"/proc/sysvipc/{kind}", 1) for kind in ("shm", "sem", "msg")]


def beginning_of(file):
    """Returns the first bytes of a file, with few system calls; empty if the file does not
    exist."""
    try:
        descriptor = os.open(file, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return b""
    try:
        return os.read(descriptor, 4096)
    finally:
        os.close(descriptor)


def clean(folders):
    """Ends the other processes of the sandbox and empties `/tmp`, but for these folders."""
    try:
        os.kill(-1, signal.SIGKILL)
    except ProcessLookupError:
        pass
    try:
        while os.waitpid(-1, 0):
            pass
    except ChildProcessError:
        pass
    for entry in os.scandir("/tmp"):
        if entry.is_dir(follow_symlinks=False):
            import shutil

            shutil.rmtree(entry.path)
        else:
            os.unlink(entry.path)
    for folder in folders:
        os.makedirs(folder, exist_ok=True)


def rest():
    """Releases copies of pages whose content equals the zygote's snapshot. Does nothing in a
    process that is not a clone."""
    # Other threads, for example of a library, could write to the pages meanwhile.
    if len(os.listdir("/proc/self/task")) > 1:
        return
    try:
        ctypes.CDLL(None).headwater_rest()
    except AttributeError:
        pass
