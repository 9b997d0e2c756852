//! Users: list, create, get, change, drop; the identity of a request.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use headwater_model::{CreateUser, Problem, UpdateUser, User, Whoami};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::error::HandlerResult;
use super::extract::{Body, Caller, Segments};
use crate::server_state::App;

pub(super) fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::new()
        .routes(routes!(list, create))
        .routes(routes!(show, update, remove))
        .routes(routes!(whoami))
}

/// Lists users by name.
#[utoipa::path(get, path = "/v1/users",
    operation_id = "list_users", tag = "access",
    responses((status = 200, body = [User]), (status = "default", body = Problem)))]
async fn list(State(app): State<App>, Caller(principal): Caller) -> HandlerResult<Json<Vec<User>>> {
    Ok(Json(app.service.access_control().users().list(&principal)?))
}

/// Creates a user without permissions.
#[utoipa::path(post, path = "/v1/users",
    operation_id = "create_user", tag = "access",
    request_body = CreateUser, responses(
    (status = 201, body = User), (status = "default", body = Problem)))]
async fn create(
    State(app): State<App>,
    Caller(principal): Caller,
    Body(request): Body<CreateUser>,
) -> HandlerResult<(StatusCode, Json<User>)> {
    Ok((
        StatusCode::CREATED,
        Json(app.service.access_control().users().create(&principal, request).await?),
    ))
}

/// Returns a user.
#[utoipa::path(get, path = "/v1/users/{user}",
    operation_id = "get_user", tag = "access",
    params(("user" = String, Path)),
    responses((status = 200, body = User), (status = "default", body = Problem)))]
async fn show(
    State(app): State<App>,
    Caller(principal): Caller,
    Segments(name): Segments<String>,
) -> HandlerResult<Json<User>> {
    Ok(Json(app.service.access_control().users().get(&principal, &name)?))
}

/// Sets a user's password, or disables or enables the user.
#[utoipa::path(patch, path = "/v1/users/{user}",
    operation_id = "update_user", tag = "access",
    params(("user" = String, Path)),
    request_body = UpdateUser,
    responses((status = 200, body = User), (status = "default", body = Problem)))]
async fn update(
    State(app): State<App>,
    Caller(principal): Caller,
    Segments(name): Segments<String>,
    Body(change): Body<UpdateUser>,
) -> HandlerResult<Json<User>> {
    Ok(Json(app.service.access_control().users().update(&principal, &name, change).await?))
}

/// Drops a user together with its tokens, its grants and its ownership of objects.
#[utoipa::path(delete, path = "/v1/users/{user}",
    operation_id = "delete_user", tag = "access",
    params(("user" = String, Path)),
    responses((status = 204), (status = "default", body = Problem)))]
async fn remove(
    State(app): State<App>,
    Caller(principal): Caller,
    Segments(name): Segments<String>,
) -> HandlerResult<StatusCode> {
    app.service.access_control().users().delete(&principal, &name).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Returns the identity of the request, with its permissions.
#[utoipa::path(get, path = "/v1/whoami",
    operation_id = "whoami", tag = "access",
    responses((status = 200, body = Whoami), (status = "default", body = Problem)))]
async fn whoami(State(app): State<App>, Caller(principal): Caller) -> HandlerResult<Json<Whoami>> {
    Ok(Json(app.service.access_control().users().whoami(&principal).await?))
}
