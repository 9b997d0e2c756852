//! Asynchronous queries: start, list, get, read rows, cancel, delete.

use std::time::Duration;

use axum::Json;
use axum::extract::State;
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use axum::response::Response;
use headwater_encoding::Format;
use headwater_model::{AsyncQuery, ErrorCode, Problem, QueryRequest};
use serde::Deserialize;
use utoipa::IntoParams;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::error::HandlerResult;
use super::extract::{Body, Caller, Parameters, Segments};
use super::query::encoded;
use crate::server_state::App;

/// Header with the offset of the next page.
const NEXT_HEADER: HeaderName = HeaderName::from_static("x-headwater-next-offset");

pub(super) fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::new()
        .routes(routes!(list, create))
        .routes(routes!(show, delete))
        .routes(routes!(rows))
        .routes(routes!(cancel))
}

/// Starts statements and returns at once. The rows of the last statement are kept for 24 hours.
/// Errors of the statements are in the state of the query.
#[utoipa::path(post, path = "/v1/queries",
    operation_id = "create_async_query", tag = "query",
    request_body = QueryRequest, responses(
    (status = 202, body = AsyncQuery), (status = "default", body = Problem)))]
async fn create(
    State(app): State<App>,
    Caller(principal): Caller,
    Body(request): Body<QueryRequest>,
) -> HandlerResult<(StatusCode, Json<AsyncQuery>)> {
    let principal = principal.with_author(request.author.clone());
    let queries = app.service.statements().async_queries();
    Ok((StatusCode::ACCEPTED, Json(queries.create(&principal, request).await?)))
}

/// Lists the asynchronous queries of the user, newest first. An administrator sees all of them.
#[utoipa::path(get, path = "/v1/queries",
    operation_id = "list_async_queries", tag = "query", responses(
    (status = 200, body = [AsyncQuery]), (status = "default", body = Problem)))]
async fn list(
    State(app): State<App>,
    Caller(principal): Caller,
) -> HandlerResult<Json<Vec<AsyncQuery>>> {
    Ok(Json(app.service.statements().async_queries().list(&principal)?))
}

/// The time to wait for the end of a query.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
struct WaitOptions {
    /// Maximum time in milliseconds to wait for the end of the query; 0 by default, at most 60,000.
    #[serde(default)]
    wait_ms: u64,
}

/// Returns the state of an asynchronous query.
#[utoipa::path(get, path = "/v1/queries/{query}",
    operation_id = "get_async_query", tag = "query",
    params(("query" = String, Path), WaitOptions),
    responses((status = 200, body = AsyncQuery), (status = "default", body = Problem)))]
async fn show(
    State(app): State<App>,
    Caller(principal): Caller,
    Segments(id): Segments<String>,
    Parameters(WaitOptions { wait_ms }): Parameters<WaitOptions>,
) -> HandlerResult<Json<AsyncQuery>> {
    let queries = app.service.statements().async_queries();
    Ok(Json(queries.get(&principal, &id, Duration::from_millis(wait_ms)).await?))
}

/// A page of rows.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
struct RowPageOptions {
    /// Number of rows to skip; 0 by default.
    #[serde(default)]
    offset: u64,
    /// Maximum number of rows, at least 1; all by default.
    limit: Option<u64>,
}

/// Returns rows of an asynchronous query that succeeded, in the format that `Accept` selects, as
/// `POST /v1/query` does. If rows follow, the header `x-headwater-next-offset` has the `offset` of
/// the next page. Errors: `precondition_failed` if the query has not ended; the error of the query
/// if it did not succeed.
#[utoipa::path(get, path = "/v1/queries/{query}/rows",
    operation_id = "list_async_query_rows", tag = "query",
    params(("query" = String, Path), RowPageOptions), responses(
    (status = 200, description = "The rows.", content(
        (Vec<serde_json::Value> = "application/json"),
        (String = "application/x-ndjson"),
        (Vec<u8> = "application/vnd.apache.parquet"),
        (String = "text/csv"),
        (Vec<u8> = "application/vnd.apache.arrow.stream"))),
    (status = "default", body = Problem)))]
async fn rows(
    State(app): State<App>,
    Caller(principal): Caller,
    Segments(id): Segments<String>,
    Parameters(RowPageOptions { offset, limit }): Parameters<RowPageOptions>,
    headers: HeaderMap,
) -> HandlerResult<Response> {
    let format = Format::accepted(&headers)?;
    let queries = app.service.statements().async_queries();
    let limit = limit.unwrap_or(u64::MAX);
    if limit == 0 {
        let problem = Problem::new(ErrorCode::InvalidArgument, "`limit` must not be `0`");
        return Err(problem.with_hint("Omit `limit` to read all rows.").into());
    }
    let (query, rows) = queries.rows(&principal, &id, offset, limit).await?;
    let mut response = encoded(rows, format).await?;
    let next = offset.saturating_add(limit);
    if next < query.rows {
        response.headers_mut().insert(NEXT_HEADER, HeaderValue::from(next));
    }
    Ok(response)
}

/// Cancels an asynchronous query and returns its state. Has no effect on a query that has ended.
#[utoipa::path(post, path = "/v1/queries/{query}/cancel",
    operation_id = "cancel_async_query", tag = "query",
    params(("query" = String, Path)),
    responses((status = 200, body = AsyncQuery), (status = "default", body = Problem)))]
async fn cancel(
    State(app): State<App>,
    Caller(principal): Caller,
    Segments(id): Segments<String>,
) -> HandlerResult<Json<AsyncQuery>> {
    Ok(Json(app.service.statements().async_queries().cancel(&principal, &id).await?))
}

/// Deletes an asynchronous query and its result. Cancels the query first if it is running.
#[utoipa::path(delete, path = "/v1/queries/{query}",
    operation_id = "delete_async_query", tag = "query",
    params(("query" = String, Path)),
    responses((status = 204), (status = "default", body = Problem)))]
async fn delete(
    State(app): State<App>,
    Caller(principal): Caller,
    Segments(id): Segments<String>,
) -> HandlerResult<StatusCode> {
    app.service.statements().async_queries().delete(&principal, &id).await?;
    Ok(StatusCode::NO_CONTENT)
}
