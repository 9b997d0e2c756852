//! Deployments: put a version of the project in force, list the versions, go back to one.

use axum::Json;
use axum::extract::{DefaultBodyLimit, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use headwater_model::{DeployReport, DeployRequest, Deployment, ErrorCode, Problem};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::App;
use super::extract::{Body, Caller, Segments};
use super::failure::{Answer, Failure};
use super::run::BODY_BYTES_MAX;

pub(super) fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::new()
        .routes(routes!(list, deploy))
        .routes(routes!(show))
        .routes(routes!(activate))
        .layer(DefaultBodyLimit::max(BODY_BYTES_MAX))
}

/// Lists the deployed versions of the project, the last deployed first.
#[utoipa::path(get, path = "/v1/deployments",
    operation_id = "list_deployments", tag = "deployment",
    responses((status = 200, body = [Deployment]), (status = "default", body = Problem)))]
async fn list(State(app): State<App>) -> Answer<Json<Vec<Deployment>>> {
    Ok(Json(app.service.components().deployer.deployments().list().await?))
}

/// Validates a project and puts it in force as a version: calls of functions and triggers use it from
/// then on. With `dry_run` nothing is deployed.
///
/// Error: `invalid_project` with every error of every file; the version before stays in force.
#[utoipa::path(post, path = "/v1/deployments",
    operation_id = "deploy_project", tag = "deployment",
    request_body = DeployRequest, responses(
    (status = 201, description = "The version is in force.", body = DeployReport),
    (status = 200, description = "The comparison, for a dry run.", body = DeployReport),
    (status = "default", body = Problem)))]
async fn deploy(
    State(app): State<App>,
    Caller(principal): Caller,
    Body(request): Body<DeployRequest>,
) -> Answer<Response> {
    if request.files.is_empty() {
        return Err(Failure::invalid("the project has no files", "Send its files in `files`."));
    }
    let author = principal.with_author(request.author).author().to_owned();
    let deploy = async move {
        app.service.components().deployer.deploy(request.files, &author, request.dry_run).await
    };
    let report = to_its_end(deploy).await?;
    let status = if report.dry_run { StatusCode::OK } else { StatusCode::CREATED };
    Ok((status, Json(report)).into_response())
}

/// Answers a deployed version, by its id or the beginning of it.
#[utoipa::path(get, path = "/v1/deployments/{version}",
    operation_id = "get_deployment", tag = "deployment",
    params(("version" = String, Path)),
    responses((status = 200, body = Deployment), (status = "default", body = Problem)))]
async fn show(
    State(app): State<App>,
    Segments(version): Segments<String>,
) -> Answer<Json<Deployment>> {
    Ok(Json(app.service.components().deployer.deployments().get(&version).await?))
}

/// Puts a version in force that was deployed before.
#[utoipa::path(post, path = "/v1/deployments/{version}/activate",
    operation_id = "activate_deployment", tag = "deployment",
    params(("version" = String, Path)),
    responses((status = 200, body = DeployReport), (status = "default", body = Problem)))]
async fn activate(
    State(app): State<App>,
    Segments(version): Segments<String>,
) -> Answer<Json<DeployReport>> {
    Ok(Json(
        to_its_end(async move { app.service.components().deployer.activate(&version).await })
            .await?,
    ))
}

/// Completes a change although its client may disconnect, so that memory and store agree.
async fn to_its_end(
    change: impl Future<Output = Result<DeployReport, Problem>> + Send + 'static,
) -> Answer<DeployReport> {
    let changed = tokio::spawn(change).await.unwrap_or_else(|error| {
        let message = format!("the deployment ended before it was done: {error}");
        Err(Problem::new(ErrorCode::Internal, message))
    });
    changed.map_err(Failure)
}
