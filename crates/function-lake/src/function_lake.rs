//! The access of one call of a function to the lake.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use async_trait::async_trait;
use bytes::Bytes;
use futures::{StreamExt, TryStreamExt, stream};
use headwater_encoding::{Format, RowEncoder};
use headwater_engine::{
    Engine, PreparedStatement, SessionOptions, SessionRights, StatementResult, check_ref,
};
use headwater_functions::{
    LAKE_CONTENT_BYTES_MAX, LakeAccess, LakeRequest, LakeResponse, SharedTable, too_large,
};
use headwater_lake::{CommitView, Lake};
use headwater_model::{
    AccessObject, Action, ErrorCode, JobId, NameError, PROPERTY_JOB, Problem, RefSpec, ResultExt,
    TableName,
};
use headwater_objects::{
    ContentStream, NewObject, ObjectHeaders, ObjectPath, ObjectPrecondition, Objects,
};
use parking_lot::Mutex;
use serde_json::json;

use crate::append::not_appended;
use crate::call_branch::CallBranchState;
use crate::json_rows;

/// Maximum size of the rows that one call appends, in bytes.
const APPENDED_BYTES_MAX: u64 = 1 << 30;

/// The statements that write nothing.
const READS: [&str; 8] = [
    "SELECT",
    "EXPLAIN",
    "EXPLAIN COST",
    "SHOW TABLES",
    "SHOW VIEWS",
    "SHOW FUNCTIONS",
    "DESCRIBE",
    "SUMMARIZE",
];

/// The components that answer a function's requests. Cheap to clone.
#[derive(Debug, Clone)]
pub struct LakeComponents {
    /// The lake, with its tables.
    pub lake: Lake,
    /// The SQL engine.
    pub engine: Engine,
    /// The lake's buckets.
    pub objects: Objects,
}

/// The identity, job and cause of a call.
#[derive(Debug)]
pub struct CallIdentity {
    /// The permission checks for the call; `None` allows everything.
    pub access: Option<Arc<dyn SessionRights>>,
    /// The author of the call's commits.
    pub author: String,
    /// The call's job.
    pub job: JobId,
    /// The target branch. The call reads this branch, and its writes are committed there after it
    /// has succeeded.
    pub branch: String,
    /// The id of the part of an event that the call handles. At most one commit contains this id.
    pub event: Option<String>,
    /// The lineage of the call: names of triggers, function queues and event source mappings.
    pub caused_by: Vec<String>,
}

/// The access of one call to the lake.
#[derive(Debug)]
pub struct FunctionLakeAccess {
    pub(crate) parts: LakeComponents,
    pub(crate) scope: CallIdentity,
    /// Appended rows that are not written yet.
    pub(crate) appends: Mutex<Vec<(TableName, SharedTable)>>,
    pub(crate) state: Mutex<CallBranchState>,
    /// A journal entry to store with the changes.
    pub(crate) entry: Mutex<Option<CommitJournalEntry>>,
}

/// A journal entry that is stored with a commit.
#[derive(Debug, Clone)]
pub(crate) struct CommitJournalEntry {
    pub journal: String,
    pub key: String,
    pub value: Bytes,
}

impl FunctionLakeAccess {
    /// Creates the access of one call to the lake.
    pub fn new(parts: LakeComponents, scope: CallIdentity) -> Self {
        let (appends, state, entry) = (Mutex::default(), Mutex::default(), Mutex::default());
        FunctionLakeAccess { parts, scope, appends, state, entry }
    }

    /// Returns the columns of a table as the call sees it; `None` if the table does not exist.
    /// Does not check rights, so the columns must not be shown to users.
    pub async fn columns(&self, table: &TableName) -> Result<Option<SchemaRef>, Problem> {
        let found =
            self.current_view().await?.find(&table.namespace, &table.name).await.or_problem()?;
        Ok(found.map(|(_, table)| table.schema()))
    }

    /// Returns the newest state of the call's branch; of the branch that it reads, if it has none.
    pub(crate) async fn current_view(&self) -> Result<CommitView, Problem> {
        let own = self.state.lock().branch.as_ref().map(|branch| branch.name().to_owned());
        let branch = own.unwrap_or_else(|| self.scope.branch.clone());
        self.parts.lake.view(&RefSpec::Name(branch)).await.or_problem()
    }

    /// Sets a journal entry that is stored if and only if the call commits changes. The call must
    /// have an event.
    pub fn commit_with(&self, journal: &str, key: &str, value: Bytes) {
        let (journal, key) = (journal.to_owned(), key.to_owned());
        *self.entry.lock() = Some(CommitJournalEntry { journal, key, value });
    }

