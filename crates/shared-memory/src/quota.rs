//! The quota for tables: bytes in memory that all tables share, and bytes on disk for tables that
//! do not fit into memory.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// The quota for tables in memory and on disk. Clones share the quota.
#[derive(Debug, Clone)]
pub struct TableQuota {
    memory: Arc<Quota>,
    disk: Arc<Quota>,
    folder: Arc<Path>,
}

/// A limit in bytes, the bytes in use, and the total of all bytes ever used.
#[derive(Debug)]
struct Quota {
    bytes_max: u64,
    taken: AtomicU64,
    taken_ever: AtomicU64,
}

/// Bytes that are reserved in a quota. Dropping the value releases them.
#[derive(Debug)]
pub struct QuotaReservation {
    quota: Arc<Quota>,
    bytes: u64,
}

impl TableQuota {
    /// Creates a quota with limits for memory and for the files in `folder`. The folder is created
    /// on first use. The files have no names, so they disappear when the process ends.
    pub fn new(memory_bytes_max: u64, folder: PathBuf, disk_bytes_max: u64) -> Self {
        TableQuota {
            memory: Arc::new(Quota::new(memory_bytes_max)),
            disk: Arc::new(Quota::new(disk_bytes_max)),
            folder: folder.into(),
        }
    }

    /// Returns the memory that tables use, in bytes.
    pub fn memory_bytes(&self) -> u64 {
        self.memory.taken.load(Ordering::Relaxed)
    }

    /// Returns the disk space that tables use, in bytes.
    pub fn disk_bytes(&self) -> u64 {
        self.disk.taken.load(Ordering::Relaxed)
    }

    /// Returns the total number of bytes that were written to disk since the creation of the quota.
    pub fn disk_bytes_ever(&self) -> u64 {
        self.disk.taken_ever.load(Ordering::Relaxed)
    }

    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }

    /// Returns a quota that shares the disk space of this quota and permits no memory.
    pub(crate) fn disk_only(&self) -> TableQuota {
        TableQuota { memory: Arc::new(Quota::new(0)), ..self.clone() }
    }

    /// Returns an empty reservation of memory.
    pub(crate) fn in_memory(&self) -> QuotaReservation {
        QuotaReservation { quota: Arc::clone(&self.memory), bytes: 0 }
    }

    /// Returns an empty reservation of disk space.
    pub(crate) fn on_disk(&self) -> QuotaReservation {
        QuotaReservation { quota: Arc::clone(&self.disk), bytes: 0 }
    }
}

impl Quota {
    const fn new(bytes_max: u64) -> Self {
        Quota { bytes_max, taken: AtomicU64::new(0), taken_ever: AtomicU64::new(0) }
    }
}

impl QuotaReservation {
    /// Adds bytes to this reservation. Returns false if the quota is exhausted.
    pub(crate) fn grow(&mut self, bytes: u64) -> bool {
        let max = self.quota.bytes_max;
        let more = |taken: u64| taken.checked_add(bytes).filter(|sum| *sum <= max);
        let grown = self.quota.taken.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more);
        if grown.is_ok() {
            self.bytes += bytes;
            self.quota.taken_ever.fetch_add(bytes, Ordering::Relaxed);
        }
        grown.is_ok()
    }

    /// Adds bytes to this reservation of disk space. Fails with the error of a full disk if the
    /// quota is exhausted.
    pub(crate) fn grow_on_disk(&mut self, bytes: u64) -> io::Result<()> {
        if self.grow(bytes) {
            return Ok(());
        }
        let full =
            format!("the tables on disk have reached the limit of {} bytes", self.quota.bytes_max);
        Err(io::Error::new(io::ErrorKind::StorageFull, full))
    }
}

impl Drop for QuotaReservation {
    fn drop(&mut self) {
        self.quota.taken.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}
