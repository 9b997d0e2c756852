//! Upkeep of tables, as a job: small files put together, deletes folded in, old states expired, files
//! removed that nothing needs.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use headwater_model::{
    Job, MaintainReport, MaintainRequest, Principal, Problem, RefSpec, TableName,
};
use std::sync::Arc;
use tokio_util::sync::CancellationToken;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::App;
use super::extract::{Body, Caller, Segments};
use super::failure::Answer;

pub(super) fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::new().routes(routes!(table)).routes(routes!(all))
}

/// Keeps a table of a branch. With `dry_run` it answers what would be done, and nothing is changed.
#[utoipa::path(post, path = "/v1/branches/{branch}/tables/{table}/maintain",
    operation_id = "maintain_table", tag = "upkeep",
    params(("branch" = String, Path), ("table" = String, Path)),
    request_body = MaintainRequest, responses(
    (status = 202, description = "The job; its result is a `MaintainReport`.", body = Job),
    (status = 200, description = "What would be done, for a dry run.", body = MaintainReport),
    (status = "default", body = Problem)))]
async fn table(
    State(app): State<App>,
    Segments((branch, table)): Segments<(String, String)>,
    Caller(principal): Caller,
    Body(request): Body<MaintainRequest>,
) -> Answer<Response> {
    let name: TableName = table.parse()?;
    maintain(&app, &branch, Some(&name), principal, request).await
}

/// Keeps all tables of a branch; files that nothing needs are looked for in the whole lake. With `dry_run`
/// it answers what would be done, and nothing is changed.
#[utoipa::path(post, path = "/v1/branches/{branch}/maintain",
    operation_id = "maintain_tables", tag = "upkeep",
    params(("branch" = String, Path)),
    request_body = MaintainRequest, responses(
    (status = 202, description = "The job; its result is a `MaintainReport`.", body = Job),
    (status = 200, description = "What would be done, for a dry run.", body = MaintainReport),
    (status = "default", body = Problem)))]
async fn all(
    State(app): State<App>,
    Segments(branch): Segments<String>,
    Caller(principal): Caller,
    Body(request): Body<MaintainRequest>,
) -> Answer<Response> {
    maintain(&app, &branch, None, principal, request).await
}

async fn maintain(
    app: &App,
    branch: &str,
    table: Option<&TableName>,
    principal: Principal,
    mut request: MaintainRequest,
) -> Answer<Response> {
    let cancelled = CancellationToken::new();
    let _guard = cancelled.clone().drop_guard();
    request.author = Some(principal.with_author(request.author.take()).author().to_owned());
    if request.dry_run {
        let foreseen = app.service.components().lake.maintain(
            branch,
            table,
            &request,
            Arc::new(|_, _| {}),
            cancelled,
        );
        return Ok(Json(Box::pin(foreseen).await?).into_response());
    }
    // What cannot be done at all is said at once.
    let view = app.service.components().lake.view(&RefSpec::Name(branch.to_owned())).await?;
    if let Some(table) = table {
        view.table(table).await?;
    }
    headwater_lake::check_maintain(&request)?;
    drop(view);
    let id = app
        .service
        .components()
        .jobs
        .submit(headwater_service::new_maintenance_job(branch, table, request))
        .await?;
    Ok((StatusCode::ACCEPTED, Json(app.service.components().jobs.job(id).await?)).into_response())
}
