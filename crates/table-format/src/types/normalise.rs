//! Converts an Arrow schema to the nearest schema that Iceberg supports.
//!
//! Types are widened, never narrowed: a type is rejected if no supported type can hold all of its
//! values. The only exception are times of day with nanoseconds, which become microseconds.
//! Timestamps with nanoseconds require format version 3, so callers apply [`without_nanoseconds`]
//! for other tables.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::datatypes::{DataType, Field, FieldRef, Fields, Schema, TimeUnit};

use super::name::{map_of, timestamptz, timestamptz_ns};
use super::{EXTENSION_NAME, UUID_EXTENSION, is_uuid};
use crate::column_defaults::{INITIAL, WRITE};
use crate::{COMMENT, Error, Result};

/// The keys in a field's metadata that describe the column and are kept.
pub const FIELD_METADATA_KEYS: [&str; 3] = [COMMENT, INITIAL, WRITE];

/// Returns the nearest schema that Iceberg supports.
///
/// Types with large offsets or views become the plain types, and unsigned integers become the next
/// wider signed type. Half floats become floats, times microseconds, and timestamps microseconds or
/// nanoseconds. Dictionaries get the type of their values, and nulls become strings. Of the
/// metadata of fields, only the keys in [`FIELD_METADATA_KEYS`] are kept. Fails with
/// `invalid_argument` and the column's name for an unsupported type or a duplicate name.
pub fn normalise_schema(schema: &Schema) -> Result<Schema> {
    if schema.fields().is_empty() {
        return Err(Error::NoColumns);
    }
    Ok(Schema::new(normalise_fields(schema.fields(), "")?))
}

fn normalise_fields(fields: &Fields, parent: &str) -> Result<Vec<Field>> {
    let mut names = std::collections::HashSet::new();
    for field in fields {
        let column = join(parent, field.name());
        if field.name().is_empty() {
            let reason = "the name is empty".to_owned();
            return Err(Error::InvalidColumn { column, reason });
        }
        if !names.insert(field.name()) {
            let reason = "another column has the same name".to_owned();
            return Err(Error::InvalidColumn { column, reason });
        }
    }
    fields.iter().map(|field| normalise_field(field, &join(parent, field.name()))).collect()
}

/// Returns the path of a nested column, as messages show it.
pub fn join(parent: &str, name: &str) -> String {
    if parent.is_empty() { name.to_owned() } else { format!("{parent}.{name}") }
}

fn normalise_field(field: &Field, column: &str) -> Result<Field> {
    let data_type = normalise_type(field.data_type(), column)?;
    // A column of null type must be nullable.
    let nullable = field.is_nullable() || *field.data_type() == DataType::Null;
    let own_metadata = |key: &str| Some((key.to_owned(), field.metadata().get(key)?.clone()));
    let mut metadata: HashMap<String, String> =
        FIELD_METADATA_KEYS.iter().filter_map(|key| own_metadata(key)).collect();
    if is_uuid(field) {
        metadata.insert(EXTENSION_NAME.to_owned(), UUID_EXTENSION.to_owned());
    }
    Ok(Field::new(field.name(), data_type, nullable).with_metadata(metadata))
}

