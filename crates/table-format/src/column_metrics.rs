//! Computes the column metrics of a data file for its manifest entry, from the statistics of the
//! Parquet writer.
//!
//! Bounds of strings and binary are truncated to 16 characters or bytes, as in Iceberg. A truncated
//! upper bound would be below the value, so its last character that can be incremented is
//! incremented.

use std::collections::HashMap;

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch};
use arrow::datatypes::{DataType, Field, Float32Type, Float64Type};
use iceberg::spec::{DataFileBuilder, Datum, PrimitiveLiteral, PrimitiveType, Schema, Type};
use parquet::file::metadata::{ColumnChunkMetaData, ParquetMetaData};
use parquet::file::statistics::Statistics;
use parquet::schema::types::ColumnDescriptor;

use crate::types::schema::field_id;
use crate::{LAST_UPDATED, ROW_ID};

/// Maximum length of a bound, in characters for strings and in bytes for binary.
const BOUND_LENGTH_MAX: usize = 16;

/// NaN counts of floating-point columns, by field id.
pub type NanCounts = HashMap<i32, u64>;

/// Adds the NaN counts of a batch's top-level columns and struct fields.
pub fn count_nans(batch: &RecordBatch, counts: &mut NanCounts) {
    for (field, column) in batch.schema_ref().fields().iter().zip(batch.columns()) {
        count_column(field, column, counts);
    }
}

fn count_column(field: &Field, column: &ArrayRef, counts: &mut NanCounts) {
    let nans = match column.data_type() {
        DataType::Float32 => {
            let values = column.as_primitive::<Float32Type>();
            values.iter().flatten().filter(|value| value.is_nan()).count()
        }
        DataType::Float64 => {
            let values = column.as_primitive::<Float64Type>();
            values.iter().flatten().filter(|value| value.is_nan()).count()
        }
        DataType::Struct(fields) => {
            for (field, column) in fields.iter().zip(column.as_struct().columns()) {
                count_column(field, column, counts);
            }
            return;
        }
        _ => return,
    };
    if let Some(id) = field_id(field) {
        *counts.entry(id).or_default() += nans as u64;
    }
}

/// The metrics of a column, combined over the row groups of the file.
#[derive(Debug, Default)]
struct ColumnMetrics {
    size: u64,
    values: u64,
    nulls: Option<u64>,
    lower: ColumnBound,
    upper: ColumnBound,
}

/// A bound of a column over several row groups.
#[derive(Debug, Default, Clone, PartialEq)]
enum ColumnBound {
    /// None of the row groups so far has a value.
    #[default]
    Empty,
    /// The bound of all values in the row groups so far.
    Known(Datum),
    /// A row group has values but no bound.
    Unknown,
}

/// Adds the metrics of a written file to its manifest entry.
pub fn describe_columns(
    builder: &mut DataFileBuilder,
    metadata: &ParquetMetaData,
    schema: &Schema,
    nans: NanCounts,
) {
    let columns = collect(metadata, schema);
    let mut sizes = HashMap::new();
    let mut values = HashMap::new();
    let mut nulls = HashMap::new();
    let mut lower = HashMap::new();
    let mut upper = HashMap::new();
    for (id, repeated, column) in columns {
        sizes.insert(id, column.size);
        if repeated {
            continue;
        }
        values.insert(id, column.values);
        nulls.extend(column.nulls.map(|count| (id, count)));
        if let ColumnBound::Known(bound) = column.lower {
            lower.insert(id, shorten_lower(bound));
        }
        if let ColumnBound::Known(bound) = column.upper {
            upper.extend(shorten_upper(bound).map(|bound| (id, bound)));
        }
    }
    builder
        .column_sizes(sizes)
        .value_counts(values)
        .null_value_counts(nulls)
        .nan_value_counts(nans)
        .lower_bounds(lower)
        .upper_bounds(upper);
}

