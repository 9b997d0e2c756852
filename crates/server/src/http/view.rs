//! SQL views: list and get at a ref, drop on a branch. Views are created by SQL.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use headwater_model::{Problem, SqlView, TableName};
use serde::Deserialize;
use utoipa::IntoParams;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::branch::DeleteOptions;
use super::error::HandlerResult;
use super::extract::{Caller, Parameters, Segments, parse_ref};
use crate::server_state::App;

pub(super) fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::new().routes(routes!(list)).routes(routes!(show)).routes(routes!(remove))
}

/// The filter for views.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
struct Filter {
    /// Only views in this namespace.
    namespace: Option<String>,
}

/// Lists views by name.
#[utoipa::path(get, path = "/v1/refs/{ref}/views",
    operation_id = "list_views", tag = "view",
    params(("ref" = String, Path), Filter),
    responses((status = 200, body = [SqlView]), (status = "default", body = Problem)))]
async fn list(
    State(app): State<App>,
    Caller(principal): Caller,
    Segments(reference): Segments<String>,
    Parameters(filter): Parameters<Filter>,
) -> HandlerResult<Json<Vec<SqlView>>> {
    let reference = parse_ref(&reference)?;
    let namespace = filter.namespace.as_deref();
    Ok(Json(app.service.views().list(&principal, &reference, namespace).await?))
}

/// Describes a view: `name` or `namespace.name`. The name is matched exactly first, then
/// case-insensitively.
#[utoipa::path(get, path = "/v1/refs/{ref}/views/{view}",
    operation_id = "get_view", tag = "view",
    params(("ref" = String, Path), ("view" = String, Path)),
    responses((status = 200, body = SqlView), (status = "default", body = Problem)))]
async fn show(
    State(app): State<App>,
    Caller(principal): Caller,
    Segments((reference, view)): Segments<(String, String)>,
) -> HandlerResult<Json<SqlView>> {
    let name: TableName = view.parse()?;
    let reference = parse_ref(&reference)?;
    Ok(Json(app.service.views().get(&principal, &reference, &name).await?))
}

/// Drops a view from a branch. The view remains in other commits and branches that contain it.
#[utoipa::path(delete, path = "/v1/branches/{branch}/views/{view}",
    operation_id = "drop_view", tag = "view",
    params(("branch" = String, Path), ("view" = String, Path), DeleteOptions),
    responses((status = 204), (status = "default", body = Problem)))]
async fn remove(
    State(app): State<App>,
    Segments((branch, view)): Segments<(String, String)>,
    Caller(principal): Caller,
    Parameters(deletion): Parameters<DeleteOptions>,
) -> HandlerResult<StatusCode> {
    let name: TableName = view.parse()?;
    app.service.views().drop(&principal, &branch, &name, deletion.if_exists).await?;
    Ok(StatusCode::NO_CONTENT)
}
