//! Namespaces: list at a ref, make and remove on a branch.

use std::collections::BTreeMap;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use headwater_model::{CreateNamespace, Namespace, Problem};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::App;
use super::branch::Removal;
use super::extract::{Body, Caller, Parameters, Segments};
use super::failure::Answer;
use super::reference::parse;

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
    Segments(reference): Segments<String>,
) -> Answer<Json<Vec<Namespace>>> {
    let catalog = app.service.components().lake.catalog();
    let resolved = catalog.resolve(&parse(&reference)?).await?;
    Ok(Json(catalog.state(resolved.commit).await?.namespaces().await?))
}

/// Makes a namespace.
#[utoipa::path(post, path = "/v1/branches/{branch}/namespaces",
    operation_id = "create_namespace", tag = "namespace",
    params(("branch" = String, Path)), request_body = CreateNamespace,
    responses((status = 201, body = Namespace), (status = "default", body = Problem)))]
async fn create(
    State(app): State<App>,
    Segments(branch): Segments<String>,
    Caller(principal): Caller,
    Body(request): Body<CreateNamespace>,
) -> Answer<(StatusCode, Json<Namespace>)> {
    let name = request.name;
    let mut transaction =
        app.service.components().lake.transaction(&branch, principal.author()).await?;
    transaction.create_namespace(&name, BTreeMap::new());
    transaction.commit(&format!("create namespace {name}")).await?;
    let namespace = Namespace { name, properties: BTreeMap::new() };
    Ok((StatusCode::CREATED, Json(namespace)))
}

/// Removes a namespace; `not_empty` while it holds tables.
#[utoipa::path(delete, path = "/v1/branches/{branch}/namespaces/{namespace}",
    operation_id = "delete_namespace", tag = "namespace",
    params(("branch" = String, Path), ("namespace" = String, Path), Removal),
    responses((status = 204), (status = "default", body = Problem)))]
async fn remove(
    State(app): State<App>,
    Segments((branch, name)): Segments<(String, String)>,
    Caller(principal): Caller,
    Parameters(removal): Parameters<Removal>,
) -> Answer<StatusCode> {
    let mut transaction =
        app.service.components().lake.transaction(&branch, principal.author()).await?;
    transaction.drop_namespace(&name);
    let outcome = transaction.commit(&format!("drop namespace {name}")).await;
    removal.settle(outcome.map(drop))
}
