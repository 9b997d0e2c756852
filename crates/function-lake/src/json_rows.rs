//! Rows of a function as JSON: a list of objects, or one object.

use std::sync::Arc;

use arrow::array::{Array, AsArray, RecordBatch};
use arrow::datatypes::{DataType, Field, FieldRef, Float32Type, Float64Type, Schema, SchemaRef};
use arrow::error::ArrowError;
use arrow::json::ReaderBuilder;
use arrow::json::reader::infer_json_schema_from_iterator;
use bytes::Bytes;
use futures::StreamExt;
use headwater_functions::SharedTable;
use headwater_model::{ErrorCode, Problem, ResultExt};
use serde_json::value::RawValue;
use serde_json::{Number, Value, json};

/// Maximum number of values in the arrays into which rows are decoded. Rows with few values and
/// many different columns would need much more memory than their text.
const VALUES_MAX: usize = 100_000_000;

const HINT: &str = "Use a table, a list of dicts or a dict.";

/// Returns the rows of a JSON text as a table; `None` for an empty list. Columns have their types
/// in `known`, or else the types of their values. Columns that are not in `known` and have no
/// value are left out.
pub async fn table(json: Bytes, known: Option<SchemaRef>) -> Result<Option<SharedTable>, Problem> {
    blocking(move || {
        let rows = objects(&json)?;
        let Some(batch) = batch(&rows, known.as_deref())? else { return Ok(None) };
        SharedTable::write(batch.schema(), [Ok(batch)]).or_problem().map(Some)
    })
    .await
}

/// Calls `read` on a blocking thread, because reading many rows takes long.
///
/// Errors: the errors of `read`; `internal` if `read` panics.
pub async fn blocking<T: Send + 'static>(
    read: impl FnOnce() -> Result<T, Problem> + Send + 'static,
) -> Result<T, Problem> {
    tokio::task::spawn_blocking(read).await.unwrap_or_else(|error| {
        Err(Problem::new(ErrorCode::Internal, format!("reading the rows failed: {error}")))
    })
}

fn objects(json: &[u8]) -> Result<Vec<Value>, Problem> {
    let value = serde_json::from_slice(json).map_err(|error| not_json(&error))?;
    let rows = match value {
        Value::Array(rows) => rows,
        row => vec![row],
    };
    match rows.iter().position(|row| !row.is_object()) {
        None => Ok(rows),
        Some(at) => Err(not_a_row(at)),
    }
}

/// Returns the JSON text of each row; `json` is a list of objects, or one object.
pub fn texts(json: &[u8]) -> Result<Vec<Box<RawValue>>, Problem> {
    let rows: Vec<Box<RawValue>> = if json.trim_ascii_start().starts_with(b"[") {
        serde_json::from_slice(json).map_err(|error| not_json(&error))?
    } else {
        vec![serde_json::from_slice(json).map_err(|error| not_json(&error))?]
    };
    match rows.iter().position(|row| !row.get().starts_with('{')) {
        None => Ok(rows),
        Some(at) => Err(not_a_row(at)),
    }
}

/// Returns the error for rows that are not JSON.
pub fn not_json(error: &serde_json::Error) -> Problem {
    unsuitable(format!("the rows are not valid JSON: {error}"), HINT)
}

fn not_a_row(at: usize) -> Problem {
    unsuitable(format!("item {} of the list is not a dict", at + 1), HINT)
}

/// Checks that JSON can represent all values of a table. JSON has no binary type, and `NaN` and
/// infinities would become null.
pub async fn check_exact(table: &SharedTable) -> Result<(), Problem> {
    for field in table.schema().fields() {
        if is_binary(field.data_type()) {
            let message = format!("column `{}` is binary", field.name());
            return Err(unsuitable(message, "Convert the column to text."));
        }
    }
    let mut batches = table.stream();
    while let Some(batch) = batches.next().await {
        let batch = batch.map_err(mismatch)?;
        for (column, field) in batch.columns().iter().zip(batch.schema_ref().fields()) {
            if has_no_number(column) {
                let message = format!("column `{}` contains NaN or an infinity", field.name());
                return Err(unsuitable(message, "Use null or text instead."));
            }
        }
    }
    Ok(())
}

