//! Namespaces: list at a ref, create and delete on a branch.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use headwater_model::{CreateNamespace, Namespace, Problem};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::branch::DeleteOptions;
use super::error::HandlerResult;
use super::extract::{Body, Caller, Parameters, Segments, parse_ref};
use crate::server_state::App;

pub(super) fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::new().routes(routes!(list)).routes(routes!(create)).routes(routes!(remove))
}

/// Lists namespaces by name.
#[utoipa::path(get, path = "/v1/refs/{ref}/namespaces",
    operation_id = "list_namespaces", tag = "namespace",
    params(("ref" = String, Path)),
    responses((status = 200, body = [Namespace]), (status = "default", body = Problem)))]
async fn list(
    State(app): State<App>,
    Caller(principal): Caller,
    Segments(reference): Segments<String>,
) -> HandlerResult<Json<Vec<Namespace>>> {
    let reference = parse_ref(&reference)?;
    Ok(Json(app.service.namespaces().list(&principal, &reference).await?))
}

/// Creates a namespace.
#[utoipa::path(post, path = "/v1/branches/{branch}/namespaces",
    operation_id = "create_namespace", tag = "namespace",
    params(("branch" = String, Path)), request_body = CreateNamespace,
    responses((status = 201, body = Namespace), (status = "default", body = Problem)))]
async fn create(
    State(app): State<App>,
    Segments(branch): Segments<String>,
    Caller(principal): Caller,
    Body(request): Body<CreateNamespace>,
) -> HandlerResult<(StatusCode, Json<Namespace>)> {
    let namespace = app.service.namespaces().create(&principal, &branch, request.name).await?;
    Ok((StatusCode::CREATED, Json(namespace)))
}

/// Deletes a namespace. Error: `not_empty` if the namespace contains tables.
#[utoipa::path(delete, path = "/v1/branches/{branch}/namespaces/{namespace}",
    operation_id = "delete_namespace", tag = "namespace",
    params(("branch" = String, Path), ("namespace" = String, Path), DeleteOptions),
    responses((status = 204), (status = "default", body = Problem)))]
async fn remove(
    State(app): State<App>,
    Segments((branch, name)): Segments<(String, String)>,
    Caller(principal): Caller,
    Parameters(deletion): Parameters<DeleteOptions>,
) -> HandlerResult<StatusCode> {
    deletion.response(app.service.namespaces().delete(&principal, &branch, &name).await)
}
