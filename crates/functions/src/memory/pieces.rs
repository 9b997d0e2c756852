//! Where the bytes of a table lie: in one file, or in pieces of several, of which some belong to other
//! tables.

use std::os::fd::{BorrowedFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use arrow::error::ArrowError;
use serde::{Deserialize, Serialize};

use super::allowance::Allowance;
use super::disk::DiskFile;
use super::mapping::Mapping;
use crate::memory::MemoryFile;
use crate::{Error, Result};

/// The grain in which files are mapped.
pub(super) const PAGE: u64 = 4096;

/// The most pieces of one table: each is a mapping, of which a process can have some ten thousand.
const EXTENTS_MAX: usize = 1_000;

/// The most mappings of all tables together; what comes beyond is copied into one file. A process can have
/// some 65,000, and dies of having no more.
const MAPPINGS_MAX: usize = 20_000;

/// The most bytes of addresses that lie idle between two pieces.
const IDLE_BYTES_MAX: u64 = 4 << 20;

/// So many bytes of a table, from a place on, are those of a file, from a place on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(into = "(u64, u64, usize, u64)")]
pub(crate) struct Extent {
    pub(super) at: u64,
    pub(super) bytes: u64,
    pub(super) file: usize,
    pub(super) start: u64,
}

impl From<Extent> for (u64, u64, usize, u64) {
    fn from(extent: Extent) -> Self {
        (extent.at, extent.bytes, extent.file, extent.start)
    }
}

/// A file that a worker is given.
#[derive(Debug, Clone)]
pub(crate) enum GivenFile {
    /// It lies in memory; what the worker hands over may refer to it.
    Memory(MemoryFile),
    /// It lies on disk.
    Disk(Arc<DiskFile>),
}

impl GivenFile {
    pub(crate) fn is_memory(&self) -> bool {
        matches!(self, GivenFile::Memory(_))
    }

    pub(crate) fn descriptor(&self) -> BorrowedFd<'_> {
        match self {
            GivenFile::Memory(file) => file.descriptor(),
            GivenFile::Disk(file) => file.descriptor(),
        }
    }

    /// The number of a file among those that a worker is given.
    pub(super) fn number(self, files: &mut Vec<GivenFile>) -> usize {
        let same = |other: &GivenFile| match (&self, other) {
            (GivenFile::Memory(one), GivenFile::Memory(other)) => one.is(other),
            (GivenFile::Disk(one), GivenFile::Disk(other)) => Arc::ptr_eq(one, other),
            _ => false,
        };
        files.iter().position(same).unwrap_or_else(|| {
            files.push(self);
            files.len() - 1
        })
    }
}

/// What a worker says of the bytes of its table: from where on, how many, in which file from where on.
/// The files are those that it was given, or one of its own.
#[derive(Debug, Deserialize)]
pub(super) struct Outline {
    bytes: u64,
    extents: Vec<(u64, u64, i64, u64)>,
}

/// The numbers of a worker's own files: the one that it wrote, and the one that its allocations lie in.
const OWN: i64 = -1;
const ARENA: i64 = -2;

impl Outline {
    /// What of it lies in the arena: from where on, and how many bytes, in order.
    pub(super) fn in_arena(&self) -> Vec<(u64, u64)> {
        let parts = self.extents.iter().filter(|(_, _, file, _)| *file == ARENA);
        let mut parts: Vec<_> = parts.map(|&(_, length, _, start)| (start, length)).collect();
        parts.sort_unstable();
        parts
    }
}

/// The bytes of a table that lies in memory.
#[derive(Debug, Clone)]
pub(super) struct Pieces {
    bytes: u64,
    files: Vec<MemoryFile>,
    extents: Vec<Extent>,
    /// Bytes of the file that was written for it.
    written: u64,
}

impl Pieces {
    /// All of one file.
    pub(super) fn whole(file: MemoryFile) -> Self {
        let bytes = file.bytes();
        Pieces {
            bytes,
            extents: vec![Extent { at: 0, bytes, file: 0, start: 0 }],
            files: vec![file],
            written: bytes,
        }
    }

