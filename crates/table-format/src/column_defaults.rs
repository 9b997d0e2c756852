//! Column defaults. The initial default is the value of the column in rows that were written before
//! the column was added. The write default is the value in new rows that do not contain the column.
//!
//! Both defaults are stored in a field's metadata, in Iceberg's JSON single-value serialization.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, new_null_array};
use arrow::compute::{CastOptions, cast_with_options};
use arrow::datatypes::{DataType, Field};
use arrow::util::display::array_value_to_string;
use iceberg::spec::PrimitiveType::{TimestampNs, TimestamptzNs};
use iceberg::spec::{Literal, PrimitiveLiteral, PrimitiveType, Type};

use crate::types::schema::{arrow_type, primitive_type};
use crate::types::{join, map_within};
use crate::value_conversion::{literal_at, to_array};
use crate::{Error, Result};

/// The field metadata key of the initial default.
pub const INITIAL: &str = "headwater.initial-default";

/// The field metadata key of the write default.
pub const WRITE: &str = "headwater.write-default";

/// Returns `rows` values of a column that a file does not contain: its initial default, or null.
pub fn missing_in_file(field: &Field, rows: usize) -> ArrayRef {
    default_array(field, INITIAL, rows).unwrap_or_else(|| new_null_array(field.data_type(), rows))
}

/// Returns `rows` values of a column that new rows do not contain: its write default, or null.
pub fn missing_in_rows(field: &Field, rows: usize) -> ArrayRef {
    default_array(field, WRITE, rows).unwrap_or_else(|| new_null_array(field.data_type(), rows))
}

/// Returns a column without defaults.
pub fn without_defaults(field: &Field) -> Field {
    without_keys(field, &[INITIAL, WRITE])
}

/// Returns a column without the metadata keys `keys`. They are also removed from its nested
/// columns.
pub fn without_keys(field: &Field, keys: &[&str]) -> Field {
    let mut metadata = field.metadata().clone();
    metadata.retain(|key, _| !keys.contains(&key.as_str()));
    let within = map_within(field.data_type(), &|part| Arc::new(without_keys(part, keys)));
    field.clone().with_data_type(within).with_metadata(metadata)
}

/// Returns true if new rows may omit a column, even if it is required, because it has a write
/// default.
pub fn has_write_default(field: &Field) -> bool {
    field.metadata().contains_key(WRITE)
}

/// Returns the write default as an SQL literal; `None` if it is null.
pub fn default_text(field: &Field) -> Option<String> {
    let value: serde_json::Value = serde_json::from_str(field.metadata().get(WRITE)?).ok()?;
    let is_number = field.data_type().is_numeric();
    Some(match value.as_str() {
        // In the JSON, a decimal is a string.
        Some(text) if is_number => text.to_owned(),
        Some(text) => format!("'{}'", text.replace('\'', "''")),
        None => value.to_string(),
    })
}

fn default_array(field: &Field, key: &str, rows: usize) -> Option<ArrayRef> {
    let literal = literal_of(field, key)?;
    let plain = plain_type(field.data_type());
    let array = to_array(&plain, std::iter::repeat_n(Some(&literal), rows));
    if plain == *field.data_type() {
        return Some(array);
    }
    arrow::compute::cast(&array, field.data_type()).ok()
}

/// Returns the type itself or, for a view type such as `Utf8View`, the type without views.
fn plain_type(data_type: &DataType) -> DataType {
    match data_type {
        DataType::Utf8View => DataType::Utf8,
        DataType::BinaryView => DataType::Binary,
        other => other.clone(),
    }
}

fn literal_of(field: &Field, key: &str) -> Option<PrimitiveLiteral> {
    let value = serde_json::from_str(field.metadata().get(key)?).ok()?;
    let plain = field.clone().with_data_type(plain_type(field.data_type()));
    let data_type = Type::Primitive(primitive_type(&plain).ok()?);
    Literal::try_from_json(value, &data_type).ok()??.as_primitive_literal()
}

/// Returns the initial default as an array of one value; `None` if it is null.
pub fn initial_default(field: &Field) -> Option<ArrayRef> {
    default_array(field, INITIAL, 1)
}

/// Returns the write default as an array of one value; `None` if it is null.
pub fn write_default(field: &Field) -> Option<ArrayRef> {
    default_array(field, WRITE, 1)
}

/// Returns a column with a write default, given as an array of one value. If the column is then
/// added to an existing table, the value also becomes its initial default.
pub fn with_default(column: Field, value: &ArrayRef) -> Result<Field> {
    let name = column.name().clone();
    if is_null_value(value) {
        return Ok(column);
    }
    if column.data_type().is_nested() {
        let reason = "the default of a nested column must be null".to_owned();
        return Err(Error::InvalidColumn { column: name, reason });
    }
    let data_type = Type::Primitive(primitive_type(&column)?);
    let Some(literal) = default(&name, value, &data_type)? else { return Ok(column) };
    let text = text_of(&literal, &data_type).ok_or_else(|| invalid(&name, &data_type))?;
    let mut metadata = column.metadata().clone();
    metadata.insert(WRITE.to_owned(), text);
    Ok(column.with_metadata(metadata))
}