fn is_binary(data_type: &DataType) -> bool {
    match data_type {
        DataType::List(item) | DataType::LargeList(item) | DataType::FixedSizeList(item, _) => {
            is_binary(item.data_type())
        }
        DataType::Struct(fields) => fields.iter().any(|field| is_binary(field.data_type())),
        DataType::Binary
        | DataType::LargeBinary
        | DataType::BinaryView
        | DataType::FixedSizeBinary(_) => true,
        _ => false,
    }
}

fn has_no_number(column: &dyn Array) -> bool {
    match column.data_type() {
        DataType::Float32 => {
            column.as_primitive::<Float32Type>().iter().flatten().any(|value| !value.is_finite())
        }
        DataType::Float64 => {
            column.as_primitive::<Float64Type>().iter().flatten().any(|value| !value.is_finite())
        }
        _ => false,
    }
}

fn batch(rows: &[Value], known: Option<&Schema>) -> Result<Option<RecordBatch>, Problem> {
    if rows.is_empty() {
        return Ok(None);
    }
    let inferred = infer_json_schema_from_iterator(rows.iter().map(Ok)).map_err(mismatch)?;
    let column = |field: &FieldRef| {
        let known = known.and_then(|known| known.field_with_name(field.name()).ok());
        let data_type = known.map_or(field.data_type(), Field::data_type);
        let is_typed = *data_type != DataType::Null;
        is_typed.then(|| Field::new(field.name(), data_type.clone(), true))
    };
    let fields: Vec<Field> = inferred.fields().iter().filter_map(column).collect();
    if fields.is_empty() {
        let message = "the rows have no values".to_owned();
        return Err(unsuitable(message, "Use rows with at least one value."));
    }
    let schema = Schema::new(fields);
    let (count, columns) = (objects_in(rows), schema.flattened_fields().len());
    if count.saturating_mul(columns) > VALUES_MAX {
        let message = format!(
            "the rows have too many values: {count} dicts with {columns} different columns"
        );
        return Err(unsuitable(message, "Use rows with fewer different columns."));
    }
    check_numbers(rows, &schema)?;
    let mut decoder = ReaderBuilder::new(Arc::new(schema))
        .with_batch_size(rows.len())
        .with_coerce_primitive(true)
        .build_decoder()
        .map_err(mismatch)?;
    decoder.serialize(rows).map_err(mismatch)?;
    decoder.flush().map_err(mismatch)
}

/// Returns the number of objects in JSON values, including nested objects.
fn objects_in(values: &[Value]) -> usize {
    let count = |value: &Value| match value {
        Value::Array(items) => objects_in(items),
        Value::Object(fields) => {
            let nested = fields.values().map(|value| objects_in(std::slice::from_ref(value)));
            1 + nested.sum::<usize>()
        }
        _ => 0,
    };
    values.iter().map(count).sum()
}

/// Checks that no number loses digits. The decoder rounds numbers to the type of the column.
fn check_numbers(rows: &[Value], schema: &Schema) -> Result<(), Problem> {
    for field in schema.fields() {
        let (name, data_type) = (field.name(), field.data_type());
        let numbers = rows.iter().filter_map(|row| match row.get(name) {
            Some(Value::Number(number)) => Some(number),
            _ => None,
        });
        for number in numbers {
            if is_rounded(number, data_type) {
                let message = format!("the number `{number}` would be rounded in column `{name}`");
                return Err(unsuitable(message, "Use numbers of the type of the column."));
            }
        }
    }
    Ok(())
}

