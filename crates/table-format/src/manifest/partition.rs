//! Decodes partition values in manifests, and derives their types.
//!
//! The types are derived from the manifest's schema and partition spec. If the schema lacks a
//! source column, because the column was dropped, the type of the Avro field is used.

use std::sync::Arc;

use iceberg::spec::{
    Literal, NestedField, PrimitiveLiteral, PrimitiveType, Schema, Struct, StructType, Transform,
    Type,
};
use serde::Deserialize;

use crate::avro::{AvroError, AvroField, Kind, LogicalType, Record, Result, Value};

const DAY_MICROS: i64 = 86_400_000_000;
const DAY_NANOS: i64 = DAY_MICROS * 1000;

/// The id of the first partition field in a table's first partition spec.
const PARTITION_ID_FIRST: i32 = 1000;

/// A field of the partition spec in a manifest's header.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "kebab-case")]
struct SpecField {
    source_id: i32,
    field_id: Option<i32>,
    name: String,
    transform: Transform,
}

/// The partition fields of a manifest, and their positions in the partition record.
#[derive(Debug)]
pub(super) struct PartitionFields {
    /// The types of the values.
    pub(super) types: StructType,
    /// The position of the value of each partition field in the partition record.
    positions: Vec<ValuePosition>,
}

/// The position of the value of one partition field in the partition record.
#[derive(Debug, Clone, Copy)]
struct ValuePosition {
    position: Option<usize>,
    /// True if the value is encoded as a 32-bit integer.
    is_int: bool,
}

impl PartitionFields {
    /// Matches the partition fields in the header with the fields of the partition record.
    pub(super) fn new(spec: &[u8], schema: &Schema, written: &[AvroField]) -> Result<Self> {
        let spec: Vec<SpecField> = serde_json::from_slice(spec).map_err(|error| {
            AvroError::Invalid(format!("the partition spec cannot be read: {error}"))
        })?;
        let mut positions = Vec::with_capacity(spec.len());
        let mut fields = Vec::with_capacity(spec.len());
        for ((number, field), default_id) in spec.iter().enumerate().zip(PARTITION_ID_FIRST..) {
            let id = field.field_id.unwrap_or(default_id);
            let by_id = written.iter().position(|one| one.id == Some(id));
            let by_name = || written.iter().position(|one| one.name == field.name);
            let by_position = || (number < written.len()).then_some(number);
            let position = by_id.or_else(by_name).or_else(by_position);
            let found = position.and_then(|position| written.get(position));
            let data_type = type_of(field, schema, found)?;
            fields.push(Arc::new(NestedField::optional(id, &field.name, data_type)));
            let is_int = found.is_some_and(|found| found.schema.not_null().kind == Kind::Int);
            positions.push(ValuePosition { position, is_int });
        }
        Ok(PartitionFields { types: StructType::new(fields), positions })
    }

    /// Decodes a file's partition.
    pub(super) fn decode(&self, record: Option<&Record<'_>>) -> Result<Struct> {
        let values = record.map(Record::values).unwrap_or_default();
        let literals =
            self.types.fields().iter().zip(&self.positions).map(|(field, value_position)| {
                let value = value_position.position.and_then(|position| values.get(position));
                let value = value.filter(|value| **value != Value::Null);
                let data_type = field.field_type.as_primitive_type();
                let Some((value, data_type)) = value.zip(data_type) else { return Ok(None) };
                let literal = match value {
                    Value::Long(days) if value_position.is_int && is_timestamp(data_type) => {
                        timestamp_of_days(*days, data_type).map(PrimitiveLiteral::Long)
                    }
                    _ => literal(value, data_type),
                };
                let invalid = || {
                    let name = &field.name;
                    AvroError::Invalid(format!("partition value `{name}` is not a `{data_type}`"))
                };
                Ok(Some(Literal::Primitive(literal.ok_or_else(invalid)?)))
            });
        literals.collect()
    }
}

/// Returns the type of a partition field.
fn type_of(field: &SpecField, schema: &Schema, written: Option<&AvroField>) -> Result<Type> {
    if let Some(column) = schema.field_by_id(field.source_id) {
        return field.transform.result_type(&column.field_type).map_err(|error| {
            AvroError::Invalid(format!("partition field `{}`: {}", field.name, error.message()))
        });
    }
    Ok(Type::Primitive(written.map_or(PrimitiveType::String, avro_type)))
}

