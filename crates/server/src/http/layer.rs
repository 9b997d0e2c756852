//! Layers: files that are shared by several functions, each deployed without a project.

use axum::Json;
use axum::extract::{DefaultBodyLimit, State};
use axum::http::StatusCode;
use headwater_model::{LayerVersion, Problem, PublishLayer};
use headwater_service::{LayerChange, StoredLayer};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::branch::DeleteOptions;
use super::error::HandlerResult;
use super::extract::{Body, Caller, Parameters, Segments};
use super::run::BODY_BYTES_MAX;
use crate::server_state::App;

pub(super) fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::new()
        .routes(routes!(list))
        .routes(routes!(publish))
        .routes(routes!(remove))
        .layer(DefaultBodyLimit::max(BODY_BYTES_MAX))
}

/// Lists the versions of layers, by layer and number.
#[utoipa::path(get, path = "/v1/layers",
    operation_id = "list_layers", tag = "function",
    responses((status = 200, body = [LayerVersion]), (status = "default", body = Problem)))]
async fn list(
    State(app): State<App>,
    Caller(principal): Caller,
) -> HandlerResult<Json<Vec<LayerVersion>>> {
    let layers = app.service.invocations().layers().list(&principal).await?;
    Ok(Json(layers.iter().flat_map(StoredLayer::summaries).collect()))
}

/// Publishes a version of a layer. The first version creates the layer. The request contains the
/// files in `files`, or as a ZIP archive in `archive` (Base64, at most 44 MiB). A larger archive,
/// of at most 1 GiB, is sent with `create_upload` first, and named in `upload`.
///
/// The version is durable before the response is sent, and never changes.
#[utoipa::path(post, path = "/v1/layers/{layer}/versions",
    operation_id = "publish_layer", tag = "function",
    params(("layer" = String, Path)), request_body = PublishLayer,
    responses((status = 201, body = LayerVersion), (status = "default", body = Problem)))]
async fn publish(
    State(app): State<App>,
    Caller(principal): Caller,
    Segments(name): Segments<String>,
    Body(mut request): Body<PublishLayer>,
) -> HandlerResult<(StatusCode, Json<LayerVersion>)> {
    let principal = principal.with_author(request.author.take());
    let layers = app.service.invocations().layers();
    let published = layers.publish(&principal, &name, request).await?;
    Ok((StatusCode::CREATED, Json(published)))
}

/// Deletes a version of a layer. Functions that use the version keep its files.
#[utoipa::path(delete, path = "/v1/layers/{layer}/versions/{version}",
    operation_id = "delete_layer", tag = "function",
    params(("layer" = String, Path), ("version" = u64, Path), DeleteOptions),
    responses((status = 204), (status = "default", body = Problem)))]
async fn remove(
    State(app): State<App>,
    Caller(principal): Caller,
    Segments((name, version)): Segments<(String, u64)>,
    Parameters(deletion): Parameters<DeleteOptions>,
) -> HandlerResult<StatusCode> {
    let layers = app.service.invocations().layers();
    let deleted = layers.change(&principal, &name, &LayerChange::Delete(version)).await;
    deletion.response(deleted.map(drop))
}
