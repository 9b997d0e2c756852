//! Roles: list, create, drop, grant, revoke.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use headwater_model::{CreateRole, Problem, Role};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::error::HandlerResult;
use super::extract::{Body, Caller, Segments};
use crate::server_state::App;

pub(super) fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::new()
        .routes(routes!(list, create))
        .routes(routes!(remove))
        .routes(routes!(grant, revoke))
}

/// Lists roles by name.
#[utoipa::path(get, path = "/v1/roles",
    operation_id = "list_roles", tag = "access",
    responses((status = 200, body = [Role]), (status = "default", body = Problem)))]
async fn list(State(app): State<App>, Caller(principal): Caller) -> HandlerResult<Json<Vec<Role>>> {
    Ok(Json(app.service.access_control().roles().list(&principal)?))
}

/// Creates a role without permissions.
#[utoipa::path(post, path = "/v1/roles",
    operation_id = "create_role", tag = "access",
    request_body = CreateRole, responses(
    (status = 201, body = Role), (status = "default", body = Problem)))]
async fn create(
    State(app): State<App>,
    Caller(principal): Caller,
    Body(request): Body<CreateRole>,
) -> HandlerResult<(StatusCode, Json<Role>)> {
    Ok((
        StatusCode::CREATED,
        Json(app.service.access_control().roles().create(&principal, request).await?),
    ))
}

/// Drops a role with its grants, and revokes it from all users and roles.
#[utoipa::path(delete, path = "/v1/roles/{role}",
    operation_id = "delete_role", tag = "access",
    params(("role" = String, Path)),
    responses((status = 204), (status = "default", body = Problem)))]
async fn remove(
    State(app): State<App>,
    Caller(principal): Caller,
    Segments(name): Segments<String>,
) -> HandlerResult<StatusCode> {
    app.service.access_control().roles().delete(&principal, &name).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Grants a role to a user or role. Granting the same role again changes nothing.
#[utoipa::path(put, path = "/v1/roles/{role}/members/{member}",
    operation_id = "grant_role", tag = "access",
    params(("role" = String, Path), ("member" = String, Path)),
    responses((status = 204), (status = "default", body = Problem)))]
async fn grant(
    State(app): State<App>,
    Caller(principal): Caller,
    Segments((role, member)): Segments<(String, String)>,
) -> HandlerResult<StatusCode> {
    app.service.access_control().roles().grant(&principal, &role, &member).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Revokes a role from a user or role. Fails if the user or role does not have the role.
#[utoipa::path(delete, path = "/v1/roles/{role}/members/{member}",
    operation_id = "revoke_role", tag = "access",
    params(("role" = String, Path), ("member" = String, Path)),
    responses((status = 204), (status = "default", body = Problem)))]
async fn revoke(
    State(app): State<App>,
    Caller(principal): Caller,
    Segments((role, member)): Segments<(String, String)>,
) -> HandlerResult<StatusCode> {
    app.service.access_control().roles().revoke(&principal, &role, &member).await?;
    Ok(StatusCode::NO_CONTENT)
}
