//! Secrets: list, set, delete.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use headwater_model::{Problem, Secret, SetSecret};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::branch::DeleteOptions;
use super::error::HandlerResult;
use super::extract::{Body, Caller, Parameters, Segments};
use crate::server_state::App;

pub(super) fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::new().routes(routes!(list)).routes(routes!(set, remove))
}

/// Lists the secrets of functions, without their values.
#[utoipa::path(get, path = "/v1/secrets",
    operation_id = "list_secrets", tag = "secret",
    responses((status = 200, body = [Secret]), (status = "default", body = Problem)))]
async fn list(
    State(app): State<App>,
    Caller(principal): Caller,
) -> HandlerResult<Json<Vec<Secret>>> {
    Ok(Json(app.service.secrets().list(&principal).await?))
}

/// Sets a secret, whose value is stored encrypted. No response returns the value.
#[utoipa::path(put, path = "/v1/secrets/{secret}",
    operation_id = "set_secret", tag = "secret",
    params(("secret" = String, Path)),
    request_body = SetSecret,
    responses((status = 200, body = Secret), (status = "default", body = Problem)))]
async fn set(
    State(app): State<App>,
    Caller(principal): Caller,
    Segments(name): Segments<String>,
    Body(request): Body<SetSecret>,
) -> HandlerResult<Json<Secret>> {
    Ok(Json(app.service.secrets().set(&principal, &name, request).await?))
}

/// Deletes a secret.
#[utoipa::path(delete, path = "/v1/secrets/{secret}",
    operation_id = "delete_secret", tag = "secret",
    params(("secret" = String, Path), DeleteOptions),
    responses((status = 204), (status = "default", body = Problem)))]
async fn remove(
    State(app): State<App>,
    Caller(principal): Caller,
    Segments(name): Segments<String>,
    Parameters(deletion): Parameters<DeleteOptions>,
) -> HandlerResult<StatusCode> {
    deletion.response(app.service.secrets().delete(&principal, &name).await)
}
