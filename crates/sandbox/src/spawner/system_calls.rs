//! System calls for which no other crate has a safe wrapper. The functions are safe to call only in
//! the spawner and its children, which are single-threaded.
#![expect(unsafe_code, reason = "system calls without a safe wrapper")]

use std::convert::Infallible;
use std::ffi::{CString, c_char};
use std::io::{Error, Result};
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::time::Duration;

/// Result of [`clone_process`], which returns in two processes.
pub(super) enum CloneResult {
    /// The caller is the new process.
    Child,
    /// The caller is the original process; `pid` and `descriptor` (a pidfd) identify the new
    /// process.
    Parent { pid: i32, descriptor: OwnedFd },
}

/// Forks this process. The child is in new namespaces, as selected by `flags` (`CLONE_NEW…`).
pub(super) fn clone_process(flags: i32) -> Result<CloneResult> {
    clone3(flags, libc::SIGCHLD)
}

fn clone3(flags: i32, exit_signal: i32) -> Result<CloneResult> {
    let mut descriptor: i32 = -1;
    // SAFETY: all-zero is a valid `clone_args`.
    let mut arguments: libc::clone_args = unsafe { std::mem::zeroed() };
    arguments.flags = flags as u64 | libc::CLONE_PIDFD as u64;
    arguments.pidfd = (&raw mut descriptor) as u64;
    arguments.exit_signal = exit_signal as u64;
    // SAFETY: without CLONE_VM and a stack, the child continues on a copy of this process. This
    // process has one thread, so no other thread can hold a lock.
    let pid = unsafe {
        libc::syscall(libc::SYS_clone3, &raw mut arguments, size_of::<libc::clone_args>())
    };
    match pid {
        -1 => Err(clone_error(Error::last_os_error())),
        0 => Ok(CloneResult::Child),
        pid => {
            // SAFETY: the kernel stored a new descriptor in this variable, and nothing else owns
            // it.
            let descriptor = unsafe { OwnedFd::from_raw_fd(descriptor) };
            Ok(CloneResult::Parent { pid: pid as i32, descriptor })
        }
    }
}

/// Replaces the error for too many namespaces, which the kernel reports as "no space left on
/// device".
fn clone_error(error: Error) -> Error {
    match error.raw_os_error() {
        Some(libc::ENOSPC) => Error::other("the limit of Linux namespaces on this host is reached"),
        _ => error,
    }
}

/// Forks a sibling: a process whose parent is this process's parent.
pub(super) fn clone_sibling(flags: i32) -> Result<CloneResult> {
    clone3(flags | libc::CLONE_PARENT, 0)
}

/// Enters a namespace. A pid namespace affects only children created afterwards.
pub(super) fn enter_namespace(namespace: BorrowedFd<'_>) -> Result<()> {
    // SAFETY: the call accesses no memory.
    let done = unsafe { libc::setns(namespace.as_raw_fd(), 0) };
    if done == 0 { Ok(()) } else { Err(Error::last_os_error()) }
}

/// Exits without running exit handlers.
pub(super) fn exit(code: i32) -> ! {
    // SAFETY: the call does not return and accesses no memory.
    unsafe { libc::_exit(code) }
}

/// Executes a program in this process. Returns only on failure.
pub(super) fn execute(command: &[CString], variables: &[CString]) -> Result<Infallible> {
    let pointers = |strings: &[CString]| -> Vec<*const c_char> {
        strings.iter().map(|s| s.as_ptr()).chain([std::ptr::null()]).collect()
    };
    let (arguments, variables) = (pointers(command), pointers(variables));
    // SAFETY: both arguments are arrays of C strings that outlive the call and end with a null
    // pointer, so `arguments` has at least one element.
    unsafe { libc::execve(arguments[0], arguments.as_ptr(), variables.as_ptr()) };
    Err(Error::last_os_error())
}