/// Returns, for each leaf column with a field id: the id, true if the column is nested in a list or
/// map, and its metrics.
fn collect(metadata: &ParquetMetaData, schema: &Schema) -> Vec<(i32, bool, ColumnMetrics)> {
    let mut found = Vec::new();
    for (position, leaf) in metadata.file_metadata().schema_descr().columns().iter().enumerate() {
        let Some((id, primitive)) = identify(leaf, schema) else { continue };
        let mut column = ColumnMetrics { nulls: Some(0), ..ColumnMetrics::default() };
        for group in metadata.row_groups() {
            column.add(group.column(position), primitive);
        }
        found.push((id, leaf.max_rep_level() > 0, column));
    }
    found
}

fn identify<'a>(leaf: &ColumnDescriptor, schema: &'a Schema) -> Option<(i32, &'a PrimitiveType)> {
    let leaf = leaf.self_type().get_basic_info();
    let id = leaf.has_id().then(|| leaf.id())?;
    if matches!(id, ROW_ID | LAST_UPDATED) {
        return Some((id, &PrimitiveType::Long));
    }
    match schema.field_by_id(id)?.field_type.as_ref() {
        Type::Primitive(primitive) => Some((id, primitive)),
        _ => None,
    }
}

impl ColumnMetrics {
    fn add(&mut self, chunk: &ColumnChunkMetaData, primitive: &PrimitiveType) {
        let values = chunk.num_values() as u64;
        let statistics = chunk.statistics();
        let nulls = statistics.and_then(Statistics::null_count_opt);
        self.size += chunk.compressed_size() as u64;
        self.values += values;
        self.nulls = self.nulls.zip(nulls).map(|(sum, nulls)| sum + nulls);
        if nulls == Some(values) {
            return;
        }
        // If a row group has floating-point values but no bounds, all its values are NaN. Bounds do
        // not include NaN, so such a row group does not change the bounds of the file.
        let floats = matches!(primitive, PrimitiveType::Float | PrimitiveType::Double);
        let lower = statistics.and_then(|s| datum(s, s.min_bytes_opt()?, primitive));
        let upper = statistics.and_then(|s| datum(s, s.max_bytes_opt()?, primitive));
        if floats && lower.is_none() && upper.is_none() {
            return;
        }
        self.lower.include(lower, |new, old| new < old);
        self.upper.include(upper, |new, old| new > old);
    }
}

impl ColumnBound {
    fn include(
        &mut self,
        bound: Option<Datum>,
        wider: impl Fn(&PrimitiveLiteral, &PrimitiveLiteral) -> bool,
    ) {
        *self = match (std::mem::take(self), bound) {
            (ColumnBound::Unknown, _) | (_, None) => ColumnBound::Unknown,
            (ColumnBound::Empty, Some(bound)) => ColumnBound::Known(bound),
            (ColumnBound::Known(old), Some(new)) => {
                ColumnBound::Known(if wider(new.literal(), old.literal()) { new } else { old })
            }
        };
    }
}

/// Converts a Parquet statistic to an Iceberg value. In Parquet, small decimals are integers with
/// the lowest byte first. For other types, Parquet and Iceberg have the same encoding.
fn datum(statistics: &Statistics, bytes: &[u8], primitive: &PrimitiveType) -> Option<Datum> {
    let decimal = matches!(primitive, PrimitiveType::Decimal { .. });
    let big_endian = match statistics {
        Statistics::Int32(_) if decimal => i128::from(i32::from_le_bytes(bytes.try_into().ok()?)),
        Statistics::Int64(_) if decimal => i128::from(i64::from_le_bytes(bytes.try_into().ok()?)),
        _ => return Datum::try_from_bytes(bytes, primitive.clone()).ok(),
    };
    Datum::try_from_bytes(&big_endian.to_be_bytes(), primitive.clone()).ok()
}

