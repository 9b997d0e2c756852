"""Functions that the probes of the attack suite share: system calls by number, and attempts that
must fail."""

import ctypes
import errno
import os
import platform

LIBC = ctypes.CDLL(None, use_errno=True)
LIBC.syscall.restype = ctypes.c_long

# The numbers of each system call: on x86-64, and on newer architectures such as AArch64.
NUMBERS = {
    "mount": (165, 40),
    "umount2": (166, 39),
    "pivot_root": (155, 41),
    "chroot": (161, 51),
    "ptrace": (101, 117),
    "unshare": (272, 97),
    "setns": (308, 268),
    "bpf": (321, 280),
    "perf_event_open": (298, 241),
    "add_key": (248, 217),
    "request_key": (249, 218),
    "keyctl": (250, 219),
    "userfaultfd": (323, 282),
    "init_module": (175, 105),
    "finit_module": (313, 273),
    "kexec_load": (246, 104),
    "reboot": (169, 142),
    "syslog": (103, 116),
    "swapon": (167, 224),
    "process_vm_readv": (310, 270),
    "process_vm_writev": (311, 271),
    "kcmp": (312, 272),
    "open_by_handle_at": (304, 265),
    "name_to_handle_at": (303, 264),
    "sethostname": (170, 161),
    "clock_settime": (227, 112),
    "settimeofday": (164, 170),
    "clone": (56, 220),
    "clone3": (435, 435),
    "io_uring_setup": (425, 425),
    "io_uring_enter": (426, 426),
    "io_uring_register": (427, 427),
    "open_tree": (428, 428),
    "move_mount": (429, 429),
    "fsopen": (430, 430),
    "fsconfig": (431, 431),
    "fsmount": (432, 432),
    "fspick": (433, 433),
    "pidfd_getfd": (438, 438),
    "process_madvise": (440, 440),
    "mount_setattr": (442, 442),
    "memfd_secret": (447, 447),
    "move_pages": (279, 239),
    "quotactl": (179, 60),
    "acct": (163, 89),
    "fanotify_init": (300, 262),
}

MACHINE = 0 if platform.machine() == "x86_64" else 1


def call(name, *arguments):
    """Makes a system call. Returns its error number; 0 if the call succeeded."""
    number = name if isinstance(name, int) else NUMBERS[name][MACHINE]
    words = [a if isinstance(a, bytes) else ctypes.c_ulong(a & (2**64 - 1)) for a in arguments]
    ctypes.set_errno(0)
    done = LIBC.syscall(ctypes.c_long(number), *words)
    return 0 if done >= 0 else ctypes.get_errno()


def refused(*names, wanted=(errno.EPERM, errno.ENOSYS)):
    """Returns true if each of these system calls is rejected before the kernel checks the
    arguments."""
    got = {name: call(name, 0, 0, 0, 0, 0, 0) for name in names}
    passed = {name: number for name, number in got.items() if number not in wanted}
    if passed:
        print("not refused:", passed)
    return not passed


def fails(attempt, *arguments, **options):
    """Returns true if an attempt raises `OSError`."""
    try:
        result = attempt(*arguments, **options)
    except OSError:
        return True
    print("did not fail:", attempt, arguments, result)
    return False


def status(name):
    """Returns a field of this process's `/proc/self/status`."""
    with open("/proc/self/status") as lines:
        return next(line.split(":", 1)[1].strip() for line in lines if line.startswith(name + ":"))
