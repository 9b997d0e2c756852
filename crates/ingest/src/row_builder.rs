//! Collects the rows of files into record batches and sends them to the writer.
//!
//! [`RowBuilder`] builds batches column by column. If a row fails after some of its fields were
//! appended, the row is completed with nulls, and removed when the batch is finished. So valid rows
//! have no additional cost. [`RowSink`] sends batches to the writer and waits for the writer, which
//! bounds memory. A bad row ends the import, or is added to the table of rejected rows.

use std::sync::Arc;

use arrow::array::{BooleanArray, RecordBatch, RecordBatchOptions};
use arrow::compute::filter_record_batch;
use arrow::datatypes::SchemaRef;
use arrow::error::ArrowError;
use headwater_tables::type_name;
use tokio::sync::mpsc::Sender;

use super::bad_row::RowError;
use super::column_builder::ColumnBuilder;
use super::rejected_rows::RejectedRows;
use crate::error::{Error, Result};

/// Maximum number of rows in a batch.
const BATCH_ROWS: usize = 16 * 1024;

/// Approximate maximum bytes of text in a batch.
const BATCH_BYTES: usize = 8 * 1024 * 1024;

/// A builder of record batches from rows.
#[derive(Debug)]
pub(crate) struct RowBuilder {
    schema: SchemaRef,
    pub columns: Vec<ColumnBuilder>,
    rows: usize,
    bytes: usize,
    bad: Vec<usize>,
}

impl RowBuilder {
    /// Creates a builder for a table. Fails, with the name of the column, if a column's type cannot
    /// be parsed from text.
    pub fn new(schema: &SchemaRef, file: &str) -> Result<Self> {
        let column = |field: &Arc<arrow::datatypes::Field>| {
            ColumnBuilder::new(field.data_type()).ok_or_else(|| Error::TypeConflict {
                column: field.name().clone(),
                found: "text".to_owned(),
                expected: type_name(field.data_type()),
                file: file.to_owned(),
            })
        };
        let columns = schema.fields().iter().map(column).collect::<Result<_>>()?;
        Ok(RowBuilder { schema: schema.clone(), columns, rows: 0, bytes: 0, bad: Vec::new() })
    }

    pub fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    /// Returns the number of rows in the batch, excluding the current row.
    pub fn len(&self) -> usize {
        self.rows
    }

    /// Ends a valid row that has `bytes` bytes of text. Columns without a value become null.
    pub fn end_row(&mut self, bytes: usize) {
        self.rows += 1;
        self.bytes += bytes;
    }

    /// Ends a row that is to be dropped.
    pub fn end_bad_row(&mut self) {
        self.bad.push(self.rows);
        self.rows += 1;
        self.columns.iter_mut().for_each(|column| column.repair(self.rows));
    }

    /// Returns true if the batch is full.
    pub fn is_full(&self) -> bool {
        self.rows >= BATCH_ROWS || self.bytes >= BATCH_BYTES
    }

    /// Returns the valid rows so far as a batch, and empties the builder.
    pub fn take(&mut self) -> Result<RecordBatch> {
        let rows = std::mem::take(&mut self.rows);
        self.bytes = 0;
        let bad = std::mem::take(&mut self.bad);
        let finish = |column: &mut ColumnBuilder| {
            column.repair(rows);
            column.finish()
        };
        let arrays = self.columns.iter_mut().map(finish).collect::<Result<_, ArrowError>>()?;
        let options = RecordBatchOptions::new().with_row_count(Some(rows));
        let batch = RecordBatch::try_new_with_options(self.schema.clone(), arrays, &options)?;
        if bad.is_empty() {
            return Ok(batch);
        }
        let mut keep = vec![true; rows];
        for row in bad {
            keep[row] = false;
        }
        Ok(filter_record_batch(&batch, &BooleanArray::from(keep))?)
    }
}

/// Destination of the rows of files: the writer of the table, or none if rows are only checked.
pub(crate) struct RowSink {
    rows: Option<Sender<Result<RecordBatch, ArrowError>>>,
    rejected: Option<RejectedRows>,
}

impl RowSink {
    /// Creates an output to a writer. Bad rows are sent to `rejected`. If `rejected` is `None`, a
    /// bad row ends the import.
    pub fn new(
        rows: Sender<Result<RecordBatch, ArrowError>>,
        rejected: Option<RejectedRows>,
    ) -> Self {
        RowSink { rows: Some(rows), rejected }
    }

    /// Creates an output that discards rows. With `reject`, bad rows are skipped; otherwise they
    /// are errors.
    pub fn check(reject: bool) -> Self {
        RowSink { rows: None, rejected: reject.then(RejectedRows::counting_only) }
    }

    /// Sends rows and waits while the writer's queue is full.
    pub fn send(&mut self, batch: RecordBatch) -> Result<()> {
        match &self.rows {
            Some(rows) if batch.num_rows() > 0 => {
                rows.blocking_send(Ok(batch)).map_err(|_| writer_ended())
            }
            _ => Ok(()),
        }
    }

    /// Sends a bad row to the rejected rows, or returns it as an error.
    pub fn reject(&mut self, file: &str, fault: RowError) -> Result<()> {
        let row = fault.in_file(file);
        match &mut self.rejected {
            Some(rejected) => rejected.push(row),
            None => Err(Error::BadRow(Box::new(row))),
        }
    }

    /// Ends the output, and returns the number of rejected rows. If the result is an error, the
    /// writer is aborted.
    pub fn finish(mut self, result: Result<()>) -> Result<u64> {
        let result = match (result, &mut self.rejected) {
            (Ok(()), Some(rejected)) => rejected.finish(),
            (Ok(()), None) => Ok(0),
            (Err(error), _) => Err(error),
        };
        if let (Err(_), Some(rows)) = (&result, &self.rows) {
            // Send an error: otherwise, the writer would treat the rows sent so far as the complete
            // input.
            let given_up = ArrowError::ExternalError("the import was aborted".into());
            let _ = rows.blocking_send(Err(given_up));
        }
        result
    }
}

/// Returns the error of a reader whose writer has ended. The writer's own error contains the cause.
pub(crate) fn writer_ended() -> Error {
    Error::Internal { message: "the writer of the import stopped before its reader".to_owned() }
}
