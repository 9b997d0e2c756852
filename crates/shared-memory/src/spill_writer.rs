//! Writes the file of a table, in memory while the quota permits, otherwise on disk.

use std::fs::File;
use std::io::{self, Write};

use crate::disk_file::{self, DiskFile};
use crate::quota::{QuotaReservation, TableQuota};
use crate::{MemoryFile, Result};

/// A file that is written sequentially.
pub(crate) struct SpillWriter {
    file: File,
    table_quota: Option<TableQuota>,
    taken: Option<QuotaReservation>,
    /// A read-only handle of the file, if the file is on disk; `None` if it is in memory.
    on_disk: Option<File>,
    bytes: u64,
}

/// A complete file, in memory or on disk.
pub(crate) enum SpillLocation {
    /// A file in memory, with the reservation for its memory.
    Memory(File, Option<QuotaReservation>),
    /// A file on disk.
    Disk(DiskFile),
}

impl SpillWriter {
    /// Creates an empty file in memory. When the memory quota is exhausted, the file moves to disk.
    /// Without a quota, it stays in memory.
    pub(crate) fn new(table_quota: Option<&TableQuota>) -> Result<Self> {
        Ok(SpillWriter {
            file: MemoryFile::create("headwater-table")?,
            table_quota: table_quota.cloned(),
            taken: table_quota.map(TableQuota::in_memory),
            on_disk: None,
            bytes: 0,
        })
    }

    /// Returns the complete file.
    pub(crate) fn finish(self) -> SpillLocation {
        match (self.on_disk, self.taken) {
            (Some(file), Some(taken)) => {
                SpillLocation::Disk(DiskFile::new(file, self.bytes, taken))
            }
            (_, taken) => SpillLocation::Memory(self.file, taken),
        }
    }

    fn take(&mut self, more: u64) -> io::Result<()> {
        let (Some(table_quota), Some(taken)) = (&self.table_quota, &mut self.taken) else {
            return Ok(());
        };
        if self.on_disk.is_some() {
            return taken.grow_on_disk(more);
        }
        if taken.grow(more) {
            return Ok(());
        }
        let mut on_disk = table_quota.on_disk();
        on_disk.grow_on_disk(self.bytes.saturating_add(more))?;
        let (mut file, read) = disk_file::create(table_quota.folder())?;
        io::Seek::rewind(&mut self.file)?;
        io::copy(&mut self.file, &mut file)?;
        (self.file, self.on_disk, self.taken) = (file, Some(read), Some(on_disk));
        Ok(())
    }
}

impl Write for SpillWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.take(bytes.len() as u64)?;
        self.file.write_all(bytes)?;
        self.bytes += bytes.len() as u64;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}
