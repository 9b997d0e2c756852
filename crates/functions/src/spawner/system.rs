//! The system calls that have no safe wrapper elsewhere. Each function here is safe to call from
//! the spawner and from its children, which have one thread each.
#![expect(unsafe_code, reason = "system calls without a safe wrapper")]

use std::convert::Infallible;
use std::ffi::{CString, c_char};
use std::io::{Error, Result};
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::time::Duration;

/// What [`clone_process`] returns, in the two processes.
pub(super) enum Cloned {
    /// In the new process.
    Child,
    /// In the one that called: the new process, by id and by descriptor.
    Parent { pid: i32, descriptor: OwnedFd },
}

/// Clones this process like fork, into new namespaces by `flags` (`CLONE_NEW…`).
pub(super) fn clone_process(flags: i32) -> Result<Cloned> {
    clone3(flags, libc::SIGCHLD)
}

fn clone3(flags: i32, exit_signal: i32) -> Result<Cloned> {
    let mut descriptor: i32 = -1;
    // SAFETY: all-zero is a valid `clone_args`.
    let mut arguments: libc::clone_args = unsafe { std::mem::zeroed() };
    arguments.flags = flags as u64 | libc::CLONE_PIDFD as u64;
    arguments.pidfd = (&raw mut descriptor) as u64;
    arguments.exit_signal = exit_signal as u64;
    // SAFETY: without CLONE_VM and a stack the child continues on a copy of this process, which has
    // one thread, so that no lock can be held by another.
    let pid = unsafe {
        libc::syscall(libc::SYS_clone3, &raw mut arguments, size_of::<libc::clone_args>())
    };
    match pid {
        -1 => Err(clone_error(Error::last_os_error())),
        0 => Ok(Cloned::Child),
        pid => {
            // SAFETY: the kernel stored a new descriptor there, which nobody else owns.
            let descriptor = unsafe { OwnedFd::from_raw_fd(descriptor) };
            Ok(Cloned::Parent { pid: pid as i32, descriptor })
        }
    }
}

/// A limit on namespaces, in its own words: the kernel's are those of a full disk.
fn clone_error(error: Error) -> Error {
    match error.raw_os_error() {
        Some(libc::ENOSPC) => Error::other("no more namespaces are allowed here"),
        _ => error,
    }
}

/// The same, as a child of this one's parent.
pub(super) fn clone_sibling(flags: i32) -> Result<Cloned> {
    clone3(flags | libc::CLONE_PARENT, 0)
}

/// Enters a namespace; one of processes only for the children that follow.
pub(super) fn enter_namespace(namespace: BorrowedFd<'_>) -> Result<()> {
    // SAFETY: it touches no memory.
    let done = unsafe { libc::setns(namespace.as_raw_fd(), 0) };
    if done == 0 { Ok(()) } else { Err(Error::last_os_error()) }
}

/// Ends this process at once, running nothing.
pub(super) fn exit(code: i32) -> ! {
    // SAFETY: it does not return and touches no memory.
    unsafe { libc::_exit(code) }
}

/// Replaces this process. Returns only where that fails.
pub(super) fn execute(command: &[CString], variables: &[CString]) -> Result<Infallible> {
    let pointers = |strings: &[CString]| -> Vec<*const c_char> {
        strings.iter().map(|s| s.as_ptr()).chain([std::ptr::null()]).collect()
    };
    let (arguments, variables) = (pointers(command), pointers(variables));
    // SAFETY: both are arrays of C strings that outlive the call, each ending in a null pointer,
    // and `arguments` has at least that one.
    unsafe { libc::execve(arguments[0], arguments.as_ptr(), variables.as_ptr()) };
    Err(Error::last_os_error())
}

/// Marks every descriptor from `first` on to be closed by an exec.
pub(super) fn close_on_exec_from(first: u32) -> Result<()> {
    let flags = libc::CLOSE_RANGE_CLOEXEC;
    // SAFETY: only a flag of descriptors changes.
    let done = unsafe { libc::syscall(libc::SYS_close_range, first, u32::MAX, flags) };
    if done == 0 { Ok(()) } else { Err(Error::last_os_error()) }
}

/// Closes every descriptor from 3 on but these. For a new process that will not return to the code
/// that owns them.
pub(super) fn close_all_but(kept: &[i32]) {
    let mut kept = kept.to_vec();
    kept.sort_unstable();
    let mut first: u32 = 3;
    for descriptor in kept.into_iter().map(|descriptor| descriptor as u32) {
        if descriptor > first {
            // SAFETY: what owns these descriptors is never used again in this process.
            unsafe { libc::syscall(libc::SYS_close_range, first, descriptor - 1, 0) };
        }
        first = first.max(descriptor + 1);
    }
    // SAFETY: as above.
    unsafe { libc::syscall(libc::SYS_close_range, first, u32::MAX, 0) };
}

