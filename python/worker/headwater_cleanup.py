"""Steps between two calls of a reused process, which detect leftover kernel state and release
memory.
"""

import ctypes
import os
import signal


def leaves_something():
    """Returns true if kernel objects of this call would be visible to the next call: timers, or
    System V shared memory, semaphores and message queues."""
    for timer in (signal.ITIMER_REAL, signal.ITIMER_VIRTUAL, signal.ITIMER_PROF):
        signal.setitimer(timer, 0)
    return any(beginning_of(file).count(b"\n") > empty for file, empty in LISTS)


# Files that list kernel objects, each with the number of lines that it has without objects.
LISTS = [("/proc/self/timers", 0)] + [(f"/proc/sysvipc/{kind}", 1) for kind in ("shm", "sem", "msg")]

# The open files of `LISTS`, by path. They stay open, because opening takes longer than reading.
OPEN = {}


def beginning_of(file):
    """Returns the first bytes of a file, with few system calls. Returns no bytes if the file does
    not exist."""
    try:
        if file not in OPEN:
            OPEN[file] = os.open(file, os.O_RDONLY | os.O_CLOEXEC)
        return os.pread(OPEN[file], 4096, 0)
    except FileNotFoundError:
        return b""
    except OSError:
        # The function closed the file, so its content is unknown. Return more lines than an empty
        # list has.
        OPEN.pop(file, None)
        return b"\n\n"


def clean(folders):
    """Ends the other processes of the sandbox, and empties `/tmp` except for these folders."""
    end_processes()
    used = used_inodes()
    if not folders and used is not None and used == EMPTY.get("inodes"):
        return
    for entry in os.scandir("/tmp"):
        if entry.is_dir(follow_symlinks=False):
            import shutil

            shutil.rmtree(entry.path)
        else:
            os.unlink(entry.path)
    for folder in folders:
        os.makedirs(folder, exist_ok=True)
    EMPTY["inodes"] = used_inodes()


# The number of inodes in use in the empty `/tmp`.
EMPTY = {}


def used_inodes():
    """Returns the number of used inodes of `/tmp`; None if the file system does not report it."""
    found = os.statvfs("/tmp")
    return found.f_files - found.f_ffree if found.f_files else None


def end_processes():
    """Ends the other processes of the sandbox."""
    try:
        os.kill(-1, signal.SIGKILL)
    except ProcessLookupError:
        return  # There is no other process, not even one that has ended and must be reaped.
    try:
        while os.waitpid(-1, 0):
            pass
    except ChildProcessError:
        pass


def rest():
    """Releases copied pages whose content equals the zygote's snapshot. Does nothing in a process
    that is not a clone."""
    # Other threads, for example a library's, could write to the pages at the same time.
    if len(os.listdir("/proc/self/task")) > 1:
        return
    try:
        ctypes.CDLL(None).headwater_rest()
    except AttributeError:
        pass
