"""Between two calls of one process: what must not be there for the next, and what need not be held
meanwhile.
"""

import ctypes
import os
import signal


def leaves_something():
    """Whether the kernel holds something for this process that it would show the next call: timers, or
    shared memory, semaphores and queues that belong to no process."""
    for timer in (signal.ITIMER_REAL, signal.ITIMER_VIRTUAL, signal.ITIMER_PROF):
        signal.setitimer(timer, 0)
    return any(beginning_of(file).count(b"\n") > empty for file, empty in LISTS)


# What the kernel lists there, and the lines of a list that is empty.
LISTS = [("/proc/self/timers", 0)] + [(f"/proc/sysvipc/{kind}", 1) for kind in ("shm", "sem", "msg")]


def beginning_of(file):
    """What a file begins with, in as few calls as can be; what is not there holds nothing."""
    try:
        descriptor = os.open(file, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return b""
    try:
        return os.read(descriptor, 4096)
    finally:
        os.close(descriptor)


def rest():
    """Gives back copies of pages that are as they are in the zygote, where this is a clone of one that
    made a snapshot."""
    # Nobody else may write to them meanwhile, as threads of a library might.
    if len(os.listdir("/proc/self/task")) > 1:
        return
    try:
        ctypes.CDLL(None).headwater_rest()
    except AttributeError:
        pass
