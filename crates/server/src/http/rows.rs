//! Rows of a table: written as an Arrow stream, in one commit.

use axum::Json;
use axum::extract::{DefaultBodyLimit, Request, State};
use axum::http::header::CONTENT_TYPE;
use axum::http::{HeaderName, HeaderValue};
use headwater_functions::SharedTable;
use headwater_jobs::NewJob;
use headwater_lake::WriteRows;
use headwater_model::{
    ErrorCode, Fault, JobKind, Problem, RefSpec, TableName, Usage, WriteMode, WriteReport,
};
use serde::Deserialize;
use serde_json::json;
use utoipa::IntoParams;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::App;
use super::body::Kind;
use super::extract::{Caller, Parameters, Segments};
use super::failure::{Answer, Failure};
use super::query::JOB_HEADER;
use crate::answer::Format;

pub(super) fn routes() -> OpenApiRouter<App> {
    // Each body is held to its own limit, once there is room for it.
    OpenApiRouter::new().routes(routes!(write)).layer(DefaultBodyLimit::disable())
}

/// What the rows do to the table.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
struct Options {
    /// `append`, the default, or `replace`.
    #[serde(default)]
    #[param(inline)]
    mode: WriteMode,
}

/// Writes rows into a table of a branch, and creates the table where it does not exist. The body is one
/// table as `application/vnd.apache.arrow.stream`, not compressed, of at most 256 MiB.
///
/// The rows are one commit, durable before the answer is sent. The header `x-headwater-job` names the job.
#[utoipa::path(post, path = "/v1/branches/{branch}/tables/{table}/rows",
    operation_id = "write_rows", tag = "table",
    params(("branch" = String, Path), ("table" = String, Path), Options),
    request_body(content((Vec<u8> = "application/vnd.apache.arrow.stream"))),
    responses((status = 200, body = WriteReport), (status = "default", body = Problem)))]
async fn write(
    State(app): State<App>,
    Caller(principal): Caller,
    Segments((branch, table)): Segments<(String, String)>,
    Parameters(options): Parameters<Options>,
    request: Request,
) -> Answer<([(HeaderName, HeaderValue); 1], Json<WriteReport>)> {
    let name: TableName = table.parse()?;
    let branch = app.service.components().branch_to_write(Some(&RefSpec::Name(branch))).await?;
    let media_type = request.headers().get(CONTENT_TYPE).and_then(|value| value.to_str().ok());
    if media_type != Some(Format::Arrow.media_type()) {
        let message = "the body is no Arrow stream";
        let hint = format!("Send one table with `Content-Type: {}`.", Format::Arrow.media_type());
        return Err(Failure::invalid(message, hint));
    }
    let rows = read_table(&app, request).await?;
    let author = principal.author().to_owned();
    let summary = format!("{} rows to {name}", rows.rows());
    let new = NewJob::new(JobKind::Import, summary, author.clone());
    let new = NewJob { reference: Some(branch.clone()), ..new };
    let (context, guard) = app.service.components().jobs.record(new).await?;
    let id = context.id();
    let write = WriteRows {
        branch,
        table: name,
        mode: options.mode,
        schema: rows.schema(),
        author,
        job: id.to_string(),
    };
    // A client that goes away leaves no half of a write: it ends as it would.
    let written = tokio::spawn(async move {
        let written = app.service.components().lake.write(&write, || rows.stream()).await;
        let written = written.map_err(|error| error.to_problem());
        if let Ok(report) = &written {
            let (rows_written, bytes_written) = (report.rows, report.bytes_written);
            context.add_usage(&Usage { rows_written, bytes_written, ..Usage::default() });
        }
        let outcome = written.as_ref().map(|report| json!(report)).map_err(Clone::clone);
        match guard.finish_stored(outcome).await {
            Some(problem) => Err(problem),
            None => written,
        }
    });
    let written = written.await.unwrap_or_else(|error| {
        let message = format!("the write ended before it was done: {error}");
        Err(Problem::new(ErrorCode::Internal, message))
    });
    let id = HeaderValue::from_str(&id.to_string()).unwrap_or(HeaderValue::from_static(""));
    Ok(([(HeaderName::from_static(JOB_HEADER), id)], Json(written.map_err(Failure)?)))
}

/// Reads a body that is one table in Arrow's form.
pub(super) async fn read_table(app: &App, request: Request) -> Answer<SharedTable> {
    let unreadable = |error: &dyn std::fmt::Display| {
        let hint = "Send an Arrow IPC stream that is not compressed.";
        Failure::invalid(format!("the table cannot be read: {error}"), hint)
    };
    let (bytes, _permit) = app.bodies.read(request, Kind::Table).await?;
    let room = app.service.components().runner.room().clone();
    let read = tokio::task::spawn_blocking(move || SharedTable::read_stream(bytes, &room)).await;
    read.map_err(|error| unreadable(&error))?.map_err(|error| match error.code() {
        ErrorCode::DiskFull => Failure(error.to_problem()),
        _ => unreadable(&error),
    })
}
