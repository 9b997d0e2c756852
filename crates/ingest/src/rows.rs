//! Rows on their way from a file to a table: gathered into record batches, handed to the writer.
//!
//! [`Rows`] builds batches column by column. A row that turns out bad half way keeps its place,
//! filled with nulls, and is taken out when the batch is; so good rows pay nothing for it.
//! [`Output`] sends batches to the writer and waits for it, so that memory has a bound; bad rows
//! end the import or go to the table of rejected rows.

use std::sync::Arc;

use arrow::array::{BooleanArray, RecordBatch, RecordBatchOptions};
use arrow::compute::filter_record_batch;
use arrow::datatypes::SchemaRef;
use arrow::error::ArrowError;
use headwater_tables::type_name;
use tokio::sync::mpsc::Sender;

use super::bad_row::RowFault;
use super::column::Column;
use super::rejected::Rejected;
use crate::error::{Error, Result};

/// Rows in a batch, at most.
const BATCH_ROWS: usize = 16 * 1024;

/// Bytes of text that go into one batch, about.
const BATCH_BYTES: usize = 8 * 1024 * 1024;

/// Builds record batches from rows.
#[derive(Debug)]
pub(crate) struct Rows {
    schema: SchemaRef,
    pub columns: Vec<Column>,
    rows: usize,
    bytes: usize,
    bad: Vec<usize>,
}

impl Rows {
    /// Rows of a table; an error names a column whose type no text can become.
    pub fn new(schema: &SchemaRef, file: &str) -> Result<Self> {
        let column = |field: &Arc<arrow::datatypes::Field>| {
            Column::new(field.data_type()).ok_or_else(|| Error::TypeConflict {
                column: field.name().clone(),
                found: "text".to_owned(),
                expected: type_name(field.data_type()),
                file: file.to_owned(),
            })
        };
        let columns = schema.fields().iter().map(column).collect::<Result<_>>()?;
        Ok(Rows { schema: schema.clone(), columns, rows: 0, bytes: 0, bad: Vec::new() })
    }

    pub fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    /// Rows in the batch, without the one under way.
    pub fn len(&self) -> usize {
        self.rows
    }

    /// Ends a good row, of so many bytes of text. Columns it did not mention become null.
    pub fn end_row(&mut self, bytes: usize) {
        self.rows += 1;
        self.bytes += bytes;
    }

    /// Ends a row that is to be left out.
    pub fn end_bad_row(&mut self) {
        self.bad.push(self.rows);
        self.rows += 1;
        self.columns.iter_mut().for_each(|column| column.repair(self.rows));
    }

    /// Whether the batch is to be taken.
    pub fn is_full(&self) -> bool {
        self.rows >= BATCH_ROWS || self.bytes >= BATCH_BYTES
    }

    /// The batch so far, without bad rows; afterwards there are none.
    pub fn take(&mut self) -> Result<RecordBatch> {
        let rows = std::mem::take(&mut self.rows);
        self.bytes = 0;
        let bad = std::mem::take(&mut self.bad);
        let finish = |column: &mut Column| {
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

/// Where rows go.
pub(crate) struct Output {
    rows: Option<Sender<Result<RecordBatch, ArrowError>>>,
    rejected: Option<Rejected>,
}

impl Output {
    /// Rows go to a writer; bad rows to `rejected`, or end the import where there is none.
    pub fn new(rows: Sender<Result<RecordBatch, ArrowError>>, rejected: Option<Rejected>) -> Self {
        Output { rows: Some(rows), rejected }
    }

    /// Rows go nowhere; bad rows are an error, or are passed over where `reject`.
    pub fn check(reject: bool) -> Self {
        Output { rows: None, rejected: reject.then(Rejected::nowhere) }
    }

    /// Sends rows, waiting while the writer is behind.
    pub fn send(&mut self, batch: RecordBatch) -> Result<()> {
        match &self.rows {
            Some(rows) if batch.num_rows() > 0 => {
                rows.blocking_send(Ok(batch)).map_err(|_| writer_ended())
            }
            _ => Ok(()),
        }
    }

    /// Takes a bad row.
    pub fn reject(&mut self, file: &str, fault: RowFault) -> Result<()> {
        let row = fault.in_file(file);
        match &mut self.rejected {
            Some(rejected) => rejected.push(row),
            None => Err(Error::BadRow(Box::new(row))),
        }
    }

    /// Ends the output: all of it was sent, or it is to be given up.
    pub fn finish(mut self, result: Result<()>) -> Result<u64> {
        let result = match (result, &mut self.rejected) {
            (Ok(()), Some(rejected)) => rejected.finish(),
            (Ok(()), None) => Ok(0),
            (Err(error), _) => Err(error),
        };
        if let (Err(_), Some(rows)) = (&result, &self.rows) {
            // Nobody may take what was sent so far for the whole.
            let given_up = ArrowError::ExternalError("the import was given up".into());
            let _ = rows.blocking_send(Err(given_up));
        }
        result
    }
}

/// The error of a reader whose writer is gone; the writer's own error says why.
pub(crate) fn writer_ended() -> Error {
    Error::Internal { message: "the writer of the import ended before its reader".to_owned() }
}
