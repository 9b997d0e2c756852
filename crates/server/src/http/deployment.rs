//! Deployments: deploy a version of the project, list the versions, activate one.

use axum::Json;
use axum::extract::{DefaultBodyLimit, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use headwater_model::{DeployReport, DeployRequest, Deployment, Problem};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::error::HandlerResult;
use super::extract::{Body, Caller, Segments};
use super::run::BODY_BYTES_MAX;
use crate::server_state::App;

pub(super) fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::new()
        .routes(routes!(list, deploy))
        .routes(routes!(show))
        .routes(routes!(activate))
        .layer(DefaultBodyLimit::max(BODY_BYTES_MAX))
}

/// Lists the deployed versions of the project, the most recently deployed version first.
#[utoipa::path(get, path = "/v1/deployments",
    operation_id = "list_deployments", tag = "deployment",
    responses((status = 200, body = [Deployment]), (status = "default", body = Problem)))]
async fn list(
    State(app): State<App>,
    Caller(principal): Caller,
) -> HandlerResult<Json<Vec<Deployment>>> {
    Ok(Json(app.service.deployments().list(&principal).await?))
}

/// Validates a project and activates it as a new version. Function calls and triggers then use this
/// version. With `dry_run` nothing is deployed.
///
/// Error: `invalid_project` with every error of every file; in that case, the active version is
/// unchanged.
#[utoipa::path(post, path = "/v1/deployments",
    operation_id = "deploy_project", tag = "deployment",
    request_body = DeployRequest, responses(
    (status = 201, description = "The version is active.", body = DeployReport),
    (status = 200, description = "The comparison, for a dry run.", body = DeployReport),
    (status = "default", body = Problem)))]
async fn deploy(
    State(app): State<App>,
    Caller(principal): Caller,
    Body(mut request): Body<DeployRequest>,
) -> HandlerResult<Response> {
    let principal = principal.with_author(request.author.take());
    let report = app.service.deployments().deploy(&principal, request).await?;
    let status = if report.dry_run { StatusCode::OK } else { StatusCode::CREATED };
    Ok((status, Json(report)).into_response())
}

/// Returns a deployed version, by its id or a unique prefix of the id.
#[utoipa::path(get, path = "/v1/deployments/{version}",
    operation_id = "get_deployment", tag = "deployment",
    params(("version" = String, Path)),
    responses((status = 200, body = Deployment), (status = "default", body = Problem)))]
async fn show(
    State(app): State<App>,
    Caller(principal): Caller,
    Segments(version): Segments<String>,
) -> HandlerResult<Json<Deployment>> {
    Ok(Json(app.service.deployments().get(&principal, &version).await?))
}

/// Activates a version that was deployed before.
#[utoipa::path(post, path = "/v1/deployments/{version}/activate",
    operation_id = "activate_deployment", tag = "deployment",
    params(("version" = String, Path)),
    responses((status = 200, body = DeployReport), (status = "default", body = Problem)))]
async fn activate(
    State(app): State<App>,
    Caller(principal): Caller,
    Segments(version): Segments<String>,
) -> HandlerResult<Json<DeployReport>> {
    Ok(Json(app.service.deployments().activate(&principal, version).await?))
}
