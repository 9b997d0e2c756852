//! The decoded values of one column of one row group of a data file.
//!
//! The values are kept in chunks, one for each batch in which they were decoded. A scan reads
//! slices of the chunks, so batches from the cache are not copied. The counted memory is the memory
//! of the buffers, including the parts that no value uses. String views that use less than half of
//! their buffers are copied to smaller buffers.

use std::collections::HashSet;
use std::sync::Arc;

use arrow::array::{Array, ArrayData, ArrayRef, AsArray};
use arrow::buffer::Buffer;
use arrow::compute::concat;
use arrow::datatypes::DataType;
use arrow::error::ArrowError;

use crate::column_cache::FileKey;

/// Estimated memory of a chunk in addition to its buffers.
const CHUNK_BYTES: u64 = 256;

/// String views are copied if their buffers are more than this many times as large as the values. A
/// value counts as at least one byte, so that small buffers of short values are not copied.
const SPARSE_VIEWS: u64 = 2;

/// Identity of a decoded column.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct ColumnKey {
    /// The data file.
    pub file: Arc<FileKey>,
    /// Index of the row group in the file.
    pub row_group: usize,
    /// Index of the top-level column in the file.
    pub column: usize,
}

/// The values of a column in one row group.
#[derive(Debug)]
pub(crate) struct DecodedColumn {
    data_type: DataType,
    chunks: Vec<ArrayRef>,
    /// For each chunk, the index of the row after its last row.
    ends: Vec<usize>,
    bytes: u64,
}

impl DecodedColumn {
    /// Creates a column of chunks. Copies the values of string views with sparse buffers.
    pub(crate) fn new(data_type: DataType, chunks: Vec<ArrayRef>) -> Self {
        let chunks = compacted(chunks);
        let mut buffers = BufferMemory::default();
        let bytes: u64 = chunks.iter().map(|chunk| buffers.add(chunk)).sum();
        let end = |end: &mut usize, chunk: &ArrayRef| {
            *end += chunk.len();
            Some(*end)
        };
        let ends = chunks.iter().scan(0, end).collect();
        DecodedColumn { data_type, chunks, ends, bytes }
    }

    /// Returns the type of the values.
    pub(crate) fn data_type(&self) -> &DataType {
        &self.data_type
    }

    /// Returns the memory of the column in bytes.
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Returns the number of rows from `row` to the end of its chunk.
    pub(crate) fn rows_in_chunk(&self, row: usize) -> usize {
        self.ends.get(self.chunk_of(row)).map_or(0, |end| end - row)
    }

    /// Returns the values of `count` rows from `first`. Copies the values only if they are in
    /// several chunks.
    pub(crate) fn slice(&self, first: usize, count: usize) -> Result<ArrayRef, ArrowError> {
        let mut parts: Vec<ArrayRef> = Vec::new();
        let (mut row, end) = (first, first + count);
        let mut chunks = self.chunks.iter().zip(&self.ends).skip(self.chunk_of(first));
        while row < end {
            let Some((chunk, chunk_end)) = chunks.next() else {
                let message = "a cached column has fewer rows than its row group";
                return Err(ArrowError::ComputeError(message.to_owned()));
            };
            let length = end.min(*chunk_end) - row;
            parts.push(chunk.slice(chunk.len() - (chunk_end - row), length));
            row += length;
        }
        if let [part] = parts.as_slice() {
            return Ok(Arc::clone(part));
        }
        let parts: Vec<&dyn Array> = parts.iter().map(AsRef::as_ref).collect();
        concat(&parts)
    }

    fn chunk_of(&self, row: usize) -> usize {
        self.ends.partition_point(|end| *end <= row)
    }
}

/// The memory of buffers. A buffer that several arrays share is counted once.
#[derive(Debug, Default)]
pub(crate) struct BufferMemory {
    /// Addresses of the counted buffers.
    counted: HashSet<usize>,
}

impl BufferMemory {
    /// Counts the buffers of an array, and returns the bytes that were not counted before.
    pub(crate) fn add(&mut self, array: &ArrayRef) -> u64 {
        CHUNK_BYTES + self.add_data(&array.to_data())
    }