fn normalise_type(data_type: &DataType, column: &str) -> Result<DataType> {
    Ok(match data_type {
        DataType::Boolean => DataType::Boolean,
        DataType::Int8 | DataType::Int16 | DataType::Int32 | DataType::UInt8 | DataType::UInt16 => {
            DataType::Int32
        }
        DataType::Int64 | DataType::UInt32 => DataType::Int64,
        DataType::UInt64 => DataType::Decimal128(20, 0),
        DataType::Float16 | DataType::Float32 => DataType::Float32,
        DataType::Float64 => DataType::Float64,
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View | DataType::Null => {
            DataType::Utf8
        }
        DataType::Binary | DataType::LargeBinary | DataType::BinaryView => DataType::Binary,
        DataType::FixedSizeBinary(width) if *width > 0 => DataType::FixedSizeBinary(*width),
        DataType::Date32 | DataType::Date64 => DataType::Date32,
        DataType::Time32(_) | DataType::Time64(_) => DataType::Time64(TimeUnit::Microsecond),
        DataType::Timestamp(TimeUnit::Nanosecond, None) => data_type.clone(),
        DataType::Timestamp(TimeUnit::Nanosecond, Some(_)) => timestamptz_ns(),
        DataType::Timestamp(_, None) => DataType::Timestamp(TimeUnit::Microsecond, None),
        DataType::Timestamp(_, Some(_)) => timestamptz(),
        DataType::Decimal32(precision, scale)
        | DataType::Decimal64(precision, scale)
        | DataType::Decimal128(precision, scale)
        | DataType::Decimal256(precision, scale) => {
            decimal(*precision, *scale).ok_or_else(|| unsupported(data_type, column))?
        }
        DataType::Dictionary(_, values) => normalise_type(values, column)?,
        DataType::RunEndEncoded(_, values) => normalise_type(values.data_type(), column)?,
        DataType::List(element)
        | DataType::LargeList(element)
        | DataType::ListView(element)
        | DataType::LargeListView(element)
        | DataType::FixedSizeList(element, _) => list(element, column)?,
        DataType::Struct(fields) if !fields.is_empty() => {
            DataType::Struct(normalise_fields(fields, column)?.into())
        }
        DataType::Map(entries, _) => map(entries, data_type, column)?,
        _ => return Err(unsupported(data_type, column)),
    })
}

/// Replaces nanoseconds by microseconds in a schema, at every level.
pub fn without_nanoseconds(schema: &Schema) -> Schema {
    let fields: Fields = schema.fields().iter().map(in_microseconds).collect();
    Schema::new_with_metadata(fields, schema.metadata().clone())
}

/// Replaces nanoseconds by microseconds in a field, at every level.
pub fn in_microseconds(field: &FieldRef) -> FieldRef {
    let data_type = match field.data_type() {
        DataType::Timestamp(TimeUnit::Nanosecond, zone) => {
            DataType::Timestamp(TimeUnit::Microsecond, zone.clone())
        }
        other => map_within(other, &in_microseconds),
    };
    Arc::new(field.as_ref().clone().with_data_type(data_type))
}

/// Applies `change` to the direct child fields of a type.
pub fn map_within(data_type: &DataType, change: &dyn Fn(&FieldRef) -> FieldRef) -> DataType {
    match data_type {
        DataType::Struct(fields) => DataType::Struct(fields.iter().map(change).collect()),
        DataType::List(element) => DataType::List(change(element)),
        DataType::LargeList(element) => DataType::LargeList(change(element)),
        DataType::FixedSizeList(element, size) => DataType::FixedSizeList(change(element), *size),
        DataType::Map(entries, sorted) => DataType::Map(change(entries), *sorted),
        other => other.clone(),
    }
}

/// Returns true if a type is or contains a timestamp with nanoseconds.
pub fn has_nanoseconds(data_type: &DataType) -> bool {
    match data_type {
        DataType::Timestamp(unit, _) => *unit == TimeUnit::Nanosecond,
        DataType::Struct(fields) => fields.iter().any(|field| has_nanoseconds(field.data_type())),
        DataType::List(part)
        | DataType::LargeList(part)
        | DataType::FixedSizeList(part, _)
        | DataType::Map(part, _) => has_nanoseconds(part.data_type()),
        DataType::Dictionary(_, values) => has_nanoseconds(values),
        _ => false,
    }
}

fn unsupported(data_type: &DataType, column: &str) -> Error {
    Error::UnsupportedType { column: column.to_owned(), data_type: data_type.to_string() }
}

/// Returns the decimal type. Returns `None` for more than 38 digits or a negative scale, which
/// Iceberg does not support.
fn decimal(precision: u8, scale: i8) -> Option<DataType> {
    let (precision, scale) = match u8::try_from(scale) {
        Ok(scale) => (precision, scale),
        Err(_) => (precision.checked_add(scale.unsigned_abs())?, 0),
    };
    (precision <= 38 && scale <= precision).then_some(DataType::Decimal128(precision, scale as i8))
}

