//! A file for streamed rows that is used repeatedly. The server overwrites the file after the
//! function has released its rows, so that pages are allocated only once.
//!
//! If the file is in memory, only this process can write to it, through a mapping that was created
//! before the file was sealed. Other holders of the descriptor cannot write to the file, map it for
//! writing, or change its size. If the memory quota is exhausted, the file is on disk.
#![expect(unsafe_code, reason = "writes to a sealed file through an earlier mapping")]

use std::fs::File;
use std::io::Write;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::ptr::NonNull;

use arrow::error::ArrowError;
use rustix::fs::SealFlags;
use rustix::mm::{MapFlags, ProtFlags};

use crate::disk_file;
use crate::ipc_encoder::IpcMessage;
use crate::quota::{QuotaReservation, TableQuota};
use crate::{Error, MemoryFile, Result};

/// The seals of a file. After sealing, only a mapping that was created before can change the file.
const SEALS: SealFlags =
    SealFlags::SEAL.union(SealFlags::SHRINK).union(SealFlags::GROW).union(SealFlags::FUTURE_WRITE);

/// Unit of file growth in bytes. Rounding up leaves space for larger batches later.
const STEP: usize = 1 << 20;

/// A file with streamed rows, which later rows overwrite.
#[derive(Debug)]
pub struct ReusableFile {
    place: Location,
    bytes: usize,
    taken: Option<QuotaReservation>,
}

#[derive(Debug)]
enum Location {
    Memory(WritableMapping),
    Disk(File),
}

/// A memory file with the only writable mapping.
#[derive(Debug)]
struct WritableMapping {
    file: OwnedFd,
    start: NonNull<u8>,
    bytes: usize,
}

// SAFETY: the memory never moves, and only this value refers to it. Any thread may write to it and
// drop it.
unsafe impl Send for WritableMapping {}
// SAFETY: a shared reference gives no access to the memory.
unsafe impl Sync for WritableMapping {}

impl WritableMapping {
    fn new(bytes: usize) -> std::io::Result<WritableMapping> {
        let file = MemoryFile::create("headwater-rows").map_err(std::io::Error::other)?;
        file.set_len(bytes as u64)?;
        let file = OwnedFd::from(file);
        let both = ProtFlags::READ.union(ProtFlags::WRITE);
        // SAFETY: a new mapping at an address of the kernel's choice touches no other memory.
        let start = unsafe {
            rustix::mm::mmap(std::ptr::null_mut(), bytes, both, MapFlags::SHARED, &file, 0)?
        };
        let start = NonNull::new(start.cast()).ok_or(std::io::ErrorKind::InvalidData)?;
        let written = WritableMapping { file, start, bytes };
        rustix::fs::fcntl_add_seals(&written.file, SEALS)?;
        Ok(written)
    }

    fn bytes_mut(&mut self) -> &mut [u8] {
        // SAFETY: `start` is valid for `bytes` bytes during the lifetime of this value. The file
        // cannot get shorter, no other process can write to it, and this process has no other
        // mapping of the file.
        unsafe { std::slice::from_raw_parts_mut(self.start.as_ptr(), self.bytes) }
    }
}

impl Drop for WritableMapping {
    fn drop(&mut self) {
        // SAFETY: the range was mapped by `new`, and no slice of it exists any more.
        let _ = unsafe { rustix::mm::munmap(self.start.as_ptr().cast(), self.bytes) };
    }
}

impl ReusableFile {
    /// Creates a file that contains rows, in memory, or on disk if the memory quota is exhausted.
    pub fn of(gathered: &IpcMessage, table_quota: Option<&TableQuota>) -> Result<ReusableFile> {
        let bytes = gathered.bytes().next_multiple_of(STEP);
        let mut taken = table_quota.map(TableQuota::in_memory);
        if let (Some(taken), Some(table_quota)) = (&mut taken, table_quota)
            && !taken.grow(bytes as u64)
        {
            return Self::on_disk(gathered, table_quota);
        }
        let written = WritableMapping::new(bytes).map_err(Error::io("create a memory file"))?;
        let mut chunk = ReusableFile { place: Location::Memory(written), bytes, taken };
        chunk.write(gathered);
        Ok(chunk)
    }

    fn on_disk(gathered: &IpcMessage, table_quota: &TableQuota) -> Result<ReusableFile> {
        let failed = |error| Error::Arrow(ArrowError::from(error));
        let bytes = gathered.bytes();
        let mut taken = table_quota.on_disk();
        taken.grow_on_disk(bytes as u64).map_err(failed)?;
        let (mut written, read) = disk_file::create(table_quota.folder()).map_err(failed)?;
        let mut message = vec![0; bytes];
        gathered.write(&mut message);
        written.write_all(&message).map_err(failed)?;
        Ok(ReusableFile { place: Location::Disk(read), bytes, taken: Some(taken) })
    }

