//! Slices batches so that each slice uses limited memory after its values are materialized.
//!
//! A small batch can represent a huge amount of data: two billion nulls, a long string with a
//! million dictionary keys, or a long run. Materialization needs memory for every value, so a batch
//! is sliced by the estimated memory of its materialized rows.

use std::ops::Range;

use arrow::array::{
    Array, AsArray, GenericByteViewArray, OffsetSizeTrait, RecordBatch, RunArray,
    downcast_run_array,
};
use arrow::datatypes::{ArrowNativeType, ByteViewType, DataType, Field, RunEndIndexType};

/// Maximum number of rows in a slice.
const ROWS_MAX: usize = 64 * 1024;

/// Approximate maximum size of a slice's values in bytes. A slice of one row may be larger.
const BYTES_MAX: u64 = 32 * 1024 * 1024;

/// An iterator over the slices of a batch, in order.
pub(crate) struct BatchSlices<'a> {
    batch: &'a RecordBatch,
    /// Number of bytes per row for the table's columns that the batch does not have.
    missing_bytes: u64,
    at: usize,
    rows: usize,
}

impl<'a> BatchSlices<'a> {
    /// Slices a batch before its conversion to the fields of `table`. `positions` contains the
    /// index of each field in the batch.
    pub(crate) fn new(
        batch: &'a RecordBatch,
        table: &arrow::datatypes::Fields,
        positions: &[Option<usize>],
    ) -> Self {
        // The size of a column of type null depends only on the type of the table's column.
        let is_null = |at: usize| *batch.column(at).data_type() == DataType::Null;
        let missing_bytes = table.iter().zip(positions).filter(|(_, at)| at.is_none_or(is_null));
        let missing_bytes = missing_bytes.map(|(field, _)| null_bytes(field)).sum();
        BatchSlices { batch, missing_bytes, at: 0, rows: ROWS_MAX }
    }

    fn bytes(&self, piece: &RecordBatch) -> u64 {
        let columns = piece.columns().iter().map(|column| bytes_of(column.as_ref()));
        columns.sum::<u64>() + self.missing_bytes * piece.num_rows() as u64
    }
}

impl Iterator for BatchSlices<'_> {
    type Item = RecordBatch;

    fn next(&mut self) -> Option<RecordBatch> {
        let remaining =
            self.batch.num_rows().checked_sub(self.at).filter(|remaining| *remaining > 0)?;
        loop {
            let rows = self.rows.min(remaining);
            let piece = self.batch.slice(self.at, rows);
            if rows == 1 || self.bytes(&piece) <= BYTES_MAX {
                self.at += rows;
                // Try more rows for the next slice, because the following rows may be smaller.
                self.rows = (self.rows * 2).min(ROWS_MAX);
                return Some(piece);
            }
            self.rows = rows / 2;
        }
    }
}

/// Returns the memory that a null value needs, in bytes.
fn null_bytes(field: &Field) -> u64 {
    match field.data_type() {
        DataType::FixedSizeBinary(width) => u64::from(width.unsigned_abs()),
        DataType::Struct(fields) => fields.iter().map(|field| null_bytes(field)).sum(),
        other => other.primitive_width().map_or(4, |width| width as u64),
    }
}

