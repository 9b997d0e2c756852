//! Maps immutable memory files into memory. Only this code turns a mapping into a slice, and the
//! slice into an Arrow buffer.
#![expect(unsafe_code, reason = "maps memory files and lends them to Arrow without a copy")]

use std::ffi::c_void;
use std::os::fd::BorrowedFd;
use std::ptr::NonNull;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use arrow::buffer::Buffer;
use rustix::mm::{MapFlags, ProtFlags};

use crate::extents::Extent;

/// A read-only mapping. It is unmapped when its last buffer is dropped.
#[derive(Debug)]
pub(crate) struct ReadOnlyMapping {
    start: NonNull<u8>,
    bytes: usize,
    /// Number of kernel mappings that this mapping consists of.
    parts: usize,
}

/// Total number of kernel mappings for tables in this process.
static PARTS: AtomicUsize = AtomicUsize::new(0);

// SAFETY: the memory is read-only and never moves; any thread may read and drop it.
unsafe impl Send for ReadOnlyMapping {}
// SAFETY: the memory is read-only, and the type has no interior mutability.
unsafe impl Sync for ReadOnlyMapping {}

impl ReadOnlyMapping {
    /// Maps the pieces of a table into an address range of `bytes` bytes. The caller guarantees
    /// that their files are immutable and cannot be truncated. Bytes outside the pieces read as
    /// zero.
    pub(crate) fn of_frozen<'a>(
        bytes: usize,
        extents: impl ExactSizeIterator<Item = (BorrowedFd<'a>, Extent)>,
    ) -> std::io::Result<Self> {
        if bytes == 0 {
            return Ok(ReadOnlyMapping { start: NonNull::dangling(), bytes, parts: 0 });
        }
        let mut extents = extents.peekable();
        if extents.len() == 1
            && let Some((file, extent)) =
                extents.next_if(|(_, extent)| extent.bytes == bytes as u64)
        {
            let start = map(std::ptr::null_mut(), file, extent, MapFlags::PRIVATE)?;
            PARTS.fetch_add(1, Ordering::Relaxed);
            return Ok(ReadOnlyMapping { start, bytes, parts: 1 });
        }
        // SAFETY: a new mapping at an address of the kernel's choice touches no other memory.
        let start = unsafe {
            let flags = MapFlags::PRIVATE | MapFlags::NORESERVE;
            rustix::mm::mmap_anonymous(std::ptr::null_mut(), bytes, ProtFlags::READ, flags)?
        };
        let start = NonNull::new(start.cast()).ok_or(std::io::ErrorKind::InvalidData)?;
        // Each piece splits the anonymous mapping, whose gaps also count as kernel mappings.
        let parts = 2 * extents.len() + 1;
        PARTS.fetch_add(parts, Ordering::Relaxed);
        let mapping = ReadOnlyMapping { start, bytes, parts };
        for (file, extent) in extents {
            if extent.at.checked_add(extent.bytes).is_none_or(|end| end > bytes as u64) {
                return Err(std::io::ErrorKind::InvalidInput.into());
            }
            let at = mapping.start.as_ptr().wrapping_add(extent.at as usize);
            map(at.cast(), file, extent, MapFlags::PRIVATE | MapFlags::FIXED)?;
        }
        Ok(mapping)
    }

    /// Returns the number of kernel mappings for tables in this process.
    pub(crate) fn count() -> usize {
        PARTS.load(Ordering::Relaxed)
    }

    /// Returns the mapping as an Arrow buffer that keeps the mapping alive.
    pub(crate) fn buffer(self: &Arc<Self>) -> Buffer {
        // SAFETY: `start` is valid for `bytes` bytes during the lifetime of the mapping, which the
        // buffer holds. The files are immutable, so the bytes cannot change and the pages cannot be
        // removed.
        unsafe { Buffer::from_custom_allocation(self.start, self.bytes, self.clone()) }
    }
}

impl Drop for ReadOnlyMapping {
    fn drop(&mut self) {
        if self.bytes == 0 {
            return;
        }
        PARTS.fetch_sub(self.parts, Ordering::Relaxed);
        let start: *mut c_void = self.start.as_ptr().cast();
        // SAFETY: the range was mapped by `of_frozen`, and no buffer refers to it any more.
        let _ = unsafe { rustix::mm::munmap(start, self.bytes) };
    }
}

/// Maps a piece of a file, at an address within a mapping of the caller, or where the kernel
/// chooses. The mapping is private, because kernels before 6.7 reject shared mappings of
/// write-sealed files.
fn map(
    at: *mut c_void,
    file: BorrowedFd<'_>,
    extent: Extent,
    flags: MapFlags,
) -> std::io::Result<NonNull<u8>> {
    // SAFETY: a new mapping at an address of the kernel's choice touches no other memory. A mapping
    // at a fixed address lies within a mapping of the caller, to which no buffer refers yet.
    let start = unsafe {
        rustix::mm::mmap(at, extent.bytes as usize, ProtFlags::READ, flags, file, extent.start)?
    };
    NonNull::new(start.cast()).ok_or_else(|| std::io::ErrorKind::InvalidData.into())
}
