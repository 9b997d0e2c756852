//! Arrow IPC: files (`.arrow`, Feather version 2) and streams (`.arrows`), compressed or not.
//!
//! A file is a stream between two magic numbers. It is read sequentially, without seeks. The sizes
//! that a file declares are checked before memory of these sizes is allocated.

use std::io::Read;
use std::panic::{AssertUnwindSafe, catch_unwind};

use arrow::array::RecordBatch;
use arrow::buffer::Buffer;
use arrow::datatypes::{Schema, SchemaRef};
use arrow::error::ArrowError;
use arrow::ipc::convert::fb_to_schema;
use arrow::ipc::reader::StreamDecoder;
use arrow::ipc::{Message, MessageHeader, RecordBatch as BatchHeader, root_as_message};
use headwater_tables::normalise_schema;

use super::compression::read_up_to;
use super::parquet::RowConversion;
use super::progress::{CountingReader, StageProgress};
use super::row_builder::RowSink;
use super::source::SourceFile;
use crate::error::{Error, Result};

/// Maximum size of a batch in bytes, both stored and decompressed.
const BATCH_BYTES_MAX: u64 = 1 << 30;

/// Maximum rows of a batch.
const BATCH_ROWS_MAX: usize = 1 << 27;

/// Maximum bytes of the metadata of a message.
const METADATA_BYTES_MAX: u32 = 64 << 20;

/// Number of rows that are converted at a time.
const ROWS_AT_ONCE: usize = 8 * 1024;

/// Magic number at the start of a file.
const MAGIC: &[u8] = b"ARROW1\0\0";

/// Maximum padding after the magic number, in 4-byte words. Writers pad to align the first message.
const PADDING_WORDS_MAX: usize = 64;

/// Magic number of Feather version 1, a different format that is not supported.
const FEATHER_1: &[u8] = b"FEA1";

const CONTINUATION: [u8; 4] = [0xff; 4];

/// End-of-stream marker.
const END: [u8; 8] = [0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0];

/// Returns true if the first bytes of a file show that it is an Arrow file.
pub(crate) fn is_arrow(first: &[u8]) -> bool {
    first.starts_with(b"ARROW1") || first.starts_with(&CONTINUATION)
}

fn broken(source: &SourceFile, reason: &dyn std::fmt::Display) -> Error {
    let file = source.name.clone();
    Error::BrokenFile { file, what: "arrow", reason: reason.to_string() }
}

/// Returns the columns of a file, with types that a table can store.
pub(crate) fn schema_of(source: &SourceFile, tap: &mut CountingReader) -> Result<Schema> {
    let messages = MessageReader::open(tap).map_err(|error| broken(source, &error))?;
    let schema = messages.schema().map_err(|error| broken(source, &error))?;
    Ok(normalise_schema(&schema)?)
}

/// Reads the rows of a file and converts them to the table's types.
pub(crate) fn read_rows(
    source: &SourceFile,
    tap: &mut CountingReader,
    schema: &SchemaRef,
    output: &mut RowSink,
    meter: &StageProgress,
) -> Result<()> {
    let failed = |error: ArrowError| broken(source, &error);
    let mut messages = MessageReader::open(tap).map_err(failed)?;
    let found = messages.schema().map_err(failed)?;
    let names: Vec<String> = found.fields().iter().map(|field| field.name().clone()).collect();
    let mut conversion = RowConversion::new(source, &names, schema)?;
    while let Some(batch) = messages.next_batch().map_err(failed)? {
        let mut at = 0;
        while at < batch.num_rows() {
            meter.check()?;
            let count = ROWS_AT_ONCE.min(batch.num_rows() - at);
            conversion.take(&batch.slice(at, count), output)?;
            at += count;
        }
    }
    Ok(())
}

/// Reader of the messages of a stream.
struct MessageReader<'a> {
    reader: &'a mut CountingReader,
    decoder: StreamDecoder,
    pending: Buffer,
    /// The schema; `None` until its message is read.
    schema: Option<Schema>,
    ended: bool,
}

impl<'a> MessageReader<'a> {
    fn open(reader: &'a mut CountingReader) -> Result<Self, ArrowError> {
        let mut first = [0; 8];
        let count = read_up_to(reader, &mut first)?;
        if first.starts_with(FEATHER_1) {
            let reason = "the file is Feather version 1; write it as Feather version 2 or Parquet";
            return Err(ArrowError::IpcError(reason.to_owned()));
        }
        let decoder = StreamDecoder::new();
        let pending = Buffer::from_vec(Vec::<u8>::new());
        let mut messages = MessageReader { reader, decoder, pending, schema: None, ended: false };
        let message = if &first[..count] == MAGIC {
            let start = messages.after_padding()?;
            messages.read_message(start)?
        } else {
            messages.read_message(first[..count].to_vec())?
        };
        messages.pending = Buffer::from_vec(message.unwrap_or_default());
        Ok(messages)
    }

    /// Skips the padding after the magic number, and returns the first bytes after it.
    fn after_padding(&mut self) -> Result<Vec<u8>, ArrowError> {
        let mut bytes: Vec<u8> = Vec::new();
        for _ in 0..PADDING_WORDS_MAX {
            self.fill(&mut bytes, 4)?;
            if bytes != [0; 4] {
                break;
            }
            bytes.clear();
        }
        Ok(bytes)
    }

