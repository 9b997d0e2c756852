//! A warehouse in a local folder: files that stay.
//!
//! A file counts as written only once it, its folder's entry for it, and every folder above that is
//! new are fsynced; the object store's local backend does none of that. Folders once known to be
//! durable are not synced again.
//!
//! The few small files of a commit are made and synced on one thread. Several threads would wait for
//! each other at the folder they all write into, and each for a journal of its own.

use std::collections::{BTreeSet, HashSet};
use std::fs::{File, Metadata};
use std::io::{ErrorKind, Write};
use std::path::PathBuf;

use bytes::Bytes;
use futures::future::try_join_all;
use object_store::path::Path;
use parking_lot::Mutex;

use crate::{Error, Result};

/// How many files one thread makes durable.
const TOGETHER: usize = 8;

/// Bytes of a file up to which all of it is sent to the disk before any of it is waited for.
const SENT_OFF_BYTES_MAX: u64 = 1024 * 1024;

/// The folder that a warehouse lies in.
#[derive(Debug)]
pub(crate) struct LocalFolder {
    root: PathBuf,
    durable: Mutex<HashSet<PathBuf>>,
}

impl LocalFolder {
    pub(crate) fn new(root: PathBuf) -> Self {
        LocalFolder { root, durable: Mutex::default() }
    }

    /// Makes a folder, and those above it. What makes it durable is the first file in it.
    pub(crate) async fn make_folder(&self, path: Path) -> Result<()> {
        let folder = self.root.join(path.as_ref());
        let made = tokio::fs::create_dir_all(&folder).await;
        made.map_err(|error| failed(&folder, error))
    }

    /// Writes new files, each at once as a reader sees it, and makes them and others that are
    /// written already durable.
    pub(crate) async fn write(&self, new: Vec<(Path, Bytes)>, written: Vec<Path>) -> Result<()> {
        let new: Vec<_> = new
            .into_iter()
            .map(|(path, content)| (self.root.join(path.as_ref()), content))
            .collect();
        let written: Vec<_> = written.iter().map(|path| self.root.join(path.as_ref())).collect();
        let mut folders = BTreeSet::new();
        let mut ancestors = BTreeSet::new();
        for file in new.iter().map(|(path, _)| path).chain(&written) {
            let above = file.ancestors().skip(1);
            ancestors
                .extend(above.take_while(|f| f.starts_with(&self.root)).map(ToOwned::to_owned));
            folders.extend(file.parent().map(ToOwned::to_owned));
        }
        ancestors.retain(|folder| !self.durable.lock().contains(folder));
        // A folder is durable once the folder above it is synced; the root's own is its maker's
        // affair.
        let above = ancestors.iter().filter(|folder| **folder != self.root);
        folders.extend(above.filter_map(|folder| folder.parent()).map(ToOwned::to_owned));
        let (first, rest) = written.split_at(written.len().min(TOGETHER));
        let mut work = vec![Work { new, written: first.to_vec(), folders }];
        work.extend(
            rest.chunks(TOGETHER).map(|some| Work { written: some.to_vec(), ..Work::default() }),
        );
        try_join_all(work.into_iter().map(Work::run)).await?;
        self.durable.lock().extend(ancestors);
        Ok(())
    }
}

/// What one thread writes and makes durable.
#[derive(Default)]
struct Work {
    new: Vec<(PathBuf, Bytes)>,
    written: Vec<PathBuf>,
    folders: BTreeSet<PathBuf>,
}

impl Work {
    async fn run(self) -> Result<()> {
        let work = tokio::task::spawn_blocking(move || self.run_here());
        work.await.map_err(|error| Error::internal("made durable", error))?
    }

    /// Sends all files on their way before it waits for the first: each `fdatasync` by itself would
    /// have the file system place one file on the disk and write its journal, for each file again.
    fn run_here(self) -> Result<()> {
        let mut files = Vec::with_capacity(self.new.len() + self.written.len());
        for (path, content) in self.new {
            let made = make(&path, &content).map_err(|error| failed(&path, error))?;
            files.push((path, made));
        }
        for path in self.written {
            let opened = File::open(&path).map_err(|error| failed(&path, error))?;
            files.push((path, opened));
        }
        for (_, file) in &files {
            send_off(file);
        }
        for (path, file) in files {
            file.sync_data().map_err(|error| failed(&path, error))?;
        }
        for path in self.folders {
            let synced = File::open(&path).and_then(|folder| folder.sync_all());
            synced.map_err(|error| failed(&path, error))?;
        }
        Ok(())
    }
}

/// Makes a file under a passing name, which listings of the object store leave out, and renames it.
fn make(path: &std::path::Path, content: &[u8]) -> std::io::Result<File> {
    let mut passing = path.as_os_str().to_owned();
    passing.push("#1");
    let mut file = match File::create_new(&passing) {
        Err(error) if error.kind() == ErrorKind::NotFound => {
            if let Some(folder) = path.parent() {
                std::fs::create_dir_all(folder)?;
            }
            File::create_new(&passing)?
        }
        other => other?,
    };
    let written = file.write_all(content).and_then(|()| std::fs::rename(&passing, path));
    if written.is_err() {
        // Nothing more can be done where this fails too.
        let _ = std::fs::remove_file(&passing);
    }
    written.map(|()| file)
}

/// Has the kernel begin to write a small file. A large one is under way already, and would lose its
/// place in the kernel's cache.
fn send_off(file: &File) {
    #[cfg(target_os = "linux")]
    if file.metadata().as_ref().map(Metadata::len).is_ok_and(|bytes| bytes <= SENT_OFF_BYTES_MAX) {
        // Only a hint: what it leaves undone, `fdatasync` does.
        let _ = rustix::fs::fadvise(file, 0, None, rustix::fs::Advice::DontNeed);
    }
}

fn failed(path: &std::path::Path, error: std::io::Error) -> Error {
    Error::storage(path.display().to_string(), error)
}
