//! Checks if a process can still write to a file. For a file that cannot be sealed, a kernel lease
//! is the only way to check this.
#![expect(unsafe_code, reason = "a system call without a safe wrapper")]

use std::io::{Error, Result};
use std::os::fd::{AsRawFd, BorrowedFd};

/// Returns true if a file is open or mapped for writing. `file` must be opened read-only and belong
/// to the user of this process.
pub(crate) fn has_writers(file: BorrowedFd<'_>) -> Result<bool> {
    // The kernel grants a read lease only if no process has the file open for writing.
    match set(file, libc::F_RDLCK) {
        Ok(()) => set(file, libc::F_UNLCK).map(|()| false),
        Err(error) if error.raw_os_error() == Some(libc::EAGAIN) => Ok(true),
        Err(error) => Err(error),
    }
}

fn set(file: BorrowedFd<'_>, lease: i32) -> Result<()> {
    // SAFETY: the call accesses no memory.
    let done = unsafe { libc::fcntl(file.as_raw_fd(), libc::F_SETLEASE, lease) };
    if done == 0 { Ok(()) } else { Err(Error::last_os_error()) }
}
