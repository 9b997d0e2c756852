//! A memory file: an anonymous file in memory that is passed between processes as a descriptor. An
//! unsealed file is an ordinary [`File`]; sealing makes it immutable.

use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::{Arc, OnceLock};

use arrow::buffer::Buffer;
use rustix::fs::{MemfdFlags, SealFlags, SeekFrom};

use super::extents::Extents;
use super::quota::QuotaPart;
use super::write_check::has_writers;
use crate::{Error, Result};

/// The seals of an immutable file.
const SEALS: SealFlags =
    SealFlags::SEAL.union(SealFlags::SHRINK).union(SealFlags::GROW).union(SealFlags::WRITE);

/// The file system type of memory files, from the kernel's `magic.h`.
const TMPFS: rustix::fs::FsWord = 0x0102_1994;

/// An immutable file in memory. Clones share it.
#[derive(Debug, Clone)]
pub(crate) struct MemoryFile(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    descriptor: OwnedFd,
    bytes: u64,
    held: u64,
    /// The quota used by the file; unset until the file is charged.
    taken: OnceLock<QuotaPart>,
}

impl MemoryFile {
    /// Creates an empty file to write to; [`MemoryFile::seal`] seals it.
    pub(crate) fn create(name: &str) -> Result<File> {
        let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
        let descriptor = rustix::fs::memfd_create(name, flags)
            .map_err(|errno| Error::io("create a memory file")(errno.into()))?;
        Ok(File::from(descriptor))
    }

    /// Creates a sealed file with this content.
    pub(crate) fn with(name: &str, content: &[u8]) -> Result<Self> {
        use std::io::Write;
        let mut file = Self::create(name)?;
        file.write_all(content).map_err(Error::io("write a memory file"))?;
        Self::seal(file.into())
    }

    /// Seals a file, which may come from another process. Errors: the file is not a memory file, is
    /// mapped for writing, or declares more bytes than it has.
    pub(crate) fn seal(descriptor: OwnedFd) -> Result<Self> {
        let found = rustix::fs::fcntl_get_seals(&descriptor)
            .map_err(|errno| Error::io("seal a memory file")(errno.into()))?;
        if !found.contains(SEALS) {
            rustix::fs::fcntl_add_seals(&descriptor, SEALS)
                .map_err(|errno| Error::io("seal a memory file")(errno.into()))?;
        }
        let file = Self::measured(descriptor)?;
        Self::refuse_holes(file.bytes(), file.held())?;
        Ok(file)
    }

    /// Seals a file that the server wrote, which may have holes.
    pub(super) fn seal_sparse(descriptor: OwnedFd) -> Result<Self> {
        rustix::fs::fcntl_add_seals(&descriptor, SEALS)
            .map_err(|errno| Error::io("seal a memory file")(errno.into()))?;
        Self::measured(descriptor)
    }

    /// Opens a file of [`HugePageFs`](super::HugePageFs) by its descriptor for reading. Errors: the
    /// file is still writable, or declares more bytes than it has.
    pub(crate) fn freeze(descriptor: OwnedFd) -> Result<Self> {
        let written = has_writers(descriptor.as_fd()).map_err(Error::io("take over a file"))?;
        if written {
            let source = std::io::Error::other("another process can still write to it");
            return Err(Error::Io { what: "take over a file".to_owned(), source });
        }
        let file = Self::measured(descriptor)?;
        Self::refuse_holes(file.bytes(), file.held())?;
        Ok(file)
    }

    fn measured(descriptor: OwnedFd) -> Result<Self> {
        // Reject files of hugetlbfs, which have different mapping rules.
        let kind = rustix::fs::fstatfs(&descriptor)
            .map_err(|errno| Error::io("measure a memory file")(errno.into()))?;
        if kind.f_type != TMPFS {
            let source = std::io::Error::other("it is on another file system");
            return Err(Error::Io { what: "accept a memory file".to_owned(), source });
        }
        let stat = rustix::fs::fstat(&descriptor)
            .map_err(|errno| Error::io("measure a memory file")(errno.into()))?;
        let bytes = u64::try_from(stat.st_size).unwrap_or(0);
        let held = u64::try_from(stat.st_blocks).unwrap_or(0).saturating_mul(512);
        let inner = Inner { descriptor, bytes, held, taken: OnceLock::new() };
        Ok(MemoryFile(Arc::new(inner)))
    }

    fn refuse_holes(bytes: u64, held: u64) -> Result<()> {
        // Reject holes, because reading a hole would allocate memory for it.
        if bytes > held.saturating_add(1 << 21) {
            let source = std::io::Error::other(format!(
                "it declares {bytes} bytes, but has only {held} allocated"
            ));
            return Err(Error::Io { what: "accept a memory file with holes".to_owned(), source });
        }
        Ok(())
    }

    /// Returns the size of the file in bytes.
    pub(crate) fn bytes(&self) -> u64 {
        self.0.bytes
    }

    /// Returns the memory that the file uses, in bytes. It exceeds the size if the last page is
    /// partly filled, or if there are pages beyond the end.
    pub(super) fn held(&self) -> u64 {
        self.0.held
    }

    /// Maps the whole file as an Arrow buffer.
    pub(crate) fn buffer(&self) -> Result<Buffer> {
        Ok(Extents::whole(self.clone()).map()?.buffer())
    }

    /// Returns the descriptor.
    pub(crate) fn descriptor(&self) -> BorrowedFd<'_> {
        self.0.descriptor.as_fd()
    }

    /// Returns true if both handles refer to the same file.
    pub(super) fn is(&self, other: &MemoryFile) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }

    /// Returns true if a range has no holes.
    pub(super) fn has(&self, start: u64, bytes: u64) -> bool {
        let hole = rustix::fs::seek(&self.0.descriptor, SeekFrom::Hole(start));
        hole.is_ok_and(|hole| hole >= start.saturating_add(bytes))
    }

    /// Returns the quota used by the file; `None` if the file is not charged.
    pub(super) fn taken(&self) -> Option<&QuotaPart> {
        self.0.taken.get()
    }

    /// Charges the file to a quota.
    pub(super) fn take(&self, taken: QuotaPart) {
        // If another caller has set it first, release this charge.
        let _ = self.0.taken.set(taken);
    }
}
