//! Tags: list, create, get, rename, delete.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use headwater_model::{CreateRef, Problem, Tag, UpdateRef};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::branch::{DeleteOptions, Filter};
use super::error::HandlerResult;
use super::extract::{Body, Caller, Parameters, Segments};
use crate::server_state::App;

pub(super) fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::new().routes(routes!(list, create)).routes(routes!(show, update, remove))
}

/// Lists tags by name.
#[utoipa::path(get, path = "/v1/tags",
    operation_id = "list_tags", tag = "tag",
    params(Filter), responses(
    (status = 200, body = [Tag]), (status = "default", body = Problem)))]
async fn list(
    State(app): State<App>,
    Caller(principal): Caller,
    Parameters(filter): Parameters<Filter>,
) -> HandlerResult<Json<Vec<Tag>>> {
    Ok(Json(app.service.tags().list(&principal, filter.prefix.as_deref()).await?))
}

/// Creates a tag.
#[utoipa::path(post, path = "/v1/tags",
    operation_id = "create_tag", tag = "tag",
    request_body = CreateRef, responses(
    (status = 201, body = Tag), (status = "default", body = Problem)))]
async fn create(
    State(app): State<App>,
    Caller(principal): Caller,
    Body(request): Body<CreateRef>,
) -> HandlerResult<(StatusCode, Json<Tag>)> {
    Ok((StatusCode::CREATED, Json(app.service.tags().create(&principal, request).await?)))
}

/// Returns a tag.
#[utoipa::path(get, path = "/v1/tags/{tag}",
    operation_id = "get_tag", tag = "tag",
    params(("tag" = String, Path)),
    responses((status = 200, body = Tag), (status = "default", body = Problem)))]
async fn show(
    State(app): State<App>,
    Caller(principal): Caller,
    Segments(name): Segments<String>,
) -> HandlerResult<Json<Tag>> {
    Ok(Json(app.service.tags().get(&principal, &name).await?))
}

/// Renames a tag.
#[utoipa::path(patch, path = "/v1/tags/{tag}",
    operation_id = "update_tag", tag = "tag",
    params(("tag" = String, Path)),
    request_body = UpdateRef,
    responses((status = 200, body = Tag), (status = "default", body = Problem)))]
async fn update(
    State(app): State<App>,
    Caller(principal): Caller,
    Segments(name): Segments<String>,
    Body(change): Body<UpdateRef>,
) -> HandlerResult<Json<Tag>> {
    Ok(Json(app.service.tags().update(&principal, &name, change).await?))
}

/// Deletes a tag.
#[utoipa::path(delete, path = "/v1/tags/{tag}",
    operation_id = "delete_tag", tag = "tag",
    params(("tag" = String, Path), DeleteOptions),
    responses((status = 204), (status = "default", body = Problem)))]
async fn remove(
    State(app): State<App>,
    Caller(principal): Caller,
    Segments(name): Segments<String>,
    Parameters(deletion): Parameters<DeleteOptions>,
) -> HandlerResult<StatusCode> {
    deletion.response(app.service.tags().delete(&principal, &name).await)
}
