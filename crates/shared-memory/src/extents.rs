//! The location of a table's bytes: one file, or pieces of several files, some of which were
//! written for other tables.

use std::os::fd::{BorrowedFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use arrow::error::ArrowError;
use serde::{Deserialize, Serialize};

use crate::decode_limits::DecodeBudget;
use crate::disk_file::DiskFile;
use crate::read_only_mapping::ReadOnlyMapping;
use crate::{Error, MemoryFile, Result};

/// Unit of file mappings, in bytes.
const PAGE: u64 = 4096;

/// Maximum number of pieces of a table. Each piece is a mapping, and the kernel limits a process to
/// about 65,000 mappings.
const EXTENTS_MAX: usize = 1_000;

/// Maximum number of mappings for all tables. Beyond this number, a new table's pieces are copied
/// to one file, because the kernel limits a process to about 65,000 mappings.
const MAPPINGS_MAX: usize = 20_000;

/// Maximum size of the unused address ranges between pieces, in bytes per piece.
const IDLE_BYTES_MAX: u64 = 4 << 20;

/// A piece of a table: a range of its bytes, and the location of this range in a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(into = "(u64, u64, usize, u64)")]
pub struct Extent {
    pub(crate) at: u64,
    pub(crate) bytes: u64,
    pub(crate) file: usize,
    pub(crate) start: u64,
}

impl From<Extent> for (u64, u64, usize, u64) {
    fn from(extent: Extent) -> Self {
        (extent.at, extent.bytes, extent.file, extent.start)
    }
}

/// A file with data of a table, which is passed to a worker process.
#[derive(Debug, Clone)]
pub enum WorkerFile {
    /// A file in memory, to which the function's result may refer.
    Memory(MemoryFile),
    /// A file on disk.
    Disk(Arc<DiskFile>),
}

impl WorkerFile {
    /// Returns true if the file is in memory.
    pub fn is_memory(&self) -> bool {
        matches!(self, WorkerFile::Memory(_))
    }

    /// Returns the descriptor of the file.
    pub fn descriptor(&self) -> BorrowedFd<'_> {
        match self {
            WorkerFile::Memory(file) => file.descriptor(),
            WorkerFile::Disk(file) => file.descriptor(),
        }
    }

    /// Returns the memory that the file uses, in bytes; `None` for a file on disk.
    pub fn memory_bytes(&self) -> Option<u64> {
        match self {
            WorkerFile::Memory(file) => Some(file.allocated_bytes()),
            WorkerFile::Disk(_) => None,
        }
    }

    /// Returns the index of this file in a list of files for a worker. Adds the file if the list
    /// does not contain it.
    pub(crate) fn number(self, files: &mut Vec<WorkerFile>) -> usize {
        let same = |other: &WorkerFile| match (&self, other) {
            (WorkerFile::Memory(one), WorkerFile::Memory(other)) => one.is(other),
            (WorkerFile::Disk(one), WorkerFile::Disk(other)) => Arc::ptr_eq(one, other),
            _ => false,
        };
        files.iter().position(same).unwrap_or_else(|| {
            files.push(self);
            files.len() - 1
        })
    }
}

/// The layout of a result table, as its worker sends it. Each piece has an offset in the table, a
/// length, a file number and an offset in the file. A file number is an index into the files that
/// the worker received, or [`OWN`].
#[derive(Debug, Deserialize)]
pub(crate) struct LayoutMessage {
    bytes: u64,
    extents: Vec<(u64, u64, i64, u64)>,
}

/// The file number of the file that the worker itself wrote.
const OWN: i64 = -1;

/// The location of a table's bytes, if they are in memory files.
#[derive(Debug, Clone)]
pub(crate) struct Extents {
    bytes: u64,
    files: Vec<MemoryFile>,
    extents: Vec<Extent>,
    /// Number of bytes in the file that was written for this table; other pieces are in files of
    /// other tables.
    written: u64,
}

impl Extents {
    /// Returns the extents of one whole file.
    pub(crate) fn whole(file: MemoryFile) -> Self {
        let bytes = file.bytes();
        Extents {
            bytes,
            extents: vec![Extent { at: 0, bytes, file: 0, start: 0 }],
            files: vec![file],
            written: bytes,
        }
    }

