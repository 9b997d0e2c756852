//! Where functions write the tables that they return: a file system in memory of the server's own, of
//! huge pages, which memory files have only where the whole host is set so.
//!
//! Its files have no names and cannot be sealed. One is made for one call, whose process gets the only
//! descriptor that writes; the server keeps one that reads. It is taken over once nobody can write to it
//! any more, and nobody can open it for writing again: it is its owner's alone, and he may only read.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::{FallocateFlags, Mode, OFlags};

use super::lease::has_writers;
use super::pieces::PAGE;
use crate::memory::MemoryFile;
use crate::spawner::mounts;
use crate::{Error, Result};

/// A mounted file system that nobody sees, gone with its last file.
#[derive(Debug)]
pub(crate) struct Pages(OwnedFd);

impl Pages {
    /// Mounts it. Fails where this process may not, or where the kernel has no huge pages for it.
    pub(crate) fn open() -> io::Result<Pages> {
        // Functions write no more than they may hold; the file system needs no limit of its own.
        let options = [("huge", "always"), ("mode", "0700"), ("size", "0"), ("nr_inodes", "0")];
        let pages = Pages(mounts::tmpfs(&options.map(|(key, value)| (key, value.to_owned())))?);
        let (written, read) = pages.create()?;
        if !has_writers(read.as_fd())? {
            return Err(io::Error::other("who writes to a file is not known here"));
        }
        drop(written);
        if has_writers(read.as_fd())? {
            return Err(io::Error::other("a file that nobody writes to counts as written"));
        }
        Ok(pages)
    }

    /// A new file: once to write to, and once to read.
    pub(crate) fn create(&self) -> io::Result<(File, OwnedFd)> {
        let flags = OFlags::TMPFILE | OFlags::EXCL | OFlags::RDWR | OFlags::CLOEXEC;
        let written = rustix::fs::openat(&self.0, ".", flags, Mode::RUSR)?;
        let path = format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&written));
        let read = rustix::fs::open(path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?;
        Ok((written.into(), read))
    }
}

/// The files that were made for one call.
#[derive(Debug, Default)]
pub(crate) struct Made {
    /// The one that it writes its table to; only to be read.
    file: Option<OwnedFd>,
    /// The one that its large allocations lie in: to punch out what is not handed over, and to be read.
    arena: Option<(File, OwnedFd)>,
}

impl Made {
    /// A file for the table, to write to; none where there is one.
    pub(crate) fn file(&mut self, pages: &Pages) -> io::Result<Option<File>> {
        if self.file.is_some() {
            return Ok(None);
        }
        let (written, read) = pages.create()?;
        self.file = Some(read);
        Ok(Some(written))
    }

    /// A file for large allocations; none where there is one.
    pub(crate) fn arena(&mut self, pages: &Pages) -> io::Result<Option<File>> {
        if self.arena.is_some() {
            return Ok(None);
        }
        let (written, read) = pages.create()?;
        self.arena = Some((written.try_clone()?, read));
        Ok(Some(written))
    }

    /// Takes over the file that the table was written to.
    pub(super) fn take_file(&mut self) -> Result<Option<MemoryFile>> {
        self.file.take().map(MemoryFile::freeze).transpose()
    }

    /// Takes over these parts of the file that allocations lie in, in order; of the rest nothing is left.
    pub(super) fn take_arena(&mut self, parts: &[(u64, u64)]) -> Result<Option<MemoryFile>> {
        let Some((written, read)) = self.arena.take() else { return Ok(None) };
        let bytes = written.metadata().map_err(Error::io("measure an arena"))?.len();
        let mut end = 0;
        for &(start, length) in parts.iter().chain(&[(bytes.next_multiple_of(PAGE), 0)]) {
            if start > end {
                let flags = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
                rustix::fs::fallocate(&written, flags, end, start - end)
                    .map_err(|errno| Error::io("trim an arena")(errno.into()))?;
            }
            end = end.max(start.saturating_add(length).next_multiple_of(PAGE));
        }
        drop(written);
        MemoryFile::freeze_sparse(read).map(Some)
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    #[test]
    fn a_file_is_taken_once_nobody_can_write_to_it() {
        // Only root may mount.
        let Ok(pages) = Pages::open() else { return };
        let (mut written, read) = pages.create().unwrap();
        written.write_all(b"rows").unwrap();
        let again = || read.try_clone().unwrap();
        assert!(MemoryFile::freeze(again()).is_err());
        drop(written);
        assert_eq!(MemoryFile::freeze(again()).unwrap().bytes(), 4);
        assert!(File::from(again()).write_all(b"more").is_err());
    }
}