    pub(crate) fn check(&self, action: Action, object: &AccessObject) -> Result<(), Problem> {
        self.scope.access.as_ref().map_or(Ok(()), |access| access.check(action, object))
    }

    async fn read_object(&self, path: ObjectPath) -> Result<LakeResponse, Problem> {
        self.check(Action::Read, &AccessObject::object_in(&path.bucket, &path.key))?;
        let opened = self.parts.objects.open_object(&path, |info| Ok(0..info.size)).await;
        let opened = opened.or_problem()?;
        if opened.info.size > LAKE_CONTENT_BYTES_MAX {
            return Err(too_large(&format!("object `{}`", path.key)));
        }
        let content: Vec<Bytes> = opened.content.try_collect().await?;
        Ok(LakeResponse { value: json!(opened.info.etag), content })
    }

    async fn put_object(&self, path: ObjectPath, content: Bytes) -> Result<LakeResponse, Problem> {
        self.check(Action::Write, &AccessObject::object_in(&path.bucket, &path.key))?;
        let content: ContentStream = stream::iter([Ok(content)]).boxed();
        let content_type = content_type(&path.key).map(str::to_owned);
        let headers = ObjectHeaders { content_type, ..ObjectHeaders::default() };
        let condition = ObjectPrecondition::Always;
        let new = NewObject { path, headers, condition, content };
        let put = self.parts.objects.put_caused(new, &self.scope.caused_by).await;
        Ok(LakeResponse { value: json!(put.or_problem()?.etag), content: Vec::new() })
    }

    /// Executes a statement. The statement sees the rows that the call has appended.
    async fn query(&self, sql: &str, format: Format) -> Result<LakeResponse, Problem> {
        let parsed = PreparedStatement::parse(sql).map_err(headwater_engine::Error::from);
        let statement = parsed.or_problem()?;
        let command = statement.clone().command().map_err(headwater_engine::Error::from);
        let name = command.or_problem()?.name();
        if let Some(access) = &self.scope.access {
            let reference = RefSpec::Name(self.scope.branch.clone());
            check_ref(&self.parts.lake, access.as_ref(), &reference).await?;
        }
        let is_read = READS.contains(&name);
        let (has_appends, known) =
            (!self.appends.lock().is_empty(), self.state.lock().branch.clone());
        let branch = if is_read && !has_appends { known } else { Some(self.branch().await?) };
        let mut options = SessionOptions {
            author: self.scope.author.clone(),
            properties: BTreeMap::from([(PROPERTY_JOB.to_owned(), self.scope.job.to_string())]),
            calls_functions: false,
            ..SessionOptions::default()
        };
        if let Some(branch) = &branch {
            self.flush(branch).await?;
            options.reference = RefSpec::Name(branch.name().to_owned());
            options.access = self.access_on(branch);
        } else {
            options.reference = RefSpec::Name(self.scope.branch.clone());
            options.access.clone_from(&self.scope.access);
            options.view = Some(self.view().await?);
        }
        let session = self.parts.engine.session(options).or_problem()?;
        let result = Box::pin(session.execute(statement)).await.or_problem()?;
        if let Some(commit) = &result.commit {
            if name == "MERGE" {
                self.record_merged(commit).await?;
            }
            let usage = result.metrics.usage();
            self.record(name.to_owned(), usage.rows_written, usage.bytes_written);
        }
        let content = encoded(result, format).await?;
        Ok(LakeResponse { value: json!(null), content })
    }

    /// Returns the table to which the call appends. Checks the rights now, because a failure at the
    /// end of the call would lose its work.
    async fn target_table(&self, name: &str) -> Result<TableName, Problem> {
        let table: TableName = name
            .parse()
            .map_err(|error: NameError| headwater_model::ToProblem::to_problem(&error))?;
        self.check(Action::Write, &AccessObject::branch(&self.scope.branch))?;
        let view = self.current_view().await?;
        // With the same match of names as the append. The owner of a namespace must not see columns
        // of an existing table in errors.
        let found = view.state().find_table(&table.namespace, &table.name).await.or_problem()?;
        let object = match found {
            Some((_, entry)) => AccessObject::table(&table).with_owner(entry.owner.as_ref()),
            None => view.new_object(AccessObject::table(&table)).await.or_problem()?,
        };
        self.check(Action::Insert, &object)?;
        Ok(table)
    }

