//! Room for tables: so many bytes of memory, shared by everything that holds them, and so many
//! bytes of a folder for what goes beyond.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Room for tables in memory and on disk. Clones are handles to the same.
#[derive(Debug, Clone)]
pub struct Room {
    memory: Arc<Quota>,
    disk: Arc<Quota>,
    folder: Arc<Path>,
}

/// So many bytes, and those of them that are taken.
#[derive(Debug)]
struct Quota {
    bytes_max: u64,
    taken: AtomicU64,
    taken_ever: AtomicU64,
}

/// Bytes that are taken, until this is dropped.
#[derive(Debug)]
pub(crate) struct Taken {
    quota: Arc<Quota>,
    bytes: u64,
}

impl Room {
    /// Room for so many bytes in memory, and for so many more in a folder, which is made when it is
    /// first needed. What lies there has no name and is gone with the process, however that ends.
    pub fn new(memory_bytes_max: u64, folder: PathBuf, disk_bytes_max: u64) -> Self {
        Room {
            memory: Arc::new(Quota::new(memory_bytes_max)),
            disk: Arc::new(Quota::new(disk_bytes_max)),
            folder: folder.into(),
        }
    }

    /// Bytes of tables in memory now.
    pub fn memory_bytes(&self) -> u64 {
        self.memory.taken.load(Ordering::Relaxed)
    }

    /// Bytes of tables on disk now.
    pub fn disk_bytes(&self) -> u64 {
        self.disk.taken.load(Ordering::Relaxed)
    }

    /// Bytes of tables that were ever put on disk.
    pub fn disk_bytes_ever(&self) -> u64 {
        self.disk.taken_ever.load(Ordering::Relaxed)
    }

    pub(super) fn folder(&self) -> &Path {
        &self.folder
    }

    /// The same disk, with no memory.
    pub(super) fn disk_alone(&self) -> Room {
        Room { memory: Arc::new(Quota::new(0)), ..self.clone() }
    }

    /// Nothing yet, of the memory.
    pub(super) fn in_memory(&self) -> Taken {
        Taken { quota: Arc::clone(&self.memory), bytes: 0 }
    }

    /// Nothing yet, of the disk.
    pub(super) fn on_disk(&self) -> Taken {
        Taken { quota: Arc::clone(&self.disk), bytes: 0 }
    }
}

impl Quota {
    const fn new(bytes_max: u64) -> Self {
        Quota { bytes_max, taken: AtomicU64::new(0), taken_ever: AtomicU64::new(0) }
    }
}

impl Taken {
    /// Takes more; false where there is no more.
    pub(super) fn grow(&mut self, bytes: u64) -> bool {
        let max = self.quota.bytes_max;
        let more = |taken: u64| taken.checked_add(bytes).filter(|sum| *sum <= max);
        let grown = self.quota.taken.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more);
        if grown.is_ok() {
            self.bytes += bytes;
            self.quota.taken_ever.fetch_add(bytes, Ordering::Relaxed);
        }
        grown.is_ok()
    }

    /// Takes more of the disk, or says that it is full.
    pub(super) fn grow_on_disk(&mut self, bytes: u64) -> io::Result<()> {
        if self.grow(bytes) {
            return Ok(());
        }
        let full = format!("tables on disk have reached their limit of {}", self.quota.bytes_max);
        Err(io::Error::new(io::ErrorKind::StorageFull, full))
    }
}

impl Drop for Taken {
    fn drop(&mut self) {
        self.quota.taken.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}
