//! A file system in memory for results of functions, which is private to the server and has huge
//! pages. Ordinary memory files have huge pages only if the host is configured for this.
//!
//! Files of this file system have no names and cannot be sealed. Each file is created for one
//! function call. The function's process receives the only writable descriptor, and the server
//! keeps a read-only descriptor. The server accepts the file only after no process can write to it.
//! The file mode permits only the owner to open the file, and only for reading, so that no process
//! can reopen it for writing.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::{Mode, OFlags};

use crate::write_check::has_writers;
use crate::{MemoryFile, Result};

/// A mounted file system without a path. The kernel removes the mount when its last file is closed.
#[derive(Debug)]
pub struct HugePageFs(OwnedFd);

impl HugePageFs {
    /// Mounts the file system. Errors: missing permission, or no huge pages in the kernel.
    pub fn open() -> io::Result<HugePageFs> {
        // No size limit is needed, because the memory limits of functions apply.
        let options = [("huge", "always"), ("mode", "0700"), ("size", "0"), ("nr_inodes", "0")];
        let pages = HugePageFs(headwater_sandbox::tmpfs(
            &options.map(|(key, value)| (key, value.to_owned())),
        )?);
        let (written, read) = pages.create()?;
        if !has_writers(read.as_fd())? {
            return Err(io::Error::other(
                "this host does not report that a file is open for writing",
            ));
        }
        drop(written);
        if has_writers(read.as_fd())? {
            return Err(io::Error::other("this host reports a writer for a file that has none"));
        }
        Ok(pages)
    }

    /// Creates a file. Returns a writable and a read-only handle.
    pub(crate) fn create(&self) -> io::Result<(File, OwnedFd)> {
        let flags = OFlags::TMPFILE | OFlags::EXCL | OFlags::RDWR | OFlags::CLOEXEC;
        let written = rustix::fs::openat(&self.0, ".", flags, Mode::RUSR)?;
        let path = format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&written));
        let read = rustix::fs::open(path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?;
        Ok((written.into(), read))
    }
}

/// The read-only handle of the file for a function call's result; unset until the file is created.
#[derive(Debug, Default)]
pub struct ResultFile(Option<OwnedFd>);

impl ResultFile {
    /// Creates the file and returns its writable handle; `None` if the file exists already.
    pub fn file(&mut self, pages: &HugePageFs) -> io::Result<Option<File>> {
        if self.0.is_some() {
            return Ok(None);
        }
        let (written, read) = pages.create()?;
        self.0 = Some(read);
        Ok(Some(written))
    }

    /// Accepts the file as the immutable file of the result table, if it was created.
    pub(crate) fn take_file(&mut self) -> Result<Option<MemoryFile>> {
        self.0.take().map(MemoryFile::freeze).transpose()
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    #[test]
    fn a_file_is_accepted_if_it_has_no_writer() {
        // Only root can mount a file system, so other users skip this test.
        let Ok(pages) = HugePageFs::open() else { return };
        let (mut written, read) = pages.create().unwrap();
        written.write_all(b"rows").unwrap();
        let again = || read.try_clone().unwrap();
        assert!(MemoryFile::freeze(again()).is_err());
        drop(written);
        assert_eq!(MemoryFile::freeze(again()).unwrap().bytes(), 4);
        assert!(File::from(again()).write_all(b"more").is_err());
    }
}
