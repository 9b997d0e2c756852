//! A table in shared memory: an Arrow IPC file in a sealed memory file, or on disk if the memory
//! quota is exhausted. The server writes inputs, and an instance writes its result; both are read
//! through this type, [`SharedTable`]. Record batches of a table in memory refer to the mapping.
//! Record batches of a table on disk are read from the file each time. In both cases a function
//! receives a descriptor of the file, and maps the file.

use std::os::fd::OwnedFd;
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use arrow::error::ArrowError;
use arrow::ipc::reader::FileDecoder;
use futures::StreamExt;
use futures::stream::{self, BoxStream};

use crate::blocking_io::run_blocking;
use crate::decode_limits::DecodeBudget;
use crate::disk_file::DiskFile;
use crate::extents::{Extent, Extents, WorkerFile};
use crate::huge_page_fs::ResultFile;
use crate::ipc::IpcFooter;
use crate::quota::TableQuota;
use crate::table_writer::{finish, writer};
use crate::{Error, MemoryFile, Result};

/// Maximum number of rows in a record batch of a table in memory.
const BATCH_ROWS_MAX: usize = 1 << 17;

/// A table in an immutable file. Clones share the table. Its bytes are released from the quota when
/// the last clone and the last record batch are dropped.
#[derive(Debug, Clone)]
pub struct SharedTable(Arc<SharedTableInner>);

#[derive(Debug)]
struct SharedTableInner {
    layout: IpcFooter,
    rows: u64,
    place: Location,
}

#[derive(Debug)]
enum Location {
    Memory { pieces: Extents, batches: Vec<RecordBatch> },
    Disk(Arc<DiskFile>),
}

impl SharedTable {
    /// Opens a memory file that another process wrote. The size of the file limits the memory that
    /// decoding may use.
    pub fn open(file: OwnedFd) -> Result<Self> {
        Self::of_another(Extents::whole(MemoryFile::seal(file)?))
    }

    /// Opens a table that a worker wrote to a memory file of its own, or to the file `given` by the
    /// server. `outline` locates the table's bytes in this file and in the input files.
    pub fn from_worker_files(
        outline: OwnedFd,
        (own, mut given): (Option<OwnedFd>, ResultFile),
        inputs: &[WorkerFile],
    ) -> Result<Self> {
        let own = match own {
            Some(own) => Some(MemoryFile::seal(own)?),
            None => given.take_file()?,
        };
        let outline = crate::extents::read_layout(outline)?;
        Self::of_another(Extents::of(&outline, own, inputs)?)
    }

    fn of_another(pieces: Extents) -> Result<Self> {
        let budget = pieces.decode_budget();
        Self::in_memory(pieces, budget)
    }

    /// Decodes the record batches of a table in memory, which may use the memory of `budget`.
    pub(crate) fn in_memory(pieces: Extents, budget: DecodeBudget) -> Result<Self> {
        let (pieces, mapping) = pieces.mapped()?;
        let buffer = mapping.buffer();
        let layout = IpcFooter::read(&buffer)?;
        let batches = layout.all(&buffer, budget)?;
        let rows = rows_of(batches.iter().map(|batch| batch.num_rows() as u64))?;
        let batches = batches.iter().flat_map(sliced).collect();
        let place = Location::Memory { pieces, batches };
        Ok(SharedTable(Arc::new(SharedTableInner { layout, rows, place })))
    }

    /// Creates a table on disk from its file and the footer of this file.
    pub(crate) fn on_disk(layout: IpcFooter, rows: u64, file: DiskFile) -> Self {
        let place = Location::Disk(Arc::new(file));
        SharedTable(Arc::new(SharedTableInner { layout, rows, place }))
    }

    /// Charges the memory of a table from another process to a quota. If the quota is exhausted,
    /// returns the table as the error. A file that several tables share is charged once, until the
    /// last of these tables is dropped.
    pub fn claim(self, table_quota: &TableQuota) -> Result<Self, Self> {
        if let Location::Memory { pieces, .. } = &self.0.place {
            let mut claimed = Vec::new();
            for file in pieces.files().iter().filter(|file| file.taken().is_none()) {
                let mut taken = table_quota.in_memory();
                if !taken.grow(file.allocated_bytes()) {
                    return Err(self);
                }
                claimed.push((file.clone(), taken));
            }
            for (file, taken) in claimed {
                file.take(taken);
            }
        }
        Ok(self)
    }