/// Returns the type of an Avro field.
fn avro_type(field: &AvroField) -> PrimitiveType {
    use LogicalType::{Date, Decimal, Time, Timestamp};
    let schema = field.schema.not_null();
    match (&schema.kind, schema.logical) {
        (Kind::Boolean, _) => PrimitiveType::Boolean,
        (Kind::Int, Date) => PrimitiveType::Date,
        (Kind::Int, _) => PrimitiveType::Int,
        (Kind::Long, Time) => PrimitiveType::Time,
        (Kind::Long, Timestamp { nanoseconds: false, zone: false }) => PrimitiveType::Timestamp,
        (Kind::Long, Timestamp { nanoseconds: false, zone: true }) => PrimitiveType::Timestamptz,
        (Kind::Long, Timestamp { nanoseconds: true, zone: false }) => PrimitiveType::TimestampNs,
        (Kind::Long, Timestamp { nanoseconds: true, zone: true }) => PrimitiveType::TimestamptzNs,
        (Kind::Long, _) => PrimitiveType::Long,
        (Kind::Float, _) => PrimitiveType::Float,
        (Kind::Double, _) => PrimitiveType::Double,
        (Kind::Fixed(_) | Kind::Bytes, Decimal { precision, scale }) => {
            PrimitiveType::Decimal { precision, scale }
        }
        (Kind::Fixed(16), LogicalType::Uuid) => PrimitiveType::Uuid,
        (Kind::Fixed(bytes), _) => PrimitiveType::Fixed(*bytes as u64),
        (Kind::Bytes, _) => PrimitiveType::Binary,
        _ => PrimitiveType::String,
    }
}

/// Converts a value to a type; `None` if the value does not match the type.
fn literal(value: &Value<'_>, data_type: &PrimitiveType) -> Option<PrimitiveLiteral> {
    use PrimitiveType::{Binary, Boolean, Date, Decimal, Double, Fixed, Float, Int, Long, Time};
    use PrimitiveType::{String, Timestamp, TimestampNs, Timestamptz, TimestamptzNs, Uuid};
    Some(match (value, data_type) {
        (Value::Boolean(value), Boolean) => PrimitiveLiteral::Boolean(*value),
        (Value::Long(number), Int | Date) => PrimitiveLiteral::Int(i32::try_from(*number).ok()?),
        (
            Value::Long(number),
            Long | Time | Timestamp | Timestamptz | TimestampNs | TimestamptzNs,
        ) => PrimitiveLiteral::Long(*number),
        (Value::Float(number), Float) => PrimitiveLiteral::Float((*number).into()),
        (Value::Float(number), Double) => PrimitiveLiteral::Double(f64::from(*number).into()),
        (Value::Double(number), Double) => PrimitiveLiteral::Double((*number).into()),
        (Value::Text(text), String) => PrimitiveLiteral::String((*text).to_owned()),
        (Value::Bytes(bytes), String) => {
            PrimitiveLiteral::String(std::str::from_utf8(bytes).ok()?.to_owned())
        }
        (Value::Bytes(bytes), Binary | Fixed(_)) => PrimitiveLiteral::Binary(bytes.to_vec()),
        (Value::Bytes(bytes), Decimal { .. }) => PrimitiveLiteral::Int128(unscaled(bytes)?),
        (Value::Bytes(bytes), Uuid) => {
            PrimitiveLiteral::UInt128(u128::from_be_bytes((*bytes).try_into().ok()?))
        }
        (Value::Text(text), Uuid) => {
            PrimitiveLiteral::UInt128(uuid::Uuid::parse_str(text).ok()?.as_u128())
        }
        _ => return None,
    })
}

/// Returns the unscaled value of a decimal from its two's complement bytes; `None` if there are too
/// many bytes.
fn unscaled(bytes: &[u8]) -> Option<i128> {
    let first = *bytes.first()?;
    let mut whole = if first & 0x80 == 0 { [0x00; 16] } else { [0xFF; 16] };
    let from = whole.len().checked_sub(bytes.len())?;
    whole[from..].copy_from_slice(bytes);
    Some(i128::from_be_bytes(whole))
}

fn is_timestamp(data_type: &PrimitiveType) -> bool {
    use PrimitiveType::{Timestamp, TimestampNs, Timestamptz, TimestamptzNs};
    matches!(data_type, Timestamp | Timestamptz | TimestampNs | TimestamptzNs)
}

/// Converts a partition value in days to a timestamp. The value was written when the column was
/// still a date.
fn timestamp_of_days(days: i64, data_type: &PrimitiveType) -> Option<i64> {
    use PrimitiveType::{Timestamp, TimestampNs, Timestamptz, TimestamptzNs};
    match data_type {
        Timestamp | Timestamptz => days.checked_mul(DAY_MICROS),
        TimestampNs | TimestamptzNs => days.checked_mul(DAY_NANOS),
        _ => None,
    }
}
