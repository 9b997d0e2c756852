//! A memory file: an anonymous file in memory that travels between processes as a descriptor.
//!
//! While it is written it is an ordinary [`File`]; sealing makes it immutable for everybody.

use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

use rustix::fs::{MemfdFlags, SealFlags};

use crate::memory::mapping::Mapping;
use crate::{Error, Result};

/// The seals of a file that nobody can change, however they hold it.
const SEALS: SealFlags =
    SealFlags::SEAL.union(SealFlags::SHRINK).union(SealFlags::GROW).union(SealFlags::WRITE);

/// A sealed memory file.
#[derive(Debug)]
pub(crate) struct MemoryFile {
    descriptor: OwnedFd,
    bytes: u64,
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
        let stat = rustix::fs::fstat(&descriptor)
            .map_err(|errno| Error::io("measure a memory file")(errno.into()))?;
        let bytes = u64::try_from(stat.st_size).unwrap_or(0);
        let held = u64::try_from(stat.st_blocks).unwrap_or(0).saturating_mul(512);
        // Reading a hole allocates it, and at the reader's expense.
        if bytes > held.saturating_add(1 << 21) {
            let source = std::io::Error::other(format!("it claims {bytes} bytes and holds {held}"));
            return Err(Error::Io { what: "accept a memory file with holes".to_owned(), source });
        }
        Ok(MemoryFile { descriptor, bytes })
    }

    /// Its size.
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// The descriptor, to hand on.
    pub(crate) fn descriptor(&self) -> BorrowedFd<'_> {
        self.descriptor.as_fd()
    }

    /// The whole file as memory.
    pub(crate) fn map(&self) -> Result<Arc<Mapping>> {
        let mapping = Mapping::of_sealed(self.descriptor.as_fd(), self.bytes as usize);
        mapping.map(Arc::new).map_err(Error::io("map a memory file"))
    }
}