/// Makes `target` another name of `descriptor`, one that survives an exec.
pub(super) fn duplicate_onto(descriptor: i32, target: i32) -> Result<()> {
    // SAFETY: the callers number the descriptors of a process about to exec, and use none of the
    // Rust values that own them afterwards.
    let done = unsafe { libc::dup2(descriptor, target) };
    if done == target { Ok(()) } else { Err(Error::last_os_error()) }
}

/// Blocks SIGTERM, SIGCHLD and SIGUSR1, to be taken by [`wait_for_signal`].
pub(super) fn block_signals() {
    // SAFETY: the set is initialised before it is used.
    unsafe {
        let set = signals();
        libc::sigprocmask(libc::SIG_BLOCK, &raw const set, std::ptr::null_mut());
    }
}

/// Undoes [`block_signals`].
pub(super) fn unblock_signals() {
    // SAFETY: as above.
    unsafe {
        let set = signals();
        libc::sigprocmask(libc::SIG_UNBLOCK, &raw const set, std::ptr::null_mut());
    }
}

/// Waits for SIGTERM, SIGCHLD or SIGUSR1.
pub(super) fn wait_for_signal() -> i32 {
    let mut signal = 0;
    // SAFETY: both pointers are valid for the call.
    unsafe {
        let set = signals();
        libc::sigwait(&raw const set, &raw mut signal);
    }
    signal
}

fn signals() -> libc::sigset_t {
    // SAFETY: `sigemptyset` initialises the set that the others add to.
    unsafe {
        let mut set = std::mem::zeroed();
        libc::sigemptyset(&raw mut set);
        libc::sigaddset(&raw mut set, libc::SIGTERM);
        libc::sigaddset(&raw mut set, libc::SIGCHLD);
        libc::sigaddset(&raw mut set, libc::SIGUSR1);
        set
    }
}

/// A child that ended.
#[derive(Debug, Clone, Copy)]
pub(super) struct Waited {
    pub(super) pid: i32,
    pub(super) status: i32,
    pub(super) cpu_us: u64,
    pub(super) memory_bytes_peak: u64,
}

/// Takes the end of a child: `pid`, or any with -1. None where none has ended.
pub(super) fn wait_child(pid: i32) -> Option<Waited> {
    let mut status = 0;
    // SAFETY: all-zero is a valid `rusage`, and both pointers are valid for the call.
    let (found, usage) = unsafe {
        let mut usage: libc::rusage = std::mem::zeroed();
        let found = libc::wait4(pid, &raw mut status, libc::WNOHANG, &raw mut usage);
        (found, usage)
    };
    if found <= 0 {
        return None;
    }
    let micros = |time: libc::timeval| time.tv_sec as u64 * 1_000_000 + time.tv_usec as u64;
    Some(Waited {
        pid: found,
        status,
        cpu_us: micros(usage.ru_utime) + micros(usage.ru_stime),
        memory_bytes_peak: usage.ru_maxrss as u64 * 1024,
    })
}

/// Waits for a child that is about to end.
pub(super) fn wait_for_child(pid: i32) {
    // SAFETY: no status is asked for.
    unsafe { libc::waitpid(pid, std::ptr::null_mut(), 0) };
}

/// Sends a signal to a process, or with a negative id to a group.
pub(super) fn kill(pid: i32, signal: i32) {
    // SAFETY: it touches no memory.
    unsafe { libc::kill(pid, signal) };
}

/// Kills every process that descends from this one, which orphans are left to, and waits for them.
pub(super) fn kill_descendants() {
    loop {
        let found = own_children();
        if found.is_empty() {
            return;
        }
        // What a child has started becomes a child of this process as soon as the child is gone.
        for pid in found {
            kill(pid, libc::SIGKILL);
            wait_for_child(pid);
        }
    }
}

/// The children of this process, those that have ended but were not collected included.
pub(super) fn own_children() -> Vec<i32> {
    let own = std::process::id();
    let text = std::fs::read_to_string(format!("/proc/{own}/task/{own}/children"));
    text.unwrap_or_default().split_whitespace().flat_map(str::parse).collect()
}

/// Gives this process a session keyring of its own, with nothing in it.
pub(super) fn join_new_keyring() -> Result<()> {
    const JOIN_SESSION: libc::c_long = 1;
    let no_name = std::ptr::null::<c_char>();
    // SAFETY: without a name no memory is read.
    let done = unsafe { libc::syscall(libc::SYS_keyctl, JOIN_SESSION, no_name) };
    match Error::last_os_error() {
        _ if done >= 0 => Ok(()),
        // A kernel without keys has none to leave behind.
        error if error.raw_os_error() == Some(libc::ENOSYS) => Ok(()),
        error => Err(error),
    }
}

