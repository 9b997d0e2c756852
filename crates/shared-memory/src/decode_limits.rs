//! Limits for decoding a table from another process. The limits are proportional to the size of the
//! table, and higher if the table may refer to files of other tables.
//!
//! A short Arrow message can refer to one region of the file a thousand times, or declare a
//! dictionary with a million pieces. A decoder would copy and check all referenced bytes. So each
//! message is inspected before decoding, and the referenced bytes are counted.

use arrow::datatypes::{DataType, FieldRef, Schema};
use arrow::error::ArrowError;
use arrow::ipc::{Message, MetadataVersion, RecordBatch, root_as_message};

/// The prefix of a message, before its length. Old files and streams have only the length.
const MARKER: [u8; 4] = [0xff; 4];

/// Maximum size of the buffers to which a table refers, as a multiple of its stored bytes. The
/// buffers can exceed the stored bytes if they share bytes, for example if a column occurs twice.
const TIMES: u64 = 8;

/// Maximum size of the texts to which a table's views refer, as a multiple of its stored bytes.
/// This multiple is higher than [`TIMES`], because many rows may share one text.
const TIMES_VIEWED: u64 = 64;

/// Size of the texts to which the views of every table may refer, in addition to [`TIMES_VIEWED`].
const BYTES_MIN: u64 = 1 << 20;

/// Parses the metadata of a message, which follow its prefix and length.
pub(crate) fn message(metadata: &[u8]) -> Result<Message<'_>, ArrowError> {
    let prefix = if metadata.starts_with(&MARKER) { 8 } else { 4 };
    let message = metadata.get(prefix..).ok_or_else(malformed)?;
    root_as_message(message).map_err(|_| malformed())
}

/// The number of bytes to which a table's further messages may still refer.
#[derive(Debug)]
pub(crate) struct DecodeBudget {
    /// Bytes to which buffers may still refer.
    named: u64,
    /// Bytes of texts to which views may still refer.
    viewed: u64,
}

impl DecodeBudget {
    /// Returns the budget for a table of this size that consists of one file.
    pub(crate) fn of(bytes: u64) -> Self {
        let viewed = bytes.saturating_mul(TIMES_VIEWED).saturating_add(BYTES_MIN);
        DecodeBudget { named: bytes, viewed }
    }

    /// Returns an unlimited budget, for tables that the server wrote.
    pub(crate) fn unlimited() -> Self {
        DecodeBudget { named: u64::MAX, viewed: u64::MAX }
    }

    /// Returns the budget for a table of this size that consists of several pieces, some of which
    /// may be in files of other tables.
    pub(crate) fn of_pieces(bytes: u64) -> Self {
        DecodeBudget { named: bytes.saturating_mul(TIMES), ..DecodeBudget::of(bytes) }
    }

    /// Checks a message with its prefix and its body, and subtracts the bytes to which it refers
    /// from the budget.
    pub(crate) fn inspect(
        &mut self,
        metadata: &[u8],
        body: &[u8],
        schema: Option<&Schema>,
    ) -> Result<(), ArrowError> {
        self.inspect_message(&message(metadata)?, body, schema)
    }

    /// Checks a parsed message and its body, and subtracts the bytes to which it refers from the
    /// budget.
    pub(crate) fn inspect_message(
        &mut self,
        message: &Message<'_>,
        body: &[u8],
        schema: Option<&Schema>,
    ) -> Result<(), ArrowError> {
        if let Some(dictionary) = message.header_as_dictionary_batch() {
            if dictionary.isDelta() {
                return Err(refused("extends a dictionary, which is not supported"));
            }
            let Some(values) = dictionary.data() else { return Ok(()) };
            self.inspect_batch(&values, body)?;
            return self.inspect_dictionary(&values, body);
        }
        let Some(batch) = message.header_as_record_batch() else { return Ok(()) };
        self.inspect_batch(&batch, body)?;
        if batch.variadicBufferCounts().is_none_or(|counts| counts.is_empty()) {
            return Ok(());
        }
        let schema = schema.ok_or_else(malformed)?;
        // Messages of older versions cannot contain views, and their unions have an additional
        // buffer, which this code does not expect.
        if message.version() != MetadataVersion::V5 {
            return Err(refused("has an older format version than its content needs"));
        }
        let mut walk = BufferIterator { budget: self, batch, body, buffer: 0, variadic: 0 };
        schema.fields().iter().try_for_each(|field| walk.visit(field.data_type()))
    }

