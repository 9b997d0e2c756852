//! Rows as CSV: a header, then the rows. Null is the empty field. Lists, structs and maps are JSON.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, RecordBatch, StringArray};
use arrow::csv::{Writer, WriterBuilder};
use arrow::datatypes::{DataType, Field, FieldRef, Schema, SchemaRef};
use arrow::error::ArrowError;
use bytes::Bytes;

use super::calendar;
use super::json::json_texts;
use super::output::Output;

/// A writer of CSV.
pub struct CsvWriter {
    schema: SchemaRef,
    writer: Writer<Output>,
    output: Output,
}

impl CsvWriter {
    /// Creates a writer, which writes the header.
    pub fn new(schema: &Schema) -> Result<Self, ArrowError> {
        let fields: Vec<FieldRef> = schema.fields().iter().map(flat_field).collect();
        let schema = Arc::new(Schema::new(fields));
        let output = Output::default();
        let mut writer = WriterBuilder::new().with_header(true).build(output.clone());
        writer.write(&RecordBatch::new_empty(schema.clone()))?;
        Ok(CsvWriter { schema, writer, output })
    }

    /// Encodes a batch.
    pub fn batch(&mut self, batch: &RecordBatch) -> Result<Bytes, ArrowError> {
        let fields = batch.schema_ref().fields();
        let columns = fields.iter().zip(batch.columns());
        let columns: Result<Vec<_>, _> = columns.map(|(field, array)| flat(field, array)).collect();
        let columns = columns?;
        self.writer.write(&RecordBatch::try_new(self.schema_of(&columns), columns)?)?;
        Ok(self.output.take())
    }

    /// Returns the schema, with text for columns whose times Arrow's encoders do not support.
    fn schema_of(&self, columns: &[ArrayRef]) -> SchemaRef {
        let fields = self.schema.fields().iter().zip(columns);
        if fields.clone().all(|(field, column)| field.data_type() == column.data_type()) {
            return self.schema.clone();
        }
        let fields = fields
            .map(|(field, column)| Field::new(field.name(), column.data_type().clone(), true));
        Arc::new(Schema::new(fields.collect::<Vec<_>>()))
    }

    /// Returns the remaining bytes: the header if no batch was written.
    pub fn end(&mut self) -> Bytes {
        self.output.take()
    }
}

fn has_parts(data_type: &DataType) -> bool {
    data_type.is_nested()
}

fn flat_field(field: &FieldRef) -> FieldRef {
    if has_parts(field.data_type()) {
        Arc::new(Field::new(field.name(), DataType::Utf8, true))
    } else {
        field.clone()
    }
}

fn flat(field: &FieldRef, array: &ArrayRef) -> Result<ArrayRef, ArrowError> {
    let has_parts = has_parts(field.data_type());
    if !has_parts && !calendar::has_far_times(array) {
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
        let mut writer = CsvWriter::new(batch.schema_ref()).expect("a writer");
        let text = writer.batch(&batch).expect("bytes");
        assert_eq!(&text[..], b"l\n\"[1,null]\"\n\"\"\n");
    }
}
