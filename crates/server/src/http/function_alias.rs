//! Aliases of functions without a project.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use headwater_model::{FunctionAlias, Problem, UpdateFunctionAlias};
use headwater_service::FunctionChange;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::branch::DeleteOptions;
use super::error::HandlerResult;
use super::extract::{Body, Caller, Parameters, Segments};
use crate::server_state::App;

pub(super) fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::new().routes(routes!(create, update, remove))
}

/// Creates an alias of a version of a function without a project.
#[utoipa::path(post, path = "/v1/functions/{function}/aliases/{alias}",
    operation_id = "create_function_alias", tag = "function",
    params(("function" = String, Path), ("alias" = String, Path)), request_body = FunctionAlias,
    responses((status = 201, body = FunctionAlias), (status = "default", body = Problem)))]
async fn create(
    State(app): State<App>,
    Caller(principal): Caller,
    Segments((name, alias)): Segments<(String, String)>,
    Body(request): Body<FunctionAlias>,
) -> HandlerResult<(StatusCode, Json<FunctionAlias>)> {
    let change = FunctionChange::CreateAlias(alias, request.clone());
    app.service.invocations().standalone().change(&principal, &name, change.into()).await?;
    Ok((StatusCode::CREATED, Json(request)))
}

/// Changes an alias of a function without a project. Absent fields are not changed.
#[utoipa::path(put, path = "/v1/functions/{function}/aliases/{alias}",
    operation_id = "update_function_alias", tag = "function",
    params(("function" = String, Path), ("alias" = String, Path)),
    request_body = UpdateFunctionAlias,
    responses((status = 200, body = FunctionAlias), (status = "default", body = Problem)))]
async fn update(
    State(app): State<App>,
    Caller(principal): Caller,
    Segments((name, alias)): Segments<(String, String)>,
    Body(update): Body<UpdateFunctionAlias>,
) -> HandlerResult<Json<FunctionAlias>> {
    let functions = app.service.invocations().standalone();
    let change = FunctionChange::UpdateAlias { name: alias.clone(), update, revision: None };
    let mut changed = functions.change(&principal, &name, change.into()).await?;
    Ok(Json(changed.aliases.remove(&alias).unwrap_or_default()))
}

/// Deletes an alias of a function without a project, with its URL.
#[utoipa::path(delete, path = "/v1/functions/{function}/aliases/{alias}",
    operation_id = "delete_function_alias", tag = "function",
    params(("function" = String, Path), ("alias" = String, Path), DeleteOptions),
    responses((status = 204), (status = "default", body = Problem)))]
async fn remove(
    State(app): State<App>,
    Caller(principal): Caller,
    Segments((name, alias)): Segments<(String, String)>,
    Parameters(deletion): Parameters<DeleteOptions>,
) -> HandlerResult<StatusCode> {
    let functions = app.service.invocations().standalone();
    deletion.response(functions.delete_alias(&principal, &name, &alias).await)
}
