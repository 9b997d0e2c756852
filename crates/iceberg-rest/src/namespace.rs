//! Namespaces: list, create, get, update, delete.

use std::collections::BTreeMap;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use headwater_model::name::namespace_of;
use headwater_service::Service;
use headwater_service::iceberg::PropertyUpdate;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::IcebergError;
use crate::catalog_change_request::{CatalogChangeRequest, no_content};
use crate::error::HandlerResult;
use crate::pagination::Pagination;
use crate::request_context::RequestContext;
use crate::request_path::{levels_of, no_namespace, parse_namespace};

/// Lists namespaces by name: the top-level namespaces, or the direct children of a namespace.
pub async fn list(
    State(service): State<Service>,
    client: RequestContext,
    page: Pagination,
) -> HandlerResult<Json<Value>> {
    let RequestContext { principal, path } = client;
    let parent = page.parent.as_deref().filter(|parent| !parent.is_empty());
    let parent = parent.map(|text| parse_namespace(text).ok_or_else(|| no_namespace(text)));
    let parent = parent.transpose()?;
    let iceberg = service.iceberg();
    let names = iceberg.list_namespaces(&principal, &path.reference, parent.as_deref()).await?;
    let (names, next) = page.of(names);
    let names: Vec<_> = names.iter().map(|name| levels_of(name)).collect();
    Ok(Json(json!({"namespaces": names, "next-page-token": next})))
}

/// A namespace to create.
#[derive(Debug, Deserialize)]
pub struct CreateNamespaceRequest {
    namespace: Vec<String>,
    #[serde(default)]
    properties: Option<BTreeMap<String, String>>,
}

/// Creates a namespace.
pub async fn create(
    State(service): State<Service>,
    change: CatalogChangeRequest,
) -> HandlerResult<Json<Value>> {
    let new: CreateNamespaceRequest = change.parse()?;
    let name = namespace_of(&new.namespace)?;
    let properties = new.properties.unwrap_or_default();
    let created = json!({"namespace": new.namespace, "properties": properties});
    let iceberg = service.iceberg();
    let (principal, request) = (&change.principal, &change.request);
    let done = iceberg.create_namespace(principal, request, name, properties).await;
    done.map_err(IcebergError::of_change)?;
    Ok(Json(created))
}

/// Returns a namespace's properties.
pub async fn show(
    State(service): State<Service>,
    client: RequestContext,
) -> HandlerResult<Json<Value>> {
    let RequestContext { principal, path } = client;
    let name = path.namespace()?;
    let found = service.iceberg().namespace(&principal, &path.reference, &name).await?;
    Ok(Json(json!({"namespace": levels_of(&found.name), "properties": found.properties})))
}

/// Checks that a namespace exists.
pub async fn exists(
    State(service): State<Service>,
    client: RequestContext,
) -> HandlerResult<StatusCode> {
    show(State(service), client).await.map(|_| StatusCode::NO_CONTENT)
}

/// Deletes a namespace without tables.
pub async fn remove(
    State(service): State<Service>,
    change: CatalogChangeRequest,
) -> HandlerResult<StatusCode> {
    let name = change.path.namespace()?;
    no_content(service.iceberg().delete_namespace(&change.principal, &change.request, name).await)
}

/// An update of a namespace's properties.
#[derive(Debug, Deserialize)]
pub struct UpdatePropertiesRequest {
    #[serde(default)]
    removals: Option<Vec<String>>,
    #[serde(default)]
    updates: Option<BTreeMap<String, String>>,
}

/// Sets and removes properties of a namespace.
pub async fn update(
    State(service): State<Service>,
    change: CatalogChangeRequest,
) -> HandlerResult<Json<Value>> {
    let new: UpdatePropertiesRequest = change.parse()?;
    let removals = new.removals.unwrap_or_default();
    let updates = new.updates.unwrap_or_default();
    if let Some(both) = removals.iter().find(|key| updates.contains_key(*key)) {
        let message = format!("`{both}` is in both `updates` and `removals`");
        return Err(IcebergError::unprocessable(message));
    }
    let name = change.path.namespace()?;
    let iceberg = service.iceberg();
    let changes = iceberg
        .update_namespace(
            &change.principal,
            &change.request,
            &name,
            PropertyUpdate { updates, removals },
        )
        .await
        .map_err(IcebergError::of_change)?;
    Ok(Json(json!({
        "updated": changes.updated,
        "removed": changes.removed,
        "missing": changes.missing,
    })))
}
