//! Views: list and describe at a ref, drop on a branch. They are made by SQL.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use headwater_model::{ErrorCode, Fault, Problem, SqlView, TableName};
use serde::Deserialize;
use utoipa::IntoParams;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::App;
use super::branch::Removal;
use super::extract::{Caller, Parameters, Segments};
use super::failure::Answer;
use super::reference::parse;

pub(super) fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::new().routes(routes!(list)).routes(routes!(show)).routes(routes!(remove))
}

/// Which views to list.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
struct Filter {
    /// Only views of this namespace.
    namespace: Option<String>,
}

/// Lists views by name.
#[utoipa::path(get, path = "/v1/refs/{ref}/views",
    operation_id = "list_views", tag = "view",
    params(("ref" = String, Path), Filter),
    responses((status = 200, body = [SqlView]), (status = "default", body = Problem)))]
async fn list(
    State(app): State<App>,
    Segments(reference): Segments<String>,
    Parameters(filter): Parameters<Filter>,
) -> Answer<Json<Vec<SqlView>>> {
    let reference = parse(&reference)?;
    Ok(Json(
        app.service.components().lake.list_views(&reference, filter.namespace.as_deref()).await?,
    ))
}

/// Describes a view: `name` or `namespace.name`, as written, or else without case.
#[utoipa::path(get, path = "/v1/refs/{ref}/views/{view}",
    operation_id = "get_view", tag = "view",
    params(("ref" = String, Path), ("view" = String, Path)),
    responses((status = 200, body = SqlView), (status = "default", body = Problem)))]
async fn show(
    State(app): State<App>,
    Segments((reference, view)): Segments<(String, String)>,
) -> Answer<Json<SqlView>> {
    let name: TableName = view.parse()?;
    Ok(Json(app.service.components().lake.describe_view(&parse(&reference)?, &name).await?))
}

/// Drops a view from a branch; commits and branches that had it keep it.
#[utoipa::path(delete, path = "/v1/branches/{branch}/views/{view}",
    operation_id = "drop_view", tag = "view",
    params(("branch" = String, Path), ("view" = String, Path), Removal),
    responses((status = 204), (status = "default", body = Problem)))]
async fn remove(
    State(app): State<App>,
    Segments((branch, view)): Segments<(String, String)>,
    Caller(principal): Caller,
    Parameters(removal): Parameters<Removal>,
) -> Answer<StatusCode> {
    let name: TableName = view.parse()?;
    let mut transaction =
        app.service.components().lake.transaction(&branch, principal.author()).await?;
    let state = transaction.view().state().clone();
    let found = state.find(&name.namespace, &name.name).await?;
    let name = found.filter(|(_, entry)| entry.is_view()).map_or(name, |(name, _)| name);
    match transaction.drop_view(&name).await {
        Err(error) if error.code() == ErrorCode::TableNotFound && removal.if_exists => {
            return Ok(StatusCode::NO_CONTENT);
        }
        dropped => dropped?,
    }
    transaction.commit(&format!("drop view {name}")).await?;
    Ok(StatusCode::NO_CONTENT)
}
