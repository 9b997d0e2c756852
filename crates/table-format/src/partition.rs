//! Partition specs, which are created from partition fields, and partition values.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch, make_array};
use arrow::buffer::NullBuffer;
use headwater_model::{PartitionField, Transform};
use iceberg::spec::{
    Literal, NestedFieldRef, PartitionSpec, PrimitiveLiteral, PrimitiveType, Schema, Struct,
    StructType, TableMetadata, Transform as IcebergTransform, Type, UnboundPartitionSpec,
};

use crate::partition_transform::transformed;
use crate::type_promotion::comparable;
use crate::{Error, Result, time_transforms};

/// Maximum length of a partition value in a folder name, in bytes.
const FOLDER_VALUE_BYTES_MAX: usize = 64;

/// Maximum length of a namespace's or table's folder name, in bytes, without the unique suffix.
const FOLDER_NAME_BYTES_MAX: usize = 128;

/// A field of a partition spec, without its id.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewPartitionField {
    /// The field id of the source column.
    pub source_id: i32,
    /// Name of the partition field.
    pub name: String,
    /// The transform applied to the source column.
    pub transform: IcebergTransform,
}

/// Creates the partition spec for partition fields over a schema. A column with exactly the given
/// name is preferred to a column whose name differs only in case.
pub fn spec_for(
    schema: &Schema,
    fields: &[PartitionField],
    previous: Option<&TableMetadata>,
) -> Result<UnboundPartitionSpec> {
    let mut parts: Vec<NewPartitionField> = Vec::with_capacity(fields.len());
    let columns = schema.as_struct().fields();
    for field in fields {
        let part = part_for(field, None, columns, previous)?;
        check_new(&part, &parts, field)?;
        parts.push(part);
    }
    spec_of(&parts)
}

/// Creates the partition spec for partition fields, in the form that the metadata builder requires.
pub fn spec_of(parts: &[NewPartitionField]) -> Result<UnboundPartitionSpec> {
    let parts = parts.iter().map(|part| (part.source_id, part.name.as_str(), part.transform));
    time_transforms::unbound(parts)
}

/// Resolves a partition field over a column, which may be nested in structs. The name of the
/// partition field is `wanted` or, if this is `None`, derived from the column and the transform.
pub fn part_for(
    field: &PartitionField,
    wanted: Option<&str>,
    columns: &[NestedFieldRef],
    previous: Option<&TableMetadata>,
) -> Result<NewPartitionField> {
    let invalid = |reason: &str| Error::InvalidPartition {
        field: field.to_string(),
        reason: reason.to_owned(),
    };
    let (path, column) =
        column_at(columns, &field.column).ok_or_else(|| invalid("the column does not exist"))?;
    check(&column.field_type, field.transform).map_err(invalid)?;
    let transform = transform_of(field.transform);
    let within = columns.iter().all(|own| own.id != column.id);
    let own_name = transform == IcebergTransform::Identity && !within;
    // Avro, in which partition values are encoded, does not allow dots in names.
    let path = if within { path.replace('.', "_") } else { path };
    let name = match wanted {
        Some(name) if own_name && name == column.name => name.to_owned(),
        Some(name) if is_column(name, columns, previous) => {
            return Err(invalid("a column of the table has or had this name"));
        }
        Some(name) => name.to_owned(),
        None if own_name => column.name.clone(),
        None => unused_name(&path, transform, columns, previous),
    };
    Ok(NewPartitionField { source_id: column.id, name, transform })
}

/// Finds a column by its name, or by a dotted path through structs. A column with exactly the given
/// name is preferred to a column whose name differs only in case. Also returns the path as the
/// table spells it.
pub fn column_at<'a>(
    columns: &'a [NestedFieldRef],
    name: &str,
) -> Option<(String, &'a NestedFieldRef)> {
    let folded = name.to_lowercase();
    let exact = columns.iter().find(|column| column.name == name);
    let own = exact.or_else(|| columns.iter().find(|one| one.name.to_lowercase() == folded));
    if let Some(column) = own {
        return Some((column.name.clone(), column));
    }
    name.match_indices('.').find_map(|(dot, _)| {
        let (outer, column) = column_at(columns, name.get(..dot)?)?;
        let parts = fields_of(column)?;
        let (inner, found) = column_at(parts, name.get(dot + 1..)?)?;
        Some((format!("{outer}.{inner}"), found))
    })
}

