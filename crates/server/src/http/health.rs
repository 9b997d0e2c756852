//! The server itself: what it says of itself, and being told to end.

use std::time::Duration;

use axum::extract::State;
use axum::http::StatusCode;
use axum::{Extension, Json};
use headwater_model::{Health, Problem};
use serde::Deserialize;
use utoipa::IntoParams;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::App;
use super::extract::Parameters;
use super::failure::Answer;
use super::origin::Stranger;

pub(super) fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::new().routes(routes!(health)).routes(routes!(shutdown))
}

/// Answers whether the server is up; who shows the token, or asks over the socket, also which.
#[utoipa::path(get, path = "/health",
    operation_id = "get_health", tag = "server", security(()),
    responses((status = 200, body = Health)))]
async fn health(State(app): State<App>, stranger: Option<Extension<Stranger>>) -> Json<Health> {
    let health = app.health();
    Json(match stranger {
        Some(_) => Health { pid: None, lake: None, jobs_running: None, ..health },
        None => health,
    })
}

/// How to end.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
struct Patience {
    /// How long jobs under way may go on, in milliseconds; then they are interrupted.
    drain_ms: Option<u64>,
}

/// Tells the server to end: it takes no more jobs, lets those under way end, and goes. The answer
/// comes at once; the server has ended when `server.json` is gone.
#[utoipa::path(post, path = "/v1/shutdown",
    operation_id = "shut_down", tag = "server",
    params(Patience), responses(
    (status = 202, body = Health), (status = "default", body = Problem)))]
async fn shutdown(
    State(app): State<App>,
    Parameters(patience): Parameters<Patience>,
) -> Answer<(StatusCode, Json<Health>)> {
    let drain = patience.drain_ms.map_or(app.config.drain, Duration::from_millis);
    app.end(drain);
    Ok((StatusCode::ACCEPTED, Json(app.health())))
}
