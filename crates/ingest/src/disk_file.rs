//! Files on disk. A file is read only if it is unchanged since it was listed.
//!
//! The listing checks that a [`DiskFile`] is not private. Later, a user that may write to the
//! folder could replace the file by a link to a private file. In this case, the device, inode, size
//! or time differs when the file is opened, and opening fails before the first read.

use std::fs::{File, Metadata};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use headwater_lake::FileAttributes;

/// A file on disk in the state in which it was listed.
#[derive(Debug, Clone)]
pub(crate) struct DiskFile {
    /// The path as the user named it.
    path: PathBuf,
    state: DiskFileState,
}

/// Identity, size and times of a file on disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct DiskFileState {
    device: u64,
    inode: u64,
    stamp: FileAttributes,
}

impl DiskFileState {
    fn of(metadata: &Metadata) -> Self {
        DiskFileState { device: metadata.dev(), inode: metadata.ino(), stamp: stamp_of(metadata) }
    }
}

impl DiskFile {
    /// Creates a file from its path and its metadata, which was read without symbolic links.
    pub fn new(path: &Path, metadata: &Metadata) -> Self {
        DiskFile { path: path.to_owned(), state: DiskFileState::of(metadata) }
    }

    /// Returns the size and the times of the file when it was listed.
    pub fn file_attributes(&self) -> FileAttributes {
        self.state.stamp
    }

    /// Opens the file; `None` if the path now names another file, or the file has changed. So only
    /// files that passed the check for private files are read.
    pub fn open(&self) -> std::io::Result<Option<File>> {
        let file = File::open(&self.path)?;
        Ok(self.is_unchanged(&file)?.then_some(file))
    }

    /// Returns true if an open file has not changed since this file was listed.
    pub fn is_unchanged(&self, file: &File) -> std::io::Result<bool> {
        Ok(DiskFileState::of(&file.metadata()?) == self.state)
    }
}

/// Returns the size and the times of a file on disk.
fn stamp_of(metadata: &Metadata) -> FileAttributes {
    let nanoseconds =
        |seconds: i64, rest: i64| i128::from(seconds) * 1_000_000_000 + i128::from(rest);
    FileAttributes {
        bytes: metadata.len(),
        modified_ns: nanoseconds(metadata.mtime(), metadata.mtime_nsec()),
        changed_ns: nanoseconds(metadata.ctime(), metadata.ctime_nsec()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_replaced_the_listed_one_is_not_opened() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        for name in ["a.csv", "b.csv", "secret"] {
            std::fs::write(at(name), "a\n1\n").unwrap();
        }
        let path = at("a.csv");
        let listed = || DiskFile::new(&path, &path.symlink_metadata().unwrap());
        let file = listed();
        assert!(file.open().unwrap().is_some());
        std::fs::rename(at("b.csv"), &path).unwrap();
        assert!(file.open().unwrap().is_none(), "another file");
        let file = listed();
        assert!(file.open().unwrap().is_some());
        std::fs::remove_file(&path).unwrap();
        std::os::unix::fs::symlink(at("secret"), &path).unwrap();
        assert!(file.open().unwrap().is_none(), "a link");
    }
}