/// Converts a value to the default of a column; `None` for null. Fails for a value that table
/// metadata cannot contain, such as NaN.
pub fn default(column: &str, value: &ArrayRef, data_type: &Type) -> Result<Option<Literal>> {
    let Some(literal) = literal(column, value, data_type)? else { return Ok(None) };
    if matches!(*data_type, Type::Primitive(TimestampNs | TimestamptzNs)) {
        // The `iceberg` crate writes defaults in nanoseconds, but cannot read them.
        let reason = format!("defaults of the type `{data_type}` are not supported");
        return Err(Error::InvalidColumn { column: join("", column), reason });
    }
    let text = text_of(&literal, data_type);
    if text.and_then(|text| literal_of_text(&text, data_type)).as_ref() == Some(&literal) {
        return Ok(Some(literal));
    }
    let reason =
        format!("a default of type `{data_type}` cannot be represented in Iceberg's metadata");
    Err(Error::InvalidColumn { column: join("", column), reason })
}

/// Converts a value to the column's type; `None` for null.
fn literal(column: &str, value: &ArrayRef, data_type: &Type) -> Result<Option<Literal>> {
    if is_null_value(value) {
        return Ok(None);
    }
    if !data_type.is_primitive() {
        let reason = "the default of a nested column must be null".to_owned();
        return Err(Error::InvalidColumn { column: join("", column), reason });
    }
    if has_escapes(value, data_type) {
        let reason = "the text of a default of bytes has a backslash; cast the text, as in \
                      `'\\x00ff'::BYTEA`";
        return Err(Error::InvalidColumn { column: join("", column), reason: reason.to_owned() });
    }
    let options = CastOptions { safe: false, ..CastOptions::default() };
    let cast = cast_with_options(value, &arrow_type(data_type), &options);
    let cast = cast.map_err(|_| invalid(column, data_type))?;
    if cast.is_null(0) {
        return Ok(None);
    }
    // A conversion to a float may round to the nearest value. All other conversions must be
    // lossless.
    if !value.data_type().is_string() && !cast.data_type().is_floating() {
        let back = cast_with_options(&cast, value.data_type(), &options);
        if back.is_ok_and(|back| back.as_ref() != value.as_ref()) {
            return Err(invalid(column, data_type));
        }
    }
    let found = literal_at(&Arc::clone(&cast), 0).ok_or_else(|| invalid(column, data_type))?;
    Ok(Some(match (found, data_type) {
        (
            Literal::Primitive(PrimitiveLiteral::Binary(bytes)),
            Type::Primitive(PrimitiveType::Uuid),
        ) => {
            let bytes = <[u8; 16]>::try_from(bytes).map_err(|_| invalid(column, data_type))?;
            Literal::Primitive(PrimitiveLiteral::UInt128(u128::from_be_bytes(bytes)))
        }
        (found, _) => found,
    }))
}

/// Returns true for text with backslashes that is to become bytes: Arrow's cast to bytes does not
/// decode such escapes.
fn has_escapes(value: &ArrayRef, data_type: &Type) -> bool {
    let is_bytes =
        matches!(data_type, Type::Primitive(PrimitiveType::Binary | PrimitiveType::Fixed(_)));
    is_bytes
        && value.data_type().is_string()
        && array_value_to_string(value, 0).is_ok_and(|text| text.contains('\\'))
}

/// Returns true for a null of any type.
fn is_null_value(value: &ArrayRef) -> bool {
    value.logical_null_count() == value.len()
}

/// Returns a value as JSON text; `None` if the value cannot be serialized.
pub fn text_of(literal: &Literal, data_type: &Type) -> Option<String> {
    if !is_writable(literal, data_type) {
        return None;
    }
    literal.clone().try_into_json(data_type).ok().map(|value| value.to_string())
}

/// Returns true if the value can be serialized. The `iceberg` crate panics on timestamps outside
/// chrono's range. It also panics on timestamps with a time zone that are before 1970 and have a
/// fraction of a second.
pub fn is_writable(literal: &Literal, data_type: &Type) -> bool {
    use PrimitiveType::{Date, Time, Timestamp, Timestamptz};
    let Type::Primitive(primitive) = data_type else { return true };
    let number = match literal {
        Literal::Primitive(PrimitiveLiteral::Int(number)) => i64::from(*number),
        Literal::Primitive(PrimitiveLiteral::Long(number)) => *number,
        _ => return true,
    };
    let whole = |per_second: i64| number >= 0 || number % per_second == 0;
    match primitive {
        Date => chrono::DateTime::from_timestamp(number * SECONDS_PER_DAY, 0).is_some(),
        Time => (0..SECONDS_PER_DAY * MICROS_PER_SECOND).contains(&number),
        Timestamp => chrono::DateTime::from_timestamp_micros(number).is_some(),
        Timestamptz => {
            chrono::DateTime::from_timestamp_micros(number).is_some() && whole(MICROS_PER_SECOND)
        }
        TimestamptzNs => whole(MICROS_PER_SECOND * 1000),
        _ => true,
    }
}

const SECONDS_PER_DAY: i64 = 86_400;

const MICROS_PER_SECOND: i64 = 1_000_000;

/// Parses a value from JSON text.
pub fn literal_of_text(text: &str, data_type: &Type) -> Option<Literal> {
    Literal::try_from_json(serde_json::from_str(text).ok()?, data_type).ok()?
}

fn invalid(column: &str, data_type: &Type) -> Error {
    let reason = format!("the default is not a value of type `{data_type}`");
    Error::InvalidColumn { column: join("", column), reason }
}
