//! Rows that a function returned as JSON: a list of objects, or one object.

use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::{DataType, Field, FieldRef, Schema, SchemaRef};
use arrow::error::ArrowError;
use arrow::json::ReaderBuilder;
use arrow::json::reader::infer_json_schema_from_iterator;
use bytes::Bytes;
use headwater_functions::SharedTable;
use headwater_model::{ErrorCode, Problem, ResultExt};
use serde_json::Value;

use crate::failure::unsuitable;

/// Returns the rows of a JSON text as a table; `None` for an empty list. Columns have their types
/// in `known`, or else the types of their values. Columns that are not in `known` and have no
/// value are left out.
pub(crate) async fn table(
    json: Bytes,
    known: Option<SchemaRef>,
) -> Result<Option<SharedTable>, Problem> {
    let read = move || {
        let rows = objects(&json)?;
        let Some(batch) = batch(&rows, known.as_deref())? else { return Ok(None) };
        SharedTable::write(batch.schema(), [Ok(batch)]).or_problem().map(Some)
    };
    tokio::task::spawn_blocking(read).await.unwrap_or_else(|error| {
        Err(Problem::new(ErrorCode::Internal, format!("reading the result failed: {error}")))
    })
}

/// Returns the rows of a JSON text.
pub(crate) fn objects(json: &[u8]) -> Result<Vec<Value>, Problem> {
    let hint = "Return a table, a list of dicts or a dict.";
    let value = serde_json::from_slice(json)
        .map_err(|error| unsuitable(format!("the result is not valid JSON: {error}"), hint))?;
    let rows = match value {
        Value::Array(rows) => rows,
        row => vec![row],
    };
    match rows.iter().position(|row| !row.is_object()) {
        None => Ok(rows),
        Some(at) => Err(unsuitable(format!("item {} of the result is not a row", at + 1), hint)),
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
        let message = "the rows of the result have no values".to_owned();
        return Err(unsuitable(message, "Return rows with at least one value."));
    }
    let mut decoder = ReaderBuilder::new(Arc::new(Schema::new(fields)))
        .with_batch_size(rows.len())
        .with_coerce_primitive(true)
        .build_decoder()
        .map_err(mismatch)?;
    decoder.serialize(rows).map_err(mismatch)?;
    decoder.flush().map_err(mismatch)
}

fn mismatch(error: ArrowError) -> Problem {
    let message = format!("the rows of the result do not match the columns: {error}");
    unsuitable(message, "Return values of the types of the columns.")
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
    fn other_results_are_rejected() {
        let known = Schema::new(vec![Field::new("id", DataType::Int64, true)]);
        for (json, message) in [
            ("[{}, 1]", "item 2 of the result is not a row"),
            ("7", "item 1 of the result is not a row"),
            ("NaN", "not valid JSON"),
            ("[{}]", "have no values"),
            (r#"[{"id": "x"}]"#, "do not match the columns"),
        ] {
            let problem = rows(json, Some(&known)).expect_err(json);
            assert!(problem.message.contains(message), "{problem}");
        }
    }
}
