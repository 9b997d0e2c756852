//! Row filters and column masks: list, create, drop.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use headwater_model::{CreateRestriction, Problem, Restriction};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::error::HandlerResult;
use super::extract::{Body, Caller, Segments};
use crate::server_state::App;

pub(super) fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::new().routes(routes!(list, create)).routes(routes!(remove))
}

/// Lists row filters and column masks by name.
#[utoipa::path(get, path = "/v1/restrictions",
    operation_id = "list_restrictions", tag = "access",
    responses((status = 200, body = [Restriction]), (status = "default", body = Problem)))]
async fn list(
    State(app): State<App>,
    Caller(principal): Caller,
) -> HandlerResult<Json<Vec<Restriction>>> {
    Ok(Json(app.service.access_control().restrictions().list(&principal)?))
}

/// Creates a row filter or, if the request contains a column, a column mask.
#[utoipa::path(post, path = "/v1/restrictions",
    operation_id = "create_restriction", tag = "access",
    request_body = CreateRestriction, responses(
    (status = 201, body = Restriction), (status = "default", body = Problem)))]
async fn create(
    State(app): State<App>,
    Caller(principal): Caller,
    Body(request): Body<CreateRestriction>,
) -> HandlerResult<(StatusCode, Json<Restriction>)> {
    let restrictions = app.service.access_control().restrictions();
    Ok((StatusCode::CREATED, Json(restrictions.create(&principal, request).await?)))
}

/// Drops a row filter or column mask.
#[utoipa::path(delete, path = "/v1/restrictions/{restriction}",
    operation_id = "delete_restriction", tag = "access",
    params(("restriction" = String, Path)),
    responses((status = 204), (status = "default", body = Problem)))]
async fn remove(
    State(app): State<App>,
    Caller(principal): Caller,
    Segments(name): Segments<String>,
) -> HandlerResult<StatusCode> {
    app.service.access_control().restrictions().delete(&principal, &name).await?;
    Ok(StatusCode::NO_CONTENT)
}
