//! A sealed memory file as plain memory. The one place where the room turns a mapping into a slice,
//! and the slice into an Arrow buffer.
#![expect(unsafe_code, reason = "maps memory files and lends them to Arrow without a copy")]

use std::ffi::c_void;
use std::os::fd::BorrowedFd;
use std::ptr::NonNull;
use std::sync::Arc;

use arrow::buffer::Buffer;
use rustix::mm::{MapFlags, ProtFlags};

/// A read-only mapping, gone when the last buffer over it is.
#[derive(Debug)]
pub(crate) struct Mapping {
    start: NonNull<u8>,
    bytes: usize,
}

// SAFETY: the memory is read-only and never moves; any thread may read it, and drop it.
unsafe impl Send for Mapping {}
// SAFETY: as above; there is no interior mutability.
unsafe impl Sync for Mapping {}

impl Mapping {
    /// Maps a file that is sealed against writing and shrinking; the caller vouches for the seals.
    pub(super) fn of_sealed(file: BorrowedFd<'_>, bytes: usize) -> std::io::Result<Self> {
        if bytes == 0 {
            return Ok(Mapping { start: NonNull::dangling(), bytes });
        }
        // A private mapping, because kernels before 6.7 refuse shared ones of write-sealed files.
        // SAFETY: a fresh mapping at an address of the kernel's choice touches no other memory.
        let start = unsafe {
            rustix::mm::mmap(
                std::ptr::null_mut(),
                bytes,
                ProtFlags::READ,
                MapFlags::PRIVATE,
                file,
                0,
            )?
        };
        let start = NonNull::new(start.cast()).ok_or(std::io::ErrorKind::InvalidData)?;
        Ok(Mapping { start, bytes })
    }

    /// The whole mapping as an Arrow buffer that keeps it alive.
    pub(crate) fn buffer(self: &Arc<Self>) -> Buffer {
        // SAFETY: `start` is valid for `bytes` bytes as long as the mapping lives, which the buffer
        // holds; the file is sealed, so the bytes cannot change and the pages cannot vanish.
        unsafe { Buffer::from_custom_allocation(self.start, self.bytes, self.clone()) }
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        if self.bytes == 0 {
            return;
        }
        let start: *mut c_void = self.start.as_ptr().cast();
        // SAFETY: the range was mapped by `of_sealed`, and no buffer over it is left.
        let _ = unsafe { rustix::mm::munmap(start, self.bytes) };
    }
}