    fn schema(&self) -> Result<Schema, ArrowError> {
        let missing = || ArrowError::IpcError("the file does not begin with a schema".to_owned());
        self.schema.clone().ok_or_else(missing)
    }

    fn next_batch(&mut self) -> Result<Option<RecordBatch>, ArrowError> {
        loop {
            while !self.pending.is_empty() {
                let (decoder, pending) = (&mut self.decoder, &mut self.pending);
                if let Some(batch) = guarded(|| decoder.decode(pending))? {
                    if batch.num_rows() > BATCH_ROWS_MAX {
                        return Err(too_large());
                    }
                    return Ok(Some(batch));
                }
            }
            if self.ended {
                return Ok(None);
            }
            let message = self.read_message(Vec::new())?;
            self.ended = message.is_none();
            self.pending = Buffer::from_vec(message.unwrap_or_else(|| END.to_vec()));
        }
    }

    /// Reads a message. `bytes` contains the first bytes of the message that the caller has already
    /// read, if any. Returns `None` at the end of the stream.
    fn read_message(&mut self, mut bytes: Vec<u8>) -> Result<Option<Vec<u8>>, ArrowError> {
        self.fill(&mut bytes, 4)?;
        if bytes.is_empty() {
            return Ok(None);
        }
        let start = if bytes.starts_with(&CONTINUATION) { 8 } else { 4 };
        self.fill(&mut bytes, start)?;
        let size = bytes.get(start - 4..start).and_then(|size| <[u8; 4]>::try_from(size).ok());
        let size = u32::from_le_bytes(size.ok_or_else(cut_short)?);
        if size == 0 {
            return Ok(None);
        }
        if size > METADATA_BYTES_MAX {
            return Err(ArrowError::IpcError(
                "the content is not an Arrow file or stream".to_owned(),
            ));
        }
        let metadata_end = start + size as usize;
        self.fill(&mut bytes, metadata_end)?;
        let metadata = bytes.get(start..metadata_end).ok_or_else(cut_short)?.to_vec();
        let message = root_as_message(&metadata)
            .map_err(|error| ArrowError::IpcError(format!("a message is damaged: {error}")))?;
        let body = u64::try_from(message.bodyLength()).map_err(|_| cut_short())?;
        if body > BATCH_BYTES_MAX {
            return Err(too_large());
        }
        let end = metadata_end + body as usize;
        self.fill(&mut bytes, end)?;
        let body = bytes.get(metadata_end..end).ok_or_else(cut_short)?;
        check_unpacked(&message, body)?;
        if self.schema.is_none()
            && let Some(schema) = message.header_as_schema()
        {
            self.schema = Some(guarded(|| Ok(fb_to_schema(schema)))?);
        }
        Ok(Some(bytes))
    }

    /// Reads until the buffer has `length` bytes or the stream ends.
    fn fill(&mut self, bytes: &mut Vec<u8>, length: usize) -> Result<(), ArrowError> {
        let missing = length.saturating_sub(bytes.len()) as u64;
        (&mut *self.reader).take(missing).read_to_end(bytes)?;
        Ok(())
    }
}

fn cut_short() -> ArrowError {
    ArrowError::IpcError("the file ends inside a message".to_owned())
}

fn too_large() -> ArrowError {
    let reason = "a record batch has more than 1 GiB or 134217728 rows; write smaller batches";
    ArrowError::IpcError(reason.to_owned())
}

/// Checks the decompressed sizes that the buffers of a batch declare.
fn check_unpacked(message: &Message<'_>, body: &[u8]) -> Result<(), ArrowError> {
    let batch: Option<BatchHeader<'_>> = match message.header_type() {
        MessageHeader::RecordBatch => message.header_as_record_batch(),
        MessageHeader::DictionaryBatch => {
            message.header_as_dictionary_batch().and_then(|dictionary| dictionary.data())
        }
        _ => None,
    };
    let Some(batch) = batch.filter(|batch| batch.compression().is_some()) else { return Ok(()) };
    let mut total: u64 = 0;
    for buffer in batch.buffers().into_iter().flatten() {
        let start = usize::try_from(buffer.offset()).map_err(|_| cut_short())?;
        let length = usize::try_from(buffer.length()).map_err(|_| cut_short())?;
        let end = start.checked_add(length).ok_or_else(cut_short)?;
        let bytes = body.get(start..end).ok_or_else(cut_short)?;
        let Some(claimed) = bytes.first_chunk::<8>() else { continue };
        // The size -1 marks a buffer that is not compressed.
        let claimed = i64::from_le_bytes(*claimed).max(0);
        total = total.saturating_add(claimed.unsigned_abs());
    }
    if total > BATCH_BYTES_MAX { Err(too_large()) } else { Ok(()) }
}

/// Runs the decoder, and converts a panic to an error. Some damaged files cause panics.
fn guarded<T>(work: impl FnOnce() -> Result<T, ArrowError>) -> Result<T, ArrowError> {
    let damaged = |_| Err(ArrowError::IpcError("a message is damaged".to_owned()));
    catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(damaged)
}
