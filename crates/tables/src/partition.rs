//! Partition specs: from partition fields, and how each row's values become partition values.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch, make_array};
use arrow::buffer::NullBuffer;
use headwater_model::{PartitionField, Transform};
use iceberg::spec::{
    Literal, NestedFieldRef, PartitionSpec, PrimitiveLiteral, PrimitiveType, Schema, Struct,
    StructType, TableMetadata, Transform as IcebergTransform, Type, UnboundPartitionSpec,
};

use crate::promotion::comparable;
use crate::transform::transformed;
use crate::{Error, Result, time_parts};

/// The longest that a partition's value is in a folder's name, in bytes.
const FOLDER_VALUE_BYTES_MAX: usize = 64;

/// The longest folder of a namespace or table, in bytes, before what makes a table's unique.
const FOLDER_NAME_BYTES_MAX: usize = 128;

/// A field of a partition spec, without its id.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Part {
    pub(crate) source_id: i32,
    pub(crate) name: String,
    pub(crate) transform: IcebergTransform,
}

/// The spec for partition fields over a schema. Columns match as written, then without case.
pub(crate) fn spec_for(
    schema: &Schema,
    fields: &[PartitionField],
    previous: Option<&TableMetadata>,
) -> Result<UnboundPartitionSpec> {
    let mut parts: Vec<Part> = Vec::with_capacity(fields.len());
    let columns = schema.as_struct().fields();
    for field in fields {
        let part = part_for(field, None, columns, previous)?;
        check_new(&part, &parts, field)?;
        parts.push(part);
    }
    spec_of(&parts)
}

/// The spec of some fields, as the builder is asked for it.
pub(crate) fn spec_of(parts: &[Part]) -> Result<UnboundPartitionSpec> {
    let parts = parts.iter().map(|part| (part.source_id, part.name.as_str(), part.transform));
    time_parts::unbound(parts)
}

/// One field of a spec, of a column of the table itself; under the name that is `wanted`, or else under
/// one that its column and transform give it.
pub(crate) fn part_for(
    field: &PartitionField,
    wanted: Option<&str>,
    columns: &[NestedFieldRef],
    previous: Option<&TableMetadata>,
) -> Result<Part> {
    let invalid = |reason: &str| Error::InvalidPartition {
        field: field.to_string(),
        reason: reason.to_owned(),
    };
    let (path, column) =
        column_at(columns, &field.column).ok_or_else(|| invalid("there is no such column"))?;
    check(&column.field_type, field.transform).map_err(invalid)?;
    let transform = transform_of(field.transform);
    let within = columns.iter().all(|own| own.id != column.id);
    let own_name = transform == IcebergTransform::Identity && !within;
    // Avro, in which partitions are written down, has no names with dots.
    let path = if within { path.replace('.', "_") } else { path };
    let name = match wanted {
        Some(name) if own_name && name == column.name => name.to_owned(),
        Some(name) if is_column(name, columns, previous) => {
            return Err(invalid("a column has, or had, the name that it is to have"));
        }
        Some(name) => name.to_owned(),
        None if own_name => column.name.clone(),
        None => free_name((&path, transform), columns, previous),
    };
    Ok(Part { source_id: column.id, name, transform })
}

/// A column by its name, or one within structs by the names that lead to it with dots between them: as
/// written, and then without case. Gives its name as the table spells it.
pub(crate) fn column_at<'a>(
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
        let parts = parts_of(column)?;
        let (inner, found) = column_at(parts, name.get(dot + 1..)?)?;
        Some((format!("{outer}.{inner}"), found))
    })
}

/// The values of a column of a batch, or of one within structs: null where one of these is.
fn values_at(batch: &RecordBatch, columns: &[NestedFieldRef], id: i32) -> Option<ArrayRef> {
    let place = columns.iter().position(|column| holds(column, id))?;
    let mut values = Arc::clone(batch.column(place));
    let mut column = &columns[place];
    while column.id != id {
        let parts = parts_of(column)?;
        let place = parts.iter().position(|part| holds(part, id))?;
        let whole = values.as_struct_opt()?;
        let part = whole.column(place);
        let nulls = NullBuffer::union(whole.nulls(), part.nulls());
        let data = part.to_data().into_builder().nulls(nulls).build().ok()?;
        values = make_array(data);
        column = &parts[place];
    }
    Some(values)
}

/// Whether a column has an id, or one within its structs.
fn holds(column: &NestedFieldRef, id: i32) -> bool {
    let within = || parts_of(column).is_some_and(|parts| parts.iter().any(|one| holds(one, id)));
    column.id == id || within()
}

