//! Writes the rows of a running query.

use std::fs::File;
use std::io::Write;
use std::path::PathBuf;
use std::thread;

use arrow::array::RecordBatch;
use arrow::datatypes::{Schema, SchemaRef};
use arrow::ipc::writer::StreamWriter;
use headwater_encoding::compact_views;
use headwater_model::{ErrorCode, JobId, PreviewColumn, Problem, ResultExt};
use tokio_util::sync::CancellationToken;

use crate::error::{Error, Result};
use crate::record::{QueryRecord, StoredBatch, rows_path};
use crate::results::QueryResults;

/// The writer of one result. If it is dropped without [`ResultWriter::end`], the query ends as
/// interrupted or, during a panic, as failed.
#[derive(Debug)]
pub struct ResultWriter {
    results: QueryResults,
    id: String,
    folder: PathBuf,
    file: File,
    cancelled: CancellationToken,
    /// The record of the query; `None` after the query has ended.
    record: Option<QueryRecord>,
}

impl ResultWriter {
    /// Creates the writer of a query whose record is stored.
    pub(crate) fn new(
        results: QueryResults,
        folder: PathBuf,
        record: QueryRecord,
        cancelled: CancellationToken,
    ) -> Result<Self> {
        let file = File::create_new(rows_path(&folder))?;
        let id = record.query.id.clone();
        Ok(ResultWriter { results, id, folder, file, cancelled, record: Some(record) })
    }

    /// Returns the id of the query.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Returns the token that is cancelled when a user cancels the query.
    pub fn cancelled(&self) -> &CancellationToken {
        &self.cancelled
    }

    /// Records the job of the statement that returns the rows, and the columns of the rows. The
    /// record is durable on return. Blocks the thread.
    ///
    /// Errors: `disk_full`, `storage`.
    pub fn begin(&mut self, job: JobId, schema: &SchemaRef) -> Result<()> {
        let Some(record) = &mut self.record else { return Ok(()) };
        record.query.job = Some(job.to_string());
        record.query.columns = columns(schema);
        record.schema = Some(encoded(schema, None)?);
        self.results.set(record);
        Ok(record.write(&self.folder)?)
    }

    /// Writes a batch. Blocks the thread.
    ///
    /// Errors: `quota_exceeded` if the result is too large; `disk_full`, `storage`.
    pub fn write(&mut self, batch: &RecordBatch) -> Result<()> {
        let Some(record) = self.record.as_mut().filter(|_| batch.num_rows() > 0) else {
            return Ok(());
        };
        let bytes = encoded(batch.schema_ref(), Some(&compact_views(batch)?))?;
        let part = StoredBatch { rows: batch.num_rows() as u64, bytes: bytes.len() as u64 };
        let limit = self.results.limits().query_bytes;
        if record.query.bytes + part.bytes > limit {
            return Err(Error::TooLarge { limit });
        }
        self.file.write_all(&bytes)?;
        record.query.rows += part.rows;
        record.query.bytes += part.bytes;
        record.parts.push(part);
        Ok(())
    }

    /// Ends the query. Its rows and its record are durable on return. Blocks the thread.
    pub fn end(&mut self, outcome: Result<(), Problem>) {
        let synced = || self.file.sync_all().map_err(Error::from).or_problem();
        let outcome = outcome.and_then(|()| synced());
        self.finish(outcome);
    }

    fn finish(&mut self, outcome: Result<(), Problem>) {
        if let Some(record) = self.record.take() {
            self.results.end(record, outcome);
        }
    }
}

impl Drop for ResultWriter {
    fn drop(&mut self) {
        let problem = if thread::panicking() { panicked() } else { interrupted() };
        self.finish(Err(problem));
    }
}

/// Returns the error of a query that was running when the server stopped.
pub fn interrupted() -> Problem {
    let message = "the server stopped while the query was running";
    Problem::new(ErrorCode::Interrupted, message).with_hint(
        "Before you send the query again, check with `headwater log` which statements were \
         committed.",
    )
}

fn panicked() -> Problem {
    Problem::new(ErrorCode::Internal, "the query panicked")
        .with_hint("Report this error: a panic is a defect of Headwater.")
}

fn columns(schema: &Schema) -> Vec<PreviewColumn> {
    let column = |field: &arrow::datatypes::FieldRef| PreviewColumn {
        name: field.name().clone(),
        column_type: field.data_type().to_string(),
    };
    schema.fields().iter().map(column).collect()
}

/// Encodes a schema and at most one batch as an Arrow IPC stream. Each batch has its own stream,
/// because the batches of one Arrow file cannot have different dictionaries.
fn encoded(schema: &Schema, batch: Option<&RecordBatch>) -> Result<Vec<u8>> {
    let mut writer = StreamWriter::try_new(Vec::new(), schema)?;
    if let Some(batch) = batch {
        writer.write(batch)?;
    }
    writer.finish()?;
    Ok(writer.into_inner()?)
}