fn is_rounded(number: &Number, data_type: &DataType) -> bool {
    if data_type.is_integer() {
        return number.is_f64() && number.as_f64().is_some_and(|value| value.fract() != 0.0);
    }
    // Integers from 2^63 on get the type double, which would round them.
    *data_type == DataType::Float64 && number.is_u64() && number.as_i64().is_none()
}

/// Returns the error for rows that cannot be read.
pub fn mismatch(error: ArrowError) -> Problem {
    let message = format!("the rows do not match the columns: {error}");
    unsuitable(message, "Use values of the types of the columns.")
}

/// Returns the problem of rows with an unsuitable type or structure. A retry cannot succeed.
fn unsuitable(message: String, hint: &str) -> Problem {
    let mut problem = Problem::new(ErrorCode::InvalidArgument, message).with_hint(hint);
    problem.context.insert("retryable".to_owned(), json!(false));
    problem
}

#[cfg(test)]
mod tests {
    use arrow::util::pretty::pretty_format_batches;

    use super::*;

    fn rows(json: &str, known: Option<&Schema>) -> Result<Vec<String>, Problem> {
        let Some(batch) = batch(&objects(json.as_bytes())?, known)? else { return Ok(Vec::new()) };
        let shown = pretty_format_batches(&[batch]).expect("text").to_string();
        let lines = shown.lines().filter(|line| line.starts_with('|'));
        Ok(lines.map(|line| line.split_whitespace().collect::<String>()).collect())
    }

    #[test]
    fn rows_have_the_types_of_the_table_or_of_their_values() {
        let json = r#"[{"id": 1, "day": "2026-03-01", "none": null}, {"id": 2.5, "note": "a"}]"#;
        let found = rows(json, None).expect("rows");
        assert_eq!(found.len(), 3, "{found:?}");
        assert!(!found[0].contains("none"), "{found:?}");
        let known = Schema::new(vec![
            Field::new("id", DataType::Utf8, true),
            Field::new("day", DataType::Date32, false),
            Field::new("none", DataType::Int64, true),
        ]);
        let batch = batch(&objects(json.as_bytes()).expect("rows"), Some(&known));
        let batch = batch.expect("a batch").expect("rows");
        let typed = |name: &str| batch.schema().field_with_name(name).expect("a column").clone();
        assert_eq!(typed("id").data_type(), &DataType::Utf8);
        assert_eq!(typed("day").data_type(), &DataType::Date32);
        assert_eq!(typed("none").data_type(), &DataType::Int64);
        assert_eq!(typed("note").data_type(), &DataType::Utf8);
        assert!(rows("[]", None).expect("no rows").is_empty());
        assert_eq!(rows(r#"{"id": 7}"#, None).expect("a row"), ["|id|", "|7|"]);
    }

    #[test]
    fn rows_with_too_many_different_columns_are_rejected() {
        let sparse = |count: usize| -> Vec<Value> {
            (0..count).map(|at| serde_json::json!({(format!("c{at}")): 1})).collect()
        };
        batch(&sparse(100), None).expect("rows");
        let problem = batch(&sparse(11_000), None).expect_err("rows");
        assert!(problem.message.contains("11000 different columns"), "{problem}");
        let nested = [serde_json::json!({"items": sparse(11_000)})];
        batch(&nested, None).expect_err("nested");
    }

    #[test]
    fn other_results_are_rejected() {
        let known = Schema::new(vec![Field::new("id", DataType::Int64, true)]);
        for (json, message) in [
            ("[{}, 1]", "item 2 of the list is not a dict"),
            ("7", "item 1 of the list is not a dict"),
            ("NaN", "not valid JSON"),
            ("[{}]", "have no values"),
            (r#"[{"id": "x"}]"#, "do not match the columns"),
            (r#"[{"id": 2}, {"id": 2.5}]"#, "`2.5` would be rounded in column `id`"),
            (r#"[{"n": 18446744073709551615}]"#, "would be rounded in column `n`"),
        ] {
            let problem = rows(json, Some(&known)).expect_err(json);
            assert!(problem.message.contains(message), "{problem}");
        }
    }
}
