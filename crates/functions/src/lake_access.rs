//! Requests of running functions to the lake: read and write objects, run queries, append rows.
//!
//! The worker sends a request over its socket, and attaches a memory file with the content of the
//! request. The server attaches a memory file to its response, which contains a line of JSON and
//! the content of the response. This crate only transports requests and responses. An
//! implementation of [`LakeAccess`] checks and executes them.

use std::io::Write;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use headwater_model::{ErrorCode, Problem, ToProblem};
use headwater_sandbox::Channel;
use headwater_shared_memory::{MemoryFile, run_blocking};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::{Error, Result, SharedTable};

/// Maximum size of the content of a request or a response, in bytes.
pub const LAKE_CONTENT_BYTES_MAX: u64 = 256 << 20;

/// Handles the requests of one call to the lake.
#[async_trait]
pub trait LakeAccess: std::fmt::Debug + Send + Sync {
    /// Answers a request. If this returns an error, the function gets it as an exception.
    async fn answer(&self, request: LakeRequest) -> Result<LakeResponse, Problem>;

    /// Discards everything that the call's requests have not committed yet, because the call runs
    /// again from its start.
    fn restart(&self);
}

/// A request of a function to the lake.
#[derive(Debug)]
pub enum LakeRequest {
    /// Read an object.
    ReadObject {
        /// The name of the bucket.
        bucket: String,
        /// The key of the object.
        key: String,
    },
    /// Write an object.
    PutObject {
        /// The name of the bucket.
        bucket: String,
        /// The key of the object.
        key: String,
        /// The content of the object.
        content: Bytes,
    },
    /// Run an SQL query.
    Query {
        /// The SQL statement.
        sql: String,
        /// If true, the response contains the rows as JSON, otherwise as an Arrow IPC stream.
        json: bool,
    },
    /// Append rows to a table. The rows are committed only if the call succeeds.
    Append {
        /// The name of the table.
        table: String,
        /// The rows to append.
        rows: SharedTable,
    },
    /// Append rows like `Append`. The rows are a JSON list of objects.
    AppendJson {
        /// The name of the table.
        table: String,
        /// The rows to append.
        rows: Bytes,
    },
}

/// The response to a request of a function.
#[derive(Debug, Default)]
pub struct LakeResponse {
    /// The short value of the response, as JSON.
    pub value: Value,
    /// The content of an object or the rows of a query, divided into parts.
    pub content: Vec<Bytes>,
}

/// A request as the worker sends it. Any code in the function's process can send such a message.
#[derive(Debug, Deserialize)]
#[serde(tag = "operation", rename_all = "snake_case")]
pub(crate) enum UncheckedLakeRequest {
    ReadObject {
        bucket: String,
        key: String,
    },
    PutObject {
        bucket: String,
        key: String,
    },
    Query {
        sql: String,
        #[serde(default)]
        json: bool,
    },
    Append {
        table: String,
    },
    AppendJson {
        table: String,
    },
}

/// Handles a request and sends the response on the worker's socket.
pub(crate) async fn answer(
    channel: &Channel,
    access: Option<&Arc<dyn LakeAccess>>,
    message: UncheckedLakeRequest,
    file: Option<OwnedFd>,
) {
    let answered = match (access, request(message, file).await) {
        (Some(access), Ok(request)) => access.answer(request).await,
        (None, _) => Err(without_lake()),
        (_, Err(problem)) => Err(problem),
    };
    let (head, content) = match answered {
        Ok(LakeResponse { value, content }) => (json!({ "value": value }), content),
        Err(problem) => (json!({ "error": problem }), Vec::new()),
    };
    let head = format!("{head}\n");
    let written = run_blocking(move || write(&head, content)).await;
    let written =
        written.inspect_err(|error| tracing::warn!(%error, "cannot respond to a function"));
    let written = written.ok();
    let files: Vec<_> = written.iter().map(MemoryFile::descriptor).collect();
    // Ignore an error: a correct worker leaves so few replies unread that the socket's buffer has
    // space for all of them.
    let _ = channel.send(b"lake", &files);
}

pub(crate) fn without_lake() -> Problem {
    let message = "`headwater.lake` is only for functions that are called by name or by a trigger";
    Problem::new(ErrorCode::InvalidArgument, message)
        .with_hint("In a model or expectation, name the tables as inputs.")
}

/// Returns the request for a message and the file that is attached to it.
async fn request(
    message: UncheckedLakeRequest,
    file: Option<OwnedFd>,
) -> Result<LakeRequest, Problem> {
    let content = || {
        let missing = || Problem::new(ErrorCode::InvalidArgument, "the request has no content");
        file.ok_or_else(missing)
    };
    Ok(match message {
        UncheckedLakeRequest::ReadObject { bucket, key } => LakeRequest::ReadObject { bucket, key },
        UncheckedLakeRequest::Query { sql, json } => LakeRequest::Query { sql, json },
        UncheckedLakeRequest::PutObject { bucket, key } => {
            LakeRequest::PutObject { bucket, key, content: read_content(content()?).await? }
        }
        UncheckedLakeRequest::AppendJson { table } => {
            LakeRequest::AppendJson { table, rows: read_content(content()?).await? }
        }
        UncheckedLakeRequest::Append { table } => {
            let file = content()?;
            let rows = run_blocking(move || SharedTable::open(file)).await;
            LakeRequest::Append { table, rows: rows.map_err(|error| error.to_problem())? }
        }
    })
}

/// Writes a response to a memory file and seals the file. Frees each part of the content after
/// writing it.
fn write(head: &str, content: Vec<Bytes>) -> Result<MemoryFile> {
    let failed = || Error::io("write a memory file");
    let mut file = MemoryFile::create("headwater-lake")?;
    file.write_all(head.as_bytes()).map_err(failed())?;
    for part in content {
        file.write_all(&part).map_err(failed())?;
    }
    Ok(MemoryFile::seal(file.into())?)
}

async fn read_content(file: OwnedFd) -> Result<Bytes, Problem> {
    let content = run_blocking(move || read(file)).await.map_err(|error| error.to_problem())?;
    content.ok_or_else(|| too_large("the content"))
}

/// Seals a memory file and copies its content; `None` if the content is too large.
fn read(file: OwnedFd) -> Result<Option<Bytes>> {
    let file = MemoryFile::seal(file)?;
    match file.bytes() {
        0 => Ok(Some(Bytes::new())),
        bytes if bytes > LAKE_CONTENT_BYTES_MAX => Ok(None),
        _ => Ok(Some(Bytes::copy_from_slice(&file.buffer()?))),
    }
}

/// Returns the error for content that is larger than [`LAKE_CONTENT_BYTES_MAX`]. `what` describes
/// the content.
pub fn too_large(what: &str) -> Problem {
    let most = LAKE_CONTENT_BYTES_MAX >> 20;
    Problem::new(ErrorCode::InvalidArgument, format!("{what} is larger than {most} MiB"))
        .with_hint("Split the content, or read the object in parts through the S3 endpoint.")
}
