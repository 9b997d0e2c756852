//! Rows for the table `<table>__rejected`, which holds rows that could not be read.

use std::sync::Arc;

use arrow::array::{ArrayRef, Int64Builder, RecordBatch, StringBuilder, TimestampMicrosecondArray};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use headwater_model::{TableName, Timestamp};
use tokio::sync::mpsc::Sender;

use super::bad_row::BadRow;
use super::row_builder::writer_ended;
use super::type_inference::zoned_timestamp;
use crate::error::Result;

/// Maximum number of rows in a batch.
const BATCH_ROWS: usize = 1024;

/// Approximate maximum bytes of text in a batch.
const BATCH_BYTES: usize = 4 * 1024 * 1024;

/// Returns the name of the table for the rejected rows of `table`.
pub(crate) fn rejected_name(table: &TableName) -> Result<TableName> {
    Ok(TableName::new(table.namespace.clone(), format!("{}__rejected", table.name))?)
}

/// Returns the columns of a table for rejected rows.
pub(crate) fn rejected_schema() -> SchemaRef {
    let text = |name: &str| Field::new(name, DataType::Utf8, true);
    Arc::new(Schema::new(vec![
        text("file"),
        Field::new("line", DataType::Int64, true),
        text("column"),
        text("value"),
        text("reason"),
        text("row"),
        Field::new("imported_at", zoned_timestamp(), true),
    ]))
}

/// A collector of rejected rows, which sends them to the writer in batches.
pub(crate) struct RejectedRows {
    batches: Option<Sender<RecordBatch>>,
    imported_at: Timestamp,
    columns: Columns,
    rows: usize,
    bytes: usize,
    total: u64,
}

#[derive(Default)]
struct Columns {
    file: StringBuilder,
    line: Int64Builder,
    column: StringBuilder,
    value: StringBuilder,
    reason: StringBuilder,
    row: StringBuilder,
}

impl RejectedRows {
    pub fn new(batches: Sender<RecordBatch>, imported_at: Timestamp) -> Self {
        let columns = Columns::default();
        RejectedRows { batches: Some(batches), imported_at, columns, rows: 0, bytes: 0, total: 0 }
    }

    /// Creates a collector that only counts rows.
    pub fn counting_only() -> Self {
        let (columns, imported_at) = (Columns::default(), Timestamp::UNIX_EPOCH);
        RejectedRows { batches: None, imported_at, columns, rows: 0, bytes: 0, total: 0 }
    }

    pub fn push(&mut self, row: BadRow) -> Result<()> {
        self.total += 1;
        if self.batches.is_none() {
            return Ok(());
        }
        self.rows += 1;
        self.bytes += row.row.len() + row.value.as_ref().map_or(0, String::len);
        let columns = &mut self.columns;
        columns.file.append_value(row.file);
        columns.line.append_value(row.line as i64);
        columns.column.append_option(row.column);
        columns.value.append_option(row.value);
        columns.reason.append_value(row.reason);
        columns.row.append_value(row.row);
        if self.rows >= BATCH_ROWS || self.bytes >= BATCH_BYTES { self.send() } else { Ok(()) }
    }

    /// Sends the remaining rows, and returns the total number of rejected rows.
    pub fn finish(&mut self) -> Result<u64> {
        if self.rows > 0 {
            self.send()?;
        }
        Ok(self.total)
    }

    fn send(&mut self) -> Result<()> {
        let at = vec![self.imported_at.timestamp_micros(); self.rows];
        let at = TimestampMicrosecondArray::from(at).with_data_type(zoned_timestamp());
        let columns = &mut self.columns;
        let arrays: Vec<ArrayRef> = vec![
            Arc::new(columns.file.finish()),
            Arc::new(columns.line.finish()),
            Arc::new(columns.column.finish()),
            Arc::new(columns.value.finish()),
            Arc::new(columns.reason.finish()),
            Arc::new(columns.row.finish()),
            Arc::new(at),
        ];
        (self.rows, self.bytes) = (0, 0);
        let batch = RecordBatch::try_new(rejected_schema(), arrays)?;
        match &self.batches {
            Some(batches) => batches.blocking_send(batch).map_err(|_| writer_ended()),
            None => Ok(()),
        }
    }
}
