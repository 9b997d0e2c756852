//! Size estimates of functions that return text.

use std::sync::Arc;

use arrow::array::AsArray;
use arrow::datatypes::Int64Type;
use datafusion::common::ScalarValue;
use datafusion::logical_expr::ColumnarValue;

use super::call::{CallArguments, RowSizeBound};

/// Maximum length of a number as text; a double has up to 327 digits.
const NUMBER_TEXT_BYTES: u64 = 330;

/// Maximum bytes that `printf` adds to a value: padding, decimal places and a number as text.
const CONVERSION_BYTES_MAX: u64 = 2 * 1_000 + NUMBER_TEXT_BYTES;

/// Bytes of a parsed element that is not yet part of an array: its entry in two lists and the
/// allocation of its text.
const PARSED_ELEMENT_BYTES: u64 = 96;

/// Number of copies of a text that exist while it is parsed, including the result.
const TEXT_COPIES: u64 = 8;

/// Maximum bytes of a compiled regular expression.
const PATTERN_BYTES_MAX: u64 = 10 << 20;

pub(super) fn repeat<'a>(call: &'a CallArguments<'_>) -> RowSizeBound<'a> {
    let counts = call.integers(1);
    Box::new(move |row| call.bytes(0, row).saturating_mul(counts.count(row)))
}

/// Estimates the result size of `lpad` and `rpad`.
pub(super) fn pad<'a>(call: &'a CallArguments<'_>) -> RowSizeBound<'a> {
    let lengths = call.integers(1);
    Box::new(move |row| {
        let own = call.bytes(0, row);
        let fill = if call.len() < 3 { Some(" ") } else { call.text(2, row) };
        let width = match fill {
            None | Some("") => 0,
            Some(fill) if fill.is_ascii() => 1,
            Some(_) => 4,
        };
        lengths.count(row).saturating_mul(width).saturating_add(own)
    })
}

/// Replaces negative lengths of `lpad` and `rpad` by zero. DataFusion does this only if the fill is
/// a constant. Otherwise, DataFusion interprets the negative length as a large unsigned number, and
/// reserves memory of this size.
///
/// Upstream: no issue found (November 2026)
pub(super) fn clamp_length(arguments: &mut [ColumnarValue]) {
    match arguments.get_mut(1) {
        Some(ColumnarValue::Scalar(ScalarValue::Int64(Some(length)))) => *length = (*length).max(0),
        Some(ColumnarValue::Array(lengths)) => {
            if let Some(values) = lengths.as_primitive_opt::<Int64Type>() {
                *lengths = Arc::new(values.unary::<_, Int64Type>(|length| length.max(0)));
            }
        }
        _ => {}
    }
}

/// Estimates the result size of `printf` and `format`: each placeholder can repeat the largest
/// value, with padding or digits.
pub(super) fn printf<'a>(call: &'a CallArguments<'_>) -> RowSizeBound<'a> {
    Box::new(move |row| {
        let format = call.text(0, row).unwrap_or_default();
        let places = format.bytes().filter(|byte| matches!(byte, b'%' | b'{')).count() as u64;
        let largest = (1..call.len()).map(|index| call.bytes(index, row)).max().unwrap_or(0);
        let each = largest.saturating_add(CONVERSION_BYTES_MAX);
        places.saturating_mul(each).saturating_add(format.len() as u64)
    })
}

pub(super) fn replace<'a>(call: &'a CallArguments<'_>) -> RowSizeBound<'a> {
    Box::new(move |row| {
        let own = call.bytes(0, row);
        let to = call.bytes(2, row);
        let (Some(text), Some(from)) = (call.text(0, row), call.text(1, row)) else { return own };
        if to <= from.len() as u64 {
            return own;
        }
        let matches = text.matches(from).count() as u64;
        matches.saturating_mul(to).saturating_add(own)
    })
}

pub(super) fn concat_ws<'a>(call: &'a CallArguments<'_>) -> RowSizeBound<'a> {
    let separators = call.len().saturating_sub(2) as u64;
    Box::new(move |row| {
        let all = call.all_bytes(row);
        call.bytes(0, row).saturating_mul(separators).saturating_add(all)
    })
}

/// Estimates the result size of `to_char`: each letter of the format becomes at most the text of a
/// full date and time.
pub(super) fn to_char<'a>(call: &'a CallArguments<'_>) -> RowSizeBound<'a> {
    Box::new(move |row| call.bytes(1, row).saturating_mul(40).saturating_add(64))
}

/// Estimates the result size of a cast to text or numbers. If a list of numbers is cast, each byte
/// of the list can become a number of eight bytes, or the text of a number.
pub(super) fn cast<'a>(call: &'a CallArguments<'_>) -> RowSizeBound<'a> {
    let factor = if leaf(call).is_some_and(|leaf| leaf.is_floating()) { 64 } else { 16 };
    Box::new(move |row| call.bytes(0, row).saturating_mul(factor))
}

