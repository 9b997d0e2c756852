//! Tables: list and get at a ref, drop on a branch. Tables are created and filled by SQL, imports
//! and runs.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use headwater_model::{Problem, Table, TableName};
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

/// The filter for tables.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
struct Filter {
    /// Only tables in this namespace.
    namespace: Option<String>,
}

/// Lists tables by name.
#[utoipa::path(get, path = "/v1/refs/{ref}/tables",
    operation_id = "list_tables", tag = "table",
    params(("ref" = String, Path), Filter),
    responses((status = 200, body = [Table]), (status = "default", body = Problem)))]
async fn list(
    State(app): State<App>,
    Caller(principal): Caller,
    Segments(reference): Segments<String>,
    Parameters(filter): Parameters<Filter>,
) -> HandlerResult<Json<Vec<Table>>> {
    let reference = parse_ref(&reference)?;
    let namespace = filter.namespace.as_deref();
    Ok(Json(app.service.tables().list(&principal, &reference, namespace).await?))
}

/// Describes a table: `name` or `namespace.name`. The name is matched exactly first, then
/// case-insensitively.
#[utoipa::path(get, path = "/v1/refs/{ref}/tables/{table}",
    operation_id = "get_table", tag = "table",
    params(("ref" = String, Path), ("table" = String, Path)),
    responses((status = 200, body = Table), (status = "default", body = Problem)))]
async fn show(
    State(app): State<App>,
    Caller(principal): Caller,
    Segments((reference, table)): Segments<(String, String)>,
) -> HandlerResult<Json<Table>> {
    let name: TableName = table.parse()?;
    let reference = parse_ref(&reference)?;
    Ok(Json(app.service.tables().get(&principal, &reference, &name).await?))
}

/// Drops a table from a branch. The table remains in other commits and branches that contain it.
#[utoipa::path(delete, path = "/v1/branches/{branch}/tables/{table}",
    operation_id = "drop_table", tag = "table",
    params(("branch" = String, Path), ("table" = String, Path), DeleteOptions),
    responses((status = 204), (status = "default", body = Problem)))]
async fn remove(
    State(app): State<App>,
    Segments((branch, table)): Segments<(String, String)>,
    Caller(principal): Caller,
    Parameters(deletion): Parameters<DeleteOptions>,
) -> HandlerResult<StatusCode> {
    let name: TableName = table.parse()?;
    app.service.tables().drop(&principal, &branch, &name, deletion.if_exists).await?;
    Ok(StatusCode::NO_CONTENT)
}