    fn add_data(&mut self, data: &ArrayData) -> u64 {
        let mut bytes: u64 = data.buffers().iter().map(|buffer| self.add_buffer(buffer)).sum();
        bytes += data.nulls().map_or(0, |nulls| self.add_buffer(nulls.buffer()));
        bytes + data.child_data().iter().map(|child| self.add_data(child)).sum::<u64>()
    }

    fn add_buffer(&mut self, buffer: &Buffer) -> u64 {
        let is_new = self.counted.insert(buffer.data_ptr().as_ptr() as usize);
        if is_new { buffer.capacity() as u64 } else { 0 }
    }
}

/// Copies the values of string views if their buffers are sparse. The Parquet reader returns views
/// of whole pages, even for values that are stored in the views themselves.
fn compacted(chunks: Vec<ArrayRef>) -> Vec<ArrayRef> {
    let mut buffers = BufferMemory::default();
    let (mut used, mut held) = (0, 0);
    for chunk in &chunks {
        let Some((data, values)) = view_buffers(chunk) else { return chunks };
        used += (values + chunk.len()) as u64;
        held += data.iter().map(|buffer| buffers.add_buffer(buffer)).sum::<u64>();
    }
    if held <= used.saturating_mul(SPARSE_VIEWS) {
        return chunks;
    }
    chunks.iter().map(copied_views).collect()
}

/// Returns the buffers of an array of string or binary views, and the bytes of its values in these
/// buffers; `None` for other types.
fn view_buffers(array: &ArrayRef) -> Option<(&[Buffer], usize)> {
    if let Some(text) = array.as_string_view_opt() {
        return Some((text.data_buffers(), text.total_buffer_bytes_used()));
    }
    let binary = array.as_binary_view_opt()?;
    Some((binary.data_buffers(), binary.total_buffer_bytes_used()))
}

fn copied_views(array: &ArrayRef) -> ArrayRef {
    if let Some(text) = array.as_string_view_opt() {
        return Arc::new(text.gc());
    }
    match array.as_binary_view_opt() {
        Some(binary) => Arc::new(binary.gc()),
        None => Arc::clone(array),
    }
}

#[cfg(test)]
mod tests {
    use arrow::array::{Int64Array, StringViewBuilder};

    use super::*;

    fn numbers(from: i64, to: i64) -> ArrayRef {
        Arc::new((from..to).collect::<Int64Array>())
    }

    #[test]
    fn slices_have_the_rows_of_all_chunks() {
        let chunks = vec![numbers(0, 10), numbers(10, 20), numbers(20, 23)];
        let column = DecodedColumn::new(DataType::Int64, chunks);
        for (first, count) in [(0, 10), (3, 4), (8, 5), (5, 18), (22, 1)] {
            let slice = column.slice(first, count).unwrap();
            let (from, to) = (first as i64, (first + count) as i64);
            assert_eq!(&slice, &numbers(from, to), "{count} rows from {first}");
        }
        assert_eq!((column.rows_in_chunk(12), column.rows_in_chunk(22)), (8, 1));
        assert!(column.slice(20, 4).is_err());
    }

    #[test]
    fn shared_buffers_count_once_and_with_their_capacity() {
        let whole = numbers(0, 1_000);
        let halves = vec![whole.slice(0, 500), whole.slice(500, 500)];
        let column = DecodedColumn::new(DataType::Int64, halves);
        assert!(column.bytes() >= 8_000 && column.bytes() < 9_000, "{}", column.bytes());
    }

    #[test]
    fn sparse_views_are_copied_and_dense_views_are_not() {
        let mut builder = StringViewBuilder::new().with_fixed_block_size(1 << 15);
        for n in 0..1_000 {
            builder.append_value(format!("a value that is not inlined {n}"));
        }
        let all: ArrayRef = Arc::new(builder.finish());
        let sparse = DecodedColumn::new(DataType::Utf8View, vec![all.slice(0, 10)]);
        assert!(sparse.bytes() < 20_000, "{}", sparse.bytes());
        assert_eq!(&sparse.slice(0, 10).unwrap(), &all.slice(0, 10));
        let dense = DecodedColumn::new(DataType::Utf8View, vec![Arc::clone(&all)]);
        let kept = dense.slice(0, 1_000).unwrap();
        let address = |array: &ArrayRef| array.as_string_view().data_buffers()[0].as_ptr();
        assert_eq!(address(&kept), address(&all));
    }
}
