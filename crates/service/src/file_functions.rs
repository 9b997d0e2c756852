//! Table functions that read files, such as `read_csv`: checks the right to read the files, and
//! registers their rows in the session of the statement.
//!
//! Files are read like the files of an import, with the same rights.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use arrow::error::ArrowError;
use futures::stream::{self, BoxStream};
use futures::{StreamExt, TryStreamExt};
use headwater_engine::{
    FileCall, PreparedStatement, RowSource, ScanCost, Session, StatementDescription,
};
use headwater_executors::{FileReadCounters, RunningStatement};
use headwater_ingest::{ByteCounter, FileRows, Importer};
use headwater_model::{ImportRequest, Principal, Problem, ResultExt};

use crate::copy_to::absolute_path;
use crate::service::Components;

/// Table name in the import request that describes the files. No table is written.
const TABLE: &str = "files";

/// The rows that are read to determine the columns of files.
#[derive(Debug, Clone, Copy)]
enum InferenceRows {
    /// The first rows of the first files.
    First,
    All,
}

/// Returns the types of the parameters and columns of a statement that may read files. The columns
/// of the files are determined from their first rows. If the statement cannot be planned with these
/// columns, all rows are read, because a column can occur for the first time in a later row.
///
/// Errors: the errors of [`register`] and of the plan; `quota_exceeded` if a daily limit of the
/// principal is reached.
pub async fn describe(
    components: &Components,
    principal: &Principal,
    session: &Session,
    mut statement: PreparedStatement,
) -> Result<StatementDescription, Problem> {
    let calls = statement.take_file_calls().map_err(headwater_engine::Error::from).or_problem()?;
    if let Some(user) = principal.user_name().filter(|_| !calls.is_empty()) {
        components.jobs.check_day_quota(user).await.or_problem()?;
    }
    register_columns(components, principal, session, &calls, InferenceRows::First).await?;
    match Box::pin(session.describe(&statement)).await {
        Err(_) if !calls.is_empty() => {}
        described => return described.or_problem(),
    }
    register_columns(components, principal, session, &calls, InferenceRows::All).await?;
    Box::pin(session.describe(&statement)).await.or_problem()
}

/// Registers an empty table for each call, with the columns of its files.
async fn register_columns(
    components: &Components,
    principal: &Principal,
    session: &Session,
    calls: &[FileCall],
    rows: InferenceRows,
) -> Result<(), Problem> {
    for call in calls {
        let (importer, request) = importer(components, principal, call.clone()).await?;
        let read = ByteCounter::default();
        let columns = match rows {
            InferenceRows::First => importer.describe(&request, &read).await,
            InferenceRows::All => importer.open(&request, &read).await.map(|rows| rows.schema()),
        };
        let rights = &components.import_rights;
        let columns = columns.map_err(|error| rights.to_problem(principal, None, &error))?;
        session.register_empty(&call.relation, columns).or_problem()?;
    }
    Ok(())
}

/// Registers the files that a statement reads. Returns the statement with references to the
/// registered files.
///
/// Errors: `forbidden`, even for files of a lake; the errors of an import.
pub async fn register(
    components: &Components,
    principal: &Principal,
    session: &Session,
    mut statement: PreparedStatement,
    running: &RunningStatement,
) -> Result<PreparedStatement, Problem> {
    let calls = statement.take_file_calls().map_err(headwater_engine::Error::from).or_problem()?;
    let (usage, job) = (&running.files, running.context.id());
    for call in calls {
        let (relation, name) = (call.relation.clone(), call.sources.join(", "));
        let (importer, request) = importer(components, principal, call).await?;
        let before = usage.read.get();
        let rows = importer.open(&request, &usage.read).await;
        let rights = &components.import_rights;
        let rows = rows.map_err(|error| rights.to_problem(principal, Some(job), &error))?;
        let opened = usage.read.get() - before;
        let stored = FileRowSource { name, rows, opened, usage: usage.clone() };
        session.register_stored(&relation, Arc::new(stored));
    }
    Ok(statement)
}

/// Returns an importer and an import request that together read the files of a table function.
async fn importer(
    components: &Components,
    principal: &Principal,
    call: FileCall,
) -> Result<(Importer, ImportRequest), Problem> {
    let FileCall { sources, format, header, delimiter, .. } = call;
    let location = |source: String| {
        if source.contains("://") { source } else { absolute_path(components, &source) }
    };
    let sources: Vec<String> = sources.into_iter().map(location).collect();
    let buckets = components.import_rights.check_sources(principal, &sources).await?;
    let request = ImportRequest {
        table: TABLE.to_owned(),
        sources,
        format: Some(format),
        header,
        delimiter,
        ..ImportRequest::default()
    };
    let private = components.import_rights.private_files(principal, &request.sources);
    let importer = Importer::new(components.lake.clone()).with_buckets(buckets).without(private);
    Ok((importer, request))
}

/// The rows of files as a table of the engine.
#[derive(Debug)]
struct FileRowSource {
    /// The paths or URLs of the files, as written in the statement.
    name: String,
    rows: FileRows,
    /// Number of bytes that were read to determine columns and types.
    opened: u64,
    usage: FileReadCounters,
}

impl RowSource for FileRowSource {
    fn schema(&self) -> SchemaRef {
        self.rows.schema()
    }

    fn cost(&self) -> Option<(String, ScanCost)> {
        let bytes = self.opened + self.rows.bytes();
        let cost = ScanCost { files: self.rows.files() as u64, rows: None, bytes };
        Some((self.name.clone(), cost))
    }

    fn read(&self) -> BoxStream<'static, Result<RecordBatch, ArrowError>> {
        let all: Vec<usize> = (0..self.rows.schema().fields().len()).collect();
        self.read_columns(&all)
    }

    fn read_columns(
        &self,
        columns: &[usize],
    ) -> BoxStream<'static, Result<RecordBatch, ArrowError>> {
        let usage = self.usage.clone();
        match self.rows.read(columns) {
            Ok(rows) => rows
                .inspect_ok(move |batch| {
                    usage.rows.fetch_add(batch.num_rows() as u64, Ordering::Relaxed);
                })
                .boxed(),
            Err(error) => stream::iter([Err(error)]).boxed(),
        }
    }
}