    /// Validates the layout that a worker sent, and returns the extents that it describes.
    pub(crate) fn of(
        outline: &LayoutMessage,
        own: Option<MemoryFile>,
        given: &[WorkerFile],
    ) -> Result<Self> {
        let LayoutMessage { bytes, ref extents } = *outline;
        let lengths =
            extents.iter().try_fold(0_u64, |sum, (_, length, _, _)| sum.checked_add(*length));
        let idle = IDLE_BYTES_MAX * (extents.len() as u64 + 1);
        let span = lengths.and_then(|lengths| lengths.checked_add(idle));
        if extents.len() > EXTENTS_MAX || span.is_none_or(|span| bytes > span) {
            return Err(wrong("the table has too many memory ranges"));
        }
        let written = own.as_ref().map_or(0, MemoryFile::bytes);
        let mut pieces = Extents { bytes, files: Vec::new(), extents: Vec::new(), written };
        let mut end = 0_u64;
        for &(at, length, file, start) in extents {
            let number = usize::try_from(file).ok();
            let file = match (file, number.and_then(|number| given.get(number))) {
                (OWN, _) => own.as_ref(),
                (_, Some(WorkerFile::Memory(file))) => Some(file),
                (_, Some(WorkerFile::Disk(_)) | None) => None,
            };
            let file = file.ok_or_else(|| wrong("a memory range refers to an unknown file"))?;
            let aligned = at.is_multiple_of(PAGE) && start.is_multiple_of(PAGE);
            let until = at.checked_add(length).filter(|until| *until <= bytes);
            let within = start.checked_add(length).is_some_and(|until| until <= file.bytes());
            let Some(until) = until.filter(|_| length > 0 && aligned && within && at >= end) else {
                return Err(wrong(
                    "a memory range is empty, unaligned, overlapping or out of bounds",
                ));
            };
            // A range with holes is rejected, because reading a hole would allocate memory for it.
            if !file.has(start, length) {
                return Err(wrong("a memory range has holes"));
            }
            end = until.next_multiple_of(PAGE);
            let file = pieces.add(file);
            pieces.extents.push(Extent { at, bytes: length, file, start });
        }
        Ok(pieces)
    }

    fn add(&mut self, file: &MemoryFile) -> usize {
        self.files.iter().position(|other| other.is(file)).unwrap_or_else(|| {
            self.files.push(file.clone());
            self.files.len() - 1
        })
    }

    /// Returns the size of the address range into which the table is mapped, in bytes. It includes
    /// gaps between pieces.
    pub(crate) fn span(&self) -> u64 {
        self.bytes
    }

    /// Returns the total number of bytes of the table's pieces.
    pub(crate) fn bytes(&self) -> u64 {
        self.extents.iter().map(|extent| extent.bytes).sum()
    }

    /// Returns the number of bytes that the worker wrote for this table.
    pub(crate) fn written(&self) -> u64 {
        self.written
    }

    /// Returns the limits for decoding the table.
    pub(crate) fn decode_budget(&self) -> DecodeBudget {
        match self.extents.len() {
            1 => DecodeBudget::of(self.bytes()),
            _ => DecodeBudget::of_pieces(self.bytes()),
        }
    }

    /// Returns the files of the table.
    pub(crate) fn files(&self) -> &[MemoryFile] {
        &self.files
    }

    /// Returns the pieces of the table, in order.
    pub(crate) fn extents(&self) -> &[Extent] {
        &self.extents
    }

    /// Maps the table into memory. If the process has too many mappings, copies the table to one
    /// file first.
    pub(crate) fn mapped(self) -> Result<(Extents, Arc<ReadOnlyMapping>)> {
        let pieces = if ReadOnlyMapping::count() + self.extents.len() > MAPPINGS_MAX {
            self.gathered()?
        } else {
            self
        };
        let mapping = pieces.map()?;
        Ok((pieces, mapping))
    }

    /// Copies the pieces to one file, each to its offset in the table.
    fn gathered(&self) -> Result<Extents> {
        const AT_ONCE: usize = 1 << 20;
        let failed = || Error::io("copy a table's memory ranges to one file");
        let gathered = MemoryFile::create("headwater-table")?;
        gathered.set_len(self.bytes).map_err(failed())?;
        let mut held = vec![0; AT_ONCE];
        for extent in &self.extents {
            let mut done = 0;
            while done < extent.bytes {
                let some = (extent.bytes - done).min(AT_ONCE as u64) as usize;
                let file = self.files[extent.file].descriptor();
                let read = rustix::io::pread(file, &mut held[..some], extent.start + done);
                let read = read.map_err(|errno| failed()(errno.into()))?.max(1);
                gathered.write_all_at(&held[..read], extent.at + done).map_err(failed())?;
                done += read as u64;
            }
        }
        // The new file is sparse: it has no bytes in the gaps between pieces, and no data refers to
        // the gaps.
        let file = MemoryFile::seal_sparse(gathered.into())?;
        Ok(Extents { written: self.bytes(), ..Extents::whole(file) })
    }

