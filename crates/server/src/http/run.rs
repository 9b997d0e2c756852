//! Runs of a project, as a job.

use axum::Json;
use axum::extract::{DefaultBodyLimit, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use headwater_model::{Job, Problem, RunPlan, RunRequest};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::error::HandlerResult;
use super::extract::{Body, Caller};
use crate::server_state::App;

/// Maximum length of a project as JSON, in bytes.
pub(super) const BODY_BYTES_MAX: usize = 64 << 20;

pub(super) fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::new().routes(routes!(run)).layer(DefaultBodyLimit::max(BODY_BYTES_MAX))
}

/// Runs a project on a branch. With `dry_run` the response is the plan, and nothing runs. With
/// `merge` the run merges a ref first, and one commit contains the merge and the tables of the run.
/// With `retry` the request continues a failed run. With `test` only the unit tests run.
#[utoipa::path(post, path = "/v1/runs",
    operation_id = "run_project", tag = "run",
    request_body = RunRequest, responses(
    (status = 202, description = "The job.", body = Job),
    (status = 200, description = "The plan, for a dry run.", body = RunPlan),
    (status = "default", body = Problem)))]
async fn run(
    State(app): State<App>,
    Caller(principal): Caller,
    Body(mut request): Body<RunRequest>,
) -> HandlerResult<Response> {
    let runs = app.service.runs();
    if request.dry_run || request.merge.as_ref().is_some_and(|merge| merge.dry_run) {
        return Ok(Json(runs.plan(&principal, &request).await?).into_response());
    }
    let principal = principal.with_author(request.author.take());
    let job = runs.start(&principal, request).await?;
    Ok((StatusCode::ACCEPTED, Json(job)).into_response())
}
