//! Where functions write the tables that they return: a file system in memory of the server's own, of
//! huge pages, which memory files have only where the whole host is set so.
//!
//! Its files have no names and cannot be sealed. One is made for one call, whose process gets the only
//! descriptor that writes; the server keeps one that reads. It is taken over once nobody can write to it
//! any more, and nobody can open it for writing again: it is its owner's alone, and he may only read.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::{Mode, OFlags};

use super::lease::has_writers;
use crate::spawner::mounts;

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

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;
    use crate::memory::MemoryFile;

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
