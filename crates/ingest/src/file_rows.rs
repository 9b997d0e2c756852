//! Rows of files for a query, without a table. Files, columns and types are found as in an import.

use std::fmt;
use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use arrow::error::ArrowError;
use futures::{StreamExt, stream};
use headwater_model::{Fault, ImportRequest};
use headwater_tables::BatchStream;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::column_types::Columns;
use super::csv::CsvOptions;
use super::importer::{BATCHES_WAITING, Reader};
use super::object::CloudStores;
use super::plan::blocking;
use super::progress::{ImportStage, Progress, StageCounter};
use super::request::check;
use super::rows::Output;
use super::source::{SourceFile, discover};
use crate::error::{Error, Result};
use crate::importer::Importer;

/// The rows of files, which can be read repeatedly. Each reading fails if a value does not have the
/// type of its column.
#[derive(Clone)]
pub struct FileRows {
    files: Vec<SourceFile>,
    schema: SchemaRef,
    options: CsvOptions,
}

impl fmt::Debug for FileRows {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.files.iter().map(|file| &file.name)).finish()
    }
}

impl Importer {
    /// Opens files for reading without a table: lists them, and reads them once to determine
    /// columns and types. Of the request, only the sources and the options of formats matter. The
    /// reading threads stop when the future is dropped.
    pub async fn open(&self, request: &ImportRequest) -> Result<FileRows> {
        let checked = check(request)?;
        let (sources, format) = (request.sources.clone(), request.format);
        let cloud = self.lake().tables().options().cloud.clone();
        let clouds = CloudStores::new(cloud, self.buckets.clone());
        let hidden = self.private.clone().map(|files| (files, self.lake().clone()));
        let files = blocking(move || discover(&sources, format, clouds, hidden)).await?;
        let cancelled = CancellationToken::new();
        let _guard = cancelled.clone().drop_guard();
        let mut columns = Columns::new(None, &checked);
        let options = columns.infer_options(&checked);
        self.gather(&files, options, &unreported(), &cancelled, &mut columns).await?;
        let (schema, _) = columns.resolve(&files)?;
        Ok(FileRows { files, schema, options: checked.csv })
    }
}

impl FileRows {
    /// Returns the columns.
    pub fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }

    /// Returns a stream of all rows, in the order of the files. It must be created in a runtime of
    /// tokio. A thread reads the files until the stream is dropped.
    pub fn read(&self) -> BatchStream {
        let cancelled = CancellationToken::new();
        let stage = ImportStage::Import;
        let meter = StageCounter::new(stage, &self.files, unreported(), cancelled.clone());
        let (rows, received) = mpsc::channel(BATCHES_WAITING);
        let reader = Reader {
            files: self.files.clone(),
            schema: self.schema(),
            options: self.options.clone(),
            meter,
        };
        let task = tokio::task::spawn_blocking(move || reader.read(Output::new(rows, None)));
        let state = (received, Some(task), cancelled.drop_guard());
        stream::unfold(state, |(mut received, mut task, guard)| async move {
            // The reader sends an error only to end the stream. Its result has the reason.
            if let Some(Ok(batch)) = received.recv().await {
                return Some((Ok(batch), (received, task, guard)));
            }
            let error = match task.take()?.await {
                Ok(Ok(_)) => return None,
                Ok(Err(error)) => error,
                Err(error) => Error::Internal { message: format!("a reader failed: {error}") },
            };
            let error = ArrowError::ExternalError(Box::new(error.to_problem()));
            Some((Err(error), (received, task, guard)))
        })
        .boxed()
    }
}

/// Returns a receiver that ignores progress.
fn unreported() -> Progress {
    Arc::new(|_| {})
}