    /// Overwrites the rows of the file. The caller ensures that no process still reads the old
    /// rows. Returns false if the new rows do not fit, or if the file is on disk.
    pub fn write(&mut self, gathered: &IpcMessage) -> bool {
        match &mut self.place {
            Location::Memory(written) if gathered.bytes() <= written.bytes => {
                gathered.write(&mut written.bytes_mut()[..gathered.bytes()]);
                true
            }
            Location::Memory(_) | Location::Disk(_) => false,
        }
    }

    /// Returns true if the rows fit into the file, and it is in memory.
    pub fn fits(&self, gathered: &IpcMessage) -> bool {
        self.is_memory() && gathered.bytes() <= self.bytes
    }

    /// Drops the file and returns its reservation, which the caller keeps for as long as the
    /// function's process may hold the file.
    pub fn into_reservation(self) -> Option<QuotaReservation> {
        self.taken
    }

    /// Returns true if the file is in memory and can therefore be overwritten.
    pub fn is_memory(&self) -> bool {
        matches!(self.place, Location::Memory(_))
    }

    /// Returns the size of the file in bytes.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Returns the descriptor of the file.
    pub fn descriptor(&self) -> BorrowedFd<'_> {
        match &self.place {
            Location::Memory(written) => written.file.as_fd(),
            Location::Disk(file) => file.as_fd(),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::FileExt;
    use std::sync::Arc;

    use arrow::array::{ArrayRef, Int64Array, RecordBatch};

    use super::*;

    fn rows(first: i64, count: i64) -> IpcMessage {
        let numbers: ArrayRef = Arc::new(Int64Array::from_iter_values(first..first + count));
        IpcMessage::new(&[RecordBatch::try_from_iter([("n", numbers)]).unwrap()]).unwrap()
    }

    fn message(gathered: &IpcMessage) -> Vec<u8> {
        let mut message = vec![0; gathered.bytes()];
        gathered.write(&mut message);
        message
    }

    fn content(chunk: &ReusableFile, bytes: usize) -> Vec<u8> {
        let file = File::from(chunk.descriptor().try_clone_to_owned().unwrap());
        let mut content = vec![0; bytes];
        file.read_exact_at(&mut content, 0).unwrap();
        content
    }

    #[test]
    fn only_the_server_can_write() {
        let mut chunk = ReusableFile::of(&rows(0, 1_000), None).unwrap();
        assert!(content(&chunk, rows(0, 1_000).bytes()) == message(&rows(0, 1_000)));
        let mut other = File::from(chunk.descriptor().try_clone_to_owned().unwrap());
        assert!(other.write_all(b"x").is_err() && other.set_len(1).is_err());
        assert!(other.set_len(1 << 30).is_err());
        let hole = rustix::fs::FallocateFlags::PUNCH_HOLE | rustix::fs::FallocateFlags::KEEP_SIZE;
        assert!(rustix::fs::fallocate(&other, hole, 0, 4096).is_err());
        for flags in [MapFlags::SHARED, MapFlags::PRIVATE] {
            // SAFETY: a new mapping that nothing else uses.
            let mapped = unsafe {
                let both = ProtFlags::READ.union(ProtFlags::WRITE);
                rustix::mm::mmap(std::ptr::null_mut(), 4096, both, flags, &other, 0)
            };
            // Writes to a private mapping do not change the file, so only private mappings are
            // permitted.
            assert_eq!(mapped.is_ok(), flags == MapFlags::PRIVATE);
        }
        let mut expected = message(&rows(0, 1_000));
        rows(7, 900).write(&mut expected[..rows(7, 900).bytes()]);
        assert!(chunk.write(&rows(7, 900)));
        assert!(content(&chunk, expected.len()) == expected);
        assert!(!chunk.write(&rows(0, 1 << 20)), "the rows are larger than the file");
    }

    #[test]
    fn rows_beyond_the_quota_are_stored_on_disk() {
        let folder = tempfile::tempdir().unwrap();
        let table_quota = TableQuota::new(1 << 20, folder.path().to_owned(), 100_000);
        let first = ReusableFile::of(&rows(0, 1_000), Some(&table_quota)).unwrap();
        let mut second = ReusableFile::of(&rows(5, 1_000), Some(&table_quota)).unwrap();
        assert!(first.is_memory() && !second.is_memory());
        assert!(content(&second, rows(5, 1_000).bytes()) == message(&rows(5, 1_000)));
        assert!(!second.write(&rows(0, 1)));
        let full = ReusableFile::of(&rows(0, 100_000), Some(&table_quota)).unwrap_err();
        assert_eq!(headwater_model::ToProblem::code(&full), headwater_model::ErrorCode::DiskFull);
        drop((first, second));
        assert_eq!((table_quota.memory_bytes(), table_quota.disk_bytes()), (0, 0));
    }
}