/// Returns the approximate memory that the values of an array need after materialization, in bytes.
fn bytes_of(array: &dyn Array) -> u64 {
    let rows = array.len() as u64;
    match array.data_type() {
        DataType::Null => 0,
        DataType::Boolean => rows.div_ceil(8),
        DataType::Utf8 => text::<i32>(array.as_string::<i32>().value_offsets(), rows),
        DataType::LargeUtf8 => text::<i64>(array.as_string::<i64>().value_offsets(), rows),
        DataType::Binary => text::<i32>(array.as_binary::<i32>().value_offsets(), rows),
        DataType::LargeBinary => text::<i64>(array.as_binary::<i64>().value_offsets(), rows),
        DataType::Utf8View => views(array.as_string_view()),
        DataType::BinaryView => views(array.as_binary_view()),
        DataType::FixedSizeBinary(width) => rows * u64::from(width.unsigned_abs()),
        DataType::Struct(_) => {
            array.as_struct().columns().iter().map(|part| bytes_of(part.as_ref())).sum()
        }
        DataType::List(_) => list(array.as_list::<i32>().value_offsets(), rows, |range| {
            slice(array.as_list::<i32>().values().as_ref(), range)
        }),
        DataType::LargeList(_) => list(array.as_list::<i64>().value_offsets(), rows, |range| {
            slice(array.as_list::<i64>().values().as_ref(), range)
        }),
        DataType::Map(..) => list(array.as_map().value_offsets(), rows, |range| {
            slice(array.as_map().entries(), range)
        }),
        DataType::ListView(_) => {
            let lists = array.as_list_view::<i32>();
            rows * 8 + lists.iter().flatten().map(|one| bytes_of(one.as_ref())).sum::<u64>()
        }
        DataType::LargeListView(_) => {
            let lists = array.as_list_view::<i64>();
            rows * 8 + lists.iter().flatten().map(|one| bytes_of(one.as_ref())).sum::<u64>()
        }
        DataType::FixedSizeList(_, width) => {
            let (lists, width) = (array.as_fixed_size_list(), width.unsigned_abs() as usize);
            let first = lists.value_offset(0).unsigned_abs() as usize;
            slice(lists.values().as_ref(), first..first + width * lists.len())
        }
        DataType::Dictionary(..) => dictionary(array),
        DataType::RunEndEncoded(..) => downcast_run_array! {
            array => runs(array),
            _ => array.get_array_memory_size() as u64,
        },
        other => rows * other.primitive_width().map_or(16, |width| width as u64),
    }
}

fn text<O: OffsetSizeTrait>(offsets: &[O], rows: u64) -> u64 {
    let ends = offsets.first().zip(offsets.last());
    rows * 4 + ends.map_or(0, |(first, last)| (last.as_usize() - first.as_usize()) as u64)
}

fn views<T: ByteViewType + ?Sized>(array: &GenericByteViewArray<T>) -> u64 {
    array.lengths().map(|length| 4 + u64::from(length)).sum()
}

fn list<O: OffsetSizeTrait>(
    offsets: &[O],
    rows: u64,
    values: impl FnOnce(Range<usize>) -> u64,
) -> u64 {
    let ends = offsets.first().zip(offsets.last());
    rows * 4 + ends.map_or(0, |(first, last)| values(first.as_usize()..last.as_usize()))
}

fn slice(values: &dyn Array, range: Range<usize>) -> u64 {
    bytes_of(values.slice(range.start, range.len()).as_ref())
}

fn dictionary(array: &dyn Array) -> u64 {
    let dictionary = array.as_any_dictionary();
    let values = dictionary.values();
    if values.is_empty() {
        return 0;
    }
    if let Some(width) = values.data_type().primitive_width() {
        return (array.len() * width) as u64;
    }
    let keys = dictionary.normalized_keys();
    keys.into_iter().map(|key| slice(values.as_ref(), key..key + 1)).sum()
}

