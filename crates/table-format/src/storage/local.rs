//! A warehouse in a local folder, with durable writes.
//!
//! A file is durable only after fsync of the file, of its folder, and of the parent of every new
//! folder. The local object store of the `object_store` crate does none of this. Folders that this
//! process has already made durable are not synced again.
//!
//! The few small files of a commit are written and synced on one thread. Several threads would
//! block each other at the folder and at the file system's journal.

use std::collections::{BTreeSet, HashSet};
use std::fs::{File, Metadata};
use std::io::{ErrorKind, Write};
use std::path::PathBuf;

use bytes::Bytes;
use futures::future::try_join_all;
use object_store::path::Path;
use parking_lot::Mutex;

use crate::{Error, Result};

/// Number of files that one thread syncs.
const FILES_PER_THREAD: usize = 8;

/// Maximum size in bytes of files whose write-back is started before the first file is synced.
const WRITE_BACK_BYTES_MAX: u64 = 1024 * 1024;

/// The root folder of a warehouse.
#[derive(Debug)]
pub struct LocalFolder {
    root: PathBuf,
    durable: Mutex<HashSet<PathBuf>>,
}

impl LocalFolder {
    pub fn new(root: PathBuf) -> Self {
        LocalFolder { root, durable: Mutex::default() }
    }

    /// Creates a folder and its parents. The folder becomes durable together with the first file in
    /// it.
    pub async fn create_folder(&self, path: Path) -> Result<()> {
        let folder = self.root.join(path.as_ref());
        let made = tokio::fs::create_dir_all(&folder).await;
        made.map_err(|error| failed(&folder, error))
    }

    /// Writes new files atomically. Makes these files and all earlier files durable.
    pub async fn write(&self, new: Vec<(Path, Bytes)>, written: Vec<Path>) -> Result<()> {
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
        // A folder becomes durable when its parent is synced. The root folder was synced when it
        // was created.
        let above = ancestors.iter().filter(|folder| **folder != self.root);
        folders.extend(above.filter_map(|folder| folder.parent()).map(ToOwned::to_owned));
        let (first, rest) = written.split_at(written.len().min(FILES_PER_THREAD));
        let mut work = vec![SyncBatch { new, written: first.to_vec(), folders }];
        work.extend(
            rest.chunks(FILES_PER_THREAD)
                .map(|some| SyncBatch { written: some.to_vec(), ..SyncBatch::default() }),
        );
        try_join_all(work.into_iter().map(SyncBatch::run)).await?;
        self.durable.lock().extend(ancestors);
        Ok(())
    }
}

/// The files that one thread writes and syncs.
#[derive(Default)]
struct SyncBatch {
    new: Vec<(PathBuf, Bytes)>,
    written: Vec<PathBuf>,
    folders: BTreeSet<PathBuf>,
}

impl SyncBatch {
    async fn run(self) -> Result<()> {
        let work = tokio::task::spawn_blocking(move || self.run_blocking());
        work.await.map_err(|error| Error::internal("written to disk", error))?
    }

    /// Writes and syncs the files. The write-back of all files is started before the first file is
    /// synced. Otherwise, the file system would allocate blocks and write its journal for each
    /// `fdatasync` separately.
    fn run_blocking(self) -> Result<()> {
        let mut files = Vec::with_capacity(self.new.len() + self.written.len());
        for (path, content) in self.new {
            let created = create(&path, &content).map_err(|error| failed(&path, error))?;
            files.push((path, created));
        }
        for path in self.written {
            let opened = File::open(&path).map_err(|error| failed(&path, error))?;
            files.push((path, opened));
        }
        for (_, file) in &files {
            start_write_back(file);
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

/// Creates a file under a temporary name, which the object store does not list, and renames it.
fn create(path: &std::path::Path, content: &[u8]) -> std::io::Result<File> {
    let mut temporary = path.as_os_str().to_owned();
    temporary.push("#1");
    let mut file = match File::create_new(&temporary) {
        Err(error) if error.kind() == ErrorKind::NotFound => {
            if let Some(folder) = path.parent() {
                std::fs::create_dir_all(folder)?;
            }
            File::create_new(&temporary)?
        }
        other => other?,
    };
    let written = file.write_all(content).and_then(|()| std::fs::rename(&temporary, path));
    if written.is_err() {
        // If the removal also fails, the temporary file remains.
        let _ = std::fs::remove_file(&temporary);
    }
    written.map(|()| file)
}

/// Starts the write-back of a small file. Does nothing for a large file: the kernel has already
/// started to write it, and the call would drop its pages from the page cache.
fn start_write_back(file: &File) {
    #[cfg(target_os = "linux")]
    if file.metadata().as_ref().map(Metadata::len).is_ok_and(|bytes| bytes <= WRITE_BACK_BYTES_MAX)
    {
        // Errors are ignored, because this call is only an optimization. `fdatasync` writes
        // whatever is left.
        let _ = rustix::fs::fadvise(file, 0, None, rustix::fs::Advice::DontNeed);
    }
}

fn failed(path: &std::path::Path, error: std::io::Error) -> Error {
    Error::storage(path.display().to_string(), error)
}
