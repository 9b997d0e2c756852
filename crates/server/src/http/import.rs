//! Imports: files on the server's machine into a table, as a job.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use headwater_jobs::NewJob;
use headwater_model::{ImportPlan, ImportRequest, Job, JobKind, Problem};
use serde_json::json;
use tokio_util::sync::CancellationToken;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::App;
use super::extract::{Body, Caller};
use super::failure::Answer;

pub(super) fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::new().routes(routes!(import))
}

/// Imports files into a table. With `dry_run` it answers the plan, and nothing is changed.
#[utoipa::path(post, path = "/v1/imports",
    operation_id = "import_files", tag = "import",
    request_body = ImportRequest, responses(
    (status = 202, description = "The job.", body = Job),
    (status = 200, description = "The plan, for a dry run.", body = ImportPlan),
    (status = "default", body = Problem)))]
async fn import(
    State(app): State<App>,
    Caller(principal): Caller,
    Body(mut request): Body<ImportRequest>,
) -> Answer<Response> {
    if request.dry_run {
        return Ok(Json(plan(&app, &request).await?).into_response());
    }
    let author = principal.with_author(request.author.take()).author().to_owned();
    let branch = app.service.components().branch_to_write(request.reference.as_ref()).await?;
    request.author = Some(author.clone());
    let new = NewJob {
        reference: Some(branch),
        event: request.event.clone(),
        payload: json!(request),
        ..NewJob::new(JobKind::Import, summary(&request), author)
    };
    let id = app.service.components().jobs.submit(new).await?;
    Ok((StatusCode::ACCEPTED, Json(app.service.components().jobs.job(id).await?)).into_response())
}

async fn plan(app: &App, request: &ImportRequest) -> Answer<ImportPlan> {
    let cancelled = CancellationToken::new();
    // Threads that read files stop when the asker goes away.
    let _guard = cancelled.clone().drop_guard();
    Ok(app.service.components().lake.plan_import(request, Arc::new(|_| {}), cancelled).await?)
}

fn summary(request: &ImportRequest) -> String {
    let more = match request.sources.len() {
        0 | 1 => String::new(),
        count => format!(" and {} more", count - 1),
    };
    let first = request.sources.first().map_or("", String::as_str);
    format!("{} from {first}{more}", request.table)
}
