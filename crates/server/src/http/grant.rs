//! Grants: list, grant, revoke, and explain an access decision.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use headwater_model::{
    AccessExplanation, AccessObject, Action, Grant, GrantRequest, ObjectPattern, Problem,
};
use serde::Deserialize;
use utoipa::IntoParams;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::error::HandlerResult;
use super::extract::{Body, Caller, Parameters};
use crate::server_state::App;

pub(super) fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::new().routes(routes!(list, grant, revoke)).routes(routes!(explain))
}

/// The filter for listed grants.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
struct Filter {
    /// Only grants to this user or role; all by default.
    grantee: Option<String>,
}

/// The permission to revoke.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
struct Revocation {
    /// The user or role.
    grantee: String,
    /// The actions to revoke, separated by commas.
    actions: String,
    /// The pattern of objects, exactly as in the grant.
    object: String,
}

/// The access decision to explain.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
struct ExplainAccessParameters {
    /// The user.
    user: String,
    /// The action, such as `select`.
    action: String,
    /// The object, such as `table:sales.orders`, `branch:main` or `lake`.
    object: String,
}

/// Lists grants by grantee and object.
#[utoipa::path(get, path = "/v1/grants",
    operation_id = "list_grants", tag = "access",
    params(Filter), responses(
    (status = 200, body = [Grant]), (status = "default", body = Problem)))]
async fn list(
    State(app): State<App>,
    Caller(principal): Caller,
    Parameters(filter): Parameters<Filter>,
) -> HandlerResult<Json<Vec<Grant>>> {
    Ok(Json(app.service.access_control().grants().list(&principal, filter.grantee.as_deref())?))
}

/// Grants actions to a user or role, in addition to the actions that are already granted on the
/// same objects.
#[utoipa::path(post, path = "/v1/grants",
    operation_id = "grant", tag = "access",
    request_body = GrantRequest, responses(
    (status = 201, body = Grant), (status = "default", body = Problem)))]
async fn grant(
    State(app): State<App>,
    Caller(principal): Caller,
    Body(request): Body<GrantRequest>,
) -> HandlerResult<(StatusCode, Json<Grant>)> {
    Ok((
        StatusCode::CREATED,
        Json(app.service.access_control().grants().grant(&principal, request).await?),
    ))
}

/// Revokes actions from a grant. At least one of the actions must have been granted on exactly
/// these objects.
#[utoipa::path(delete, path = "/v1/grants",
    operation_id = "revoke", tag = "access",
    params(Revocation), responses((status = 204), (status = "default", body = Problem)))]
async fn revoke(
    State(app): State<App>,
    Caller(principal): Caller,
    Parameters(revocation): Parameters<Revocation>,
) -> HandlerResult<StatusCode> {
    let Revocation { grantee, actions, object } = revocation;
    let actions: Result<Vec<Action>, _> =
        actions.split(',').map(|action| action.trim().parse()).collect();
    let object: ObjectPattern = object.parse()?;
    let request = GrantRequest { grantee, actions: actions?, object };
    app.service.access_control().grants().revoke(&principal, request).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Returns an access decision for a user, an action and an object, with the grant that determines
/// the decision.
#[utoipa::path(get, path = "/v1/access/explain",
    operation_id = "explain_access", tag = "access",
    params(ExplainAccessParameters), responses(
    (status = 200, body = AccessExplanation), (status = "default", body = Problem)))]
async fn explain(
    State(app): State<App>,
    Caller(principal): Caller,
    Parameters(question): Parameters<ExplainAccessParameters>,
) -> HandlerResult<Json<AccessExplanation>> {
    let action: Action = question.action.parse()?;
    let object: AccessObject = question.object.parse()?;
    let grants = app.service.access_control().grants();
    Ok(Json(grants.explain(&principal, &question.user, action, &object).await?))
}
