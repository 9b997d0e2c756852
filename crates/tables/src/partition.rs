//! Partition specs: from partition fields, and how each row's values become partition values.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, Date32Array, RecordBatch};
use arrow::datatypes::{DataType, TimeUnit, TimestampMicrosecondType};
use headwater_model::{PartitionField, Transform};
use iceberg::spec::{
    Literal, PartitionSpec, PrimitiveLiteral, PrimitiveType, Schema, Struct, StructType,
    TableMetadata, Type, UnboundPartitionSpec,
};

use crate::{Error, Result};

const MICROSECONDS_PER_DAY: i64 = 86_400_000_000;

/// The longest that a partition's value is in a folder's name, in bytes.
const FOLDER_VALUE_BYTES_MAX: usize = 64;

/// The spec for partition fields over a schema. Columns match as written, then without case.
pub(crate) fn spec_for(
    schema: &Schema,
    fields: &[PartitionField],
    previous: Option<&TableMetadata>,
) -> Result<UnboundPartitionSpec> {
    let mut builder = UnboundPartitionSpec::builder();
    for (index, field) in fields.iter().enumerate() {
        let invalid = |reason: &str| Error::InvalidPartition {
            field: field.to_string(),
            reason: reason.to_owned(),
        };
        let column = schema
            .field_by_name(&field.column)
            .or_else(|| schema.field_by_name_case_insensitive(&field.column))
            .ok_or_else(|| invalid("there is no such column"))?;
        if fields[..index].contains(field) {
            return Err(invalid("it is there twice"));
        }
        check(&column.field_type, field.transform).map_err(invalid)?;
        let (name, transform) = match field.transform {
            Transform::Identity => (column.name.clone(), iceberg::spec::Transform::Identity),
            Transform::Day => {
                (free_name(&column.name, schema, previous), iceberg::spec::Transform::Day)
            }
        };
        let added = builder.add_partition_field(column.id, name, transform);
        builder = added.map_err(|error| invalid(&error.message().to_lowercase()))?;
    }
    Ok(builder.build())
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
fn free_name(column: &str, schema: &Schema, previous: Option<&TableMetadata>) -> String {
    let taken = |name: &str| {
        schema.field_by_name(name).is_some()
            || previous.is_some_and(|table| {
                table.schemas_iter().any(|schema| schema.field_by_name(name).is_some())
            })
    };
    let names = std::iter::once(format!("{column}_day"));
    let mut names = names.chain((2..).map(|n| format!("{column}_day_{n}")));
    names.find(|name| !taken(name)).unwrap_or_default()
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
