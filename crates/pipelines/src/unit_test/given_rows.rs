//! Converts given rows to a record batch. Types are inferred: whole numbers, floats, Booleans and
//! text; text in ISO 8601 format becomes a date or a timestamp. Columns with a declared SQL type
//! are cast to that type.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::compute::concat_batches;
use arrow::datatypes::{DataType, Field, Schema, TimeUnit};
use arrow::json::ReaderBuilder;
use arrow::json::reader::infer_json_schema_from_iterator;
use futures::TryStreamExt;
use headwater_engine::{RecordBatches, Session};
use headwater_model::name::quoted;
use headwater_project::unit_test::{GivenRows, TestRow};
use serde_json::Value;

/// Name under which a session registers the rows before they are cast.
const RAW: &str = "headwater given";

/// Returns the given rows of a table as a record batch.
pub(super) async fn batch(session: &Session, given: &GivenRows) -> Result<RecordBatch, String> {
    let none = BTreeMap::new();
    let types = given.types().unwrap_or(&none);
    let raw = untyped(given.rows(), types)?;
    if types.is_empty() {
        return Ok(raw);
    }
    let schema = raw.schema();
    let columns = schema.fields().iter().map(|field| {
        let name = quoted(field.name());
        types
            .get(field.name())
            .map_or(name.clone(), |kind| format!("CAST({name} AS {kind}) AS {name}"))
    });
    let query = format!("SELECT {} FROM {}", columns.collect::<Vec<_>>().join(", "), quoted(RAW));
    let rows = RecordBatches { schema: raw.schema(), batches: vec![raw] };
    session.register(RAW, &rows).map_err(|error| error.to_string())?;
    let answer = Box::pin(session.select(&query)).await.map_err(|error| error.to_string())?;
    let schema = Arc::clone(&answer.schema);
    let batches: Vec<RecordBatch> =
        answer.stream.try_collect().await.map_err(|error| error.to_string())?;
    concat_batches(&schema, &batches).map_err(|error| error.to_string())
}

/// Returns rows with inferred types. Declared columns that no row contains are added.
pub(super) fn untyped(
    rows: &[TestRow],
    types: &BTreeMap<String, String>,
) -> Result<RecordBatch, String> {
    let values: Vec<Value> = rows.iter().cloned().map(Value::Object).collect();
    let inferred = infer_json_schema_from_iterator(values.iter().map(Ok));
    let inferred = inferred.map_err(|error| error.to_string())?;
    let mut fields: Vec<Field> = inferred
        .fields()
        .iter()
        .map(|field| typed(field.name(), field.data_type(), rows))
        .collect();
    for name in types.keys() {
        if fields.iter().all(|field| field.name() != name) {
            fields.push(Field::new(name, DataType::Utf8, true));
        }
    }
    if fields.is_empty() {
        return Err("the rows have no columns; add `types` and `rows`".to_owned());
    }
    let schema = Arc::new(Schema::new(fields));
    let mut decoder = ReaderBuilder::new(Arc::clone(&schema))
        .with_batch_size(rows.len().max(1))
        .build_decoder()
        .map_err(|error| error.to_string())?;
    decoder.serialize(&values).map_err(|error| error.to_string())?;
    let batch = decoder.flush().map_err(|error| error.to_string())?;
    Ok(batch.unwrap_or_else(|| RecordBatch::new_empty(schema)))
}

fn typed(name: &str, inferred: &DataType, rows: &[TestRow]) -> Field {
    let texts = || rows.iter().filter_map(|row| row.get(name)?.as_str());
    let all = |is: fn(&str) -> bool| texts().next().is_some() && texts().all(is);
    let data_type = match inferred {
        DataType::Null => DataType::Utf8,
        DataType::Utf8 if all(is_date) => DataType::Date32,
        DataType::Utf8 if all(is_timestamp) => DataType::Timestamp(TimeUnit::Microsecond, None),
        other => other.clone(),
    };
    Field::new(name, data_type, true)
}

fn is_date(text: &str) -> bool {
    text.len() == 10 && text.parse::<chrono::NaiveDate>().is_ok()
}

fn is_timestamp(text: &str) -> bool {
    let formats = ["%Y-%m-%dT%H:%M:%S%.f", "%Y-%m-%d %H:%M:%S%.f"];
    formats.iter().any(|format| chrono::NaiveDateTime::parse_from_str(text, format).is_ok())
}
