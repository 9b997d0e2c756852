//! Queries: executes SQL statements, and streams the rows of the last statement.

use axum::body::Body as ResponseBody;
use axum::extract::State;
use axum::http::header::CONTENT_TYPE;
use axum::http::{HeaderMap, HeaderValue};
use axum::response::{IntoResponse, Response};
use headwater_encoding::{Format, RowSource, encode_rows};
use headwater_model::{Problem, QueryRequest};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::error::{ErrorResponse, HandlerResult};
use super::extract::{Body, Caller};
use crate::server_state::App;

/// Header with the id of a request's job.
pub(super) const JOB_HEADER: &str = "x-headwater-job";

pub(super) fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::new().routes(routes!(query))
}

/// Executes SQL statements in order, and returns the rows of the last statement. `Accept` selects
/// the format of the rows: `application/json` (an array of objects, the default),
/// `application/x-ndjson`, `text/csv`, `application/vnd.apache.parquet`, or
/// `application/vnd.apache.arrow.stream`. The header `x-headwater-job` contains the id of the job.
///
/// Rows are streamed while they are computed. An error before the first row is returned as a
/// `Problem`. A later error aborts the response, and is recorded in the job. A client that
/// disconnects cancels the statement.
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
        Ok(rows) => encoded(rows, format).await,
        Err(problem) => Err(problem),
    };
    let mut response = answer.unwrap_or_else(|problem| ErrorResponse(problem).into_response());
    if let Ok(id) = HeaderValue::from_str(&id.to_string()) {
        response.headers_mut().insert(JOB_HEADER, id);
    }
    Ok(response)
}

/// Returns the response with these rows.
pub(super) async fn encoded(rows: impl RowSource, format: Format) -> Result<Response, Problem> {
    let chunks = encode_rows(rows, format).await?;
    let media_type = [(CONTENT_TYPE, format.media_type())];
    Ok((media_type, ResponseBody::from_stream(chunks)).into_response())
}
