//! Maintenance of tables, as a job: compaction, expiry of snapshots, removal of files.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use headwater_model::{Job, MaintainReport, MaintainRequest, Principal, Problem, TableName};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::error::HandlerResult;
use super::extract::{Body, Caller, Segments};
use crate::server_state::App;

pub(super) fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::new().routes(routes!(table)).routes(routes!(all))
}

/// Maintains a table of a branch. With `dry_run` the response is the plan, and nothing is changed.
#[utoipa::path(post, path = "/v1/branches/{branch}/tables/{table}/maintain",
    operation_id = "maintain_table", tag = "maintenance",
    params(("branch" = String, Path), ("table" = String, Path)),
    request_body = MaintainRequest, responses(
    (status = 202, description = "The job; its result is a `MaintainReport`.", body = Job),
    (status = 200, description = "The plan, for a dry run.", body = MaintainReport),
    (status = "default", body = Problem)))]
async fn table(
    State(app): State<App>,
    Segments((branch, table)): Segments<(String, String)>,
    Caller(principal): Caller,
    Body(request): Body<MaintainRequest>,
) -> HandlerResult<Response> {
    let name: TableName = table.parse()?;
    maintain(&app, &branch, Some(&name), principal, request).await
}

/// Maintains all tables of a branch. Unreferenced files are removed in the whole lake. With
/// `dry_run` the response is the plan, and nothing is changed.
#[utoipa::path(post, path = "/v1/branches/{branch}/maintain",
    operation_id = "maintain_tables", tag = "maintenance",
    params(("branch" = String, Path)),
    request_body = MaintainRequest, responses(
    (status = 202, description = "The job; its result is a `MaintainReport`.", body = Job),
    (status = 200, description = "The plan, for a dry run.", body = MaintainReport),
    (status = "default", body = Problem)))]
async fn all(
    State(app): State<App>,
    Segments(branch): Segments<String>,
    Caller(principal): Caller,
    Body(request): Body<MaintainRequest>,
) -> HandlerResult<Response> {
    maintain(&app, &branch, None, principal, request).await
}

async fn maintain(
    app: &App,
    branch: &str,
    table: Option<&TableName>,
    principal: Principal,
    mut request: MaintainRequest,
) -> HandlerResult<Response> {
    let principal = principal.with_author(request.author.take());
    let maintenance = app.service.maintenance();
    if request.dry_run {
        let plan = maintenance.plan(&principal, branch, table, &request).await?;
        return Ok(Json(plan).into_response());
    }
    let job = maintenance.start(&principal, branch, table, request).await?;
    Ok((StatusCode::ACCEPTED, Json(job)).into_response())
}
