//! Queries: SQL statements; the rows of the last one are streamed.

use arrow::error::ArrowError;
use axum::body::Body as ResponseBody;
use axum::extract::State;
use axum::http::header::CONTENT_TYPE;
use axum::http::{HeaderMap, HeaderValue};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use futures::{Stream, StreamExt};
use headwater_encoding::{Encoder, Format};
use headwater_model::{ErrorCode, Problem, QueryRequest};
use headwater_service::StatementRows;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::error::{ErrorResponse, HandlerResult};
use super::extract::{Body, Caller};
use crate::state::App;

/// Header with the id of a request's job.
pub(super) const JOB_HEADER: &str = "x-headwater-job";

pub(super) fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::new().routes(routes!(query))
}

/// Executes SQL statements in order, and returns the rows of the last one. `Accept` selects the
/// format of the rows: `application/json` (an array of objects, the default),
/// `application/x-ndjson`, `text/csv`, `application/vnd.apache.parquet`, or
/// `application/vnd.apache.arrow.stream`. The header `x-headwater-job` contains the id of its job.
///
/// Rows are streamed while they are computed. An error before the first row is a `Problem`; a later
/// error aborts the response, and the job contains it. A client that disconnects cancels the
/// statement.
#[utoipa::path(post, path = "/v1/query",
    operation_id = "query", tag = "query",
    request_body = QueryRequest, responses(
    (status = 200, description = "The rows.", content(
        (Vec<serde_json::Value> = "application/json"),
        (String = "application/x-ndjson"),
        (Vec<u8> = "application/vnd.apache.parquet"),
        (String = "text/csv"),
        (Vec<u8> = "application/vnd.apache.arrow.stream"))),
    (status = "default", body = Problem)))]
async fn query(
    State(app): State<App>,
    Caller(principal): Caller,
    headers: HeaderMap,
    Body(request): Body<QueryRequest>,
) -> HandlerResult<Response> {
    let format = Format::accepted(&headers)?;
    let principal = principal.with_author(request.author.clone());
    let started = app.service.statements().start(&principal, &request).await?;
    let id = started.job;
    let answer = match started.rows {
        Ok(rows) => encode(rows, format).await,
        Err(problem) => Err(problem),
    };
    let mut response = match answer {
        Ok(chunks) => {
            let media_type = [(CONTENT_TYPE, format.media_type())];
            (media_type, ResponseBody::from_stream(chunks)).into_response()
        }
        Err(problem) => ErrorResponse(problem).into_response(),
    };
    if let Ok(id) = HeaderValue::from_str(&id.to_string()) {
        response.headers_mut().insert(JOB_HEADER, id);
    }
    Ok(response)
}

/// Encodes rows in chunks. Returns as soon as the first chunk or an error is available.
async fn encode(
    mut rows: StatementRows,
    format: Format,
) -> Result<impl Stream<Item = Result<Bytes, Problem>> + Send + 'static, Problem> {
    let encoder = match Encoder::new(format, rows.schema()) {
        Ok(encoder) => encoder,
        Err(error) => return Err(rows.fail(not_encoded(&error))),
    };
    let mut chunks = Chunks { rows, encoder: Some(encoder) };
    let first = chunks.next().await?;
    let rest = futures::stream::try_unfold(chunks, |mut chunks| async {
        Ok(chunks.next().await?.map(|bytes| (bytes, chunks)))
    });
    Ok(futures::stream::iter(first.map(Ok)).chain(rest))
}

/// The remaining chunks of a response.
struct Chunks {
    rows: StatementRows,
    /// The encoder; `None` after the last chunk.
    encoder: Option<Encoder>,
}

impl Chunks {
    /// Returns the next non-empty chunk; `None` after the last one.
    async fn next(&mut self) -> Result<Option<Bytes>, Problem> {
        while let Some(encoder) = &mut self.encoder {
            let bytes = if let Some(batch) = self.rows.next().await? {
                encoder.batch(&batch)
            } else {
                let bytes = encoder.end();
                self.encoder = None;
                bytes
            };
            let bytes = bytes.map_err(|error| self.rows.fail(not_encoded(&error)))?;
            if !bytes.is_empty() {
                return Ok(Some(bytes));
            }
        }
        Ok(None)
    }
}

fn not_encoded(error: &ArrowError) -> Problem {
    Problem::new(ErrorCode::Internal, format!("the rows cannot be encoded: {error}"))
}