/// Forks off a child in the same namespaces.
pub(super) fn fork() -> Result<i32> {
    // SAFETY: this process has one thread.
    match unsafe { libc::fork() } {
        -1 => Err(Error::last_os_error()),
        pid => Ok(pid),
    }
}

/// Adds attributes (`MOUNT_ATTR_…`) to a mount, and where asked for to all below it.
pub(super) fn set_mount_attributes(
    mount: BorrowedFd<'_>,
    attributes: u64,
    recursive: bool,
) -> Result<()> {
    #[repr(C)]
    struct MountAttributes {
        set: u64,
        clear: u64,
        propagation: u64,
        namespace: u64,
    }
    let wanted = MountAttributes { set: attributes, clear: 0, propagation: 0, namespace: 0 };
    // SAFETY: the path is an empty C string and the structure is of the size given.
    let done = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            mount.as_raw_fd(),
            c"".as_ptr(),
            libc::AT_EMPTY_PATH | if recursive { libc::AT_RECURSIVE } else { 0 },
            &raw const wanted,
            size_of::<MountAttributes>(),
        )
    };
    if done == 0 { Ok(()) } else { Err(Error::last_os_error()) }
}

/// Brings up the loopback interface of this network namespace.
pub(super) fn loopback_up(socket: BorrowedFd<'_>) -> Result<()> {
    // SAFETY: all-zero is a valid `ifreq`, and the pointer is valid for both calls.
    unsafe {
        let mut request: libc::ifreq = std::mem::zeroed();
        request.ifr_name[0] = b'l' as c_char;
        request.ifr_name[1] = b'o' as c_char;
        request.ifr_ifru.ifru_flags = (libc::IFF_UP | libc::IFF_RUNNING) as i16;
        if libc::ioctl(socket.as_raw_fd(), libc::SIOCSIFFLAGS, &raw mut request) != 0 {
            return Err(Error::last_os_error());
        }
    }
    Ok(())
}

/// How long this thread, and those it starts, use a processor at a time. One that asks for less gets it
/// sooner when it wakes, and no more of it. Kernels before 6.12 do not look.
pub(super) fn take_turns_of(slice: Option<Duration>) {
    have_turns_of(0, slice);
}

/// The same for another thread, where that is still there.
pub(super) fn have_turns_of(thread: i32, slice: Option<Duration>) {
    #[repr(C)]
    struct Attributes {
        size: u32,
        policy: u32,
        flags: u64,
        nice: i32,
        priority: u32,
        runtime: u64,
        deadline: u64,
        period: u64,
    }
    let attributes = Attributes {
        size: size_of::<Attributes>() as u32,
        policy: 0,
        flags: libc::SCHED_FLAG_KEEP_POLICY as u64,
        // SAFETY: it touches no memory.
        nice: unsafe { libc::getpriority(libc::PRIO_PROCESS, thread.cast_unsigned()) },
        priority: 0,
        // Nothing is the kernel's own.
        runtime: slice.map_or(0, |slice| slice.as_nanos() as u64),
        deadline: 0,
        period: 0,
    };
    // SAFETY: the kernel reads as many bytes as the structure says it has.
    unsafe { libc::syscall(libc::SYS_sched_setattr, thread, &raw const attributes, 0) };
}

/// Has this thread come before all that share processors by weight, where this process may: for one that
/// never calculates.
pub(crate) fn come_first() {
    // SAFETY: all-zero is a valid `sched_param`, and the pointer is valid for the call.
    unsafe {
        let mut parameters: libc::sched_param = std::mem::zeroed();
        parameters.sched_priority = 1;
        libc::sched_setscheduler(0, libc::SCHED_FIFO, &raw const parameters);
    }
}

/// Gives way to everything else that wants the processor.
pub(super) fn run_in_background() {
    // SAFETY: all-zero is a valid `sched_param`, and the pointer is valid for the call.
    unsafe {
        let parameters: libc::sched_param = std::mem::zeroed();
        libc::sched_setscheduler(0, libc::SCHED_IDLE, &raw const parameters);
    }
}

/// Makes this process the first choice when the whole machine is out of memory, and drops its core
/// dumps.
pub(super) fn be_expendable() {
    let _ = std::fs::write("/proc/self/oom_score_adj", "500");
    let none = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: the pointer is valid for the call.
    unsafe { libc::setrlimit(libc::RLIMIT_CORE, &raw const none) };
}
