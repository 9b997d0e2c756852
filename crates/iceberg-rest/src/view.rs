//! Views: list, create, load, update, drop, rename, register.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use headwater_service::Service;
use headwater_service::iceberg::{ChangeError, LoadedView, NewView, ViewCommit};
use serde_json::{Value, json};

use crate::IcebergError;
use crate::catalog_change_request::{CatalogChangeRequest, no_content};
use crate::error::HandlerResult;
use crate::pagination::Pagination;
use crate::request_context::RequestContext;
use crate::table::{RegisterRequest, RenameRequest, identifiers};

/// Lists the views of a namespace by name.
pub async fn list(
    State(service): State<Service>,
    client: RequestContext,
    page: Pagination,
) -> HandlerResult<Json<Value>> {
    let RequestContext { principal, path } = client;
    let namespace = path.namespace()?;
    let iceberg = service.iceberg();
    let names = iceberg.list_views(&principal, &path.reference, &namespace).await?;
    Ok(identifiers(&namespace, names, &page))
}

fn view_error(error: ChangeError) -> IcebergError {
    IcebergError::of_change(error).for_view()
}

fn view_response(view: &LoadedView) -> HandlerResult<Json<Value>> {
    Ok(Json(json!({
        "metadata-location": view.metadata_location(),
        "metadata": view.metadata_json()?,
        "config": {},
    })))
}

async fn load(service: &Service, client: &RequestContext) -> HandlerResult<LoadedView> {
    let RequestContext { principal, path } = client;
    let name = path.view_name()?;
    let view = service.iceberg().load_view(principal, &path.reference, &name).await;
    view.map_err(|problem| IcebergError::from(problem).for_view())
}

/// Returns a view's metadata.
pub async fn show(
    State(service): State<Service>,
    client: RequestContext,
) -> HandlerResult<Json<Value>> {
    view_response(&load(&service, &client).await?)
}

/// Checks that a view exists.
pub async fn exists(
    State(service): State<Service>,
    client: RequestContext,
) -> HandlerResult<StatusCode> {
    load(&service, &client).await.map(|_| StatusCode::NO_CONTENT)
}

/// Creates a view.
pub async fn create(
    State(service): State<Service>,
    change: CatalogChangeRequest,
) -> HandlerResult<Json<Value>> {
    let new: NewView = change.parse()?;
    let name = change.new_name(&new.name)?;
    let iceberg = service.iceberg();
    let view = iceberg.create_view(&change.principal, &change.request, &name, new).await;
    view_response(&view.map_err(view_error)?)
}

/// Updates a view: its query in one or several dialects, or its properties.
pub async fn replace(
    State(service): State<Service>,
    change: CatalogChangeRequest,
) -> HandlerResult<Json<Value>> {
    let commit: ViewCommit = change.parse()?;
    let name = change.path.view_name()?;
    let iceberg = service.iceberg();
    let view = iceberg.update_view(&change.principal, &change.request, &name, commit).await;
    view_response(&view.map_err(view_error)?)
}

/// Drops a view from the branch.
pub async fn remove(
    State(service): State<Service>,
    change: CatalogChangeRequest,
) -> HandlerResult<StatusCode> {
    let name = change.path.view_name()?;
    let dropped = service.iceberg().drop_view(&change.principal, &change.request, name).await;
    no_content(dropped).map_err(IcebergError::for_view)
}

/// Renames a view.
pub async fn rename(
    State(service): State<Service>,
    change: CatalogChangeRequest,
) -> HandlerResult<StatusCode> {
    let rename: RenameRequest = change.parse()?;
    let from = rename.source.existing().map_err(IcebergError::for_view)?;
    let to = rename.destination.new_name()?;
    let iceberg = service.iceberg();
    let renamed = iceberg.rename_view(&change.principal, &change.request, from, to).await;
    no_content(renamed).map_err(IcebergError::for_view)
}

/// Registers a view from a metadata file in the warehouse.
pub async fn register(
    State(service): State<Service>,
    change: CatalogChangeRequest,
) -> HandlerResult<Json<Value>> {
    let new: RegisterRequest = change.parse()?;
    let name = change.new_name(&new.name)?;
    let location = new.metadata_location;
    let iceberg = service.iceberg();
    let view = iceberg.register_view(&change.principal, &change.request, &name, location).await;
    view_response(&view.map_err(view_error)?)
}