    /// What a worker says, who may say anything: where that cannot be, it is an error.
    pub(super) fn of(
        outline: &Outline,
        (own, arena): (Option<MemoryFile>, Option<MemoryFile>),
        given: &[GivenFile],
    ) -> Result<Self> {
        let Outline { bytes, ref extents } = *outline;
        let lengths =
            extents.iter().try_fold(0_u64, |sum, (_, length, _, _)| sum.checked_add(*length));
        let idle = IDLE_BYTES_MAX * (extents.len() as u64 + 1);
        let span = lengths.and_then(|lengths| lengths.checked_add(idle));
        if extents.len() > EXTENTS_MAX || span.is_none_or(|span| bytes > span) {
            return Err(wrong("it lies in too many pieces"));
        }
        let written = own.as_ref().map_or(0, MemoryFile::bytes);
        let mut pieces = Pieces { bytes, files: Vec::new(), extents: Vec::new(), written };
        let mut end = 0_u64;
        for &(at, length, file, start) in extents {
            let number = usize::try_from(file).ok();
            let file = match (file, number.and_then(|number| given.get(number))) {
                (OWN, _) => own.as_ref(),
                (ARENA, _) => arena.as_ref(),
                (_, Some(GivenFile::Memory(file))) => Some(file),
                (_, Some(GivenFile::Disk(_)) | None) => None,
            };
            let file = file.ok_or_else(|| wrong("a piece lies in no file"))?;
            let aligned = at.is_multiple_of(PAGE) && start.is_multiple_of(PAGE);
            let until = at.checked_add(length).filter(|until| *until <= bytes);
            let within = start.checked_add(length).is_some_and(|until| until <= file.bytes());
            let Some(until) = until.filter(|_| length > 0 && aligned && within && at >= end) else {
                return Err(wrong("its pieces do not lie side by side"));
            };
            // Reading a hole allocates it, and at the reader's expense.
            if !file.has(start, length) {
                return Err(wrong("a piece has holes"));
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

    /// Bytes of addresses that it spans.
    pub(super) fn span(&self) -> u64 {
        self.bytes
    }

    /// Bytes of the files that are its.
    pub(super) fn bytes(&self) -> u64 {
        self.extents.iter().map(|extent| extent.bytes).sum()
    }

    /// Bytes that were written to hand it over.
    pub(super) fn written(&self) -> u64 {
        self.written
    }

    /// What reading it may take.
    pub(super) fn allowance(&self) -> Allowance {
        match self.extents.len() {
            1 => Allowance::of(self.bytes()),
            _ => Allowance::of_pieces(self.bytes()),
        }
    }

    /// The files that it lies in.
    pub(super) fn files(&self) -> &[MemoryFile] {
        &self.files
    }

    /// The pieces, in order.
    pub(super) fn extents(&self) -> &[Extent] {
        &self.extents
    }

    /// The same as memory, in one file of its own where there are too many mappings already.
    pub(super) fn mapped(self) -> Result<(Pieces, Arc<Mapping>)> {
        let pieces = if Mapping::count() + self.extents.len() > MAPPINGS_MAX {
            self.gathered()?
        } else {
            self
        };
        let mapping = pieces.map()?;
        Ok((pieces, mapping))
    }

    /// The same bytes at the same places in one file.
    fn gathered(&self) -> Result<Pieces> {
        const AT_ONCE: usize = 1 << 20;
        let failed = || Error::io("gather a table's pieces");
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
        // Between the pieces are holes, which nobody is told of.
        let file = MemoryFile::seal_sparse(gathered.into())?;
        Ok(Pieces { written: self.bytes(), ..Pieces::whole(file) })
    }

    /// All of it as memory.
    pub(super) fn map(&self) -> Result<Arc<Mapping>> {
        let extents = self.extents.iter();
        let extents = extents.map(|extent| (self.files[extent.file].descriptor(), *extent));
        let mapping = Mapping::of_frozen(self.bytes as usize, extents);
        mapping.map(Arc::new).map_err(Error::io("map a memory file"))
    }
}

/// Reads what a worker says.
pub(super) fn outline(file: OwnedFd) -> Result<Outline> {
    const BYTES_MAX: u64 = 1 << 20;
    let file = MemoryFile::seal(file)?;
    if file.bytes() > BYTES_MAX {
        return Err(wrong("it lies in too many pieces"));
    }
    serde_json::from_slice(&file.buffer()?).map_err(|_| wrong("nobody can say where it lies"))
}

fn wrong(what: &str) -> Error {
    Error::Arrow(ArrowError::InvalidArgumentError(what.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_lie_side_by_side_in_files_that_are_there() {
        let own = MemoryFile::with("own", &[7; 10_000]).unwrap();
        let input = MemoryFile::with("input", &[8; 8_192]).unwrap();
        let given = [GivenFile::Memory(input)];
        let read = |text: &str| {
            let outline = serde_json::from_str(text).map_err(|_| wrong("no outline"))?;
            Ok::<_, Error>(Pieces::of(&outline, (Some(own.clone()), None), &given)?.map()?.buffer())
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
    fn pieces_are_gathered_at_their_places() {
        let own = MemoryFile::with("own", &[7; 10_000]).unwrap();
        let text = r#"{"bytes": 20480, "extents": [[0, 5000, -1, 4096], [12288, 4096, -1, 0]]}"#;
        let outline = serde_json::from_str(text).unwrap();
        let pieces = Pieces::of(&outline, (Some(own), None), &[]).unwrap();
        let gathered = pieces.gathered().unwrap();
        assert_eq!((gathered.extents.len(), gathered.span()), (1, 20_480));
        let (one, other) = (pieces.map().unwrap().buffer(), gathered.map().unwrap().buffer());
        assert!(one[..5_000] == other[..5_000] && one[12_288..16_384] == other[12_288..16_384]);
    }

    #[test]
    fn a_piece_of_holes_is_refused() {
        let file = MemoryFile::create("holes").unwrap();
        std::os::unix::fs::FileExt::write_all_at(&file, &[1; 4096], 0).unwrap();
        file.set_len(1 << 20).unwrap();
        let file = MemoryFile::seal(file.into()).unwrap();
        let pieces = |extents: &str| {
            let outline = serde_json::from_str(&format!("{{\"bytes\": 1048576, {extents}}}"));
            Pieces::of(&outline.unwrap(), (Some(file.clone()), None), &[])
        };
        assert!(pieces("\"extents\": [[0, 4096, -1, 0]]").is_ok());
        assert!(pieces("\"extents\": [[0, 8192, -1, 0]]").is_err());
    }
}
