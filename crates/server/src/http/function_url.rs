//! HTTP URLs of functions without a project.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use headwater_lambda::URL_ROOT;
use headwater_model::{FunctionUrlAuth, FunctionUrlConfig, Problem, SetFunctionUrl};
use headwater_service::{FunctionUrl, FunctionUrlChange, InvokeMode, UrlAuth, UrlOptions};
use serde::Deserialize;
use utoipa::IntoParams;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::error::HandlerResult;
use super::extract::{Body, Caller, Parameters, Segments};
use crate::server_state::App;

pub(super) fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::new().routes(routes!(get, set, remove))
}

/// The alias of a function.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
struct AliasOption {
    /// The alias that the URL calls; the latest state by default.
    alias: Option<String>,
}

/// Returns the URL of a function without a project, or of one of its aliases.
#[utoipa::path(get, path = "/v1/functions/{function}/url",
    operation_id = "get_function_url", tag = "function",
    params(("function" = String, Path), AliasOption),
    responses((status = 200, body = FunctionUrlConfig), (status = "default", body = Problem)))]
async fn get(
    State(app): State<App>,
    Caller(principal): Caller,
    Segments(name): Segments<String>,
    Parameters(AliasOption { alias }): Parameters<AliasOption>,
) -> HandlerResult<Json<FunctionUrlConfig>> {
    let functions = app.service.invocations().standalone();
    let url = functions.get_url(&principal, &name, alias.as_deref()).await?;
    Ok(Json(config(&name, alias.as_deref(), &url)))
}

/// Creates the URL of a function without a project, or of one of its aliases, or changes it.
#[utoipa::path(put, path = "/v1/functions/{function}/url",
    operation_id = "set_function_url", tag = "function",
    params(("function" = String, Path), AliasOption), request_body = SetFunctionUrl,
    responses((status = 200, body = FunctionUrlConfig), (status = "default", body = Problem)))]
async fn set(
    State(app): State<App>,
    Caller(principal): Caller,
    Segments(name): Segments<String>,
    Parameters(AliasOption { alias }): Parameters<AliasOption>,
    Body(request): Body<SetFunctionUrl>,
) -> HandlerResult<Json<FunctionUrlConfig>> {
    let auth = request.auth.map(|auth| match auth {
        FunctionUrlAuth::None => UrlAuth::None,
        FunctionUrlAuth::Iam => UrlAuth::Iam,
    });
    let mode = |stream| if stream { InvokeMode::ResponseStream } else { InvokeMode::Buffered };
    let settings = UrlOptions { cors: None, mode: request.stream.map(mode) };
    let functions = app.service.invocations().standalone();
    let target = alias.as_deref();
    let change = FunctionUrlChange { auth, settings, exists: request.exists };
    let url = functions.set_url(&principal, &name, target, change);
    Ok(Json(config(&name, target, &url.await?)))
}

/// Deletes the URL of a function without a project, or of one of its aliases.
#[utoipa::path(delete, path = "/v1/functions/{function}/url",
    operation_id = "delete_function_url", tag = "function",
    params(("function" = String, Path), AliasOption),
    responses((status = 204), (status = "default", body = Problem)))]
async fn remove(
    State(app): State<App>,
    Caller(principal): Caller,
    Segments(name): Segments<String>,
    Parameters(AliasOption { alias }): Parameters<AliasOption>,
) -> HandlerResult<StatusCode> {
    let functions = app.service.invocations().standalone();
    functions.delete_url(&principal, &name, alias.as_deref()).await?;
    Ok(StatusCode::NO_CONTENT)
}

fn config(name: &str, alias: Option<&str>, url: &FunctionUrl) -> FunctionUrlConfig {
    let called = alias.map_or_else(|| name.to_owned(), |alias| format!("{name}:{alias}"));
    FunctionUrlConfig {
        path: format!("/{URL_ROOT}/{called}/"),
        auth: match url.auth {
            UrlAuth::None => FunctionUrlAuth::None,
            UrlAuth::Iam => FunctionUrlAuth::Iam,
        },
        stream: url.mode == InvokeMode::ResponseStream,
        created: url.created,
        modified: url.modified,
    }
}