    fn inspect_batch(&mut self, batch: &RecordBatch<'_>, body: &[u8]) -> Result<(), ArrowError> {
        // Compressed batches are rejected, because a decompressor allocates the declared size.
        if batch.compression().is_some() {
            return Err(refused("is compressed"));
        }
        for buffer in batch.buffers().into_iter().flatten() {
            let place = |number| u64::try_from(number).map_err(|_| malformed());
            let (start, bytes) = (place(buffer.offset())?, place(buffer.length())?);
            if start.checked_add(bytes).is_none_or(|end| end > body.len() as u64) {
                return Err(refused("refers to bytes outside its body"));
            }
            if bytes > 0 && !start.is_multiple_of(8) {
                return Err(refused("refers to a buffer that is not aligned"));
            }
            self.named = self.named.checked_sub(bytes).ok_or_else(too_often)?;
        }
        Ok(())
    }

    /// Inspects a dictionary whose values are views. The values may be texts or bytes, which have
    /// the same buffers.
    fn inspect_dictionary(
        &mut self,
        values: &RecordBatch<'_>,
        body: &[u8],
    ) -> Result<(), ArrowError> {
        let count = |counts: Option<usize>| counts.unwrap_or(0);
        if count(values.variadicBufferCounts().map(|counts| counts.len())) == 0 {
            return Ok(());
        }
        if count(values.nodes().map(|nodes| nodes.len())) != 1 {
            return Err(refused("has a dictionary of an unsupported type"));
        }
        let mut walk =
            BufferIterator { budget: self, batch: *values, body, buffer: 0, variadic: 0 };
        walk.visit(&DataType::Utf8View)
    }
}

/// An iterator over the buffers of a batch, in the order of the columns' types. Subtracts the texts
/// to which views refer from the budget.
struct BufferIterator<'a, 'b> {
    budget: &'a mut DecodeBudget,
    batch: RecordBatch<'b>,
    body: &'b [u8],
    buffer: usize,
    variadic: usize,
}

impl BufferIterator<'_, '_> {
    fn visit(&mut self, kind: &DataType) -> Result<(), ArrowError> {
        let (buffers, children): (usize, Vec<&FieldRef>) = match kind {
            DataType::Utf8View | DataType::BinaryView => return self.count_views(),
            DataType::Null => (0, Vec::new()),
            DataType::Utf8 | DataType::LargeUtf8 | DataType::Binary | DataType::LargeBinary => {
                (3, Vec::new())
            }
            DataType::List(item) | DataType::LargeList(item) | DataType::Map(item, _) => {
                (2, vec![item])
            }
            DataType::ListView(item) | DataType::LargeListView(item) => (3, vec![item]),
            DataType::FixedSizeList(item, _) => (1, vec![item]),
            DataType::Struct(fields) => (1, fields.iter().collect()),
            DataType::Union(fields, mode) => {
                let buffers = match mode {
                    arrow::datatypes::UnionMode::Sparse => 1,
                    arrow::datatypes::UnionMode::Dense => 2,
                };
                (buffers, fields.iter().map(|(_, field)| field).collect())
            }
            DataType::RunEndEncoded(ends, values) => (0, vec![ends, values]),
            _ => (2, Vec::new()),
        };
        self.buffer += buffers;
        children.into_iter().try_for_each(|child| self.visit(child.data_type()))
    }

    /// Subtracts the text of every view from the budget, even if several views refer to the same
    /// text.
    fn count_views(&mut self) -> Result<(), ArrowError> {
        const VIEW_BYTES: usize = 16;
        let more = self.batch.variadicBufferCounts().ok_or_else(malformed)?;
        let more = if self.variadic < more.len() { more.get(self.variadic) } else { 0 };
        let views = self.batch.buffers().filter(|all| all.len() > self.buffer + 1);
        let views = *views.ok_or_else(malformed)?.get(self.buffer + 1);
        let (start, bytes) = (views.offset() as usize, views.length() as usize);
        let views = self.body.get(start..start + bytes).ok_or_else(malformed)?;
        for view in views.chunks_exact(VIEW_BYTES) {
            let length = u32::from_le_bytes([view[0], view[1], view[2], view[3]]);
            let left = self.budget.viewed.checked_sub(u64::from(length));
            self.budget.viewed = left.ok_or_else(too_often)?;
        }
        self.variadic += 1;
        self.buffer += 2 + usize::try_from(more).map_err(|_| malformed())?;
        Ok(())
    }
}

fn refused(what: &str) -> ArrowError {
    ArrowError::IpcError(format!("a message {what}"))
}

fn malformed() -> ArrowError {
    refused("is malformed")
}

fn too_often() -> ArrowError {
    refused("refers to more bytes in total than its size allows")
}
