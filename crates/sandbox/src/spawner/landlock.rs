//! Landlock rules that restrict a function's file access, signals and abstract sockets, in addition
//! to the mounts. On kernels without landlock, only the mounts apply.
#![expect(unsafe_code, reason = "system calls without a safe wrapper")]

use std::io::{Error, Result};
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::path::Path;

use rustix::fs::{Mode, OFlags};

const VERSION: u32 = 1;
const PATH_BENEATH: i32 = 1;

/// The access rights that each version of landlock's interface added: the version, and a mask of
/// the rights.
const RIGHTS: [(i64, u64); 4] = [(1, 0x1fff), (2, 1 << 13), (3, 1 << 14), (5, 1 << 15)];

const EXECUTE: u64 = 1;
const WRITE: u64 = 1 << 1;
const READ: u64 = 1 << 2;
const LIST: u64 = 1 << 3;
const TRUNCATE: u64 = 1 << 14;

/// The rights to create devices and to use device ioctls. Functions do not get these rights in
/// `/tmp`.
const DEVICES: u64 = 1 << 6 | 1 << 11 | 1 << 15;

/// Landlock scopes: deny connections to abstract Unix sockets outside the sandbox, and signals to
/// processes outside the sandbox.
const SCOPES: u64 = 3;

#[repr(C)]
struct RulesetAttr {
    files: u64,
    network: u64,
    scoped: u64,
}

#[repr(C, packed)]
struct PathBeneathAttr {
    allowed: u64,
    parent: i32,
}

/// Creates the rules for a function in the current root. They allow reading everything, and writing
/// only below `/tmp` and to harmless devices. Returns `None` if the kernel does not support
/// landlock.
pub(super) fn rules() -> Result<Option<OwnedFd>> {
    // SAFETY: no pointer is passed.
    let version = unsafe {
        libc::syscall(libc::SYS_landlock_create_ruleset, std::ptr::null::<u8>(), 0_usize, VERSION)
    };
    if version < 1 {
        return Ok(None);
    }
    let known: u64 =
        RIGHTS.iter().filter(|(since, _)| *since <= version).map(|(_, bits)| bits).sum();
    let scoped = if version >= 6 { SCOPES } else { 0 };
    let ruleset = RulesetAttr { files: known, network: 0, scoped };
    // Kernels with an older interface expect a shorter structure.
    let size = if version >= 6 { size_of::<RulesetAttr>() } else { size_of::<u64>() };
    // SAFETY: the structure outlives the call and has at least the given size.
    let made = unsafe {
        libc::syscall(libc::SYS_landlock_create_ruleset, &raw const ruleset, size, 0_u32)
    };
    if made < 0 {
        return Err(Error::last_os_error());
    }
    // SAFETY: the kernel created this descriptor for this process.
    let rules = unsafe { OwnedFd::from_raw_fd(made as i32) };
    allow(&rules, "/", known & (EXECUTE | READ | LIST))?;
    allow(&rules, "/tmp", known & !DEVICES)?;
    for device in ["/dev/null", "/dev/zero", "/dev/full", "/dev/random", "/dev/urandom"] {
        allow(&rules, device, known & (READ | WRITE | TRUNCATE))?;
    }
    Ok(Some(rules))
}

fn allow(rules: &OwnedFd, path: &str, allowed: u64) -> Result<()> {
    let place = rustix::fs::open(Path::new(path), OFlags::PATH | OFlags::CLOEXEC, Mode::empty())?;
    let rule = PathBeneathAttr { allowed, parent: place.as_raw_fd() };
    // SAFETY: the structure outlives the call.
    let done = unsafe {
        libc::syscall(
            libc::SYS_landlock_add_rule,
            rules.as_raw_fd(),
            PATH_BENEATH,
            &raw const rule,
            0_u32,
        )
    };
    if done == 0 { Ok(()) } else { Err(Error::last_os_error()) }
}

/// Applies the rules to this thread and its descendants. Requires `no_new_privs`.
pub(super) fn restrict(rules: BorrowedFd<'_>) -> Result<()> {
    // SAFETY: the call accesses no memory.
    let done = unsafe { libc::syscall(libc::SYS_landlock_restrict_self, rules.as_raw_fd(), 0_u32) };
    if done == 0 { Ok(()) } else { Err(Error::last_os_error()) }
}
