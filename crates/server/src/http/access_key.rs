//! Access keys: list, create, revoke.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use headwater_model::{AccessKey, CreateAccessKey, CreatedAccessKey, Problem};
use serde::Deserialize;
use utoipa::IntoParams;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::error::HandlerResult;
use super::extract::{Body, Caller, Parameters, Segments};
use crate::server_state::App;

pub(super) fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::new().routes(routes!(list, create)).routes(routes!(revoke))
}

/// The filter for listed access keys.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
struct Filter {
    /// Only access keys of this user; by default of all users that the requesting user may see.
    user: Option<String>,
}

/// Lists access keys by creation time.
#[utoipa::path(get, path = "/v1/access-keys",
    operation_id = "list_access_keys", tag = "access",
    params(Filter), responses(
    (status = 200, body = [AccessKey]), (status = "default", body = Problem)))]
async fn list(
    State(app): State<App>,
    Caller(principal): Caller,
    Parameters(filter): Parameters<Filter>,
) -> HandlerResult<Json<Vec<AccessKey>>> {
    let keys = app.service.access_control().access_keys();
    Ok(Json(keys.list(&principal, filter.user.as_deref()).await?))
}

/// Creates an access key. Its secret is returned only in this response.
#[utoipa::path(post, path = "/v1/access-keys",
    operation_id = "create_access_key", tag = "access",
    request_body = CreateAccessKey, responses(
    (status = 201, body = CreatedAccessKey), (status = "default", body = Problem)))]
async fn create(
    State(app): State<App>,
    Caller(principal): Caller,
    Body(request): Body<CreateAccessKey>,
) -> HandlerResult<(StatusCode, Json<CreatedAccessKey>)> {
    let keys = app.service.access_control().access_keys();
    Ok((StatusCode::CREATED, Json(keys.create(&principal, request).await?)))
}

/// Revokes an access key. Revoking a revoked key changes nothing.
#[utoipa::path(delete, path = "/v1/access-keys/{key}",
    operation_id = "revoke_access_key", tag = "access",
    params(("key" = String, Path, description = "The key's id.")),
    responses((status = 204), (status = "default", body = Problem)))]
async fn revoke(
    State(app): State<App>,
    Caller(principal): Caller,
    Segments(id): Segments<String>,
) -> HandlerResult<StatusCode> {
    app.service.access_control().access_keys().revoke(&principal, &id).await?;
    Ok(StatusCode::NO_CONTENT)
}
