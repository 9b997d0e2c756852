//! Compares a model's output with its declared columns: types, nulls and comments.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::{DataType, Field, FieldRef, Schema, SchemaRef, TimeUnit};
use headwater_model::{ErrorCode, Problem};
use headwater_project::{Error as ProjectError, SqlType};
use headwater_tables::{COMMENT, parse_type, type_name};

use crate::{ColumnType, DeclaredColumn, Error, Result, Step};

/// Checks that a model's query returns no two columns with the same name, which a table cannot
/// have.
pub(crate) fn check_distinct_names<'n>(
    step: &Step,
    names: impl IntoIterator<Item = &'n str>,
) -> Result<()> {
    let mut known = HashSet::new();
    let Some(repeated) = names.into_iter().find(|name| !known.insert(*name)) else {
        return Ok(());
    };
    let message = format!("the query returns two columns with the name `{repeated}`");
    let problem = Problem::new(ErrorCode::InvalidSql, message)
        .with_hint("Give one of the columns another alias with AS.");
    let (step, at) = (step.name.clone(), step.at.clone());
    Err(ProjectError::Sql { step, at, problem: Box::new(problem) }.into())
}

/// Returns true if an Arrow type conforms to the declared type.
fn matches(declared: ColumnType, data_type: &DataType) -> bool {
    let is_utc = |zone: &str| matches!(zone, "UTC" | "+00:00" | "Z");
    match (declared, data_type) {
        (_, DataType::Dictionary(_, values)) => matches(declared, values),
        // Tables store a column that contains only nulls as text.
        (ColumnType::Sql(declared), DataType::Null) => declared == SqlType::Text,
        (ColumnType::Sql(declared), _) => SqlType::parse(&type_name(data_type)) == Some(declared),
        (ColumnType::Bool, DataType::Boolean)
        | (ColumnType::Int32, DataType::Int32)
        | (ColumnType::Int64, DataType::Int64)
        | (ColumnType::Float64, DataType::Float64)
        | (ColumnType::String, DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View)
        | (ColumnType::Binary, DataType::Binary | DataType::LargeBinary | DataType::BinaryView)
        | (ColumnType::Date32, DataType::Date32)
        // Tables store dates as days, so a table returns a declared `Date64` column as `Date32`.
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
        if matches(wanted, given) {
            return None;
        }
        let (given, wanted) = match wanted {
            ColumnType::Sql(wanted) => (sql_name(given), wanted.to_string()),
            wanted => (given.to_string(), wanted.as_str().to_owned()),
        };
        Some(format!("`{}` has the type {given}, not {wanted}", column.name))
    };
    declared.iter().filter_map(difference).collect()
}

/// Returns the SQL name of the type that tables store for an Arrow type.
fn sql_name(data_type: &DataType) -> String {
    let name = type_name(data_type);
    SqlType::parse(&name).map_or(name, |known| known.to_string())
}

/// Returns the declared columns as a schema, if the declaration contains the SQL type of each
/// column.
pub(crate) fn declared_schema(declared: &[DeclaredColumn]) -> Option<Schema> {
    let field = |column: &DeclaredColumn| {
        let Some(ColumnType::Sql(declared)) = column.column_type else { return None };
        Some(Field::new(&column.name, parse_type(&declared.to_string()).ok()?, true))
    };
    let fields: Vec<Field> = declared.iter().map(field).collect::<Option<_>>()?;
    (!fields.is_empty()).then(|| Schema::new(fields))
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

/// Number of nulls in each column that contains nulls although its declaration forbids them.
pub(crate) type NullCounts = BTreeMap<String, u64>;

/// Returns true if the declaration forbids nulls in a column.
pub(crate) fn forbids_nulls(declared: &[DeclaredColumn]) -> bool {
    declared.iter().any(|column| !column.nullable)
}

/// Counts the nulls in `rows` that the declarations of the columns forbid, and adds them to
/// `counts`.
pub(crate) fn count_nulls(
    declared: &[DeclaredColumn],
    rows: &RecordBatch,
    counts: &mut NullCounts,
) {
    for column in declared.iter().filter(|column| !column.nullable) {
        let Some(array) = rows.column_by_name(&column.name) else { continue };
        let nulls = array.logical_null_count() as u64;
        if nulls > 0 {
            *counts.entry(column.name.clone()).or_default() += nulls;
        }
    }
}

/// Creates the error for columns that must not contain nulls but do.
pub(crate) fn has_nulls(step: &Step, counts: &NullCounts) -> Error {
    let column = |(name, count): (&String, &u64)| {
        format!("`{name}` has nulls in {count} {}", if *count == 1 { "row" } else { "rows" })
    };
    let difference = counts.iter().map(column).collect::<Vec<_>>().join(", ");
    Error::DeclaredColumns { step: step.name.clone(), at: step.at.clone(), difference }
}