/// Returns the values of a column, which may be nested in structs; null in each row in which one of
/// these structs is null.
fn values_at(batch: &RecordBatch, columns: &[NestedFieldRef], id: i32) -> Option<ArrayRef> {
    let index = columns.iter().position(|column| contains_field(column, id))?;
    let mut values = Arc::clone(batch.column(index));
    let mut column = &columns[index];
    while column.id != id {
        let parts = fields_of(column)?;
        let index = parts.iter().position(|part| contains_field(part, id))?;
        let parent = values.as_struct_opt()?;
        let child = parent.column(index);
        let nulls = NullBuffer::union(parent.nulls(), child.nulls());
        let data = child.to_data().into_builder().nulls(nulls).build().ok()?;
        values = make_array(data);
        column = &parts[index];
    }
    Some(values)
}

/// Returns true if the column, or a column nested in its structs, has this id.
fn contains_field(column: &NestedFieldRef, id: i32) -> bool {
    let within =
        || fields_of(column).is_some_and(|parts| parts.iter().any(|one| contains_field(one, id)));
    column.id == id || within()
}

/// Returns the fields of a struct column.
fn fields_of(column: &NestedFieldRef) -> Option<&[NestedFieldRef]> {
    match &*column.field_type {
        Type::Struct(parts) => Some(parts.fields()),
        _ => None,
    }
}

/// Converts a transform to the type of the `iceberg` crate.
pub fn transform_of(transform: Transform) -> IcebergTransform {
    match transform {
        Transform::Identity => IcebergTransform::Identity,
        Transform::Year => IcebergTransform::Year,
        Transform::Month => IcebergTransform::Month,
        Transform::Day => IcebergTransform::Day,
        Transform::Hour => IcebergTransform::Hour,
        Transform::Bucket(count) => IcebergTransform::Bucket(count),
        Transform::Truncate(width) => IcebergTransform::Truncate(width),
        Transform::Void => IcebergTransform::Void,
    }
}

/// Converts a transform from the type of the `iceberg` crate; `None` for an unknown transform.
pub fn known_transform(transform: IcebergTransform) -> Option<Transform> {
    Some(match transform {
        IcebergTransform::Identity => Transform::Identity,
        IcebergTransform::Year => Transform::Year,
        IcebergTransform::Month => Transform::Month,
        IcebergTransform::Day => Transform::Day,
        IcebergTransform::Hour => Transform::Hour,
        IcebergTransform::Bucket(count) => Transform::Bucket(count),
        IcebergTransform::Truncate(width) => Transform::Truncate(width),
        IcebergTransform::Void => Transform::Void,
        IcebergTransform::Unknown => return None,
    })
}

/// Rejects a partition field if the spec already has an equal field, or a field with the same name.
pub fn check_new(
    part: &NewPartitionField,
    others: &[NewPartitionField],
    field: &PartitionField,
) -> Result<()> {
    let invalid = |reason: String| Error::InvalidPartition { field: field.to_string(), reason };
    let same = |other: &NewPartitionField| {
        (other.source_id, other.transform) == (part.source_id, part.transform)
    };
    if others.iter().any(same) {
        return Err(invalid("the partition field occurs twice".to_owned()));
    }
    if others.iter().any(|other| other.name == part.name) {
        return Err(invalid(format!("another field has the name `{}`", part.name)));
    }
    Ok(())
}

/// Returns true if a column has this name in the current or an earlier schema.
fn is_column(name: &str, columns: &[NestedFieldRef], previous: Option<&TableMetadata>) -> bool {
    columns.iter().any(|column| column.name == name)
        || previous.is_some_and(|table| {
            table.schemas_iter().any(|schema| schema.field_by_name(name).is_some())
        })
}

/// Checks that the transform supports the column's type.
fn check(field_type: &Type, transform: Transform) -> Result<(), &'static str> {
    use PrimitiveType::{Binary, Date, Decimal, Int, Long, String, Timestamp, TimestampNs};
    use PrimitiveType::{Boolean, Double, Float, Timestamptz, TimestamptzNs};
    let Type::Primitive(primitive) = field_type else {
        return Err("a partition column must have a primitive type");
    };
    let is_time = matches!(primitive, Timestamp | Timestamptz | TimestampNs | TimestamptzNs);
    match transform {
        Transform::Identity => match primitive {
            Float | Double => Err("a partition column cannot be a floating-point number"),
            _ => Ok(()),
        },
        Transform::Year if !is_time && *primitive != Date => {
            Err("`year` requires a date or a timestamp")
        }
        Transform::Month if !is_time && *primitive != Date => {
            Err("`month` requires a date or a timestamp")
        }
        Transform::Day if !is_time && *primitive != Date => {
            Err("`day` requires a date or a timestamp")
        }
        Transform::Hour if !is_time => Err("`hour` requires a timestamp"),
        Transform::Bucket(_) if matches!(primitive, Boolean | Float | Double) => {
            Err("`bucket` does not support booleans and floating-point numbers")
        }
        Transform::Truncate(_)
            if !matches!(primitive, Int | Long | Decimal { .. } | String | Binary) =>
        {
            Err("`truncate` requires an integer, decimal, string or binary column")
        }
        _ => Ok(()),
    }
}