/// Estimates the size of a cast of text to lists, structs or maps. The parser keeps each element as
/// a separate text until the batch is complete. Tiny elements therefore need far more memory than
/// their text.
pub(super) fn parse_text<'a>(call: &'a CallArguments<'_>) -> RowSizeBound<'a> {
    Box::new(move |row| {
        let elements = call.text(0, row).map_or(0, |text| {
            let begins_element = |byte: &u8| matches!(byte, b',' | b':' | b'{' | b'[');
            text.bytes().filter(begins_element).count() as u64 + 1
        });
        let texts = call.bytes(0, row).saturating_mul(TEXT_COPIES);
        elements.saturating_mul(PARSED_ELEMENT_BYTES).saturating_add(texts)
    })
}

pub(super) fn array_to_string<'a>(call: &'a CallArguments<'_>) -> RowSizeBound<'a> {
    let separator = 1;
    Box::new(move |row| {
        let own = call.bytes(0, row);
        // A list has at most as many numbers as its size in bytes divided by the width of a number.
        let cells = leaf_cells(own, call);
        let each = call.bytes(separator, row).saturating_add(call.bytes(2, row));
        cells.saturating_mul(each.saturating_add(leaf_text(call))).saturating_add(own)
    })
}

/// Returns the maximum number of values that a list with this size in bytes can have.
fn leaf_cells(bytes: u64, call: &CallArguments<'_>) -> u64 {
    bytes / leaf(call).map_or(1, |leaf| leaf.primitive_width().unwrap_or(1) as u64)
}

/// Returns the maximum number of bytes that a cast to text adds to each value of a list.
fn leaf_text(call: &CallArguments<'_>) -> u64 {
    match leaf(call) {
        Some(leaf) if leaf.is_floating() => NUMBER_TEXT_BYTES,
        Some(leaf) if leaf.is_string() => 0,
        _ => 80,
    }
}

fn leaf(call: &CallArguments<'_>) -> Option<arrow::datatypes::DataType> {
    use arrow::datatypes::DataType;
    let mut current = call.argument(0)?.data_type();
    while let DataType::List(field)
    | DataType::LargeList(field)
    | DataType::FixedSizeList(field, _) = &current
    {
        current = field.data_type().clone();
    }
    Some(current)
}

pub(super) fn string_to_array<'a>(call: &'a CallArguments<'_>) -> RowSizeBound<'a> {
    Box::new(move |row| {
        let own = call.bytes(0, row);
        let Some(text) = call.text(0, row) else { return 0 };
        let parts = match call.text(1, row) {
            None => own,
            Some("") => 1,
            Some(separator) => text.matches(separator).count() as u64 + 1,
        };
        parts.saturating_mul(16).saturating_add(own)
    })
}

/// Estimates the result size of `regexp_match`: each group of the pattern returns a part of the
/// text.
pub(super) fn regexp_match<'a>(call: &'a CallArguments<'_>) -> RowSizeBound<'a> {
    Box::new(move |row| {
        let groups = call.text(1, row).map_or(0, |pattern| pattern.matches('(').count() as u64);
        let own = call.bytes(0, row).saturating_add(16);
        own.saturating_mul(groups + 1).saturating_add(pattern_bytes(call, row))
    })
}

/// Estimates the result size of `regexp_replace`: with the flag `g`, there are at most as many
/// matches as bytes.
pub(super) fn regexp_replace<'a>(call: &'a CallArguments<'_>) -> RowSizeBound<'a> {
    Box::new(move |row| {
        let own = call.bytes(0, row);
        let references =
            call.text(2, row).map_or(0, |text| text.matches(['\\', '$']).count() as u64);
        let all = call.text(3, row).is_some_and(|flags| flags.contains('g'));
        let matches = if all { own.saturating_add(1) } else { 1 };
        matches
            .saturating_mul(call.bytes(2, row))
            .saturating_add(own.saturating_mul(references + 1))
            .saturating_add(pattern_bytes(call, row))
    })
}

/// Estimates the memory of functions that take a regular expression and return a number.
pub(super) fn regexp<'a>(call: &'a CallArguments<'_>) -> RowSizeBound<'a> {
    Box::new(move |row| pattern_bytes(call, row))
}

/// Returns the bytes of the compiled pattern. All distinct compiled patterns stay in memory until
/// the end of the batch.
fn pattern_bytes(call: &CallArguments<'_>, row: usize) -> u64 {
    let Some(pattern) = call.argument(1).filter(|pattern| !pattern.is_constant()) else { return 0 };
    match pattern.text(row) {
        None => 0,
        Some(text) if text.contains(['{', '\\', '[', '.']) => {
            (text.len() as u64).saturating_mul(64 << 10).min(PATTERN_BYTES_MAX)
        }
        Some(text) => text.len() as u64 * 256,
    }
}

/// Estimates the memory of `damerau_levenshtein`, which keeps its whole matrix in memory.
pub(super) fn damerau_levenshtein<'a>(call: &'a CallArguments<'_>) -> RowSizeBound<'a> {
    Box::new(move |row| {
        let [left, right] = [0, 1].map(|index| call.bytes(index, row).saturating_add(2));
        left.saturating_mul(right).saturating_mul(8)
    })
}

/// Estimates the memory of `levenshtein`, which keeps one row of its matrix in memory.
pub(super) fn levenshtein<'a>(call: &'a CallArguments<'_>) -> RowSizeBound<'a> {
    Box::new(move |row| call.all_bytes(row).saturating_mul(16))
}
