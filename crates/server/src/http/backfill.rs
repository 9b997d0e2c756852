//! Backfills of a project, as a job.

use axum::Json;
use axum::extract::{DefaultBodyLimit, State};
use axum::http::StatusCode;
use headwater_model::{BackfillRequest, Job, Problem};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::error::HandlerResult;
use super::extract::{Body, Caller};
use super::run::BODY_BYTES_MAX;
use crate::server_state::App;

pub(super) fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::new().routes(routes!(backfill)).layer(DefaultBodyLimit::max(BODY_BYTES_MAX))
}

/// Runs a project for each value of a parameter, or for each partition of a table, several at once,
/// and merges the results one at a time. The job continues without its client. Its result, or
/// `report` in the context of its error, lists the outcome of each value.
#[utoipa::path(post, path = "/v1/backfills",
    operation_id = "backfill_project", tag = "run",
    request_body = BackfillRequest, responses(
    (status = 202, description = "The job.", body = Job),
    (status = "default", body = Problem)))]
async fn backfill(
    State(app): State<App>,
    Caller(principal): Caller,
    Body(mut request): Body<BackfillRequest>,
) -> HandlerResult<(StatusCode, Json<Job>)> {
    let principal = principal.with_author(request.run.author.take());
    let job = app.service.runs().backfill(&principal, request).await?;
    Ok((StatusCode::ACCEPTED, Json(job)))
}