/// The columns within a column of structs.
fn parts_of(column: &NestedFieldRef) -> Option<&[NestedFieldRef]> {
    match &*column.field_type {
        Type::Struct(parts) => Some(parts.fields()),
        _ => None,
    }
}

/// Iceberg's transform of ours.
pub(crate) fn transform_of(transform: Transform) -> IcebergTransform {
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

/// Our transform of Iceberg's; none for one that is not known.
pub(crate) fn known_transform(transform: IcebergTransform) -> Option<Transform> {
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

/// Refuses a field beside others that say the same, or have its name.
pub(crate) fn check_new(part: &Part, others: &[Part], field: &PartitionField) -> Result<()> {
    let invalid = |reason: String| Error::InvalidPartition { field: field.to_string(), reason };
    let same =
        |other: &Part| (other.source_id, other.transform) == (part.source_id, part.transform);
    if others.iter().any(same) {
        return Err(invalid("it is there twice".to_owned()));
    }
    if others.iter().any(|other| other.name == part.name) {
        return Err(invalid(format!("another field has the name `{}`", part.name)));
    }
    Ok(())
}

/// Whether a column has a name, now or in an earlier schema.
fn is_column(name: &str, columns: &[NestedFieldRef], previous: Option<&TableMetadata>) -> bool {
    columns.iter().any(|column| column.name == name)
        || previous.is_some_and(|table| {
            table.schemas_iter().any(|schema| schema.field_by_name(name).is_some())
        })
}

/// Which types each transform takes.
fn check(field_type: &Type, transform: Transform) -> Result<(), &'static str> {
    use PrimitiveType::{Binary, Date, Decimal, Int, Long, String, Timestamp, TimestampNs};
    use PrimitiveType::{Boolean, Double, Float, Timestamptz, TimestamptzNs};
    let Type::Primitive(primitive) = field_type else {
        return Err("a column of nested values is no partition");
    };
    let is_time = matches!(primitive, Timestamp | Timestamptz | TimestampNs | TimestamptzNs);
    match transform {
        Transform::Identity => match primitive {
            Float | Double => Err("floating-point numbers are no partition"),
            _ => Ok(()),
        },
        Transform::Year if !is_time && *primitive != Date => {
            Err("`year` takes a date or a timestamp")
        }
        Transform::Month if !is_time && *primitive != Date => {
            Err("`month` takes a date or a timestamp")
        }
        Transform::Day if !is_time && *primitive != Date => {
            Err("`day` takes a date or a timestamp")
        }
        Transform::Hour if !is_time => Err("`hour` takes a timestamp"),
        Transform::Bucket(_) if matches!(primitive, Boolean | Float | Double) => {
            Err("`bucket` takes anything but booleans and floating-point numbers")
        }
        Transform::Truncate(_)
            if !matches!(primitive, Int | Long | Decimal { .. } | String | Binary) =>
        {
            Err("`truncate` takes whole numbers, decimals, texts and bytes")
        }
        _ => Ok(()),
    }
}

/// What is added to a column's name for a field of one of its transforms.
fn ending(transform: IcebergTransform) -> String {
    match transform {
        IcebergTransform::Bucket(count) => format!("bucket_{count}"),
        IcebergTransform::Truncate(width) => format!("trunc_{width}"),
        IcebergTransform::Void => "null".to_owned(),
        other => other.to_string(),
    }
}

/// A name for a transform of a column that no column has, in this schema or an earlier one.
fn free_name(
    (column, transform): (&str, IcebergTransform),
    columns: &[NestedFieldRef],
    previous: Option<&TableMetadata>,
) -> String {
    let own = match transform {
        IcebergTransform::Identity => column.to_owned(),
        _ => format!("{column}_{}", ending(transform)),
    };
    let names = std::iter::once(own.clone());
    let mut names = names.chain((2..).map(|n| format!("{own}_{n}")));
    names.find(|name| !is_column(name, columns, previous)).unwrap_or_default()
}

/// The columns of partition values of a batch, in the spec's order.
pub(crate) fn partition_columns(
    batch: &RecordBatch,
    spec: &PartitionSpec,
    schema: &Schema,
) -> Result<Vec<ArrayRef>> {
    let columns = spec.fields().iter().map(|field| {
        let unknown = || Error::InvalidPartition {
            field: field.name.clone(),
            reason: format!("`{}` is no transform that can be written", field.transform),
        };
        let columns = schema.as_struct().fields();
        let column = values_at(batch, columns, field.source_id).ok_or_else(unknown)?;
        transformed(&column, field.transform).ok_or_else(unknown)
    });
    columns.collect()
}

/// The values of the columns that files are partitioned by, as their transforms make them, by field id: of
/// whichever type the column was, to be compared with each other.
pub(crate) fn values_of(
    spec: &PartitionSpec,
    values: &Struct,
) -> Vec<(i32, IcebergTransform, Option<PrimitiveLiteral>)> {
    let literal =
        |value: Option<&Literal>| value.and_then(Literal::as_primitive_literal).map(comparable);
    let fields = spec.fields().iter().zip(values.iter());
    fields.map(|(field, value)| (field.source_id, field.transform, literal(value))).collect()
}

/// A partition's value as people read it. A time that no calendar has is shown as its number.
fn shown(transform: IcebergTransform, field_type: &Type, value: Option<&Literal>) -> String {
    let Some(value) = value.and_then(Literal::as_primitive_literal) else {
        return NULL.to_owned();
    };
    let number = match (&value, field_type) {
        (PrimitiveLiteral::Int(number), _) => i64::from(*number),
        (PrimitiveLiteral::Long(number), _) => *number,
        (PrimitiveLiteral::UInt128(bits), _) => return uuid::Uuid::from_u128(*bits).to_string(),
        (PrimitiveLiteral::Binary(bytes), Type::Primitive(PrimitiveType::Uuid)) => {
            let shown = uuid::Uuid::from_slice(bytes).map(|uuid| uuid.to_string());
            return shown.unwrap_or_else(|_| NULL.to_owned());
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
        _ => moment(field_type, number),
    };
    text.unwrap_or_else(|| number.to_string())
}

/// A date, a time of day or a moment; none where the type is no such, or no calendar has it.
fn moment(field_type: &Type, number: i64) -> Option<String> {
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

/// How a partition without a value is shown.
const NULL: &str = "null";

const SECONDS_PER_DAY: i64 = 86_400;

const NANOS_PER_SECOND: i64 = 1_000_000_000;

/// The year that times are counted from.
const EPOCH: i64 = 1970;

/// A partition as people read it: `ts_day=2013-01-01/origin=EWR`.
pub(crate) fn describe(
    spec: &PartitionSpec,
    partition_type: &StructType,
    values: &Struct,
) -> String {
    let fields = spec.fields().iter().zip(partition_type.fields()).zip(values.iter());
    let parts: Vec<_> = fields
        .map(|((field, partition), value)| {
            let value = shown(field.transform, &partition.field_type, value);
            format!("{}={value}", field.name)
        })
        .collect();
    parts.join("/")
}

/// The folders for a partition below the data folder. They are for people: readers go by the
/// manifest, so that values may be shortened and odd characters left out.
pub(crate) fn folder(spec: &PartitionSpec, partition_type: &StructType, values: &Struct) -> String {
    let fields = spec.fields().iter().zip(partition_type.fields()).zip(values.iter());
    let parts: Vec<_> = fields
        .map(|((field, partition), value)| {
            let value = shown(field.transform, &partition.field_type, value);
            let name = file_name(&field.name);
            let mut value = file_name(&value);
            value.truncate(FOLDER_VALUE_BYTES_MAX);
            format!("{name}={value}")
        })
        .collect();
    parts.join("/")
}

/// Letters, digits, `-`, `.` and `_` of a text, with `_` for anything else: safe in URLs and paths
/// alike.
pub(crate) fn file_name(text: &str) -> String {
    let safe = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | '_');
    text.chars().map(|c| if safe(c) { c } else { '_' }).collect()
}

/// The folder of a namespace or table: [`file_name`], cut so that a store takes it with what follows.
pub(crate) fn folder_name(name: &str) -> String {
    let mut folder = file_name(name);
    folder.truncate(FOLDER_NAME_BYTES_MAX);
    folder
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folders_of_names_are_bounded_and_stay_in_their_folder() {
        assert_eq!(folder_name("my-ns.a b.2024"), "my-ns.a_b.2024");
        assert_eq!(folder_name(&"日".repeat(300)).len(), FOLDER_NAME_BYTES_MAX);
        assert_eq!(folder_name("%2e%2e"), "_2e_2e");
    }

    #[test]
    fn folders_have_no_odd_characters() {
        assert_eq!(file_name("a/b c=ü?"), "a_b_c___");
    }
}
