//! A table's file on disk, without a name, so that it is gone with its last descriptor whatever
//! ends the process.
//!
//! Nothing seals such a file. Functions get a descriptor that reads, of a file that only its owner
//! may write; but a function that runs as the same user may find a way. So the server never maps
//! it: every block is read into memory of its own, and checked, each time.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::{DirBuilderExt, FileExt, OpenOptionsExt};
use std::path::Path;

use arrow::buffer::{Buffer, MutableBuffer};
use arrow::error::ArrowError;
use uuid::Uuid;

use super::ipc::Source;
use super::room::Taken;

/// A file that was written and is only read from now on.
#[derive(Debug)]
pub(crate) struct DiskFile {
    file: File,
    bytes: u64,
    _taken: Taken,
}

/// A new file in a folder, once to write to and once to read from. It has no name any more.
pub(super) fn create(folder: &Path) -> io::Result<(File, File)> {
    DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
    let path = folder.join(format!("rows-{}", Uuid::new_v4().simple()));
    let mut options = OpenOptions::new();
    let written = options.write(true).create_new(true).mode(0o400).open(&path)?;
    let read = File::open(&path);
    std::fs::remove_file(&path)?;
    Ok((written, read?))
}

impl DiskFile {
    /// The file as it was written.
    pub(super) fn new(file: File, bytes: u64, taken: Taken) -> Self {
        DiskFile { file, bytes, _taken: taken }
    }

    /// Its size.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// The descriptor, which only reads.
    pub(super) fn descriptor(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

impl Source for DiskFile {
    fn len(&self) -> usize {
        usize::try_from(self.bytes).unwrap_or(usize::MAX)
    }

    fn read(&self, start: usize, bytes: usize) -> Result<Buffer, ArrowError> {
        let mut buffer = MutableBuffer::from_len_zeroed(bytes);
        self.file.read_exact_at(buffer.as_slice_mut(), start as u64)?;
        Ok(buffer.into())
    }
}
