//! Reads the Arrow IPC file format from bytes that another process wrote. Every offset and text is
//! checked, so that malicious bytes cause at most an error.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::buffer::Buffer;
use arrow::datatypes::SchemaRef;
use arrow::error::ArrowError;
use arrow::ipc::reader::{FileDecoder, read_footer_length};
use arrow::ipc::{Block, MetadataVersion, root_as_footer};

use crate::decode_limits::{self, DecodeBudget};
use crate::message_validation::ExpectedTypes;

/// Total length in bytes of the last two fields of a file: the footer's length, and the magic
/// number.
const TRAILER_BYTES: usize = 10;

/// A source from which a file's bytes are read.
pub(crate) trait ByteSource {
    /// Returns the number of bytes of the file.
    fn len(&self) -> usize;

    /// Returns a range of the file's bytes. The caller checks that the range is within the file.
    fn read(&self, start: usize, bytes: usize) -> Result<Buffer, ArrowError>;
}

impl ByteSource for Buffer {
    fn len(&self) -> usize {
        Buffer::len(self)
    }

    fn read(&self, start: usize, bytes: usize) -> Result<Buffer, ArrowError> {
        Ok(self.slice_with_length(start, bytes))
    }
}

/// The footer of a file: the schema, and the positions of the messages.
#[derive(Debug, Clone)]
pub(crate) struct IpcFooter {
    shape: ExpectedTypes,
    version: MetadataVersion,
    dictionaries: Vec<Block>,
    batches: Vec<Block>,
}

impl IpcFooter {
    /// Reads the footer.
    pub(crate) fn read(source: &impl ByteSource) -> Result<IpcFooter, ArrowError> {
        guarded(|| layout(source))
    }

    /// Returns the columns.
    pub(crate) fn schema(&self) -> SchemaRef {
        Arc::clone(&self.shape.schema)
    }

    /// Returns the number of record batches.
    pub(crate) fn batches(&self) -> usize {
        self.batches.len()
    }

    /// Returns the positions of the record batches in the file.
    #[cfg(test)]
    pub(crate) fn batch_offsets(&self) -> Vec<i64> {
        self.batches.iter().map(Block::offset).collect()
    }

    /// Returns the decoder of the record batches, with their shared dictionaries.
    pub(crate) fn decoder(
        &self,
        source: &impl ByteSource,
        budget: &mut DecodeBudget,
    ) -> Result<FileDecoder, ArrowError> {
        guarded(|| {
            let mut decoder = FileDecoder::new(self.schema(), self.version);
            for block in &self.dictionaries {
                let bytes = bytes_of((source, &self.shape), block, budget)?;
                decoder.read_dictionary(block, &bytes)?;
            }
            Ok(decoder)
        })
    }

    /// Returns the record batch at an index; `None` if the message at this position is not a record
    /// batch.
    pub(crate) fn batch(
        &self,
        (decoder, source): (&FileDecoder, &impl ByteSource),
        index: usize,
        budget: &mut DecodeBudget,
    ) -> Result<Option<RecordBatch>, ArrowError> {
        guarded(|| {
            let block = &self.batches[index];
            let bytes = bytes_of((source, &self.shape), block, budget)?;
            decoder.read_record_batch(block, &bytes)
        })
    }

    /// Returns all record batches.
    pub(crate) fn all(
        &self,
        source: &impl ByteSource,
        mut budget: DecodeBudget,
    ) -> Result<Vec<RecordBatch>, ArrowError> {
        let decoder = self.decoder(source, &mut budget)?;
        let all = 0..self.batches();
        let batches = all.map(|index| self.batch((&decoder, source), index, &mut budget));
        batches.filter_map(Result::transpose).collect()
    }
}

/// Converts a panic in Arrow to an error. The checks of messages prevent all known panics, but an
/// unknown panic must not end the process.
fn guarded<T>(read: impl FnOnce() -> Result<T, ArrowError>) -> Result<T, ArrowError> {
    std::panic::catch_unwind(AssertUnwindSafe(read))
        .unwrap_or_else(|_| Err(ArrowError::IpcError("the Arrow file is malformed".to_owned())))
}

fn layout(source: &impl ByteSource) -> Result<IpcFooter, ArrowError> {
    let malformed = |what: &str| ArrowError::IpcError(format!("the file has no {what}"));
    let trailer_start =
        source.len().checked_sub(TRAILER_BYTES).ok_or_else(|| malformed("trailer"))?;
    let trailer = source.read(trailer_start, TRAILER_BYTES)?;
    let trailer: [u8; TRAILER_BYTES] =
        trailer.as_slice().try_into().map_err(|_| malformed("trailer"))?;
    let footer_bytes = read_footer_length(trailer)?;
    let footer_start =
        trailer_start.checked_sub(footer_bytes).ok_or_else(|| malformed("footer"))?;
    let footer = source.read(footer_start, footer_bytes)?;
    let footer = root_as_footer(&footer)
        .map_err(|error| ArrowError::IpcError(format!("the footer is malformed: {error}")))?;
    let schema = footer.schema().ok_or_else(|| malformed("schema"))?;
    let layout = IpcFooter {
        shape: ExpectedTypes::of(schema)?,
        version: footer.version(),
        dictionaries: footer.dictionaries().into_iter().flatten().copied().collect(),
        batches: footer.recordBatches().into_iter().flatten().copied().collect(),
    };
    if !matches!(layout.version, MetadataVersion::V4 | MetadataVersion::V5) {
        return Err(malformed("version that is read"));
    }
    in_order(&layout.dictionaries)?;
    in_order(&layout.batches)?;
    Ok(layout)
}

/// Checks the message of a block, and returns the bytes of its metadata and body.
fn bytes_of(
    (source, shape): (&impl ByteSource, &ExpectedTypes),
    block: &Block,
    budget: &mut DecodeBudget,
) -> Result<Buffer, ArrowError> {
    let outside = || ArrowError::IpcError("a block lies outside the file".to_owned());
    let start = usize::try_from(block.offset()).map_err(|_| outside())?;
    let metadata = usize::try_from(block.metaDataLength()).map_err(|_| outside())?;
    let body = usize::try_from(block.bodyLength()).map_err(|_| outside())?;
    if !start.is_multiple_of(8) || !metadata.is_multiple_of(8) {
        return Err(ArrowError::IpcError("a block is not aligned to 8 bytes".to_owned()));
    }
    let bytes = metadata.checked_add(body).ok_or_else(outside)?;
    let end = start.checked_add(bytes).ok_or_else(outside)?;
    if end > source.len() {
        return Err(outside());
    }
    let bytes = source.read(start, bytes)?;
    let (head, body) = bytes.split_at(metadata);
    budget.inspect(head, body, Some(&shape.schema))?;
    shape.check(&decode_limits::message(head)?)?;
    Ok(bytes)
}

/// Rejects a footer that lists the same message more than once.
fn in_order(blocks: &[Block]) -> Result<(), ArrowError> {
    let after = |pair: &[Block]| {
        let end = pair[0].offset().checked_add(i64::from(pair[0].metaDataLength()));
        pair[0].metaDataLength() > 0 && end.is_some_and(|end| end <= pair[1].offset())
    };
    if blocks.windows(2).all(after) {
        return Ok(());
    }
    Err(ArrowError::IpcError("the footer lists a message twice".to_owned()))
}
