//! A table in shared memory: an Arrow IPC file in a sealed memory file.
//!
//! The server writes inputs, an instance writes its output; both are read through [`SharedTable`],
//! whose record batches lie in the mapping itself. Reading checks every offset and every string of
//! what another process wrote, so that hostile bytes give an error and nothing else.

use std::fs::File;
use std::io::BufWriter;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::buffer::Buffer;
use arrow::datatypes::{Schema, SchemaRef};
use arrow::error::ArrowError;
use arrow::ipc::convert::fb_to_schema;
use arrow::ipc::reader::{FileDecoder, read_footer_length};
use arrow::ipc::writer::FileWriter;
use arrow::ipc::{Block, root_as_footer, root_as_message};
use futures::{Stream, StreamExt};

use crate::Result;
use crate::memory::MemoryFile;

/// The footer's length and the closing magic.
const TRAILER_BYTES: usize = 10;

/// A table in a sealed memory file. Clones share it; the memory is free when the last clone and the
/// last record batch are gone.
#[derive(Debug, Clone)]
pub struct SharedTable(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    file: MemoryFile,
    schema: SchemaRef,
    batches: Vec<RecordBatch>,
    rows: u64,
}

impl SharedTable {
    /// Writes record batches of one schema into a new memory file and seals it.
    pub fn write<I>(schema: SchemaRef, batches: I) -> Result<Self>
    where
        I: IntoIterator<Item = Result<RecordBatch, ArrowError>>,
    {
        let mut writer = writer(&schema)?;
        for batch in batches {
            writer.write(&batch?)?;
        }
        Self::finish(writer)
    }

    /// Writes a stream of record batches of one schema into a new memory file and seals it.
    pub async fn write_stream<S>(schema: SchemaRef, mut batches: S) -> Result<Self>
    where
        S: Stream<Item = Result<RecordBatch, ArrowError>> + Unpin,
    {
        let mut writer = writer(&schema)?;
        while let Some(batch) = batches.next().await {
            writer.write(&batch?)?;
        }
        Self::finish(writer)
    }

    fn finish(writer: FileWriter<BufWriter<File>>) -> Result<Self> {
        let buffered = writer.into_inner()?;
        let file = buffered.into_inner().map_err(|error| ArrowError::from(error.into_error()))?;
        Self::open(file.into())
    }

    /// Takes a memory file that another process wrote.
    pub(crate) fn open(file: OwnedFd) -> Result<Self> {
        let file = MemoryFile::seal(file)?;
        let buffer = file.map()?.buffer();
        let (schema, batches) = checked(&buffer)?;
        let rows = batches.iter().map(|batch| batch.num_rows() as u64).sum();
        Ok(SharedTable(Arc::new(Inner { file, schema, batches, rows })))
    }

    /// Its columns.
    pub fn schema(&self) -> SchemaRef {
        self.0.schema.clone()
    }

    /// The record batches, over the mapping: nothing is copied.
    pub fn batches(&self) -> Vec<RecordBatch> {
        self.0.batches.clone()
    }

    /// Rows in all batches.
    pub fn rows(&self) -> u64 {
        self.0.rows
    }

    /// Bytes of the memory file.
    pub fn bytes(&self) -> u64 {
        self.0.file.bytes()
    }

    /// The memory file, sealed.
    pub fn descriptor(&self) -> BorrowedFd<'_> {
        self.0.file.descriptor()
    }
}

fn writer(schema: &Schema) -> Result<FileWriter<BufWriter<File>>> {
    let file = MemoryFile::create("headwater-table")?;
    Ok(FileWriter::try_new(BufWriter::with_capacity(1 << 18, file), schema)?)
}

/// Reads the file, turning the panics that Arrow keeps for some malformed files into errors.
fn checked(file: &Buffer) -> Result<(SchemaRef, Vec<RecordBatch>), ArrowError> {
    std::panic::catch_unwind(AssertUnwindSafe(|| read(file)))
        .unwrap_or_else(|_| Err(ArrowError::IpcError("the file is malformed".to_owned())))
}

fn read(file: &Buffer) -> Result<(SchemaRef, Vec<RecordBatch>), ArrowError> {
    let malformed = |what: &str| ArrowError::IpcError(format!("the file has no {what}"));
    let trailer_start =
        file.len().checked_sub(TRAILER_BYTES).ok_or_else(|| malformed("trailer"))?;
    let trailer: [u8; TRAILER_BYTES] =
        file[trailer_start..].try_into().map_err(|_| malformed("trailer"))?;
    let footer_bytes = read_footer_length(trailer)?;
    let footer_start =
        trailer_start.checked_sub(footer_bytes).ok_or_else(|| malformed("footer"))?;
    let footer = root_as_footer(&file[footer_start..trailer_start])
        .map_err(|error| ArrowError::IpcError(format!("the footer is malformed: {error}")))?;
    let schema = footer.schema().ok_or_else(|| malformed("schema"))?;
    let schema = Arc::new(fb_to_schema(schema));
    let mut decoder = FileDecoder::new(schema.clone(), footer.version());
    for block in footer.dictionaries().into_iter().flatten() {
        let bytes = slice(file, block)?;
        refuse_compression(block, &bytes)?;
        decoder.read_dictionary(block, &bytes)?;
    }
    let mut batches = Vec::new();
    for block in footer.recordBatches().into_iter().flatten() {
        let bytes = slice(file, block)?;
        refuse_compression(block, &bytes)?;
        batches.extend(decoder.read_record_batch(block, &bytes)?);
    }
    Ok((schema, batches))
}