    /// Charges the table to a quota like [`SharedTable::claim`]. If the quota is exhausted, moves
    /// the table to disk.
    pub async fn claim_or_spill(self, table_quota: &TableQuota) -> Result<Self> {
        match self.claim(table_quota) {
            Ok(table) => Ok(table),
            Err(table) => {
                let table_quota = table_quota.clone();
                run_blocking(move || table.to_disk(&table_quota)).await
            }
        }
    }

    fn to_disk(&self, table_quota: &TableQuota) -> Result<Self> {
        let Location::Memory { pieces, batches } = &self.0.place else { return Ok(self.clone()) };
        if pieces.extents().len() > 1 {
            let mut writer = writer(&self.schema(), Some(&table_quota.disk_only()))?;
            for batch in batches {
                writer.write(batch)?;
            }
            return finish(writer, self.rows());
        }
        let failed = |error| Error::Arrow(ArrowError::from(error));
        let bytes = pieces.span();
        let mut taken = table_quota.on_disk();
        taken.grow_on_disk(bytes).map_err(failed)?;
        let (mut written, read) = crate::disk_file::create(table_quota.folder()).map_err(failed)?;
        std::io::Write::write_all(&mut written, &pieces.map()?.buffer()).map_err(failed)?;
        let file = DiskFile::new(read, bytes, taken);
        Ok(Self::on_disk(self.0.layout.clone(), self.0.rows, file))
    }

    /// Returns the columns.
    pub fn schema(&self) -> SchemaRef {
        self.0.layout.schema()
    }

    /// Returns the record batches of a table in memory, which refer to the mapping without a copy;
    /// `None` for a table on disk.
    pub fn mapped(&self) -> Option<Vec<RecordBatch>> {
        match &self.0.place {
            Location::Memory { batches, .. } => Some(batches.clone()),
            Location::Disk(_) => None,
        }
    }

    /// Streams the record batches of a table in memory or on disk.
    pub fn stream(&self) -> BoxStream<'static, Result<RecordBatch, ArrowError>> {
        if let Some(batches) = self.mapped() {
            return stream::iter(batches.into_iter().map(Ok)).boxed();
        }
        let budget = DecodeBudget::unlimited();
        let reader = DiskTableReader { table: self.clone(), decoder: None, budget, next: 0 };
        let read = |reader: DiskTableReader| async move {
            let (reader, batch) = run_blocking(move || reader.read()).await?;
            Ok(batch.map(|batch| (batch, reader)))
        };
        stream::try_unfold(reader, read).boxed()
    }

    /// Returns the number of rows.
    pub fn rows(&self) -> u64 {
        self.0.rows
    }

    /// Returns the total size of the table's pieces, in bytes, including pieces that are shared
    /// with other tables.
    pub fn bytes(&self) -> u64 {
        match &self.0.place {
            Location::Memory { pieces, .. } => pieces.bytes(),
            Location::Disk(file) => file.bytes(),
        }
    }

    /// Returns the size of the file that was written for this table, in bytes. Other pieces of the
    /// table are in files of other tables.
    pub fn bytes_copied(&self) -> u64 {
        match &self.0.place {
            Location::Memory { pieces, .. } => pieces.written(),
            Location::Disk(file) => file.bytes(),
        }
    }

    /// Adds the table's files to the list of files that a worker receives. Returns the size of the
    /// table's address range, and its pieces with indexes into this list.
    pub fn share_with_worker(&self, files: &mut Vec<WorkerFile>) -> (u64, Vec<Extent>) {
        match &self.0.place {
            Location::Memory { pieces, .. } => {
                let number = |file: &MemoryFile| WorkerFile::Memory(file.clone()).number(files);
                let numbers: Vec<usize> = pieces.files().iter().map(number).collect();
                let extents = pieces.extents().iter();
                let extents =
                    extents.map(|extent| Extent { file: numbers[extent.file], ..*extent });
                (pieces.span(), extents.collect())
            }
            Location::Disk(file) => {
                let (bytes, file) = (file.bytes(), WorkerFile::Disk(file.clone()).number(files));
                (bytes, vec![Extent { at: 0, bytes, file, start: 0 }])
            }
        }
    }
}