fn shorten_lower(bound: Datum) -> Datum {
    match bound.literal() {
        PrimitiveLiteral::String(text) => match text.char_indices().nth(BOUND_LENGTH_MAX) {
            Some((end, _)) => Datum::string(&text[..end]),
            None => bound,
        },
        PrimitiveLiteral::Binary(bytes)
            if bytes.len() > BOUND_LENGTH_MAX && *bound.data_type() == PrimitiveType::Binary =>
        {
            Datum::binary(bytes[..BOUND_LENGTH_MAX].iter().copied())
        }
        _ => bound,
    }
}

/// Returns the truncated upper bound; `None` if no character can be incremented.
fn shorten_upper(bound: Datum) -> Option<Datum> {
    match bound.literal() {
        PrimitiveLiteral::String(text) => match text.char_indices().nth(BOUND_LENGTH_MAX) {
            Some((end, _)) => increment_text(&text[..end]).map(Datum::string),
            None => Some(bound),
        },
        PrimitiveLiteral::Binary(bytes)
            if bytes.len() > BOUND_LENGTH_MAX && *bound.data_type() == PrimitiveType::Binary =>
        {
            increment_bytes(&bytes[..BOUND_LENGTH_MAX]).map(Datum::binary)
        }
        _ => Some(bound),
    }
}

/// Returns the smallest string that is at most as long as `text` and greater than all strings that
/// start with `text`.
fn increment_text(text: &str) -> Option<String> {
    let mut kept: Vec<char> = text.chars().collect();
    while let Some(last) = kept.pop() {
        let next = match last {
            // Between these two code points are the surrogates, which are not characters.
            '\u{D7FF}' => Some('\u{E000}'),
            last => char::from_u32(last as u32 + 1),
        };
        if let Some(next) = next {
            kept.push(next);
            return Some(kept.into_iter().collect());
        }
    }
    None
}

fn increment_bytes(bytes: &[u8]) -> Option<Vec<u8>> {
    let last = bytes.iter().rposition(|byte| *byte != u8::MAX)?;
    let mut incremented = bytes[..=last].to_vec();
    incremented[last] += 1;
    Some(incremented)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn truncated_bounds_remain_valid() {
        let text = |length: usize| "x".repeat(length);
        assert_eq!(shorten_lower(Datum::string(text(16))), Datum::string(text(16)));
        assert_eq!(shorten_lower(Datum::string(text(17))), Datum::string(text(16)));
        let incremented = format!("{}y", text(15));
        assert_eq!(shorten_upper(Datum::string(text(17))), Some(Datum::string(incremented)));
        assert_eq!(shorten_upper(Datum::string(text(16))), Some(Datum::string(text(16))));
        let umlauts = "ü".repeat(20);
        assert_eq!(shorten_lower(Datum::string(&umlauts)), Datum::string("ü".repeat(16)));
    }

    #[test]
    fn a_bound_that_cannot_be_incremented_is_omitted() {
        assert_eq!(shorten_upper(Datum::string("\u{10FFFF}".repeat(17))), None);
        let almost = format!("a{}", "\u{10FFFF}".repeat(17));
        assert_eq!(shorten_upper(Datum::string(almost)), Some(Datum::string("b")));
        assert_eq!(increment_text("\u{D7FF}").as_deref(), Some("\u{E000}"));
        assert_eq!(shorten_upper(Datum::binary(vec![255; 17])), None);
        let expected = Datum::binary([vec![1; 15], vec![2]].concat());
        assert_eq!(shorten_upper(Datum::binary(vec![1; 17])), Some(expected));
    }

    /// Pattern of strings with many characters near the surrogate range or near the largest code
    /// point.
    const TEXTS: &str = "[\\x00-\\x7f\u{d7fe}-\u{e001}\u{10fffe}\u{10ffff}]{0,40}";

    proptest::proptest! {
        #[test]
        fn every_string_is_within_its_bounds(text in TEXTS) {
            let value = Datum::string(&text);
            proptest::prop_assert!(shorten_lower(value.clone()) <= value);
            if let Some(upper) = shorten_upper(value.clone()) {
                proptest::prop_assert!(upper >= value);
            }
        }
    }
}