/// Marks all descriptors with the number `first` or higher as close-on-exec.
pub(super) fn close_on_exec_from(first: u32) -> Result<()> {
    let flags = libc::CLOSE_RANGE_CLOEXEC;
    // SAFETY: the call accesses no memory, and changes only a flag of descriptors.
    let done = unsafe { libc::syscall(libc::SYS_close_range, first, u32::MAX, flags) };
    if done == 0 { Ok(()) } else { Err(Error::last_os_error()) }
}

/// Closes all descriptors with the number 3 or higher, except `kept`. Must be called only in a new
/// process that does not use the Rust owners of the closed descriptors afterwards.
pub(super) fn close_all_but(kept: &[i32]) {
    let mut kept = kept.to_vec();
    kept.sort_unstable();
    let mut first: u32 = 3;
    for descriptor in kept.into_iter().map(|descriptor| descriptor as u32) {
        if descriptor > first {
            // SAFETY: the owners of these descriptors are not used again in this process.
            unsafe { libc::syscall(libc::SYS_close_range, first, descriptor - 1, 0) };
        }
        first = first.max(descriptor + 1);
    }
    // SAFETY: the owners of these descriptors are not used again in this process.
    unsafe { libc::syscall(libc::SYS_close_range, first, u32::MAX, 0) };
}

/// Makes `target` a duplicate of `descriptor` that stays open on exec.
pub(super) fn duplicate_onto(descriptor: i32, target: i32) -> Result<()> {
    // SAFETY: the callers renumber the descriptors of a process shortly before exec, and do not use
    // their Rust owners afterwards.
    let done = unsafe { libc::dup2(descriptor, target) };
    if done == target { Ok(()) } else { Err(Error::last_os_error()) }
}

/// Blocks SIGTERM, SIGCHLD and SIGUSR1, so that [`wait_for_signal`] receives them.
pub(super) fn block_signals() {
    // SAFETY: the set is initialised before it is used.
    unsafe {
        let set = signals();
        libc::sigprocmask(libc::SIG_BLOCK, &raw const set, std::ptr::null_mut());
    }
}

/// Reverts [`block_signals`].
pub(super) fn unblock_signals() {
    // SAFETY: the set is initialised before it is used.
    unsafe {
        let set = signals();
        libc::sigprocmask(libc::SIG_UNBLOCK, &raw const set, std::ptr::null_mut());
    }
}

/// Waits for SIGTERM, SIGCHLD or SIGUSR1, and returns the received signal.
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
    // SAFETY: `sigemptyset` initialises the set before the other calls add to it.
    unsafe {
        let mut set = std::mem::zeroed();
        libc::sigemptyset(&raw mut set);
        libc::sigaddset(&raw mut set, libc::SIGTERM);
        libc::sigaddset(&raw mut set, libc::SIGCHLD);
        libc::sigaddset(&raw mut set, libc::SIGUSR1);
        set
    }
}

/// A reaped child.
#[derive(Debug, Clone, Copy)]
pub(super) struct ReapedChild {
    pub(super) pid: i32,
    pub(super) status: i32,
    pub(super) cpu_us: u64,
    pub(super) memory_bytes_peak: u64,
}

/// Reaps the child `pid`, or any child if `pid` is -1. Returns `None` if no such child has ended.
pub(super) fn wait_child(pid: i32) -> Option<ReapedChild> {
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
    Some(ReapedChild {
        pid: found,
        status,
        cpu_us: micros(usage.ru_utime) + micros(usage.ru_stime),
        memory_bytes_peak: usage.ru_maxrss as u64 * 1024,
    })
}

/// Waits for and reaps a child. Blocks, so the child must end soon.
pub(super) fn wait_for_child(pid: i32) {
    // SAFETY: no status is requested, so no memory is written.
    unsafe { libc::waitpid(pid, std::ptr::null_mut(), 0) };
}

/// Sends a signal to a process, or to a process group if the id is negative.
pub(super) fn kill(pid: i32, signal: i32) {
    // SAFETY: the call accesses no memory.
    unsafe { libc::kill(pid, signal) };
}

/// Kills and reaps all descendants of this process. Orphaned descendants must become its children,
/// see `adopt_orphans`.
pub(super) fn kill_descendants() {
    loop {
        let found = child_processes();
        if found.is_empty() {
            return;
        }
        // Children of a killed child become children of this process, so repeat until there are
        // none.
        for pid in found {
            kill(pid, libc::SIGKILL);
            wait_for_child(pid);
        }
    }
}