/// A reader of a table on disk.
struct DiskTableReader {
    table: SharedTable,
    decoder: Option<FileDecoder>,
    budget: DecodeBudget,
    next: usize,
}

impl DiskTableReader {
    /// Returns the next record batch; `None` after the last batch.
    fn read(mut self) -> Result<(Self, Option<RecordBatch>), ArrowError> {
        let inner = Arc::clone(&self.table.0);
        let Location::Disk(file) = &inner.place else { return Ok((self, None)) };
        let file = &**file;
        let decoder = match self.decoder.take() {
            Some(decoder) => decoder,
            None => inner.layout.decoder(file, &mut self.budget)?,
        };
        let mut batch = None;
        while batch.is_none() && self.next < inner.layout.batches() {
            batch = inner.layout.batch((&decoder, file), self.next, &mut self.budget)?;
            self.next += 1;
        }
        self.decoder = Some(decoder);
        Ok((self, batch))
    }
}

/// Splits a large batch into slices, which share its memory.
fn sliced(batch: &RecordBatch) -> Vec<RecordBatch> {
    // Limit the number of slices: a batch whose columns have no bytes can have any number of rows.
    const SLICES_MAX: usize = 1 << 14;
    let rows = batch.num_rows();
    if rows <= BATCH_ROWS_MAX || rows / BATCH_ROWS_MAX > SLICES_MAX || batch.num_columns() == 0 {
        return vec![batch.clone()];
    }
    let starts = (0..rows).step_by(BATCH_ROWS_MAX);
    starts.map(|start| batch.slice(start, BATCH_ROWS_MAX.min(rows - start))).collect()
}

