//! Branches: list, make, look at, change, delete, merge.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use headwater_model::{
    Branch, CherryPickRequest, CreateRef, ErrorCode, Fault, MergeReport, MergeRequest, Problem,
    RevertRequest, UpdateRef,
};
use serde::Deserialize;
use utoipa::IntoParams;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::App;
use super::extract::{Body, Caller, Parameters, Segments};
use super::failure::Answer;

pub(super) fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::new()
        .routes(routes!(list, create))
        .routes(routes!(show, update, remove))
        .routes(routes!(merge))
        .routes(routes!(cherry_pick))
        .routes(routes!(revert))
}

/// Which branches or tags to list.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub struct Filter {
    /// Only names that begin so.
    pub prefix: Option<String>,
}

/// How to delete.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub struct Removal {
    /// Succeed where there is nothing to delete.
    #[serde(default)]
    pub if_exists: bool,
}

impl Removal {
    /// The outcome of a removal, where its thing may have been missing all along.
    pub fn settle<E: Fault>(&self, outcome: Result<(), E>) -> Answer<StatusCode> {
        let missing = |error: &E| {
            let code = error.code();
            [ErrorCode::RefNotFound, ErrorCode::TableNotFound, ErrorCode::NamespaceNotFound]
                .contains(&code)
        };
        match outcome {
            Err(error) if !(self.if_exists && missing(&error)) => Err(error.into()),
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
) -> Answer<Json<Vec<Branch>>> {
    Ok(Json(app.service.branches().list(&principal, filter.prefix.as_deref()).await?))
}

/// Makes a branch: one small durable write, however many tables there are.
#[utoipa::path(post, path = "/v1/branches",
    operation_id = "create_branch", tag = "branch",
    request_body = CreateRef, responses(
    (status = 201, body = Branch), (status = "default", body = Problem)))]
async fn create(
    State(app): State<App>,
    Caller(principal): Caller,
    Body(request): Body<CreateRef>,
) -> Answer<(StatusCode, Json<Branch>)> {
    let branch = app.service.branches().create(&principal, request).await?;
    Ok((StatusCode::CREATED, Json(branch)))
}

/// Answers a branch.
#[utoipa::path(get, path = "/v1/branches/{branch}",
    operation_id = "get_branch", tag = "branch",
    params(("branch" = String, Path)),
    responses((status = 200, body = Branch), (status = "default", body = Problem)))]
async fn show(
    State(app): State<App>,
    Caller(principal): Caller,
    Segments(name): Segments<String>,
) -> Answer<Json<Branch>> {
    Ok(Json(app.service.branches().get(&principal, &name).await?))
}

/// Renames a branch, or says whether it takes direct writes.
#[utoipa::path(patch, path = "/v1/branches/{branch}",
    operation_id = "update_branch", tag = "branch",
    params(("branch" = String, Path)), request_body = UpdateRef,
    responses((status = 200, body = Branch), (status = "default", body = Problem)))]
async fn update(
    State(app): State<App>,
    Caller(principal): Caller,
    Segments(name): Segments<String>,
    Body(change): Body<UpdateRef>,
) -> Answer<Json<Branch>> {
    Ok(Json(app.service.branches().update(&principal, &name, change).await?))
}

/// Deletes a branch; its commits stay reachable by their ids.
#[utoipa::path(delete, path = "/v1/branches/{branch}",
    operation_id = "delete_branch", tag = "branch",
    params(("branch" = String, Path), Removal),
    responses((status = 204), (status = "default", body = Problem)))]
async fn remove(
    State(app): State<App>,
    Caller(principal): Caller,
    Segments(name): Segments<String>,
    Parameters(removal): Parameters<Removal>,
) -> Answer<StatusCode> {
    removal.settle(app.service.branches().delete(&principal, &name).await)
}

/// Merges a ref into a branch. A table that both changed is merged by its content where that can be;
/// where it cannot, and no side was chosen, nothing is changed, and the error `merge_conflict` holds the
/// report in its context, as `report`. A dry run answers the same, and
/// changes nothing.
#[utoipa::path(post, path = "/v1/branches/{branch}/merge",
    operation_id = "merge_branch", tag = "branch",
    params(("branch" = String, Path)), request_body = MergeRequest,
    responses((status = 200, body = MergeReport), (status = "default", body = Problem)))]
async fn merge(
    State(app): State<App>,
    Caller(principal): Caller,
    Segments(target): Segments<String>,
    Body(request): Body<MergeRequest>,
) -> Answer<Json<MergeReport>> {
    Ok(Json(app.service.branches().merge(&principal, &target, request).await?))
}

/// Makes the change of a commit again on a branch: what it changed since its first parent, in one commit.
/// Conflicts are answered as those of a merge.
#[utoipa::path(post, path = "/v1/branches/{branch}/cherry-pick",
    operation_id = "cherry_pick", tag = "branch",
    params(("branch" = String, Path)), request_body = CherryPickRequest,
    responses((status = 200, body = MergeReport), (status = "default", body = Problem)))]
async fn cherry_pick(
    State(app): State<App>,
    Caller(principal): Caller,
    Segments(target): Segments<String>,
    Body(request): Body<CherryPickRequest>,
) -> Answer<Json<MergeReport>> {
    Ok(Json(app.service.branches().cherry_pick(&principal, &target, request).await?))
}

/// Undoes a commit of a branch, or what a run wrote there, in one commit; what others did since stays.
/// Conflicts are answered as those of a merge.
#[utoipa::path(post, path = "/v1/branches/{branch}/revert",
    operation_id = "revert", tag = "branch",
    params(("branch" = String, Path)), request_body = RevertRequest,
    responses((status = 200, body = MergeReport), (status = "default", body = Problem)))]
async fn revert(
    State(app): State<App>,
    Caller(principal): Caller,
    Segments(target): Segments<String>,
    Body(request): Body<RevertRequest>,
) -> Answer<Json<MergeReport>> {
    Ok(Json(app.service.branches().revert(&principal, &target, request).await?))
}
