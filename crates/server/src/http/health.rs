//! The server's health, and its shutdown.

use std::time::Duration;

use axum::extract::State;
use axum::http::StatusCode;
use axum::{Extension, Json};
use headwater_model::{Health, Problem};
use serde::Deserialize;
use utoipa::IntoParams;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::error::HandlerResult;
use super::extract::{Caller, Parameters};
use crate::auth::Unauthenticated;
use crate::server_state::App;

pub(super) fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::new().routes(routes!(health)).routes(routes!(shutdown))
}

/// Returns the server's status. With the token or over the Unix socket, the response also contains
/// the server's process id and lake.
#[utoipa::path(get, path = "/health",
    operation_id = "get_health", tag = "server", security(()),
    responses((status = 200, body = Health)))]
async fn health(
    State(app): State<App>,
    unauthenticated: Option<Extension<Unauthenticated>>,
) -> Json<Health> {
    let health = app.health();
    Json(match unauthenticated {
        Some(_) => Health { pid: None, lake: None, jobs_running: None, ..health },
        None => health,
    })
}

/// Options of a shutdown.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
struct ShutdownOptions {
    /// Time for running jobs to finish, in milliseconds. Jobs that run longer are interrupted.
    drain_ms: Option<u64>,
}

/// Shuts the server down: it rejects new jobs and waits for running jobs. The response is sent
/// immediately. The shutdown is complete once `server.json` has been removed.
#[utoipa::path(post, path = "/v1/shutdown",
    operation_id = "shut_down", tag = "server",
    params(ShutdownOptions), responses(
    (status = 202, body = Health), (status = "default", body = Problem)))]
async fn shutdown(
    State(app): State<App>,
    Caller(principal): Caller,
    Parameters(options): Parameters<ShutdownOptions>,
) -> HandlerResult<(StatusCode, Json<Health>)> {
    app.service.authorize_shutdown(&principal)?;
    let drain = options.drain_ms.map_or(app.config.drain, Duration::from_millis);
    app.shut_down(drain);
    Ok((StatusCode::ACCEPTED, Json(app.health())))
}
