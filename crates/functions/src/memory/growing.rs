//! A table's file while it is written: in memory as long as there is room, on disk from then on.

use std::fs::File;
use std::io::{self, Write};

use super::disk::{self, DiskFile};
use super::room::{Room, Taken};
use crate::Result;
use crate::memory::MemoryFile;

/// A file that is written from its beginning to its end.
pub(super) struct Growing {
    file: File,
    room: Option<Room>,
    taken: Option<Taken>,
    /// The same file, to read from, where it lies on disk.
    on_disk: Option<File>,
    bytes: u64,
}

/// A file that is written.
pub(super) enum Written {
    /// In memory, with what it takes there.
    Memory(File, Option<Taken>),
    /// On disk.
    Disk(DiskFile),
}

impl Growing {
    /// A new file in a room, or in memory alone, without a limit.
    pub(super) fn new(room: Option<&Room>) -> Result<Self> {
        Ok(Growing {
            file: MemoryFile::create("headwater-table")?,
            room: room.cloned(),
            taken: room.map(Room::in_memory),
            on_disk: None,
            bytes: 0,
        })
    }

    /// The file as it was written.
    pub(super) fn finish(self) -> Written {
        match (self.on_disk, self.taken) {
            (Some(file), Some(taken)) => Written::Disk(DiskFile::new(file, self.bytes, taken)),
            (_, taken) => Written::Memory(self.file, taken),
        }
    }

    fn take(&mut self, more: u64) -> io::Result<()> {
        let (Some(room), Some(taken)) = (&self.room, &mut self.taken) else { return Ok(()) };
        if self.on_disk.is_some() {
            return taken.grow_on_disk(more);
        }
        if taken.grow(more) {
            return Ok(());
        }
        let mut on_disk = room.on_disk();
        on_disk.grow_on_disk(self.bytes.saturating_add(more))?;
        let (mut file, read) = disk::create(room.folder())?;
        io::Seek::rewind(&mut self.file)?;
        io::copy(&mut self.file, &mut file)?;
        (self.file, self.on_disk, self.taken) = (file, Some(read), Some(on_disk));
        Ok(())
    }
}

impl Write for Growing {
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
