//! A memory file: an anonymous file in memory that is passed between processes as a descriptor.
//! Before sealing, the file is an ordinary [`File`]. Sealing makes it immutable.

use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::{Arc, OnceLock};

use arrow::buffer::Buffer;
use rustix::fs::{MemfdFlags, SealFlags, SeekFrom};

use crate::extents::Extents;
use crate::quota::QuotaReservation;
use crate::write_check::has_writers;
use crate::{Error, Result};

/// The seals of an immutable file.
const SEALS: SealFlags =
    SealFlags::SEAL.union(SealFlags::SHRINK).union(SealFlags::GROW).union(SealFlags::WRITE);

/// The file system type of memory files, from the kernel's `magic.h`.
const TMPFS: rustix::fs::FsWord = 0x0102_1994;

/// An immutable file in memory. Clones refer to the same file.
#[derive(Debug, Clone)]
pub struct MemoryFile(Arc<MemoryFileInner>);

#[derive(Debug)]
struct MemoryFileInner {
    descriptor: OwnedFd,
    bytes: u64,
    held: u64,
    /// The memory that is charged to a quota for the file; unset until the file is charged.
    taken: OnceLock<QuotaReservation>,
}

impl MemoryFile {
    /// Creates an empty file for writing. [`MemoryFile::seal`] makes it immutable.
    pub fn create(name: &str) -> Result<File> {
        let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
        let descriptor = rustix::fs::memfd_create(name, flags)
            .map_err(|errno| Error::io("create a memory file")(errno.into()))?;
        Ok(File::from(descriptor))
    }

    /// Creates a sealed file with this content.
    pub fn with(name: &str, content: &[u8]) -> Result<Self> {
        use std::io::Write;
        let mut file = Self::create(name)?;
        file.write_all(content).map_err(Error::io("write a memory file"))?;
        Self::seal(file.into())
    }

    /// Makes a file immutable by seals. The file may come from another process. Errors: the file is
    /// not a memory file, is mapped for writing, or has holes.
    pub fn seal(descriptor: OwnedFd) -> Result<Self> {
        let found = rustix::fs::fcntl_get_seals(&descriptor)
            .map_err(|errno| Error::io("seal a memory file")(errno.into()))?;
        if !found.contains(SEALS) {
            rustix::fs::fcntl_add_seals(&descriptor, SEALS)
                .map_err(|errno| Error::io("seal a memory file")(errno.into()))?;
        }
        let file = Self::measured(descriptor)?;
        Self::refuse_holes(file.bytes(), file.allocated_bytes())?;
        Ok(file)
    }

    /// Seals a file that the server wrote. In contrast to [`MemoryFile::seal`], it may have holes.
    pub(crate) fn seal_sparse(descriptor: OwnedFd) -> Result<Self> {
        rustix::fs::fcntl_add_seals(&descriptor, SEALS)
            .map_err(|errno| Error::io("seal a memory file")(errno.into()))?;
        Self::measured(descriptor)
    }

    /// Accepts a file of [`HugePageFs`](crate::HugePageFs), given by a read-only descriptor, as
    /// immutable. Errors: a process can still write to the file, or the file has holes.
    pub(crate) fn freeze(descriptor: OwnedFd) -> Result<Self> {
        let written = has_writers(descriptor.as_fd())
            .map_err(Error::io("use a file of the function's process"))?;
        if written {
            let source = std::io::Error::other("another process can still write to the file");
            return Err(Error::Io {
                what: "use a file of the function's process".to_owned(),
                source,
            });
        }
        let file = Self::measured(descriptor)?;
        Self::refuse_holes(file.bytes(), file.allocated_bytes())?;
        Ok(file)
    }

    fn measured(descriptor: OwnedFd) -> Result<Self> {
        // Files of hugetlbfs are rejected, because other rules apply to their mappings.
        let kind = rustix::fs::fstatfs(&descriptor)
            .map_err(|errno| Error::io("measure a memory file")(errno.into()))?;
        if kind.f_type != TMPFS {
            let source = std::io::Error::other("the file is not on tmpfs");
            return Err(Error::Io { what: "accept a memory file".to_owned(), source });
        }
        let stat = rustix::fs::fstat(&descriptor)
            .map_err(|errno| Error::io("measure a memory file")(errno.into()))?;
        let bytes = u64::try_from(stat.st_size).unwrap_or(0);
        let held = u64::try_from(stat.st_blocks).unwrap_or(0).saturating_mul(512);
        let inner = MemoryFileInner { descriptor, bytes, held, taken: OnceLock::new() };
        Ok(MemoryFile(Arc::new(inner)))
    }

    fn refuse_holes(bytes: u64, held: u64) -> Result<()> {
        // Files with holes are rejected, because reading a hole would allocate memory for it.
        if bytes > held.saturating_add(1 << 21) {
            let source = std::io::Error::other(format!(
                "the file declares {bytes} bytes, but only {held} are allocated"
            ));
            return Err(Error::Io { what: "accept a memory file with holes".to_owned(), source });
        }
        Ok(())
    }

    /// Returns the size of the file in bytes.
    pub fn bytes(&self) -> u64 {
        self.0.bytes
    }

    /// Returns the memory that the file uses, in bytes. This exceeds the size of the file if the
    /// last page is partly filled, or if there are pages beyond the end of the file.
    pub(crate) fn allocated_bytes(&self) -> u64 {
        self.0.held
    }

    /// Maps the whole file as an Arrow buffer.
    pub fn buffer(&self) -> Result<Buffer> {
        Ok(Extents::whole(self.clone()).map()?.buffer())
    }

    /// Returns the descriptor.
    pub fn descriptor(&self) -> BorrowedFd<'_> {
        self.0.descriptor.as_fd()
    }

    /// Returns true if both handles refer to the same file.
    pub(crate) fn is(&self, other: &MemoryFile) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }

    /// Returns true if a range of the file has no holes.
    pub(crate) fn has(&self, start: u64, bytes: u64) -> bool {
        let hole = rustix::fs::seek(&self.0.descriptor, SeekFrom::Hole(start));
        hole.is_ok_and(|hole| hole >= start.saturating_add(bytes))
    }

    /// Returns the reservation for the file's memory; `None` if the file is not charged to a quota.
    pub(crate) fn taken(&self) -> Option<&QuotaReservation> {
        self.0.taken.get()
    }

    /// Stores the reservation for the file's memory.
    pub(crate) fn take(&self, taken: QuotaReservation) {
        // If another caller has already stored a reservation, this one is released.
        let _ = self.0.taken.set(taken);
    }
}