    async fn append_json(&self, table: &str, rows: Bytes) -> Result<LakeResponse, Problem> {
        let name = self.target_table(table).await?;
        let columns = self.columns(&name).await?;
        let rows = json_rows::table(rows, columns).await;
        match rows.map_err(|problem| not_appended(&name, problem))? {
            Some(rows) => self.append(table, rows).await,
            None => Ok(LakeResponse { value: json!(0), content: Vec::new() }),
        }
    }

    async fn append(&self, table: &str, rows: SharedTable) -> Result<LakeResponse, Problem> {
        let table = self.target_table(table).await?;
        self.check_rows(&table, &rows).await?;
        let mut appends = self.appends.lock();
        let before: u64 = appends.iter().map(|(_, rows)| rows.bytes()).sum();
        if before + rows.bytes() > APPENDED_BYTES_MAX {
            let most = APPENDED_BYTES_MAX >> 20;
            let message = format!("the rows that the call appends are larger than {most} MiB");
            return Err(Problem::new(ErrorCode::InvalidArgument, message)
                .with_hint("Append fewer rows in one call."));
        }
        let count = rows.rows();
        appends.push((table, rows));
        Ok(LakeResponse { value: json!(count), content: Vec::new() })
    }
}

#[async_trait]
impl LakeAccess for FunctionLakeAccess {
    async fn answer(&self, request: LakeRequest) -> Result<LakeResponse, Problem> {
        let name = match &request {
            LakeRequest::ReadObject { .. } => "lake read_object",
            LakeRequest::PutObject { .. } => "lake put_object",
            LakeRequest::Query { .. } => "lake query",
            LakeRequest::Append { .. } | LakeRequest::AppendJson { .. } => "lake append",
        };
        let span = self.parts.lake.telemetry().begin_access(self.scope.job, name);
        let answer = match request {
            LakeRequest::ReadObject { bucket, key } => {
                self.read_object(ObjectPath { bucket, key }).await
            }
            LakeRequest::PutObject { bucket, key, content } => {
                self.put_object(ObjectPath { bucket, key }, content).await
            }
            LakeRequest::Query { sql, json } => {
                self.query(&sql, if json { Format::Json } else { Format::Arrow }).await
            }
            LakeRequest::Append { table, rows } => self.append(&table, rows).await,
            LakeRequest::AppendJson { table, rows } => self.append_json(&table, rows).await,
        };
        if let Some(span) = span {
            span.end(answer.as_ref().err().map(|problem| problem.code.to_string()));
        }
        let branch = self.state.lock().branch.clone();
        answer.map_err(|problem| self.described(problem, branch.as_ref()))
    }

    fn restart(&self) {
        self.appends.lock().clear();
        // Dropping the handle of the branch deletes the branch.
        *self.state.lock() = CallBranchState::default();
    }
}

/// Encodes the rows of a statement, in parts.
async fn encoded(result: StatementResult, format: Format) -> Result<Vec<Bytes>, Problem> {
    let mut encoder = RowEncoder::new(format, &result.schema).map_err(|e| encoding(&e))?;
    let (mut rows, mut content, mut bytes) = (result.stream, Vec::new(), 0);
    while let Some(batch) = rows.next().await {
        let mut rest = Some(batch.or_problem()?);
        while let Some(batch) = rest {
            let (piece, left) = encoder.encode_prefix(batch).map_err(|error| encoding(&error))?;
            bytes += piece.len() as u64;
            content.push(piece);
            if bytes > LAKE_CONTENT_BYTES_MAX {
                return Err(too_large("the result of the query"));
            }
            rest = left;
        }
    }
    content.push(encoder.end().map_err(|error| encoding(&error))?);
    Ok(content)
}

/// Returns the content type of an object by the file extension of its key; `None` if it is unknown.
fn content_type(key: &str) -> Option<&'static str> {
    let (_, ending) = key.rsplit_once('.')?;
    Some(match ending.to_ascii_lowercase().as_str() {
        "html" | "htm" => "text/html; charset=utf-8",
        "txt" => "text/plain; charset=utf-8",
        "csv" => "text/csv; charset=utf-8",
        "json" => "application/json",
        "ndjson" | "jsonl" => "application/x-ndjson",
        "parquet" => "application/vnd.apache.parquet",
        "arrow" => "application/vnd.apache.arrow.stream",
        _ => return None,
    })
}

fn encoding(error: &arrow::error::ArrowError) -> Problem {
    let message = format!("the rows cannot be encoded: {error}");
    Problem::new(ErrorCode::InvalidArgument, message).with_hint("Cast the column to text.")
}
