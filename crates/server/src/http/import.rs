//! Imports of files into a table, as a job.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use headwater_model::{ImportPlan, ImportRequest, Job, Problem};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::error::HandlerResult;
use super::extract::{Body, Caller};
use crate::server_state::App;

pub(super) fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::new().routes(routes!(import))
}

/// Imports files into a table. With `dry_run` the response is the plan, and nothing is changed.
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
) -> HandlerResult<Response> {
    let imports = app.service.imports();
    if request.dry_run {
        return Ok(Json(imports.plan(&principal, &request).await?).into_response());
    }
    let principal = principal.with_author(request.author.take());
    let job = imports.start(&principal, request).await?;
    Ok((StatusCode::ACCEPTED, Json(job)).into_response())
}
