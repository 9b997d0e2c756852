//! An unnamed file on disk that contains a table. The kernel deletes the file when its last
//! descriptor is closed.
//!
//! The kernel cannot seal such a file. Functions receive a read-only descriptor, and only the
//! file's owner may write to the file. But a function that runs as the owner can reopen the file
//! for writing. So the server never maps the file: each read copies a block into memory and checks
//! the copy.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::{DirBuilderExt, FileExt, OpenOptionsExt};
use std::path::Path;

use arrow::buffer::{Buffer, MutableBuffer};
use arrow::error::ArrowError;
use uuid::Uuid;

use crate::ipc::ByteSource;
use crate::quota::QuotaReservation;

/// A read-only file that contains a complete table.
#[derive(Debug)]
pub struct DiskFile {
    file: File,
    bytes: u64,
    _taken: QuotaReservation,
}

/// Creates an unnamed file in a folder. Returns a writable and a read-only handle.
pub(crate) fn create(folder: &Path) -> io::Result<(File, File)> {
    DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
    let path = folder.join(format!("rows-{}", Uuid::new_v4().simple()));
    let mut options = OpenOptions::new();
    let written = options.write(true).create_new(true).mode(0o400).open(&path)?;
    let read = File::open(&path);
    std::fs::remove_file(&path)?;
    Ok((written, read?))
}

impl DiskFile {
    /// Creates the value for a file whose content has been written completely.
    pub(crate) fn new(file: File, bytes: u64, taken: QuotaReservation) -> Self {
        DiskFile { file, bytes, _taken: taken }
    }

    /// Returns the size of the file in bytes.
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Returns the read-only descriptor of the file.
    pub(crate) fn descriptor(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

impl ByteSource for DiskFile {
    fn len(&self) -> usize {
        usize::try_from(self.bytes).unwrap_or(usize::MAX)
    }

    fn read(&self, start: usize, bytes: usize) -> Result<Buffer, ArrowError> {
        let mut buffer = MutableBuffer::from_len_zeroed(bytes);
        self.file.read_exact_at(buffer.as_slice_mut(), start as u64)?;
        Ok(buffer.into())
    }
}
