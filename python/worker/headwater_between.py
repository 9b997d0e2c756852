"""Clean-up between two calls of one process: state that the next call must not see, and unneeded
memory.
"""

import ctypes
import os
import signal


def leaves_something():
    """Returns true if the kernel holds state that the next call would see: timers, or shared
    memory, semaphores and queues.
    """
    for timer in (signal.ITIMER_REAL, signal.ITIMER_VIRTUAL, signal.ITIMER_PROF):
        signal.setitimer(timer, 0)
    return any(beginning_of(file).count(b"\n") > empty for file, empty in LISTS)


# Lists of such state, with the number of lines of an empty one.
LISTS = [("/proc/self/timers", 0)] + [(f"/proc/sysvipc/{kind}", 1) for kind in ("shm", "sem", "msg")]


def beginning_of(file):
    """Returns the beginning of a file in few system calls; empty if the file does not exist."""
    try:
        descriptor = os.open(file, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return b""
    try:
        return os.read(descriptor, 4096)
    finally:
        os.close(descriptor)


def rest():
    """Releases private copies of pages that are equal to those of the zygote's snapshot."""
    # No other thread may write to these pages meanwhile.
    if len(os.listdir("/proc/self/task")) > 1:
        return
    try:
        ctypes.CDLL(None).headwater_rest()
    except AttributeError:
        pass
