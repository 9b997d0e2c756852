//! A memory file: an anonymous file in memory that travels between processes as a descriptor.
//!
//! While it is written it is an ordinary [`File`]; sealing makes it immutable for everybody.

use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::{Arc, OnceLock};

use arrow::buffer::Buffer;
use rustix::fs::{MemfdFlags, SealFlags, SeekFrom};

use super::lease::has_writers;
use super::pieces::Pieces;
use super::room::Taken;
use crate::{Error, Result};

/// The seals of a file that nobody can change, however they hold it.
const SEALS: SealFlags =
    SealFlags::SEAL.union(SealFlags::SHRINK).union(SealFlags::GROW).union(SealFlags::WRITE);

/// The file system of memory files, by its number in the kernel's `magic.h`.
const TMPFS: rustix::fs::FsWord = 0x0102_1994;

/// A file in memory that nobody can change any more. Clones are handles to the same.
#[derive(Debug, Clone)]
pub(crate) struct MemoryFile(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    descriptor: OwnedFd,
    bytes: u64,
    held: u64,
    /// What it takes of a room, once it is counted.
    taken: OnceLock<Taken>,
}

impl MemoryFile {
    /// A new, empty file to write to; give it back to [`MemoryFile::seal`].
    pub(crate) fn create(name: &str) -> Result<File> {
        let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
        let descriptor = rustix::fs::memfd_create(name, flags)
            .map_err(|errno| Error::io("make a memory file")(errno.into()))?;
        Ok(File::from(descriptor))
    }

    /// A sealed file with this content.
    pub(crate) fn with(name: &str, content: &[u8]) -> Result<Self> {
        use std::io::Write;
        let mut file = Self::create(name)?;
        file.write_all(content).map_err(Error::io("write a memory file"))?;
        Self::seal(file.into())
    }

    /// Seals a file, which another process may have made. Fails where it is no memory file, where
    /// somebody still has it mapped for writing, or where it claims more bytes than it holds.
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

    /// Seals a file of the server's own, which may have holes.
    pub(super) fn seal_sparse(descriptor: OwnedFd) -> Result<Self> {
        rustix::fs::fcntl_add_seals(&descriptor, SEALS)
            .map_err(|errno| Error::io("seal a memory file")(errno.into()))?;
        Self::measured(descriptor)
    }

    /// Takes over a file of [`Pages`](super::Pages) by the descriptor that reads it. Fails where somebody
    /// can still write to it, or where it claims more bytes than it holds.
    pub(crate) fn freeze(descriptor: OwnedFd) -> Result<Self> {
        let file = Self::freeze_sparse(descriptor)?;
        Self::refuse_holes(file.bytes(), file.held())?;
        Ok(file)
    }

    /// The same of one that has holes, of which nobody is to read one.
    pub(super) fn freeze_sparse(descriptor: OwnedFd) -> Result<Self> {
        let written = has_writers(descriptor.as_fd()).map_err(Error::io("take over a file"))?;
        if written {
            let source = std::io::Error::other("somebody can still write to it");
            return Err(Error::Io { what: "take over a file".to_owned(), source });
        }
        Self::measured(descriptor)
    }

    fn measured(descriptor: OwnedFd) -> Result<Self> {
        // Those of huge pages that are set apart for it are mapped by rules of their own.
        let kind = rustix::fs::fstatfs(&descriptor)
            .map_err(|errno| Error::io("measure a memory file")(errno.into()))?;
        if kind.f_type != TMPFS {
            let source = std::io::Error::other("it lies in another file system");
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
        // Reading a hole allocates it, and at the reader's expense.
        if bytes > held.saturating_add(1 << 21) {
            let source = std::io::Error::other(format!("it claims {bytes} bytes and holds {held}"));
            return Err(Error::Io { what: "accept a memory file with holes".to_owned(), source });
        }
        Ok(())
    }

    /// Its size.
    pub(crate) fn bytes(&self) -> u64 {
        self.0.bytes
    }

    /// The memory that it takes: more than its size where pages are not filled, or lie behind its end.
    pub(super) fn held(&self) -> u64 {
        self.0.held
    }

    /// All of it as memory.
    pub(crate) fn buffer(&self) -> Result<Buffer> {
        Ok(Pieces::whole(self.clone()).map()?.buffer())
    }

    /// The descriptor, to hand on.
    pub(crate) fn descriptor(&self) -> BorrowedFd<'_> {
        self.0.descriptor.as_fd()
    }

    /// Whether two are one.
    pub(super) fn is(&self, other: &MemoryFile) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }

    /// Whether a part of it has no holes.
    pub(super) fn has(&self, start: u64, bytes: u64) -> bool {
        let hole = rustix::fs::seek(&self.0.descriptor, SeekFrom::Hole(start));
        hole.is_ok_and(|hole| hole >= start.saturating_add(bytes))
    }

    /// What it takes of a room; none while it is not counted.
    pub(super) fn taken(&self) -> Option<&Taken> {
        self.0.taken.get()
    }

    /// Counts it.
    pub(super) fn take(&self, taken: Taken) {
        // Whoever came first has counted it; what is dropped here is given back.
        let _ = self.0.taken.set(taken);
    }
}
