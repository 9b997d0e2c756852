//! Limits of users and roles: list, get, set, remove.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use headwater_model::{Limit, Limits, Problem};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::error::HandlerResult;
use super::extract::{Body, Caller, Segments};
use crate::server_state::App;

pub(super) fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::new().routes(routes!(list)).routes(routes!(get, set, remove))
}

/// Lists limits by name. An administrator sees all limits, other users see only their own limits
/// and those of their roles.
#[utoipa::path(get, path = "/v1/limits",
    operation_id = "list_limits", tag = "access",
    responses((status = 200, body = [Limit]), (status = "default", body = Problem)))]
async fn list(
    State(app): State<App>,
    Caller(principal): Caller,
) -> HandlerResult<Json<Vec<Limit>>> {
    Ok(Json(app.service.access_control().limits().list(&principal)?))
}

/// Returns the limits that were set for a user or role. A user may read its own limits without
/// further rights.
#[utoipa::path(get, path = "/v1/limits/{name}",
    operation_id = "get_limit", tag = "access",
    params(("name" = String, Path)),
    responses((status = 200, body = Limit), (status = "default", body = Problem)))]
async fn get(
    State(app): State<App>,
    Caller(principal): Caller,
    Segments(name): Segments<String>,
) -> HandlerResult<Json<Limit>> {
    Ok(Json(app.service.access_control().limits().get(&principal, &name)?))
}

/// Sets the limits of a user or role. All existing limits of this user or role are replaced.
#[utoipa::path(put, path = "/v1/limits/{name}",
    operation_id = "set_limit", tag = "access",
    params(("name" = String, Path)),
    request_body = Limits, responses(
    (status = 200, body = Limit), (status = "default", body = Problem)))]
async fn set(
    State(app): State<App>,
    Caller(principal): Caller,
    Segments(name): Segments<String>,
    Body(limits): Body<Limits>,
) -> HandlerResult<Json<Limit>> {
    Ok(Json(app.service.access_control().limits().set(&principal, &name, limits).await?))
}

/// Removes the limits of a user or role.
#[utoipa::path(delete, path = "/v1/limits/{name}",
    operation_id = "delete_limit", tag = "access",
    params(("name" = String, Path)),
    responses((status = 204), (status = "default", body = Problem)))]
async fn remove(
    State(app): State<App>,
    Caller(principal): Caller,
    Segments(name): Segments<String>,
) -> HandlerResult<StatusCode> {
    app.service.access_control().limits().delete(&principal, &name).await?;
    Ok(StatusCode::NO_CONTENT)
}
