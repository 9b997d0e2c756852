//! Rows as JSON objects, for diffs and previews.

use arrow::array::RecordBatch;
use arrow::error::ArrowError;
use arrow::json::WriterBuilder;
use arrow::json::writer::LineDelimited;
use serde_json::Value;

/// Converts the rows of batches to JSON objects with all columns, including nulls. Timestamps
/// become strings in RFC 3339 format, and binary values become hexadecimal strings.
pub fn json_rows(batches: &[RecordBatch]) -> Result<Vec<Value>, ArrowError> {
    let mut text = Vec::new();
    let builder = WriterBuilder::new().with_explicit_nulls(true);
    let mut writer = builder.build::<_, LineDelimited>(&mut text);
    writer.write_batches(&batches.iter().collect::<Vec<_>>())?;
    writer.finish()?;
    drop(writer);
    let rows = serde_json::Deserializer::from_slice(&text).into_iter::<Value>();
    rows.collect::<Result<_, _>>().map_err(|error| ArrowError::JsonError(error.to_string()))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{ArrayRef, Int64Array, StringArray};

    use super::*;

    #[test]
    fn rows_keep_their_columns_and_nulls() {
        let id: ArrayRef = Arc::new(Int64Array::from(vec![1, 2]));
        let name: ArrayRef = Arc::new(StringArray::from(vec![Some("a"), None]));
        let batch = RecordBatch::try_from_iter([("id", id), ("name", name)]).unwrap();
        let rows = json_rows(&[batch]).unwrap();
        assert_eq!(rows[0], serde_json::json!({"id": 1, "name": "a"}));
        assert_eq!(rows[1], serde_json::json!({"id": 2, "name": null}));
        assert_eq!(json_rows(&[]).unwrap(), Vec::<Value>::new());
    }
}
