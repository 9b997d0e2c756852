//! Sizes of the arguments of a function call, for each row.
//!
//! The size of a value is the size of an independent copy. A dictionary value is therefore counted
//! for each row that refers to it. An untyped null has the size of a number.

use std::ops::Range;

use arrow::array::{Array, ArrayRef, AsArray, Int64Array};
use arrow::compute::CastOptions;
use arrow::datatypes::{DataType, IntervalMonthDayNano, IntervalMonthDayNanoType};
use datafusion::common::ScalarValue;
use datafusion::logical_expr::ColumnarValue;

/// Bytes counted for an untyped null, because a cast may make it a number.
const NULL_BYTES: u64 = 8;

/// An argument of a function call.
pub(super) enum Argument<'a> {
    /// One value for all rows, with its size.
    Constant { value: &'a ScalarValue, bytes: u64 },
    /// One value for each row.
    Rows(&'a ArrayRef),
}

impl<'a> Argument<'a> {
    pub(super) fn new(value: &'a ColumnarValue) -> Self {
        match value {
            ColumnarValue::Scalar(value) => {
                Argument::Constant { value, bytes: scalar_bytes(value) }
            }
            ColumnarValue::Array(values) => Argument::Rows(values),
        }
    }

    pub(super) fn is_constant(&self) -> bool {
        matches!(self, Argument::Constant { .. })
    }

    /// Returns the size of a row's value in bytes.
    pub(super) fn bytes(&self, row: usize) -> u64 {
        match self {
            Argument::Constant { bytes, .. } => *bytes,
            Argument::Rows(values) => span_bytes(values.as_ref(), row..row + 1),
        }
    }

    /// Returns the total bytes of the values in a range of rows.
    pub(super) fn total(&self, rows: Range<usize>) -> u64 {
        match self {
            Argument::Constant { bytes, .. } => bytes.saturating_mul(rows.len() as u64),
            Argument::Rows(values) => span_bytes(values.as_ref(), rows),
        }
    }

    /// Returns the number of list elements of a row.
    pub(super) fn elements(&self, row: usize) -> u64 {
        match self {
            Argument::Constant { value, .. } => match value {
                ScalarValue::List(list) => elements(list.as_ref(), 0),
                ScalarValue::LargeList(list) => elements(list.as_ref(), 0),
                ScalarValue::FixedSizeList(list) => elements(list.as_ref(), 0),
                ScalarValue::Map(map) => elements(map.as_ref(), 0),
                _ => 0,
            },
            Argument::Rows(values) => elements(values.as_ref(), row),
        }
    }

    /// Returns the text of a row.
    pub(super) fn text(&self, row: usize) -> Option<&str> {
        match self {
            Argument::Constant { value, .. } => value.try_as_str().flatten(),
            Argument::Rows(values) if values.is_null(row) => None,
            Argument::Rows(values) => match values.data_type() {
                DataType::Utf8 => Some(values.as_string::<i32>().value(row)),
                DataType::LargeUtf8 => Some(values.as_string::<i64>().value(row)),
                DataType::Utf8View => Some(values.as_string_view().value(row)),
                _ => None,
            },
        }
    }

    /// Returns the interval of a row.
    pub(super) fn interval(&self, row: usize) -> Option<IntervalMonthDayNano> {
        match self {
            Argument::Constant { value: ScalarValue::IntervalMonthDayNano(value), .. } => *value,
            Argument::Rows(values) => {
                let values = values.as_primitive_opt::<IntervalMonthDayNanoType>()?;
                values.is_valid(row).then(|| values.value(row))
            }
            Argument::Constant { .. } => None,
        }
    }

    /// Returns the data type of the argument.
    pub(super) fn data_type(&self) -> DataType {
        match self {
            Argument::Constant { value, .. } => value.data_type(),
            Argument::Rows(values) => values.data_type().clone(),
        }
    }

    /// Returns the argument's values as integers, for functions that take counts or lengths.
    pub(super) fn integers(&self) -> IntegerValues {
        let options = CastOptions { safe: true, ..CastOptions::default() };
        let cast = |values: &dyn Array| {
            let cast = arrow::compute::cast_with_options(values, &DataType::Int64, &options);
            cast.ok().map(|values| values.as_primitive().clone())
        };
        match self {
            Argument::Constant { value, .. } => {
                let values = value.to_array().ok().and_then(|values| cast(&values));
                let first = values.and_then(|values| values.iter().next().flatten());
                IntegerValues::Constant(first)
            }
            Argument::Rows(values) => match cast(values) {
                Some(values) => IntegerValues::Rows(values),
                None => IntegerValues::Constant(None),
            },
        }
    }
}

/// The values of an argument as integers. A value that cannot be cast to an integer counts as null.
pub(super) enum IntegerValues {
    Constant(Option<i64>),
    Rows(Int64Array),
}

impl IntegerValues {
    pub(super) fn get(&self, row: usize) -> Option<i64> {
        match self {
            IntegerValues::Constant(value) => *value,
            IntegerValues::Rows(values) => values.is_valid(row).then(|| values.value(row)),
        }
    }

    /// Returns the value at a row as a count: zero if it is negative or null.
    pub(super) fn count(&self, row: usize) -> u64 {
        self.get(row).and_then(|value| u64::try_from(value).ok()).unwrap_or(0)
    }
}

fn scalar_bytes(value: &ScalarValue) -> u64 {
    match value {
        ScalarValue::Utf8(Some(text))
        | ScalarValue::LargeUtf8(Some(text))
        | ScalarValue::Utf8View(Some(text)) => text.len() as u64,
        ScalarValue::Binary(Some(bytes))
        | ScalarValue::LargeBinary(Some(bytes))
        | ScalarValue::BinaryView(Some(bytes)) => bytes.len() as u64,
        ScalarValue::List(list) => span_bytes(list.as_ref(), 0..1),
        ScalarValue::LargeList(list) => span_bytes(list.as_ref(), 0..1),
        ScalarValue::FixedSizeList(list) => span_bytes(list.as_ref(), 0..1),
        ScalarValue::Struct(parts) => span_bytes(parts.as_ref(), 0..1),
        ScalarValue::Map(map) => span_bytes(map.as_ref(), 0..1),
        ScalarValue::Dictionary(_, value) => scalar_bytes(value),
        other => fixed_width(&other.data_type()).max(NULL_BYTES),
    }
}

fn elements(array: &dyn Array, row: usize) -> u64 {
    let length = match array.data_type() {
        DataType::List(_) => u64::try_from(array.as_list::<i32>().value_length(row)),
        DataType::LargeList(_) => u64::try_from(array.as_list::<i64>().value_length(row)),
        DataType::ListView(_) => u64::try_from(array.as_list_view::<i32>().value_size(row)),
        DataType::LargeListView(_) => u64::try_from(array.as_list_view::<i64>().value_size(row)),
        DataType::FixedSizeList(_, length) => u64::try_from(*length),
        DataType::Map(_, _) => u64::try_from(array.as_map().value_length(row)),
        _ => Ok(0),
    };
    length.unwrap_or(0)
}

/// Returns the minimum size in bytes of a value of a type. A null also has this size.
pub(super) fn fixed_width(data_type: &DataType) -> u64 {
    match data_type {
        DataType::FixedSizeBinary(width) => u64::try_from(*width).unwrap_or(0),
        DataType::FixedSizeList(field, length) => {
            let length = u64::try_from(*length).unwrap_or(0);
            fixed_width(field.data_type()).saturating_mul(length)
        }
        DataType::Struct(fields) => {
            fields.iter().map(|field| fixed_width(field.data_type())).fold(0, u64::saturating_add)
        }
        DataType::Null => 0,
        other => other.primitive_width().unwrap_or(4) as u64,
    }
}

/// Returns the bytes of a range of rows. Each value counts as an independent copy.
pub(super) fn span_bytes(array: &dyn Array, rows: Range<usize>) -> u64 {
    let count = rows.len() as u64;
    let offsets = |first: Option<i64>, end: Option<i64>| {
        let span = end.unwrap_or(0).saturating_sub(first.unwrap_or(0));
        u64::try_from(span).unwrap_or(0)
    };
    match array.data_type() {
        DataType::Null => count.saturating_mul(NULL_BYTES),
        DataType::Boolean => count,
        DataType::Utf8 => text_span(array.as_string::<i32>().value_offsets(), &rows) + 4 * count,
        DataType::Binary => text_span(array.as_binary::<i32>().value_offsets(), &rows) + 4 * count,
        DataType::LargeUtf8 => {
            let values = array.as_string::<i64>().value_offsets();
            offsets(values.get(rows.start).copied(), values.get(rows.end).copied()) + 8 * count
        }
        DataType::LargeBinary => {
            let values = array.as_binary::<i64>().value_offsets();
            offsets(values.get(rows.start).copied(), values.get(rows.end).copied()) + 8 * count
        }
        DataType::Utf8View => views(&array.as_string_view().views()[rows]),
        DataType::BinaryView => views(&array.as_binary_view().views()[rows]),
        DataType::List(_) => {
            let list = array.as_list::<i32>();
            let at = |row: usize| usize::try_from(list.value_offsets()[row]).unwrap_or(0);
            span_bytes(list.values(), at(rows.start)..at(rows.end)) + 4 * count
        }
        DataType::LargeList(_) => {
            let list = array.as_list::<i64>();
            let at = |row: usize| usize::try_from(list.value_offsets()[row]).unwrap_or(0);
            span_bytes(list.values(), at(rows.start)..at(rows.end)) + 8 * count
        }
        DataType::Map(_, _) => {
            let map = array.as_map();
            let at = |row: usize| usize::try_from(map.value_offsets()[row]).unwrap_or(0);
            span_bytes(map.entries(), at(rows.start)..at(rows.end)) + 4 * count
        }
        DataType::FixedSizeList(_, _) => {
            let list = array.as_fixed_size_list();
            let length = usize::try_from(list.value_length()).unwrap_or(0);
            span_bytes(list.values(), rows.start * length..rows.end * length)
        }
        DataType::Struct(_) => array
            .as_struct()
            .columns()
            .iter()
            .map(|column| span_bytes(column, rows.clone()))
            .fold(count, u64::saturating_add),
        _ => other_bytes(array, rows),
    }
}

fn text_span(offsets: &[i32], rows: &Range<usize>) -> u64 {
    u64::try_from(offsets[rows.end] - offsets[rows.start]).unwrap_or(0)
}

/// Returns the size of string or binary views in bytes: the size of each view plus the bytes that
/// the view refers to. The low 32 bits of a view are the length of the value.
fn views(views: &[u128]) -> u64 {
    views.iter().map(|view| size_of::<u128>() as u64 + u64::from(*view as u32)).sum()
}

/// Returns the bytes of a range of rows in an array of a less common type. In some of these types,
/// such as a dictionary, several rows share one value.
fn other_bytes(array: &dyn Array, rows: Range<usize>) -> u64 {
    let count = rows.len() as u64;
    let one = |values: &dyn Array, row: usize| span_bytes(values, row..row + 1);
    match array.data_type() {
        DataType::Dictionary(_, _) => {
            let dictionary = array.as_any_dictionary();
            let values = dictionary.values();
            if values.is_empty() {
                return count;
            }
            let keys = dictionary.normalized_keys();
            rows.map(|row| one(values, keys[row]) + 1).fold(0, u64::saturating_add)
        }
        DataType::ListView(_) => {
            let list = array.as_list_view::<i32>();
            rows.map(|row| {
                let values = list.value(row);
                8 + span_bytes(&values, 0..values.len())
            })
            .fold(0, u64::saturating_add)
        }
        DataType::LargeListView(_) => {
            let list = array.as_list_view::<i64>();
            rows.map(|row| {
                let values = list.value(row);
                16 + span_bytes(&values, 0..values.len())
            })
            .fold(0, u64::saturating_add)
        }
        DataType::Union(_, _) | DataType::RunEndEncoded(_, _) => {
            (array.get_array_memory_size() as u64).saturating_mul(count)
        }
        other => fixed_width(other).saturating_mul(count),
    }
}
