//! Validates the head of a record batch from another process: the numbers of rows, nulls and
//! buffers, and the lengths of the buffers, must match the types of the columns.

use arrow::datatypes::{DataType, UnionMode};
use arrow::error::ArrowError;
use arrow::ipc::{MetadataVersion, RecordBatch};

use crate::message_validation::malformed;

/// Maximum number of rows in a message. The limit prevents an overflow when the row count is
/// multiplied by the width of a value.
const ROWS_MAX: i64 = 1 << 32;

/// Checks the head of a record batch with columns of these types.
pub(crate) fn check_batch<'k>(
    batch: &RecordBatch<'_>,
    version: MetadataVersion,
    mut columns: impl Iterator<Item = &'k DataType>,
) -> Result<(), ArrowError> {
    if !matches!(version, MetadataVersion::V4 | MetadataVersion::V5) {
        return Err(malformed("the format version is not supported"));
    }
    if !(0..=ROWS_MAX).contains(&batch.length()) {
        return Err(malformed("a message has too many rows"));
    }
    let mut walk = NodeIterator { batch, version, node: 0, buffer: 0, variadic: 0 };
    columns.try_for_each(|kind| walk.visit(kind))?;
    let counts = batch.variadicBufferCounts().map_or(0, |counts| counts.len());
    if counts == walk.variadic { Ok(()) } else { Err(malformed("a string has too many buffers")) }
}

/// An iterator over the nodes and buffers of a batch, which checks them against the columns' types.
struct NodeIterator<'b, 'm> {
    batch: &'b RecordBatch<'m>,
    version: MetadataVersion,
    node: usize,
    buffer: usize,
    variadic: usize,
}

impl NodeIterator<'_, '_> {
    fn visit(&mut self, kind: &DataType) -> Result<(), ArrowError> {
        let (rows, nulls) = self.node()?;
        match kind {
            DataType::Null => return Ok(()),
            DataType::Union(_, mode) => self.union(*mode, rows)?,
            DataType::RunEndEncoded(_, _) => {}
            _ => {
                let validity = self.buffer()?;
                if nulls > 0 && validity < rows.div_ceil(8) {
                    return Err(short());
                }
            }
        }
        match kind {
            DataType::Utf8 | DataType::Binary => {
                self.numbers(4)?;
                self.buffer()?;
            }
            DataType::LargeUtf8 | DataType::LargeBinary => {
                self.numbers(8)?;
                self.buffer()?;
            }
            DataType::Utf8View | DataType::BinaryView => self.views()?,
            DataType::List(item) | DataType::Map(item, _) => {
                self.numbers(4)?;
                self.visit(item.data_type())?;
            }
            DataType::LargeList(item) => {
                self.numbers(8)?;
                self.visit(item.data_type())?;
            }
            DataType::ListView(item) => {
                self.numbers(4)?;
                self.numbers(4)?;
                self.visit(item.data_type())?;
            }
            DataType::LargeListView(item) => {
                self.numbers(8)?;
                self.numbers(8)?;
                self.visit(item.data_type())?;
            }
            DataType::Dictionary(keys, _) => self.numbers(keys.primitive_width().unwrap_or(1))?,
            DataType::FixedSizeList(item, _) => self.visit(item.data_type())?,
            DataType::Struct(fields) => {
                fields.iter().try_for_each(|field| self.visit(field.data_type()))?;
            }
            DataType::Union(fields, _) => {
                fields.iter().try_for_each(|(_, field)| self.visit(field.data_type()))?;
            }
            DataType::RunEndEncoded(ends, values) => {
                self.visit(ends.data_type())?;
                self.visit(values.data_type())?;
            }
            other => self.numbers(other.primitive_width().unwrap_or(1))?,
        }
        Ok(())
    }

    /// Returns the numbers of rows and of nulls of the next array.
    fn node(&mut self) -> Result<(u64, u64), ArrowError> {
        let nodes = self.batch.nodes().filter(|nodes| self.node < nodes.len());
        let node = nodes.ok_or_else(short)?.get(self.node);
        self.node += 1;
        let (rows, nulls) = (node.length(), node.null_count());
        if !(0..=ROWS_MAX).contains(&rows) || !(0..=rows).contains(&nulls) {
            return Err(malformed("a column has an invalid number of rows or nulls"));
        }
        Ok((rows.unsigned_abs(), nulls.unsigned_abs()))
    }

    /// Returns the length of the next buffer, in bytes.
    fn buffer(&mut self) -> Result<u64, ArrowError> {
        let buffers = self.batch.buffers().filter(|buffers| self.buffer < buffers.len());
        let buffer = buffers.ok_or_else(short)?.get(self.buffer);
        self.buffer += 1;
        u64::try_from(buffer.length()).map_err(|_| short())
    }

    /// Checks that the length of the next buffer is a multiple of `width`, the size of one value.
    fn numbers(&mut self, width: usize) -> Result<(), ArrowError> {
        if self.buffer()?.is_multiple_of(width as u64) {
            return Ok(());
        }
        Err(malformed("a buffer ends within a number"))
    }

    fn union(&mut self, mode: UnionMode, rows: u64) -> Result<(), ArrowError> {
        if self.version < MetadataVersion::V5 {
            self.buffer()?;
        }
        let has_ids = self.buffer()? >= rows;
        let has_offsets = mode == UnionMode::Sparse || self.buffer()? >= 4 * rows;
        if has_ids && has_offsets { Ok(()) } else { Err(short()) }
    }

    fn views(&mut self) -> Result<(), ArrowError> {
        self.numbers(16)?;
        let counts = self.batch.variadicBufferCounts().filter(|all| self.variadic < all.len());
        let count = counts.ok_or_else(short)?.get(self.variadic);
        self.variadic += 1;
        let left = self.batch.buffers().map_or(0, |all| all.len()).saturating_sub(self.buffer);
        let count = usize::try_from(count).ok().filter(|count| *count <= left);
        self.buffer += count.ok_or_else(short)?;
        Ok(())
    }
}

fn short() -> ArrowError {
    malformed("a column has fewer values than rows")
}
