//! Whether anybody can still write to a file: the kernel's own answer, and the one way to have it for a
//! file that cannot be sealed.
#![expect(unsafe_code, reason = "a system call without a safe wrapper")]

use std::io::{Error, Result};
use std::os::fd::{AsRawFd, BorrowedFd};

/// Whether somebody has a file open for writing, or mapped so. `file` must only read, and the file must
/// be this process's user's own.
pub(super) fn has_writers(file: BorrowedFd<'_>) -> Result<bool> {
    // The kernel lets a reader have a lease only where nobody writes.
    match set(file, libc::F_RDLCK) {
        Ok(()) => set(file, libc::F_UNLCK).map(|()| false),
        Err(error) if error.raw_os_error() == Some(libc::EAGAIN) => Ok(true),
        Err(error) => Err(error),
    }
}

fn set(file: BorrowedFd<'_>, lease: i32) -> Result<()> {
    // SAFETY: it touches no memory.
    let done = unsafe { libc::fcntl(file.as_raw_fd(), libc::F_SETLEASE, lease) };
    if done == 0 { Ok(()) } else { Err(Error::last_os_error()) }
}
