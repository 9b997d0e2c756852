//! Functions without a project: deploy, get, list versions, delete.

use axum::Json;
use axum::extract::{DefaultBodyLimit, State};
use axum::http::StatusCode;
use headwater_model::{DeployFunction, FunctionVersion, Problem, StandaloneFunction};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::branch::DeleteOptions;
use super::error::HandlerResult;
use super::extract::{Body, Caller, Parameters, Segments};
use super::run::BODY_BYTES_MAX;
use crate::server_state::App;

pub(super) fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::new()
        .routes(routes!(deploy, get, remove))
        .routes(routes!(versions))
        .layer(DefaultBodyLimit::max(BODY_BYTES_MAX))
}

/// Deploys a function without a project: creates the function, or a new version of it. The request
/// contains the files in `files`, or as a ZIP archive in `archive` (Base64, at most 44 MiB). A
/// larger archive, of at most 1 GiB, is sent with `create_upload` first, and named in `upload`.
///
/// The version is durable before the response is sent, and never changes. If the files and settings
/// are the same as in the last version, no new version is created. Error: `already_exists` if the
/// deployed project has a function of this name.
#[utoipa::path(put, path = "/v1/functions/{function}",
    operation_id = "deploy_function", tag = "function",
    params(("function" = String, Path)), request_body = DeployFunction,
    responses((status = 200, body = StandaloneFunction), (status = "default", body = Problem)))]
async fn deploy(
    State(app): State<App>,
    Caller(principal): Caller,
    Segments(name): Segments<String>,
    Body(mut request): Body<DeployFunction>,
) -> HandlerResult<Json<StandaloneFunction>> {
    let principal = principal.with_author(request.author.take());
    Ok(Json(app.service.invocations().standalone().deploy(&principal, &name, request).await?))
}

/// Returns a function that is deployed without a project.
#[utoipa::path(get, path = "/v1/functions/{function}",
    operation_id = "get_function", tag = "function",
    params(("function" = String, Path)),
    responses((status = 200, body = StandaloneFunction), (status = "default", body = Problem)))]
async fn get(
    State(app): State<App>,
    Caller(principal): Caller,
    Segments(name): Segments<String>,
) -> HandlerResult<Json<StandaloneFunction>> {
    Ok(Json(app.service.invocations().standalone().show(&principal, &name).await?))
}

/// Lists the versions of a function that is deployed without a project, by number.
#[utoipa::path(get, path = "/v1/functions/{function}/versions",
    operation_id = "list_function_versions", tag = "function",
    params(("function" = String, Path)),
    responses((status = 200, body = [FunctionVersion]), (status = "default", body = Problem)))]
async fn versions(
    State(app): State<App>,
    Caller(principal): Caller,
    Segments(name): Segments<String>,
) -> HandlerResult<Json<Vec<FunctionVersion>>> {
    Ok(Json(app.service.invocations().standalone().versions(&principal, &name).await?))
}

/// Deletes a function that is deployed without a project, with all its versions. Running calls are
/// not stopped.
#[utoipa::path(delete, path = "/v1/functions/{function}",
    operation_id = "delete_function", tag = "function",
    params(("function" = String, Path), DeleteOptions),
    responses((status = 204), (status = "default", body = Problem)))]
async fn remove(
    State(app): State<App>,
    Caller(principal): Caller,
    Segments(name): Segments<String>,
    Parameters(deletion): Parameters<DeleteOptions>,
) -> HandlerResult<StatusCode> {
    deletion.response(app.service.invocations().standalone().delete(&principal, &name).await)
}