/// Compressed bodies say how long they will be, and whoever unpacks them must believe it. Workers write
/// none, so that one with any is refused before it is looked at.
fn refuse_compression(block: &Block, bytes: &Buffer) -> Result<(), ArrowError> {
    const MARKED: [u8; 4] = [0xff; 4];
    let malformed = || ArrowError::IpcError("a message is malformed".to_owned());
    let metadata = usize::try_from(block.metaDataLength()).map_err(|_| malformed())?;
    let metadata = bytes.get(..metadata).ok_or_else(malformed)?;
    let prefix = if metadata.starts_with(&MARKED) { 8 } else { 4 };
    let message = metadata.get(prefix..).ok_or_else(malformed)?;
    let message = root_as_message(message).map_err(|_| malformed())?;
    let dictionary = message.header_as_dictionary_batch().and_then(|batch| batch.data());
    let batch = message.header_as_record_batch().or(dictionary);
    if batch.is_some_and(|batch| batch.compression().is_some()) {
        return Err(ArrowError::IpcError("a message is compressed".to_owned()));
    }
    Ok(())
}

/// The bytes of a block: its metadata and its body.
fn slice(file: &Buffer, block: &Block) -> Result<Buffer, ArrowError> {
    let outside = || ArrowError::IpcError("a block lies outside the file".to_owned());
    let start = usize::try_from(block.offset()).map_err(|_| outside())?;
    let metadata = usize::try_from(block.metaDataLength()).map_err(|_| outside())?;
    let body = usize::try_from(block.bodyLength()).map_err(|_| outside())?;
    let bytes = metadata.checked_add(body).ok_or_else(outside)?;
    let end = start.checked_add(bytes).ok_or_else(outside)?;
    if end > file.len() {
        return Err(outside());
    }
    Ok(file.slice_with_length(start, bytes))
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use arrow::array::{ArrayRef, DictionaryArray, Int64Array, StringArray};
    use arrow::datatypes::Int32Type;

    use super::*;

    fn sample() -> RecordBatch {
        let words: DictionaryArray<Int32Type> = vec!["a", "b", "a"].into_iter().collect();
        RecordBatch::try_from_iter([
            ("n", Arc::new(Int64Array::from(vec![Some(1), None, Some(3)])) as ArrayRef),
            ("s", Arc::new(StringArray::from(vec!["x", "", "zz"])) as ArrayRef),
            ("d", Arc::new(words) as ArrayRef),
        ])
        .unwrap()
    }

    fn bytes_of(table: &SharedTable) -> Vec<u8> {
        table.0.file.map().unwrap().buffer().to_vec()
    }

    #[test]
    fn a_table_comes_back_over_the_mapping() {
        let batch = sample();
        let table = SharedTable::write(batch.schema(), [Ok(batch.clone())]).unwrap();
        assert_eq!(table.batches(), vec![batch]);
        assert_eq!(table.rows(), 3);
        let file = table.0.file.map().unwrap().buffer();
        drop(file);
        let values = table.batches()[0].column(0).to_data().buffers()[0].as_ptr() as usize;
        let mapped = table.0.batches[0].column(1).to_data().buffers()[0].as_ptr() as usize;
        assert!(values.abs_diff(mapped) < table.bytes() as usize, "not in one mapping");
    }

    #[test]
    fn no_rows_and_no_batches_are_a_table_too() {
        let batch = sample();
        let empty = SharedTable::write(batch.schema(), []).unwrap();
        assert_eq!((empty.rows(), empty.schema()), (0, batch.schema()));
    }

    #[test]
    fn a_sealed_file_takes_no_more_bytes() {
        let batch = sample();
        let table = SharedTable::write(batch.schema(), [Ok(batch)]).unwrap();
        let mut file = File::from(table.descriptor().try_clone_to_owned().unwrap());
        assert!(file.write_all(b"x").is_err());
        assert!(file.set_len(1).is_err());
    }

    #[test]
    fn hostile_bytes_give_an_error_and_nothing_else() {
        let batch = sample();
        let whole = bytes_of(&SharedTable::write(batch.schema(), [Ok(batch)]).unwrap());
        std::panic::set_hook(Box::new(|_| {}));
        let mut accepted = 0;
        for at in 0..whole.len() {
            for change in [0x01, 0x80, 0xff] {
                let mut bytes = whole.clone();
                bytes[at] ^= change;
                let file = MemoryFile::create("hostile").unwrap();
                (&file).write_all(&bytes).unwrap();
                if let Ok(table) = SharedTable::open(file.into()) {
                    accepted += 1;
                    let shown = arrow::util::pretty::pretty_format_batches(&table.batches());
                    let _ = shown.map(|text| text.to_string());
                }
            }
        }
        let _ = std::panic::take_hook();
        assert!(accepted > 0, "padding and values may change freely");
        for end in [0, 5, 12, whole.len() / 2] {
            let file = MemoryFile::create("short").unwrap();
            (&file).write_all(&whole[..end]).unwrap();
            assert!(SharedTable::open(file.into()).is_err());
        }
    }

    #[test]
    fn a_file_of_holes_is_refused() {
        let file = MemoryFile::create("holes").unwrap();
        file.set_len(1 << 30).unwrap();
        assert!(SharedTable::open(file.into()).is_err());
    }
}
