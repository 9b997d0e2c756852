//! Locks on the folders of builds: a folder is removed only while no process uses it.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use rustix::fs::{FlockOperation, flock};

use crate::environments::DESCRIPTION;

/// A shared lock, held by each user of a build, which prevents every server from removing its
/// folder.
#[derive(Debug)]
pub(crate) struct SharedLock(File);

impl SharedLock {
    /// Locks a folder; `None` if it is being removed, or is not an environment.
    pub(crate) fn acquire(folder: &Path) -> Option<SharedLock> {
        open(folder, FlockOperation::NonBlockingLockShared).ok().map(SharedLock)
    }

    /// Reads the description of the build, which is the locked file.
    pub(crate) fn description(&self) -> io::Result<String> {
        io::read_to_string(&self.0)
    }
}

/// Exclusive lock for the removal of a folder.
#[derive(Debug)]
pub(crate) struct ExclusiveLock(#[expect(dead_code, reason = "the value holds the lock")] File);

impl ExclusiveLock {
    /// Locks a folder; `None` if it is in use.
    pub(crate) fn acquire(folder: &Path) -> Option<ExclusiveLock> {
        open(folder, FlockOperation::NonBlockingLockExclusive).ok().map(ExclusiveLock)
    }
}

fn open(folder: &Path, lock: FlockOperation) -> io::Result<File> {
    let path = folder.join(DESCRIPTION);
    let file = File::open(&path)?;
    flock(&file, lock)?;
    // The folder may have been moved between opening and locking the file, so check that the path
    // still leads to the locked file.
    if fs::metadata(&path)?.ino() == file.metadata()?.ino() {
        Ok(file)
    } else {
        Err(io::ErrorKind::NotFound.into())
    }
}
