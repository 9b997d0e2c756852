//! Runs of a project, as a job.

use axum::Json;
use axum::extract::{DefaultBodyLimit, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use headwater_jobs::NewJob;
use headwater_model::{Job, JobKind, Problem, RunPlan, RunRequest};
use serde_json::json;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::App;
use super::extract::{Body, Caller};
use super::failure::{Answer, Failure};
use headwater_service::{project_name, run_queue, run_summary};

/// The longest project, as JSON.
pub(super) const BODY_BYTES_MAX: usize = 64 << 20;

pub(super) fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::new().routes(routes!(run)).layer(DefaultBodyLimit::max(BODY_BYTES_MAX))
}

/// Runs a project on a branch. With `dry_run` it answers the plan, and nothing runs. With `merge` the
/// run merges a ref first, and lands both as one commit.
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
) -> Answer<Response> {
    if request.files.is_empty() {
        return Err(Failure::invalid("the project has no files", "Send its files in `files`."));
    }
    if request.dry_run || request.merge.as_ref().is_some_and(|merge| merge.dry_run) {
        return Ok(Json(app.service.components().runner.plan(&request).await?).into_response());
    }
    app.service.components().settings.refresh().await;
    let author = principal.with_author(request.author.take()).author().to_owned();
    let branch = app.service.components().branch_to_write(request.reference.as_ref()).await?;
    request.author = Some(author.clone());
    let project = project_name(&request);
    let summary = run_summary(&project, &request);
    let new = NewJob {
        event: request.event.clone(),
        queue: Some(run_queue(&project, &branch)),
        reference: Some(branch),
        payload: json!(request),
        ..NewJob::new(JobKind::Run, summary, author)
    };
    let id = app.service.components().jobs.submit(new).await?;
    Ok((StatusCode::ACCEPTED, Json(app.service.components().jobs.job(id).await?)).into_response())
}
