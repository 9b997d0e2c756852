//! The router of all protocols, and the layers for every request.

use axum::Router;
use axum::extract::{DefaultBodyLimit, Request};
use axum::middleware::{from_fn, from_fn_with_state};
use headwater_iceberg_rest::ROOT as ICEBERG_ROOT;
use headwater_model::{ErrorCode, Problem};

use crate::http::{self, ErrorResponse};
use crate::server_state::App;
use crate::{auth, console, flight, iceberg, lambda, panic, request_activity, sqs};

/// Default maximum length of a request body, in bytes. A route can set another limit.
const BODY_BYTES_MAX: usize = 1 << 20;

/// Returns the router of all protocols.
pub fn router(app: &App) -> Router {
    http::router()
        .nest(ICEBERG_ROOT, iceberg::router(app))
        .merge(flight::router(app))
        .merge(console::router())
        .fallback(not_found)
        .method_not_allowed_fallback(not_found)
        .layer(DefaultBodyLimit::max(BODY_BYTES_MAX))
        .layer(from_fn(panic::catch))
        .layer(from_fn_with_state(app.clone(), auth::authenticate))
        .merge(lambda::router().merge(sqs::router()).layer(from_fn(panic::catch)))
        .layer(from_fn_with_state(app.activity.clone(), request_activity::count))
        .with_state(app.clone())
}

pub(crate) async fn not_found(request: Request) -> ErrorResponse {
    let message = format!("there is no endpoint `{} {}`", request.method(), request.uri().path());
    let problem = Problem::new(ErrorCode::RouteNotFound, message);
    ErrorResponse(problem.with_hint("See the paths in `/v1/openapi.json`."))
}
