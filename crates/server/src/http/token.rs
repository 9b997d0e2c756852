//! Access tokens: list, create, revoke.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use headwater_model::{AccessToken, CreateToken, CreatedToken, Problem};
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

/// The filter for listed tokens.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
struct Filter {
    /// Only tokens of this user; by default of all users that the requesting user may see.
    user: Option<String>,
}

/// Lists access tokens by creation time.
#[utoipa::path(get, path = "/v1/tokens",
    operation_id = "list_tokens", tag = "access",
    params(Filter), responses(
    (status = 200, body = [AccessToken]), (status = "default", body = Problem)))]
async fn list(
    State(app): State<App>,
    Caller(principal): Caller,
    Parameters(filter): Parameters<Filter>,
) -> HandlerResult<Json<Vec<AccessToken>>> {
    Ok(Json(app.service.access_control().tokens().list(&principal, filter.user.as_deref()).await?))
}

/// Creates an access token. Its secret is returned only in this response.
#[utoipa::path(post, path = "/v1/tokens",
    operation_id = "create_token", tag = "access",
    request_body = CreateToken, responses(
    (status = 201, body = CreatedToken), (status = "default", body = Problem)))]
async fn create(
    State(app): State<App>,
    Caller(principal): Caller,
    Body(request): Body<CreateToken>,
) -> HandlerResult<(StatusCode, Json<CreatedToken>)> {
    Ok((
        StatusCode::CREATED,
        Json(app.service.access_control().tokens().create(&principal, request).await?),
    ))
}

/// Revokes an access token. Revoking a revoked token changes nothing.
#[utoipa::path(delete, path = "/v1/tokens/{token}",
    operation_id = "revoke_token", tag = "access",
    params(("token" = String, Path, description = "The token's id, not its secret.")),
    responses((status = 204), (status = "default", body = Problem)))]
async fn revoke(
    State(app): State<App>,
    Caller(principal): Caller,
    Segments(id): Segments<String>,
) -> HandlerResult<StatusCode> {
    app.service.access_control().tokens().revoke(&principal, &id).await?;
    Ok(StatusCode::NO_CONTENT)
}
