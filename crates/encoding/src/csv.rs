//! Rows as CSV: a header, then the rows. Null is an empty field, and the empty text is `""`. Lists,
//! structs and maps are JSON.
//!
//! Arrow's writer has no option to write null and the empty text differently.

use std::fmt::Write;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, RecordBatch, StringArray};
use arrow::datatypes::{DataType, FieldRef, Schema};
use arrow::error::ArrowError;
use arrow::util::display::{ArrayFormatter, FormatOptions};
use bytes::Bytes;

use super::json::json_texts;
use super::out_of_range_times;

/// A writer of CSV.
pub struct CsvWriter {
    output: Vec<u8>,
}

impl CsvWriter {
    /// Creates a writer. The first written bytes are the header.
    pub fn new(schema: &Schema) -> Self {
        let mut output = Vec::new();
        let names = schema.fields().iter().map(|field| Some(field.name().as_str()));
        line(&mut output, names);
        CsvWriter { output }
    }

    /// Encodes a batch.
    pub fn batch(&mut self, batch: &RecordBatch) -> Result<Bytes, ArrowError> {
        let fields = batch.schema_ref().fields();
        let columns = fields.iter().zip(batch.columns());
        let columns: Result<Vec<_>, _> = columns.map(|(field, array)| flat(field, array)).collect();
        let columns = columns?;
        let options = FormatOptions::default();
        let formatters = columns.iter().map(|column| ArrayFormatter::try_new(column, &options));
        let formatters = formatters.collect::<Result<Vec<_>, _>>()?;
        let mut texts = vec![String::new(); columns.len()];
        for row in 0..batch.num_rows() {
            for (text, formatter) in texts.iter_mut().zip(&formatters) {
                text.clear();
                write!(text, "{}", formatter.value(row)).map_err(|_| not_formatted())?;
            }
            let values = columns.iter().zip(&texts);
            let values = values.map(|(column, text)| column.is_valid(row).then_some(text.as_str()));
            line(&mut self.output, values);
        }
        Ok(self.end())
    }

    /// Returns the remaining bytes. If no batch was written, returns the header.
    pub fn end(&mut self) -> Bytes {
        std::mem::take(&mut self.output).into()
    }
}

fn not_formatted() -> ArrowError {
    ArrowError::CsvError("a value cannot be written as text".to_owned())
}

/// Appends the line of a row. If the row has only one column and its value is null, the line is
/// empty, as in PostgreSQL and DuckDB.
fn line<'a>(output: &mut Vec<u8>, values: impl Iterator<Item = Option<&'a str>>) {
    let mut separator: &[u8] = b"";
    for value in values {
        output.extend_from_slice(separator);
        separator = b",";
        match value {
            None => {}
            Some(text) if needs_quotes(text) => {
                output.push(b'"');
                output.extend_from_slice(text.replace('"', "\"\"").as_bytes());
                output.push(b'"');
            }
            Some(text) => output.extend_from_slice(text.as_bytes()),
        }
    }
    output.push(b'\n');
}

fn needs_quotes(text: &str) -> bool {
    text.is_empty() || text.contains([',', '"', '\n', '\r'])
}

fn has_parts(data_type: &DataType) -> bool {
    data_type.is_nested()
}

fn flat(field: &FieldRef, array: &ArrayRef) -> Result<ArrayRef, ArrowError> {
    let has_parts = has_parts(field.data_type());
    if !has_parts && !out_of_range_times::has_out_of_range_times(array) {
        return Ok(array.clone());
    }
    let texts = json_texts(field, array)?;
    if has_parts {
        return Ok(Arc::new(texts));
    }
    let plain = texts.iter().map(|text| text.map(|text| text.trim_matches('"')));
    Ok(Arc::new(plain.collect::<StringArray>()))
}

#[cfg(test)]
mod tests {
    use arrow::array::{Int64Builder, ListBuilder};

    use super::*;

    #[test]
    fn lists_are_json() {
        let mut lists = ListBuilder::new(Int64Builder::new());
        lists.append_value([Some(1), None]);
        lists.append_null();
        let array: ArrayRef = Arc::new(lists.finish());
        let batch = RecordBatch::try_from_iter([("l", array)]).expect("a batch");
        let mut writer = CsvWriter::new(batch.schema_ref());
        let text = writer.batch(&batch).expect("bytes");
        assert_eq!(&text[..], b"l\n\"[1,null]\"\n\n");
    }
    #[test]
    fn null_and_the_empty_text_differ() {
        let texts = |values: Vec<Option<&str>>| Arc::new(StringArray::from(values)) as ArrayRef;
        let batch = RecordBatch::try_from_iter([
            ("a,b", texts(vec![Some(""), None, Some("x\ny")])),
            ("c", texts(vec![None, Some("say \"no\""), Some("plain")])),
        ]);
        let batch = batch.expect("a batch");
        let mut writer = CsvWriter::new(batch.schema_ref());
        let text = writer.batch(&batch).expect("bytes");
        let expected = "\"a,b\",c\n\"\",\n,\"say \"\"no\"\"\"\n\"x\ny\",plain\n";
        assert_eq!(text, expected.as_bytes());
    }
}
