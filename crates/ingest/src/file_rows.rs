//! Rows of files for a query, without a table. Files, columns and types are found as in an import.

use std::fmt;
use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch, RecordBatchOptions, new_null_array};
use arrow::datatypes::{Field, SchemaRef};
use arrow::error::ArrowError;
use futures::{StreamExt, stream};
use headwater_model::{ImportRequest, ToProblem};
use headwater_tables::BatchStream;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::cloud_object::CloudStores;
use super::column_types::ImportColumns;
use super::csv::CsvOptions;
use super::file_columns::InferOptions;
use super::import_plan::blocking;
use super::importer::{BATCHES_WAITING, ReadTask};
use super::progress::{ByteCounter, ImportStage, ProgressCallback, StageProgress};
use super::request_validation::check;
use super::row_builder::RowSink;
use super::source::{SourceFile, discover};
use crate::error::{Error, Result};
use crate::importer::Importer;

/// Number of files that are read to describe a query, and number of rows that are read of each
/// file.
const SAMPLE_FILES: usize = 8;
const SAMPLE_ROWS: u64 = 1_000;

/// The rows of files, which can be read repeatedly. Each reading fails if a value does not have the
/// type of its column.
#[derive(Clone)]
pub struct FileRows {
    files: Vec<SourceFile>,
    schema: SchemaRef,
    options: CsvOptions,
    read: ByteCounter,
}

impl fmt::Debug for FileRows {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.files.iter().map(|file| &file.name)).finish()
    }
}

impl Importer {
    /// Opens files for reading without a table: lists them, and reads them once to determine
    /// columns and types. Uses only the sources and the format options of the request. Adds the
    /// number of bytes read to `read`. The reading threads stop when the future is dropped.
    pub async fn open(&self, request: &ImportRequest, read: &ByteCounter) -> Result<FileRows> {
        self.open_sample(request, read, None).await
    }

    /// Returns the columns of files, determined from the first rows of the first files. Later rows
    /// can require a wider type of a column.
    pub async fn describe(&self, request: &ImportRequest, read: &ByteCounter) -> Result<SchemaRef> {
        Ok(self.open_sample(request, read, Some(SAMPLE_ROWS)).await?.schema)
    }

    async fn open_sample(
        &self,
        request: &ImportRequest,
        read: &ByteCounter,
        rows_max: Option<u64>,
    ) -> Result<FileRows> {
        let checked = check(request)?;
        let (sources, format) = (request.sources.clone(), request.format);
        let cloud = self.lake().tables().options().cloud.clone();
        let clouds = CloudStores::new(cloud, self.buckets.clone());
        let private = self.private.as_ref().map(|files| files.resolve(self.lake()));
        let mut files = blocking(move || discover(&sources, format, clouds, private)).await?;
        if rows_max.is_some() {
            files.truncate(SAMPLE_FILES);
        }
        let cancelled = CancellationToken::new();
        let _guard = cancelled.clone().drop_guard();
        let mut columns = ImportColumns::new(None, &checked);
        let read = read.clone();
        let options =
            InferOptions { rows_max, read: read.clone(), ..columns.infer_options(&checked) };
        self.gather(&files, options, &unreported(), &cancelled, &mut columns).await?;
        let (schema, _) = columns.resolve(&files)?;
        Ok(FileRows { files, schema, options: checked.csv, read })
    }
}

impl FileRows {
    /// Returns the columns.
    pub fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }

    /// Returns the number of files.
    pub fn files(&self) -> usize {
        self.files.len()
    }

    /// Returns the size of the files on disk or in the bucket, in bytes. One scan of all columns
    /// reads this number of bytes.
    pub fn bytes(&self) -> u64 {
        self.files.iter().map(|file| file.stamp.bytes).sum()
    }

    /// Returns a stream of all rows, in the order of the files, with these columns. Reads only
    /// these columns of a Parquet file. The stream must be created in a runtime of tokio. A thread
    /// reads the files until the stream is dropped.
    ///
    /// Errors: a column does not exist.
    pub fn read(&self, columns: &[usize]) -> Result<BatchStream, ArrowError> {
        let projected = Arc::new(self.schema.project(columns)?);
        let cancelled = CancellationToken::new();
        let (stage, read) = (ImportStage::Import, self.read.clone());
        let meter =
            StageProgress::counting(stage, &self.files, unreported(), cancelled.clone(), read);
        let (rows, received) = mpsc::channel(BATCHES_WAITING);
        let reader = ReadTask {
            files: self.files.clone(),
            schema: self.schema(),
            columns: Some(columns.to_vec()),
            options: self.options.clone(),
            meter,
        };
        let task = tokio::task::spawn_blocking(move || reader.read(RowSink::new(rows, None)));
        let state = (received, Some(task), cancelled.drop_guard());
        let rows = stream::unfold(state, move |(mut received, mut task, guard)| {
            let projected = projected.clone();
            async move {
                // A received error only ends the stream; the result of the thread has the actual
                // error.
                if let Some(Ok(batch)) = received.recv().await {
                    return Some((with_columns(&batch, &projected), (received, task, guard)));
                }
                let error = match task.take()?.await {
                    Ok(Ok(_)) => return None,
                    Ok(Err(error)) => error,
                    Err(error) => Error::Internal { message: format!("a reader failed: {error}") },
                };
                let error = ArrowError::ExternalError(Box::new(error.to_problem()));
                Some((Err(error), (received, task, guard)))
            }
        });
        Ok(rows.boxed())
    }
}

/// Returns a batch with exactly the columns of a schema. A column that the batch lacks is null.
fn with_columns(batch: &RecordBatch, schema: &SchemaRef) -> Result<RecordBatch, ArrowError> {
    let rows = batch.num_rows();
    let column = |field: &Arc<Field>| -> ArrayRef {
        let found = batch.column_by_name(field.name());
        found.map_or_else(|| new_null_array(field.data_type(), rows), Arc::clone)
    };
    let columns = schema.fields().iter().map(column).collect();
    let options = RecordBatchOptions::new().with_row_count(Some(rows));
    RecordBatch::try_new_with_options(schema.clone(), columns, &options)
}

/// Returns a callback that ignores progress.
fn unreported() -> ProgressCallback {
    Arc::new(|_| {})
}