/// Returns the sum of row counts. Fails on overflow: batches without columns may have any count.
fn rows_of(mut batches: impl Iterator<Item = u64>) -> Result<u64, ArrowError> {
    let rows = batches.try_fold(0, u64::checked_add).filter(|rows| i64::try_from(*rows).is_ok());
    rows.ok_or_else(|| ArrowError::IpcError("the table has too many rows".to_owned()))
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::io::Write;

    use arrow::array::{
        ArrayRef, DictionaryArray, Int64Array, ListArray, StringArray, StringViewBuilder,
    };
    use arrow::buffer::OffsetBuffer;
    use arrow::datatypes::{DataType, Field, Int32Type};

    use super::*;
    use crate::message_validation::tests::{assert_none, note_panics};

    fn sample() -> RecordBatch {
        let words: DictionaryArray<Int32Type> = vec!["a", "b", "a"].into_iter().collect();
        RecordBatch::try_from_iter([
            ("n", Arc::new(Int64Array::from(vec![Some(1), None, Some(3)])) as ArrayRef),
            ("s", Arc::new(StringArray::from(vec!["x", "", "zz"])) as ArrayRef),
            ("d", Arc::new(words) as ArrayRef),
        ])
        .unwrap()
    }

    fn memory_of(table: &SharedTable) -> &MemoryFile {
        match &table.0.place {
            Location::Memory { pieces, .. } => &pieces.files()[0],
            Location::Disk(_) => panic!("the table is on disk"),
        }
    }

    fn descriptor_of(table: &SharedTable) -> OwnedFd {
        let mut files = Vec::new();
        table.share_with_worker(&mut files);
        files[0].descriptor().try_clone_to_owned().unwrap()
    }

    fn bytes_of(table: &SharedTable) -> Vec<u8> {
        memory_of(table).buffer().unwrap().to_vec()
    }

    #[test]
    fn a_table_is_read_over_the_mapping() {
        let batch = sample();
        let table = SharedTable::write(batch.schema(), [Ok(batch.clone())]).unwrap();
        assert_eq!(table.mapped().unwrap(), vec![batch]);
        assert_eq!(table.rows(), 3);
        let values = table.mapped().unwrap()[0].column(0).to_data().buffers()[0].as_ptr() as usize;
        let mapped = table.mapped().unwrap()[0].column(1).to_data().buffers()[0].as_ptr() as usize;
        assert!(values.abs_diff(mapped) < table.bytes() as usize, "the mappings differ");
    }

    #[test]
    fn a_table_may_have_no_rows_or_batches() {
        let batch = sample();
        let empty = SharedTable::write(batch.schema(), []).unwrap();
        assert_eq!((empty.rows(), empty.schema()), (0, batch.schema()));
    }

    #[test]
    fn a_sealed_file_cannot_grow() {
        let batch = sample();
        let table = SharedTable::write(batch.schema(), [Ok(batch)]).unwrap();
        let mut file = File::from(descriptor_of(&table));
        assert!(file.write_all(b"x").is_err());
        assert!(file.set_len(1).is_err());
    }

    #[test]
    fn hostile_bytes_cause_an_error_only() {
        let batch = sample();
        let whole = bytes_of(&SharedTable::write(batch.schema(), [Ok(batch)]).unwrap());
        let panics = note_panics();
        let mut accepted = 0;
        for at in 0..whole.len() {
            for change in [0x01, 0x80, 0xff] {
                let mut bytes = whole.clone();
                bytes[at] ^= change;
                let file = MemoryFile::create("hostile").unwrap();
                (&file).write_all(&bytes).unwrap();
                if let Ok(table) = SharedTable::open(file.into()) {
                    accepted += 1;
                    let shown =
                        arrow::util::pretty::pretty_format_batches(&table.mapped().unwrap());
                    let _ = shown.map(|text| text.to_string());
                }
            }
        }
        assert_none(&panics);
        assert!(accepted > 0, "padding and values may change freely");
        for end in [0, 5, 12, whole.len() / 2] {
            let file = MemoryFile::create("short").unwrap();
            (&file).write_all(&whole[..end]).unwrap();
            assert!(SharedTable::open(file.into()).is_err());
        }
    }

    fn written_by_another(bytes: &[u8]) -> Result<SharedTable> {
        let file = MemoryFile::create("another's").unwrap();
        (&file).write_all(bytes).unwrap();
        SharedTable::open(file.into())
    }

    #[test]
    fn pages_behind_the_end_count() {
        let batch = sample();
        let table = SharedTable::write(batch.schema(), [Ok(batch)]).unwrap();
        let file = MemoryFile::create("another's").unwrap();
        (&file).write_all(&bytes_of(&table)).unwrap();
        let flags = rustix::fs::FallocateFlags::KEEP_SIZE;
        rustix::fs::fallocate(&file, flags, 0, 10 << 20).unwrap();
        let table = SharedTable::open(file.into()).unwrap();
        let table_quota = TableQuota::new(10 << 20, std::env::temp_dir(), 0);
        let claimed = table.claim(&table_quota).unwrap();
        assert_eq!((table_quota.memory_bytes(), claimed.rows()), (10 << 20, 3));
    }

    #[test]
    fn a_repeated_batch_is_rejected() {
        let batch = sample();
        let table =
            SharedTable::write(batch.schema(), vec![batch.clone(); 3].into_iter().map(Ok)).unwrap();
        let mut bytes = bytes_of(&table);
        let block = |n: usize| table.0.layout.batch_offsets()[n].to_le_bytes();
        let footer = bytes.len() - 1000;
        let at = bytes[footer..].windows(8).position(|eight| eight == block(2)).unwrap() + footer;
        bytes[at..at + 8].copy_from_slice(&block(1));
        let error = format!("{:?}", written_by_another(&bytes).unwrap_err());
        assert!(error.contains("lists a message twice"), "{error}");
    }

    #[test]
    fn shared_texts_are_limited() {
        let text = "x".repeat(1 << 20);
        let views = |rows| {
            let mut made = StringViewBuilder::new().with_deduplicate_strings();
            (0..rows).for_each(|_| made.append_value(&text));
            let rows = Arc::new(made.finish()) as ArrayRef;
            let list = ListArray::try_new(
                Arc::new(Field::new_list_field(DataType::Utf8View, true)),
                OffsetBuffer::from_lengths([rows.len()]),
                rows,
                None,
            );
            let columns = [("list", Arc::new(list.unwrap()) as ArrayRef)];
            let batch = RecordBatch::try_from_iter(columns).unwrap();
            // Open the bytes as those of another process: the server's own are not checked.
            let table = SharedTable::write(batch.schema(), [Ok(batch)]).unwrap();
            written_by_another(&bytes_of(&table))
        };
        assert_eq!(views(50).unwrap().rows(), 1);
        let error = format!("{:?}", views(500).unwrap_err());
        assert!(error.contains("refers to more bytes in total"), "{error}");
    }

    #[test]
    fn a_file_with_holes_is_rejected() {
        let file = MemoryFile::create("holes").unwrap();
        file.set_len(1 << 30).unwrap();
        assert!(SharedTable::open(file.into()).is_err());
    }

    fn small_quota(folder: &std::path::Path) -> TableQuota {
        TableQuota::new(4_096, folder.join("rows"), 1 << 20)
    }

    async fn read(table: &SharedTable) -> Vec<RecordBatch> {
        let batches: Vec<_> = table.stream().collect().await;
        batches.into_iter().map(Result::unwrap).collect()
    }

    #[tokio::test]
    async fn rows_beyond_the_quota_use_disk_and_release_it() {
        let folder = tempfile::tempdir().unwrap();
        let table_quota = small_quota(folder.path());
        let batch = sample();
        let stream = |count| stream::iter(vec![batch.clone(); count]).map(Ok);
        let small =
            SharedTable::write_stream(batch.schema(), stream(1), &table_quota).await.unwrap();
        assert!(small.mapped().is_some() && table_quota.memory_bytes() == small.bytes());
        let large =
            SharedTable::write_stream(batch.schema(), stream(200), &table_quota).await.unwrap();
        assert!(large.mapped().is_none() && table_quota.disk_bytes() == large.bytes());
        assert_eq!(table_quota.memory_bytes(), small.bytes());
        assert_eq!((large.rows(), read(&large).await), (600, vec![batch.clone(); 200]));
        assert_eq!(read(&large).await.len(), 200, "the table can be read again");
        assert_eq!(std::fs::read_dir(folder.path().join("rows")).unwrap().count(), 0);
        let mut file = File::from(descriptor_of(&large));
        assert!(file.write_all(b"x").is_err(), "the descriptor is read-only");
        drop((small, large, file));
        assert_eq!((table_quota.memory_bytes(), table_quota.disk_bytes()), (0, 0));
    }

    #[tokio::test]
    async fn tables_of_other_processes_are_charged_or_moved() {
        let folder = tempfile::tempdir().unwrap();
        let table_quota = small_quota(folder.path());
        let batch = sample();
        let written = |count| {
            SharedTable::write(batch.schema(), vec![batch.clone(); count].into_iter().map(Ok))
                .unwrap()
        };
        let small = written(1).claim_or_spill(&table_quota).await.unwrap();
        assert!(small.mapped().is_some() && table_quota.memory_bytes() == 4_096, "by its pages");
        let again = small.clone().claim_or_spill(&table_quota).await.unwrap();
        assert_eq!((table_quota.memory_bytes(), again.rows()), (4_096, 3), "counted once");
        assert!(written(100).claim(&table_quota).is_err());
        let large = written(100).claim_or_spill(&table_quota).await.unwrap();
        assert!(large.mapped().is_none());
        assert_eq!((large.rows(), read(&large).await), (300, vec![batch; 100]));
    }

    #[tokio::test]
    async fn a_file_changed_on_disk_causes_an_error_only() {
        let folder = tempfile::tempdir().unwrap();
        let batch = sample();
        let whole = bytes_of(&SharedTable::write(batch.schema(), [Ok(batch)]).unwrap());
        let panics = note_panics();
        for at in 0..whole.len() {
            let mut bytes = whole.clone();
            bytes[at] ^= 0x81;
            let (mut written, read) = crate::disk_file::create(folder.path()).unwrap();
            let taken = TableQuota::new(0, folder.path().into(), 1 << 20).on_disk();
            let file = DiskFile::new(read, whole.len() as u64, taken);
            written.write_all(&whole).unwrap();
            let layout = IpcFooter::read(&file).unwrap();
            std::os::unix::fs::FileExt::write_all_at(&written, &bytes, 0).unwrap();
            let batches: Vec<_> = SharedTable::on_disk(layout, 3, file).stream().collect().await;
            for batch in batches.into_iter().flatten() {
                let _ = arrow::util::pretty::pretty_format_batches(&[batch]).map(|t| t.to_string());
            }
        }
        assert_none(&panics);
    }
}