    /// Maps the whole table into memory.
    pub(crate) fn map(&self) -> Result<Arc<ReadOnlyMapping>> {
        let extents = self.extents.iter();
        let extents = extents.map(|extent| (self.files[extent.file].descriptor(), *extent));
        let mapping = ReadOnlyMapping::of_frozen(self.bytes as usize, extents);
        mapping.map(Arc::new).map_err(Error::io("map a memory file"))
    }
}

/// Parses the layout that a worker sent.
pub(crate) fn read_layout(file: OwnedFd) -> Result<LayoutMessage> {
    const BYTES_MAX: u64 = 1 << 20;
    let file = MemoryFile::seal(file)?;
    if file.bytes() > BYTES_MAX {
        return Err(wrong("the table has too many memory ranges"));
    }
    serde_json::from_slice(&file.buffer()?)
        .map_err(|_| wrong("the list of memory ranges is malformed"))
}

fn wrong(what: &str) -> Error {
    Error::Arrow(ArrowError::InvalidArgumentError(what.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_must_not_overlap_and_be_within_files() {
        let own = MemoryFile::with("own", &[7; 10_000]).unwrap();
        let input = MemoryFile::with("input", &[8; 8_192]).unwrap();
        let given = [WorkerFile::Memory(input)];
        let read = |text: &str| {
            let outline = serde_json::from_str(text).map_err(|_| wrong("no outline"))?;
            Ok::<_, Error>(Extents::of(&outline, Some(own.clone()), &given)?.map()?.buffer())
        };
        let text = r#"{"bytes": 20480, "extents": [[0, 5000, -1, 4096], [12288, 4096, 0, 4096]]}"#;
        let bytes = read(text).unwrap();
        assert_eq!((bytes.len(), bytes[0], bytes[4999]), (20_480, 7, 7));
        assert_eq!((bytes[8_192], bytes[12_288], bytes[16_383], bytes[20_479]), (0, 8, 8, 0));
        for hostile in [
            "[]",
            r#"{"bytes": -1, "extents": []}"#,
            r#"{"bytes": 99999999999999999, "extents": []}"#,
            r#"{"bytes": 17592186044416, "extents": [[0, 4096, -1, 0]]}"#,
            r#"{"bytes": 4096, "extents": [[0, 0, -1, 0]]}"#,
            r#"{"bytes": 4096, "extents": [[0, 4097, -1, 0]]}"#,
            r#"{"bytes": 4096, "extents": [[1, 100, -1, 0]]}"#,
            r#"{"bytes": 4096, "extents": [[0, 100, -1, 1]]}"#,
            r#"{"bytes": 90000, "extents": [[0, 10001, -1, 0]]}"#,
            r#"{"bytes": 90000, "extents": [[0, 5000, -1, 8192]]}"#,
            r#"{"bytes": 90000, "extents": [[0, 100, 1, 0]]}"#,
            r#"{"bytes": 90000, "extents": [[0, 5000, -1, 0], [4096, 100, 0, 0]]}"#,
            r#"{"bytes": 90000, "extents": [[4096, 100, -1, 0], [0, 100, 0, 0]]}"#,
            r#"{"bytes": 90000, "extents": [[0, 18446744073709551615, -1, 4096]]}"#,
        ] {
            assert!(read(hostile).is_err(), "{hostile}");
        }
    }

    #[test]
    fn pieces_are_mapped_at_their_offsets() {
        let own = MemoryFile::with("own", &[7; 10_000]).unwrap();
        let text = r#"{"bytes": 20480, "extents": [[0, 5000, -1, 4096], [12288, 4096, -1, 0]]}"#;
        let outline = serde_json::from_str(text).unwrap();
        let pieces = Extents::of(&outline, Some(own), &[]).unwrap();
        let gathered = pieces.gathered().unwrap();
        assert_eq!((gathered.extents.len(), gathered.span()), (1, 20_480));
        let (one, other) = (pieces.map().unwrap().buffer(), gathered.map().unwrap().buffer());
        assert!(one[..5_000] == other[..5_000] && one[12_288..16_384] == other[12_288..16_384]);
    }

    #[test]
    fn a_piece_with_holes_is_rejected() {
        let file = MemoryFile::create("holes").unwrap();
        std::os::unix::fs::FileExt::write_all_at(&file, &[1; 4096], 0).unwrap();
        file.set_len(1 << 20).unwrap();
        let file = MemoryFile::seal(file.into()).unwrap();
        let pieces = |extents: &str| {
            let outline = serde_json::from_str(&format!("{{\"bytes\": 1048576, {extents}}}"));
            Extents::of(&outline.unwrap(), Some(file.clone()), &[])
        };
        assert!(pieces("\"extents\": [[0, 4096, -1, 0]]").is_ok());
        assert!(pieces("\"extents\": [[0, 8192, -1, 0]]").is_err());
    }
}
