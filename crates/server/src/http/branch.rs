//! Branches: list, create, get, update, delete, merge, cherry-pick, revert.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use headwater_model::{
    Branch, CherryPickRequest, CreateRef, ErrorCode, MergeReport, MergeRequest, Problem,
    RevertRequest, UpdateRef,
};
use serde::Deserialize;
use utoipa::IntoParams;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::error::HandlerResult;
use super::extract::{Body, Caller, Parameters, Segments};
use crate::server_state::App;

pub(super) fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::new()
        .routes(routes!(list, create))
        .routes(routes!(show, update, remove))
        .routes(routes!(merge))
        .routes(routes!(cherry_pick))
        .routes(routes!(revert))
}

/// The filter for branches or tags.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub struct Filter {
    /// Only names with this prefix.
    pub prefix: Option<String>,
}

/// Options of a deletion.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub struct DeleteOptions {
    /// Succeed if the object does not exist.
    #[serde(default)]
    pub if_exists: bool,
}

impl DeleteOptions {
    /// Converts the result of a deletion into the response.
    pub fn response(&self, result: Result<(), Problem>) -> HandlerResult<StatusCode> {
        const MISSING: [ErrorCode; 6] = [
            ErrorCode::FunctionNotFound,
            ErrorCode::RefNotFound,
            ErrorCode::TableNotFound,
            ErrorCode::NamespaceNotFound,
            ErrorCode::SecretNotFound,
            ErrorCode::TriggerNotFound,
        ];
        match result {
            Err(problem) if !(self.if_exists && MISSING.contains(&problem.code)) => {
                Err(problem.into())
            }
            _ => Ok(StatusCode::NO_CONTENT),
        }
    }
}

/// Lists branches by name.
#[utoipa::path(get, path = "/v1/branches",
    operation_id = "list_branches", tag = "branch",
    params(Filter), responses(
    (status = 200, body = [Branch]), (status = "default", body = Problem)))]
async fn list(
    State(app): State<App>,
    Caller(principal): Caller,
    Parameters(filter): Parameters<Filter>,
) -> HandlerResult<Json<Vec<Branch>>> {
    Ok(Json(app.service.branches().list(&principal, filter.prefix.as_deref()).await?))
}

/// Creates a branch: one durable write, independent of the number of tables.
#[utoipa::path(post, path = "/v1/branches",
    operation_id = "create_branch", tag = "branch",
    request_body = CreateRef, responses(
    (status = 201, body = Branch), (status = "default", body = Problem)))]
async fn create(
    State(app): State<App>,
    Caller(principal): Caller,
    Body(request): Body<CreateRef>,
) -> HandlerResult<(StatusCode, Json<Branch>)> {
    let branch = app.service.branches().create(&principal, request).await?;
    Ok((StatusCode::CREATED, Json(branch)))
}

/// Returns a branch.
#[utoipa::path(get, path = "/v1/branches/{branch}",
    operation_id = "get_branch", tag = "branch",
    params(("branch" = String, Path)),
    responses((status = 200, body = Branch), (status = "default", body = Problem)))]
async fn show(
    State(app): State<App>,
    Caller(principal): Caller,
    Segments(name): Segments<String>,
) -> HandlerResult<Json<Branch>> {
    Ok(Json(app.service.branches().get(&principal, &name).await?))
}

/// Renames a branch, changes its protection, or sets the project whose checks it requires.
#[utoipa::path(patch, path = "/v1/branches/{branch}",
    operation_id = "update_branch", tag = "branch",
    params(("branch" = String, Path)), request_body = UpdateRef,
    responses((status = 200, body = Branch), (status = "default", body = Problem)))]
async fn update(
    State(app): State<App>,
    Caller(principal): Caller,
    Segments(name): Segments<String>,
    Body(change): Body<UpdateRef>,
) -> HandlerResult<Json<Branch>> {
    Ok(Json(app.service.branches().update(&principal, &name, change).await?))
}

/// Deletes a branch. The commits of the branch stay readable by their ids.
#[utoipa::path(delete, path = "/v1/branches/{branch}",
    operation_id = "delete_branch", tag = "branch",
    params(("branch" = String, Path), DeleteOptions),
    responses((status = 204), (status = "default", body = Problem)))]
async fn remove(
    State(app): State<App>,
    Caller(principal): Caller,
    Segments(name): Segments<String>,
    Parameters(deletion): Parameters<DeleteOptions>,
) -> HandlerResult<StatusCode> {
    deletion.response(app.service.branches().delete(&principal, &name).await)
}

/// Merges a ref into a branch. A table that both sides changed is merged by content. If a table
/// cannot be merged by content and the request chooses no side for it, nothing is changed. The
/// response is then the error `merge_conflict`, with the report in its context as `report`. A dry
/// run returns the same result and changes nothing.
#[utoipa::path(post, path = "/v1/branches/{branch}/merge",
    operation_id = "merge_branch", tag = "branch",
    params(("branch" = String, Path)), request_body = MergeRequest,
    responses((status = 200, body = MergeReport), (status = "default", body = Problem)))]
async fn merge(
    State(app): State<App>,
    Caller(principal): Caller,
    Segments(target): Segments<String>,
    Body(request): Body<MergeRequest>,
) -> HandlerResult<Json<MergeReport>> {
    Ok(Json(app.service.branches().merge(&principal, &target, request).await?))
}

/// Applies a commit's change since its first parent to a branch, in one commit. Conflicts are
/// errors as in a merge.
#[utoipa::path(post, path = "/v1/branches/{branch}/cherry-pick",
    operation_id = "cherry_pick", tag = "branch",
    params(("branch" = String, Path)), request_body = CherryPickRequest,
    responses((status = 200, body = MergeReport), (status = "default", body = Problem)))]
async fn cherry_pick(
    State(app): State<App>,
    Caller(principal): Caller,
    Segments(target): Segments<String>,
    Body(request): Body<CherryPickRequest>,
) -> HandlerResult<Json<MergeReport>> {
    Ok(Json(app.service.branches().cherry_pick(&principal, &target, request).await?))
}

/// Reverts a commit of a branch, or everything that a run wrote to the branch, in one commit. Later
/// changes are kept. Conflicts are errors as in a merge.
#[utoipa::path(post, path = "/v1/branches/{branch}/revert",
    operation_id = "revert", tag = "branch",
    params(("branch" = String, Path)), request_body = RevertRequest,
    responses((status = 200, body = MergeReport), (status = "default", body = Problem)))]
async fn revert(
    State(app): State<App>,
    Caller(principal): Caller,
    Segments(target): Segments<String>,
    Body(request): Body<RevertRequest>,
) -> HandlerResult<Json<MergeReport>> {
    Ok(Json(app.service.branches().revert(&principal, &target, request).await?))
}
