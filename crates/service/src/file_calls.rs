//! Table functions that read files, such as `read_csv`: checks the right to read the files, and
//! registers their rows in the session of the statement.
//!
//! Files are read like those of an import, with the same rights.

use std::path::Path;
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use arrow::error::ArrowError;
use futures::stream::BoxStream;
use headwater_engine::{FileCall, Prepared, RowSource, Session};
use headwater_ingest::{FileRows, Importer, is_of_the_lake};
use headwater_model::{ErrorCode, ImportRequest, Principal, Problem, ResultExt};

use crate::copy_to::absolute_path;
use crate::service::Components;

/// Name of the table in the request that describes the files. Nothing is written.
const TABLE: &str = "files";

/// Registers the files that a statement reads, and returns the statement that refers to them.
///
/// Errors: `forbidden`; `invalid_argument` for files of the lake; those of an import.
pub async fn register(
    components: &Components,
    principal: &Principal,
    session: &Session,
    mut statement: Prepared,
) -> Result<Prepared, Problem> {
    let calls = statement.take_file_calls().map_err(headwater_engine::Error::from).or_problem()?;
    for call in calls {
        let relation = call.relation.clone();
        let rows = open(components, principal, call).await?;
        session.register_stored(&relation, Arc::new(StoredRows(rows))).or_problem()?;
    }
    Ok(statement)
}

async fn open(
    components: &Components,
    principal: &Principal,
    call: FileCall,
) -> Result<FileRows, Problem> {
    let FileCall { sources, format, header, delimiter, .. } = call;
    let location = |source: String| {
        if source.contains("://") { source } else { absolute_path(components, &source) }
    };
    let sources: Vec<String> = sources.into_iter().map(location).collect();
    let buckets = components.import_rights.check_sources(principal, &sources).await?;
    for source in &sources {
        check_outside(components, source)?;
    }
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
    importer.open(&request).await.or_problem()
}

/// Rejects files of the lake, such as its keys.
fn check_outside(components: &Components, source: &str) -> Result<(), Problem> {
    let path = Path::new(source);
    let path = path.canonicalize().unwrap_or_else(|_| path.to_owned());
    let is_path = !source.contains("://");
    if is_path && is_of_the_lake(&components.config.lake_dir, &path) {
        let message = format!("`{source}` cannot be read: the lake owns the files there");
        return Err(Problem::new(ErrorCode::InvalidArgument, message)
            .with_hint("Query the table, or name a file outside the lake."));
    }
    Ok(())
}

/// The rows of files as a table of the engine.
#[derive(Debug)]
struct StoredRows(FileRows);

impl RowSource for StoredRows {
    fn schema(&self) -> SchemaRef {
        self.0.schema()
    }

    fn read(&self) -> BoxStream<'static, Result<RecordBatch, ArrowError>> {
        self.0.read()
    }
}