/// Returns the suffix for the name of a partition field.
fn name_suffix(transform: IcebergTransform) -> String {
    match transform {
        IcebergTransform::Bucket(count) => format!("bucket_{count}"),
        IcebergTransform::Truncate(width) => format!("trunc_{width}"),
        IcebergTransform::Void => "null".to_owned(),
        other => other.to_string(),
    }
}

/// Returns an unused name for a partition field.
fn unused_name(
    column: &str,
    transform: IcebergTransform,
    columns: &[NestedFieldRef],
    previous: Option<&TableMetadata>,
) -> String {
    let own = match transform {
        IcebergTransform::Identity => column.to_owned(),
        _ => format!("{column}_{}", name_suffix(transform)),
    };
    let names = std::iter::once(own.clone());
    let mut names = names.chain((2..).map(|n| format!("{own}_{n}")));
    names.find(|name| !is_column(name, columns, previous)).unwrap_or_default()
}

/// Returns the partition values of a batch, one array per field of the spec.
pub fn partition_columns(
    batch: &RecordBatch,
    spec: &PartitionSpec,
    schema: &Schema,
) -> Result<Vec<ArrayRef>> {
    let columns = spec.fields().iter().map(|field| {
        let unknown = || Error::InvalidPartition {
            field: field.name.clone(),
            reason: format!("the transform `{}` is not supported", field.transform),
        };
        let columns = schema.as_struct().fields();
        let column = values_at(batch, columns, field.source_id).ok_or_else(unknown)?;
        transformed(&column, field.transform).ok_or_else(unknown)
    });
    columns.collect()
}

/// Returns the partition values of a file with their transforms, by the id of the source column.
/// The values are promoted to the widest types, so that values from before and after the widening
/// of a column can be compared.
pub fn values_of(
    spec: &PartitionSpec,
    values: &Struct,
) -> Vec<(i32, IcebergTransform, Option<PrimitiveLiteral>)> {
    let literal =
        |value: Option<&Literal>| value.and_then(Literal::as_primitive_literal).map(comparable);
    let fields = spec.fields().iter().zip(values.iter());
    fields.map(|(field, value)| (field.source_id, field.transform, literal(value))).collect()
}

/// Formats a partition value. A timestamp outside chrono's range is formatted as a number.
fn format_value(transform: IcebergTransform, field_type: &Type, value: Option<&Literal>) -> String {
    let Some(value) = value.and_then(Literal::as_primitive_literal) else {
        return NULL.to_owned();
    };
    let number = match (&value, field_type) {
        (PrimitiveLiteral::Int(number), _) => i64::from(*number),
        (PrimitiveLiteral::Long(number), _) => *number,
        (PrimitiveLiteral::UInt128(bits), _) => return uuid::Uuid::from_u128(*bits).to_string(),
        (PrimitiveLiteral::Binary(bytes), Type::Primitive(PrimitiveType::Uuid)) => {
            let text = uuid::Uuid::from_slice(bytes).map(|uuid| uuid.to_string());
            return text.unwrap_or_else(|_| NULL.to_owned());
        }
        (PrimitiveLiteral::Int128(_), Type::Primitive(PrimitiveType::Decimal { .. })) => {
            return transform.to_human_string(field_type, Some(&Literal::Primitive(value)));
        }
        (PrimitiveLiteral::Int128(number), _) => return number.to_string(),
        (PrimitiveLiteral::AboveMax | PrimitiveLiteral::BelowMin, _) => return NULL.to_owned(),
        _ => return transform.to_human_string(field_type, Some(&Literal::Primitive(value))),
    };
    let text = match transform {
        IcebergTransform::Void => Some(NULL.to_owned()),
        IcebergTransform::Year => Some(format!("{:04}", EPOCH + number)),
        IcebergTransform::Month => {
            let (year, month) = (EPOCH + number.div_euclid(12), number.rem_euclid(12) + 1);
            Some(format!("{year:04}-{month:02}"))
        }
        IcebergTransform::Hour => {
            let time = chrono::DateTime::from_timestamp(number.saturating_mul(3600), 0);
            time.map(|time| time.format("%Y-%m-%d-%H").to_string())
        }
        _ => format_time(field_type, number),
    };
    text.unwrap_or_else(|| number.to_string())
}

