//! Partition specs: from partition fields, and how each row's values become partition values.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, Date32Array, RecordBatch};
use arrow::datatypes::{DataType, TimeUnit, TimestampMicrosecondType};
use headwater_model::{PartitionField, Transform};
use iceberg::spec::{
    Literal, NestedFieldRef, PartitionSpec, PrimitiveLiteral, PrimitiveType, Schema, Struct,
    StructType, TableMetadata, Type, UnboundPartitionSpec,
};

use crate::{Error, Result};

const MICROSECONDS_PER_DAY: i64 = 86_400_000_000;

/// The longest that a partition's value is in a folder's name, in bytes.
const FOLDER_VALUE_BYTES_MAX: usize = 64;

/// A field of a partition spec, without its id.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Part {
    pub(crate) source_id: i32,
    pub(crate) name: String,
    pub(crate) transform: iceberg::spec::Transform,
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

/// The spec of some fields.
pub(crate) fn spec_of(parts: &[Part]) -> Result<UnboundPartitionSpec> {
    let mut builder = UnboundPartitionSpec::builder();
    for part in parts {
        let added = builder.add_partition_field(part.source_id, &part.name, part.transform);
        builder = added.map_err(|error| Error::InvalidPartition {
            field: part.name.clone(),
            reason: error.message().to_lowercase(),
        })?;
    }
    Ok(builder.build())
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
    let folded = field.column.to_lowercase();
    let column = columns
        .iter()
        .find(|column| column.name == field.column)
        .or_else(|| columns.iter().find(|column| column.name.to_lowercase() == folded))
        .ok_or_else(|| invalid("there is no such column"))?;
    check(&column.field_type, field.transform).map_err(invalid)?;
    let transform = transform_of(field.transform);
    let own_name = transform == iceberg::spec::Transform::Identity;
    let name = match wanted {
        Some(name) if own_name && name == column.name => name.to_owned(),
        Some(name) if is_column(name, columns, previous) => {
            return Err(invalid("a column has, or had, the name that it is to have"));
        }
        Some(name) => name.to_owned(),
        None if own_name => column.name.clone(),
        None => free_name(&column.name, columns, previous),
    };
    Ok(Part { source_id: column.id, name, transform })
}

/// Iceberg's transform of ours.
pub(crate) fn transform_of(transform: Transform) -> iceberg::spec::Transform {
    match transform {
        Transform::Identity => iceberg::spec::Transform::Identity,
        Transform::Day => iceberg::spec::Transform::Day,
    }
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
    let Type::Primitive(primitive) = field_type else {
        return Err("a column of nested values is no partition");
    };
    match (transform, primitive) {
        (Transform::Identity, PrimitiveType::Float | PrimitiveType::Double) => {
            Err("floating-point numbers are no partition")
        }
        // The `iceberg` crate cannot write them into a manifest.
        (Transform::Identity, PrimitiveType::Uuid) => Err("UUIDs are no partition yet"),
        (Transform::Identity, _)
        | (
            Transform::Day,
            PrimitiveType::Date | PrimitiveType::Timestamp | PrimitiveType::Timestamptz,
        ) => Ok(()),
        (Transform::Day, _) => Err("`day` takes a date or a timestamp"),
    }
}

/// A name for the day of a column that no column has, in this schema or an earlier one.
fn free_name(column: &str, columns: &[NestedFieldRef], previous: Option<&TableMetadata>) -> String {
    let names = std::iter::once(format!("{column}_day"));
    let mut names = names.chain((2..).map(|n| format!("{column}_day_{n}")));
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
        let position = schema.as_struct().fields().iter().position(|f| f.id == field.source_id);
        let column = batch.column(position.ok_or_else(unknown)?);
        match field.transform {
            iceberg::spec::Transform::Identity => Ok(column.clone()),
            iceberg::spec::Transform::Day => days(column).ok_or_else(unknown),
            _ => Err(unknown()),
        }
    });
    columns.collect()
}

/// The day of each date or timestamp, in days since 1970, before it too.
fn days(column: &ArrayRef) -> Option<ArrayRef> {
    match column.data_type() {
        DataType::Date32 => Some(column.clone()),
        DataType::Timestamp(TimeUnit::Microsecond, _) => {
            let micros = column.as_primitive::<TimestampMicrosecondType>();
            let days: Date32Array =
                micros.unary(|micros| micros.div_euclid(MICROSECONDS_PER_DAY) as i32);
            Some(Arc::new(days))
        }
        _ => None,
    }
}

/// The values of the columns that files are partitioned by as they are, by field id.
pub(crate) fn same_values(
    spec: &PartitionSpec,
    values: &Struct,
) -> Vec<(i32, Option<PrimitiveLiteral>)> {
    let fields = spec.fields().iter().zip(values.iter());
    let fields = fields.filter(|(field, _)| field.transform == iceberg::spec::Transform::Identity);
    let literal = |value: Option<&Literal>| value.and_then(Literal::as_primitive_literal);
    fields.map(|(field, value)| (field.source_id, literal(value))).collect()
}

/// A partition as people read it: `ts_day=2013-01-01/origin=EWR`.
pub(crate) fn describe(
    spec: &PartitionSpec,
    partition_type: &StructType,
    values: &Struct,
) -> String {
    let fields = spec.fields().iter().zip(partition_type.fields()).zip(values.iter());
    let parts: Vec<_> = fields
        .map(|((field, partition), value)| {
            let value = field.transform.to_human_string(&partition.field_type, value);
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
            let value = field.transform.to_human_string(&partition.field_type, value);
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

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::TimestampMicrosecondArray;

    #[test]
    fn days_before_1970_are_rounded_down() {
        let times: ArrayRef = Arc::new(TimestampMicrosecondArray::from(vec![
            Some(0),
            Some(-1),
            Some(MICROSECONDS_PER_DAY),
            None,
        ]));
        let days = days(&times).unwrap();
        let expected: ArrayRef =
            Arc::new(Date32Array::from(vec![Some(0), Some(-1), Some(1), None]));
        assert_eq!(&days, &expected);
    }

    #[test]
    fn folders_have_no_odd_characters() {
        assert_eq!(file_name("a/b c=ü?"), "a_b_c___");
    }
}
