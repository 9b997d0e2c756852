//! Tags: list, make, look at, rename, delete.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use headwater_model::{CreateRef, Problem, Tag, UpdateRef};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::App;
use super::branch::{Filter, Removal};
use super::extract::{Body, Parameters, Segments};
use super::failure::{Answer, Failure};

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
    Parameters(filter): Parameters<Filter>,
) -> Answer<Json<Vec<Tag>>> {
    Ok(Json(app.service.lake.catalog().tags(filter.prefix.as_deref()).await?))
}

/// Makes a tag.
#[utoipa::path(post, path = "/v1/tags",
    operation_id = "create_tag", tag = "tag",
    request_body = CreateRef, responses(
    (status = 201, body = Tag), (status = "default", body = Problem)))]
async fn create(
    State(app): State<App>,
    Body(request): Body<CreateRef>,
) -> Answer<(StatusCode, Json<Tag>)> {
    Ok((StatusCode::CREATED, Json(app.service.lake.create_tag(request).await?)))
}

/// Answers a tag.
#[utoipa::path(get, path = "/v1/tags/{tag}",
    operation_id = "get_tag", tag = "tag",
    params(("tag" = String, Path)),
    responses((status = 200, body = Tag), (status = "default", body = Problem)))]
async fn show(State(app): State<App>, Segments(name): Segments<String>) -> Answer<Json<Tag>> {
    Ok(Json(app.service.lake.catalog().tag(&name).await?))
}

/// Renames a tag.
#[utoipa::path(patch, path = "/v1/tags/{tag}",
    operation_id = "update_tag", tag = "tag",
    params(("tag" = String, Path)),
    request_body = UpdateRef,
    responses((status = 200, body = Tag), (status = "default", body = Problem)))]
async fn update(
    State(app): State<App>,
    Segments(name): Segments<String>,
    Body(change): Body<UpdateRef>,
) -> Answer<Json<Tag>> {
    if change.protected.is_some() || change.requires.is_some() {
        let hint = "Protect a branch instead; a tag takes no writes at all.";
        return Err(Failure::invalid("a tag has no `protected`", hint));
    }
    let catalog = app.service.lake.catalog();
    let tag = catalog.tag(&name).await?;
    match change.name.filter(|new| *new != tag.name) {
        Some(new) => Ok(Json(catalog.rename_tag(&tag.name, &new).await?)),
        None => Ok(Json(tag)),
    }
}

/// Deletes a tag.
#[utoipa::path(delete, path = "/v1/tags/{tag}",
    operation_id = "delete_tag", tag = "tag",
    params(("tag" = String, Path), Removal),
    responses((status = 204), (status = "default", body = Problem)))]
async fn remove(
    State(app): State<App>,
    Segments(name): Segments<String>,
    Parameters(removal): Parameters<Removal>,
) -> Answer<StatusCode> {
    removal.settle(app.service.lake.catalog().delete_tag(&name).await)
}