/// Formats a date, time or timestamp; `None` for another type or a value outside chrono's range.
fn format_time(field_type: &Type, number: i64) -> Option<String> {
    use PrimitiveType::{Date, Time, Timestamp, TimestampNs, Timestamptz, TimestamptzNs};
    let Type::Primitive(primitive) = field_type else { return None };
    let nanos = chrono::DateTime::from_timestamp_nanos;
    match primitive {
        Date => {
            let time = chrono::DateTime::from_timestamp(number.checked_mul(SECONDS_PER_DAY)?, 0)?;
            Some(time.date_naive().to_string())
        }
        Time => {
            let nanos = number.checked_mul(1000).filter(|nanos| *nanos >= 0)?;
            let seconds = u32::try_from(nanos / NANOS_PER_SECOND).ok()?;
            let rest = u32::try_from(nanos % NANOS_PER_SECOND).ok()?;
            let time = chrono::NaiveTime::from_num_seconds_from_midnight_opt(seconds, rest)?;
            Some(time.to_string())
        }
        Timestamp => Some(chrono::DateTime::from_timestamp_micros(number)?.naive_utc().to_string()),
        Timestamptz => Some(chrono::DateTime::from_timestamp_micros(number)?.to_string()),
        TimestampNs => Some(nanos(number).naive_utc().to_string()),
        TimestamptzNs => Some(nanos(number).to_string()),
        _ => None,
    }
}

/// Text of a null partition value.
const NULL: &str = "null";

const SECONDS_PER_DAY: i64 = 86_400;

const NANOS_PER_SECOND: i64 = 1_000_000_000;

/// The year in which Unix time begins.
const EPOCH: i64 = 1970;

/// Formats a partition: `ts_day=2013-01-01/origin=EWR`.
pub fn describe(spec: &PartitionSpec, partition_type: &StructType, values: &Struct) -> String {
    let fields = spec.fields().iter().zip(partition_type.fields()).zip(values.iter());
    let parts: Vec<_> = fields
        .map(|((field, partition), value)| {
            let value = format_value(field.transform, &partition.field_type, value);
            format!("{}={value}", field.name)
        })
        .collect();
    parts.join("/")
}

/// Returns the folders of a partition within the data folder. Readers use the manifests, so the
/// folder names are only for people: values may be truncated, and special characters may be
/// replaced.
pub fn folder(spec: &PartitionSpec, partition_type: &StructType, values: &Struct) -> String {
    let fields = spec.fields().iter().zip(partition_type.fields()).zip(values.iter());
    let parts: Vec<_> = fields
        .map(|((field, partition), value)| {
            let value = format_value(field.transform, &partition.field_type, value);
            let name = file_name(&field.name);
            let mut value = file_name(&value);
            value.truncate(FOLDER_VALUE_BYTES_MAX);
            format!("{name}={value}")
        })
        .collect();
    parts.join("/")
}

/// Replaces all characters except ASCII letters, digits, `-`, `.` and `_` by `_`, for use in URLs
/// and paths.
pub fn file_name(text: &str) -> String {
    let safe = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | '_');
    text.chars().map(|c| if safe(c) { c } else { '_' }).collect()
}

/// Returns the folder name of a namespace or table: the [`file_name`], truncated to a length that
/// object stores accept.
pub fn folder_name(name: &str) -> String {
    let mut folder = file_name(name);
    folder.truncate(FOLDER_NAME_BYTES_MAX);
    folder
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folder_names_are_truncated_and_cannot_leave_the_parent_folder() {
        assert_eq!(folder_name("my-ns.a b.2024"), "my-ns.a_b.2024");
        assert_eq!(folder_name(&"日".repeat(300)).len(), FOLDER_NAME_BYTES_MAX);
        assert_eq!(folder_name("%2e%2e"), "_2e_2e");
    }

    #[test]
    fn special_characters_in_folder_names_are_replaced() {
        assert_eq!(file_name("a/b c=ü?"), "a_b_c___");
    }
}
