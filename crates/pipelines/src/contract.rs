//! Comparison of a model's output with its declared columns: types, nulls and comments.

use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::{DataType, FieldRef, Schema, SchemaRef, TimeUnit};
use headwater_tables::COMMENT;

use crate::{ColumnType, DeclaredColumn, Error, Step};

/// Returns true if an Arrow type conforms to the declared type.
fn matches(declared: ColumnType, data_type: &DataType) -> bool {
    let is_utc = |zone: &str| matches!(zone, "UTC" | "+00:00" | "Z");
    match (declared, data_type) {
        (_, DataType::Dictionary(_, values)) => matches(declared, values),
        (ColumnType::Bool, DataType::Boolean)
        | (ColumnType::Int32, DataType::Int32)
        | (ColumnType::Int64, DataType::Int64)
        | (ColumnType::Float64, DataType::Float64)
        | (ColumnType::String, DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View)
        | (ColumnType::Binary, DataType::Binary | DataType::LargeBinary | DataType::BinaryView)
        | (ColumnType::Date32, DataType::Date32)
        // Tables store dates as days, so a declared `Date64` column is read as `Date32`.
        | (ColumnType::Date64, DataType::Date64 | DataType::Date32)
        | (ColumnType::TimestampMicro, DataType::Timestamp(TimeUnit::Microsecond, None))
        | (ColumnType::TimestampNano, DataType::Timestamp(TimeUnit::Nanosecond, None)) => true,
        (ColumnType::TimestampMicroUtc, DataType::Timestamp(unit, Some(zone))) => {
            *unit == TimeUnit::Microsecond && is_utc(zone)
        }
        (ColumnType::TimestampNanoUtc, DataType::Timestamp(unit, Some(zone))) => {
            *unit == TimeUnit::Nanosecond && is_utc(zone)
        }
        _ => false,
    }
}

/// Returns the differences between the declared types and a schema. Missing columns are skipped.
pub(crate) fn type_differences(declared: &[DeclaredColumn], schema: &Schema) -> Vec<String> {
    let difference = |column: &DeclaredColumn| {
        let (wanted, field) = (column.column_type?, schema.field_with_name(&column.name).ok()?);
        let given = field.data_type();
        let name = &column.name;
        (!matches(wanted, given))
            .then(|| format!("`{name}` has the type {given}, not {}", wanted.as_str()))
    };
    declared.iter().filter_map(difference).collect()
}

/// Returns a schema with the documentation of declared columns as comments.
pub(crate) fn with_docs(declared: &[DeclaredColumn], schema: SchemaRef) -> SchemaRef {
    if declared.iter().all(|column| column.doc.is_none()) {
        return schema;
    }
    let documented = |field: &FieldRef| {
        let column = declared.iter().find(|column| column.name == *field.name());
        let Some(doc) = column.and_then(|column| column.doc.clone()) else {
            return Arc::clone(field);
        };
        let mut metadata = field.metadata().clone();
        metadata.insert(COMMENT.to_owned(), doc);
        Arc::new(field.as_ref().clone().with_metadata(metadata))
    };
    Arc::new(Schema::new(schema.fields().iter().map(documented).collect::<Vec<_>>()))
}

/// Returns the first column that contains a null in these rows although its declaration forbids
/// nulls.
pub(crate) fn null_column<'d>(
    declared: &'d [DeclaredColumn],
    rows: &RecordBatch,
) -> Option<&'d str> {
    let has_nulls = |column: &&DeclaredColumn| {
        let found = rows.column_by_name(&column.name);
        !column.nullable && found.is_some_and(|array| array.logical_null_count() > 0)
    };
    declared.iter().find(has_nulls).map(|column| column.name.as_str())
}

/// Creates the error for a declared column that must not contain nulls but does.
pub(crate) fn has_nulls(step: &Step, column: &str) -> Error {
    let difference = format!("`{column}` has nulls");
    Error::DeclaredColumns { step: step.name.clone(), at: step.at.clone(), difference }
}
