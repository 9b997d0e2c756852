//! Tables: list and describe at a ref, drop on a branch. They are made and filled by SQL, imports
//! and runs.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use headwater_model::{Problem, Table, TableName};
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

/// Which tables to list.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
struct Filter {
    /// Only tables of this namespace.
    namespace: Option<String>,
}

/// Lists tables by name.
#[utoipa::path(get, path = "/v1/refs/{ref}/tables",
    operation_id = "list_tables", tag = "table",
    params(("ref" = String, Path), Filter),
    responses((status = 200, body = [Table]), (status = "default", body = Problem)))]
async fn list(
    State(app): State<App>,
    Segments(reference): Segments<String>,
    Parameters(filter): Parameters<Filter>,
) -> Answer<Json<Vec<Table>>> {
    Ok(Json(
        app.service
            .components()
            .lake
            .list(&parse(&reference)?, filter.namespace.as_deref())
            .await?,
    ))
}

/// Describes a table: `name` or `namespace.name`, as written, or else without case.
#[utoipa::path(get, path = "/v1/refs/{ref}/tables/{table}",
    operation_id = "get_table", tag = "table",
    params(("ref" = String, Path), ("table" = String, Path)),
    responses((status = 200, body = Table), (status = "default", body = Problem)))]
async fn show(
    State(app): State<App>,
    Segments((reference, table)): Segments<(String, String)>,
) -> Answer<Json<Table>> {
    let name: TableName = table.parse()?;
    let view = app.service.components().lake.view(&parse(&reference)?).await?;
    match view.find(&name.namespace, &name.name).await? {
        Some((name, table)) => {
            let mut described = table.describe(&name);
            if let Some(branch) = view.branch() {
                described.upkeep =
                    app.service.components().lake.upkeep_record(branch, &name).await?.map(Box::new);
            }
            Ok(Json(described))
        }
        None => Ok(Json(view.table(&name).await?.describe(&name))),
    }
}

/// Drops a table from a branch; commits and branches that had it keep it.
#[utoipa::path(delete, path = "/v1/branches/{branch}/tables/{table}",
    operation_id = "drop_table", tag = "table",
    params(("branch" = String, Path), ("table" = String, Path), Removal),
    responses((status = 204), (status = "default", body = Problem)))]
async fn remove(
    State(app): State<App>,
    Segments((branch, table)): Segments<(String, String)>,
    Caller(principal): Caller,
    Parameters(removal): Parameters<Removal>,
) -> Answer<StatusCode> {
    let name: TableName = table.parse()?;
    let mut transaction =
        app.service.components().lake.transaction(&branch, principal.author()).await?;
    transaction.drop(&name, removal.if_exists).await?;
    transaction.commit(&format!("drop table {name}")).await?;
    Ok(StatusCode::NO_CONTENT)
}