fn list(element: &FieldRef, column: &str) -> Result<DataType> {
    let element = normalise_field(element, &join(column, "element"))?.with_name("element");
    Ok(DataType::List(Arc::new(element)))
}

fn map(entries: &FieldRef, data_type: &DataType, column: &str) -> Result<DataType> {
    let DataType::Struct(fields) = entries.data_type() else {
        return Err(unsupported(data_type, column));
    };
    let [key, value] = fields.as_ref() else { return Err(unsupported(data_type, column)) };
    let key = normalise_field(key, &join(column, "key"))?.with_name("key").with_nullable(false);
    let value = normalise_field(value, &join(column, "value"))?.with_name("value");
    Ok(map_of(key, value))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::type_name;

    fn check(data_type: DataType, expected: &str) {
        let schema = Schema::new(vec![Field::new("c", data_type, true)]);
        let normal = normalise_schema(&schema).unwrap();
        assert_eq!(type_name(normal.field(0).data_type()), expected);
        assert_eq!(normalise_schema(&normal).unwrap(), normal, "normalising again changes nothing");
    }

    #[test]
    fn arrow_types_become_the_nearest_supported_type() {
        let item = |data_type| Arc::new(Field::new("item", data_type, true));
        check(DataType::UInt8, "int");
        check(DataType::UInt32, "long");
        check(DataType::UInt64, "decimal(20, 0)");
        check(DataType::Float16, "float");
        check(DataType::Utf8View, "string");
        check(DataType::Null, "string");
        check(DataType::Dictionary(Box::new(DataType::Int32), Box::new(DataType::Utf8)), "string");
        check(
            DataType::Timestamp(TimeUnit::Nanosecond, Some("Asia/Tokyo".into())),
            "timestamptz_ns",
        );
        check(DataType::Timestamp(TimeUnit::Millisecond, Some("Asia/Tokyo".into())), "timestamptz");
        check(DataType::Timestamp(TimeUnit::Nanosecond, None), "timestamp_ns");
        check(DataType::Timestamp(TimeUnit::Second, None), "timestamp");
        check(DataType::Time32(TimeUnit::Second), "time");
        check(DataType::Decimal256(20, 3), "decimal(20, 3)");
        check(DataType::Decimal128(5, -2), "decimal(7, 0)");
        check(DataType::FixedSizeList(item(DataType::UInt8), 3), "list<int>");
        let pair = vec![Field::new("x", DataType::LargeUtf8, true)];
        check(DataType::Struct(pair.into()), "struct<x: string>");
    }

    #[test]
    fn nanoseconds_are_removed_at_every_level() {
        let fine =
            crate::types::parse_type("struct<a: timestamp_ns, b: map<int, list<timestamptz_ns>>>");
        let schema = Schema::new(vec![Field::new("c", fine.unwrap(), true)]);
        assert!(has_nanoseconds(schema.field(0).data_type()));
        let coarse = without_nanoseconds(&schema);
        let name = type_name(coarse.field(0).data_type());
        assert_eq!(name, "struct<a: timestamp, b: map<int, list<timestamptz>>>");
        assert!(!has_nanoseconds(coarse.field(0).data_type()));
    }

    #[test]
    fn an_unsupported_type_is_rejected_with_its_column() {
        let inner = Field::new("span", DataType::Duration(TimeUnit::Second), true);
        let outer = Field::new("trip", DataType::Struct(vec![inner].into()), true);
        let error = normalise_schema(&Schema::new(vec![outer])).unwrap_err();
        assert!(error.to_string().starts_with("column `trip.span` has the type `Duration(s)`"));
        let twice = vec![Field::new("a", DataType::Int32, true); 2];
        let error = normalise_schema(&Schema::new(twice)).unwrap_err();
        assert_eq!(
            error.to_string(),
            "column `a` cannot be used: another column has the same name"
        );
        assert!(normalise_schema(&Schema::empty()).is_err());
    }
}