fn runs<R: RunEndIndexType>(array: &RunArray<R>) -> u64 {
    if array.is_empty() {
        return 0;
    }
    let ends = array.run_ends();
    let (first, last) = (ends.get_start_physical_index(), ends.get_end_physical_index());
    let mut bytes = 0;
    let mut start = 0;
    for (run, end) in (first..=last).zip(ends.sliced_values()) {
        let end = end.to_usize().unwrap_or(start).min(array.len());
        bytes += (end - start) as u64 * slice(array.values().as_ref(), run..run + 1);
        start = end;
    }
    bytes
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{
        ArrayRef, DictionaryArray, Int32Array, ListArray, NullArray, PrimitiveRunBuilder,
        StringArray, StringViewArray, StructArray,
    };
    use arrow::buffer::OffsetBuffer;
    use arrow::datatypes::{Int32Type, Int64Type, Schema};

    use super::*;
    use crate::parse_type;

    /// Returns the number of rows in each slice of an array that is converted to this type.
    fn pieces(array: ArrayRef, text: &str) -> Vec<usize> {
        let schema = Schema::new(vec![Field::new("c", array.data_type().clone(), true)]);
        let batch = RecordBatch::try_new(Arc::new(schema), vec![array]).unwrap();
        let table = Schema::new(vec![Field::new("c", parse_type(text).unwrap(), true)]);
        let pieces = BatchSlices::new(&batch, table.fields(), &[Some(0)]);
        pieces.map(|piece| piece.num_rows()).collect()
    }

    fn check(array: ArrayRef, text: &str, bytes_each: usize) {
        let rows = array.len();
        let pieces = pieces(array, text);
        assert_eq!(pieces.iter().sum::<usize>(), rows, "{text}");
        assert!(pieces.iter().all(|rows| *rows <= ROWS_MAX), "{text}: {pieces:?}");
        let bytes = |rows: &usize| rows * bytes_each;
        assert!(pieces.iter().all(|rows| *rows == 1 || bytes(rows) as u64 <= BYTES_MAX), "{text}");
        // At least three of four slices must have at least a quarter of the maximum size.
        let full = |rows: &&usize| **rows == ROWS_MAX || bytes(rows) as u64 * 4 >= BYTES_MAX;
        assert!(pieces.iter().filter(full).count() * 4 >= (pieces.len() - 1) * 3, "{pieces:?}");
    }

    const LONG: usize = 1 << 20;

    #[test]
    fn a_batch_that_expands_is_sliced() {
        let long: ArrayRef = Arc::new(StringArray::from(vec!["x".repeat(LONG)]));
        check(Arc::new(NullArray::new(2_000_000)), "fixed(1000)", 1000);
        check(Arc::new(NullArray::new(2_000_000)), "struct<a: fixed(1000), b: long>", 1008);
        check(Arc::new(NullArray::new(2_000_000)), "long", 8);
        let keys = Int32Array::from(vec![0; 1000]);
        let words = DictionaryArray::<Int32Type>::try_new(keys, long.clone()).unwrap();
        check(Arc::new(words.clone()), "string", LONG);
        let ends = arrow::array::PrimitiveArray::<Int64Type>::from(vec![1000]);
        check(Arc::new(RunArray::try_new(&ends, &long).unwrap()), "string", LONG);
        let mut view = StringViewArray::from(vec!["x".repeat(LONG)]);
        view = arrow::compute::take(&view, &Int32Array::from(vec![0; 1000]), None)
            .unwrap()
            .as_string_view()
            .clone();
        check(Arc::new(view), "string", LONG);
        let item = Arc::new(Field::new("element", words.data_type().clone(), true));
        let lists =
            ListArray::new(item, OffsetBuffer::from_lengths([10; 100]), Arc::new(words), None);
        check(Arc::new(lists), "list<string>", 10 * LONG);
    }

    #[test]
    fn a_long_run_is_sliced_by_its_number_of_rows() {
        let mut builder = PrimitiveRunBuilder::<Int64Type, Int64Type>::new();
        builder.append_value(7);
        let run = builder.finish();
        let ends = arrow::array::PrimitiveArray::<Int64Type>::from(vec![2_000_000_000]);
        let long = RunArray::try_new(&ends, run.values()).unwrap();
        let batch = RecordBatch::try_from_iter([("c", Arc::new(long) as ArrayRef)]).unwrap();
        let table = Schema::new(vec![Field::new("c", DataType::Int64, true)]);
        let mut pieces = BatchSlices::new(&batch, table.fields(), &[Some(0)]);
        assert_eq!(pieces.next().unwrap().num_rows(), ROWS_MAX);
        assert_eq!(pieces.count(), 2_000_000_000_usize.div_ceil(ROWS_MAX) - 1);
    }

    #[test]
    fn a_small_batch_is_not_sliced() {
        let parts: Vec<(Arc<Field>, ArrayRef)> = vec![(
            Arc::new(Field::new("a", DataType::Int32, true)),
            Arc::new(Int32Array::from(vec![1; 8192])),
        )];
        assert_eq!(pieces(Arc::new(StructArray::from(parts)), "struct<a: int>"), [8192]);
        assert!(pieces(Arc::new(Int32Array::from(vec![0; 0])), "int").is_empty());
    }
}