/// Returns the children of this process, including ended children that are not reaped yet.
pub(super) fn child_processes() -> Vec<i32> {
    let own = std::process::id();
    let text = std::fs::read_to_string(format!("/proc/{own}/task/{own}/children"));
    text.unwrap_or_default().split_whitespace().flat_map(str::parse).collect()
}

/// Gives this process a new, empty session keyring.
pub(super) fn join_new_keyring() -> Result<()> {
    const JOIN_SESSION: libc::c_long = 1;
    let no_name = std::ptr::null::<c_char>();
    // SAFETY: no name is passed, so the call reads no memory.
    let done = unsafe { libc::syscall(libc::SYS_keyctl, JOIN_SESSION, no_name) };
    match Error::last_os_error() {
        _ if done >= 0 => Ok(()),
        // The kernel was built without support for keys.
        error if error.raw_os_error() == Some(libc::ENOSYS) => Ok(()),
        error => Err(error),
    }
}

/// Forks a child in the same namespaces. Returns its process id, and 0 in the child.
pub(super) fn fork() -> Result<i32> {
    // SAFETY: this process has one thread.
    match unsafe { libc::fork() } {
        -1 => Err(Error::last_os_error()),
        pid => Ok(pid),
    }
}

/// Adds attributes (`MOUNT_ATTR_…`) to a mount; recursively if requested.
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
    // Mount events must not propagate between a sandbox and the host.
    let propagation = libc::MS_PRIVATE;
    let wanted = MountAttributes { set: attributes, clear: 0, propagation, namespace: 0 };
    // SAFETY: the path is an empty C string and the structure has the given size.
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
pub(super) fn bring_up_loopback(socket: BorrowedFd<'_>) -> Result<()> {
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

/// Sets the time slice of this thread and of threads that it starts; `None` sets the default. The
/// kernel schedules a thread with a shorter slice sooner after its wake-up, but gives it the same
/// share of CPU time. Kernels before 6.12 ignore the value.
pub(super) fn set_time_slice(slice: Option<Duration>) {
    set_slice(0, slice);
}

/// Sets the time slice of a thread. Does nothing if the thread does not exist.
pub(super) fn set_slice(thread: i32, slice: Option<Duration>) {
    #[repr(C)]
    struct SchedulingAttributes {
        size: u32,
        policy: u32,
        flags: u64,
        nice: i32,
        priority: u32,
        runtime: u64,
        deadline: u64,
        period: u64,
    }
    let attributes = SchedulingAttributes {
        size: size_of::<SchedulingAttributes>() as u32,
        policy: 0,
        flags: libc::SCHED_FLAG_KEEP_POLICY as u64,
        // SAFETY: the call accesses no memory.
        nice: unsafe { libc::getpriority(libc::PRIO_PROCESS, thread.cast_unsigned()) },
        priority: 0,
        // 0 is the kernel's default.
        runtime: slice.map_or(0, |slice| slice.as_nanos() as u64),
        deadline: 0,
        period: 0,
    };
    // SAFETY: the kernel reads only as many bytes as the structure's size field states.
    unsafe { libc::syscall(libc::SYS_sched_setattr, thread, &raw const attributes, 0) };
}

/// Makes the kernel schedule this process only on idle processors.
pub(super) fn run_in_background() {
    // SAFETY: all-zero is a valid `sched_param`, and the pointer is valid for the call.
    unsafe {
        let parameters: libc::sched_param = std::mem::zeroed();
        libc::sched_setscheduler(0, libc::SCHED_IDLE, &raw const parameters);
    }
}

/// Makes the OOM killer prefer to kill this process, and disables its core dumps.
pub(super) fn be_expendable() {
    let _ = std::fs::write("/proc/self/oom_score_adj", "500");
    let none = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: the pointer is valid for the call.
    unsafe { libc::setrlimit(libc::RLIMIT_CORE, &raw const none) };
}
