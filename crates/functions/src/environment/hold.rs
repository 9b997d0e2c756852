//! Who uses a built environment, in this process or another: as long as anybody does, its folder stays.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use rustix::fs::{FlockOperation, flock};

use super::build::DESCRIPTION;

/// Keeps the folder of a built environment from being removed, by whichever server.
#[derive(Debug)]
pub(crate) struct Hold(File);

impl Hold {
    /// Holds a folder; none where it is being removed, or is no environment.
    pub(super) fn take(folder: &Path) -> Option<Hold> {
        let file = open(folder, FlockOperation::NonBlockingLockShared).ok()?;
        Some(Hold(file))
    }

    /// What the folder says of itself.
    pub(super) fn description(&self) -> io::Result<String> {
        io::read_to_string(&self.0)
    }
}

/// Has a folder to itself, which nobody may hold; as long as this lives nobody can.
#[derive(Debug)]
pub(super) struct Sole(#[expect(dead_code, reason = "its lock is what it is for")] File);

impl Sole {
    /// None where somebody holds the folder.
    pub(super) fn take(folder: &Path) -> Option<Sole> {
        open(folder, FlockOperation::NonBlockingLockExclusive).ok().map(Sole)
    }
}

fn open(folder: &Path, lock: FlockOperation) -> io::Result<File> {
    let path = folder.join(DESCRIPTION);
    let file = File::open(&path)?;
    flock(&file, lock)?;
    // Between the two it may have been moved out of the way.
    if fs::metadata(&path)?.ino() == file.metadata()?.ino() {
        Ok(file)
    } else {
        Err(io::ErrorKind::NotFound.into())
    }
}
