//! Metrics for Prometheus and other monitoring systems.

use axum::extract::State;
use axum::http::HeaderMap;
use axum::http::header::{ACCEPT, CONTENT_TYPE};
use axum::response::{IntoResponse, Response};
use headwater_metrics::MetricsFormat;
use headwater_model::Problem;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::error::HandlerResult;
use super::extract::Caller;
use crate::server_state::App;

pub(super) fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::new().routes(routes!(metrics))
}

/// Returns the server's metrics in the text format of Prometheus, or of `OpenMetrics` if the header
/// `Accept` names it. The user needs the right to read the usage of every user.
#[utoipa::path(get, path = "/metrics",
    operation_id = "get_metrics", tag = "server",
    responses(
    (status = 200, description = "The metrics.", content(
        (String = "text/plain"), (String = "application/openmetrics-text"))),
    (status = "default", body = Problem)))]
async fn metrics(
    State(app): State<App>,
    Caller(principal): Caller,
    headers: HeaderMap,
) -> HandlerResult<Response> {
    let format = MetricsFormat::accepted(headers.get(ACCEPT).and_then(|it| it.to_str().ok()));
    let text = app.service.jobs().metrics(&principal, &app.activity.metrics, format).await?;
    Ok(([(CONTENT_TYPE, format.content_type())], text).into_response())
}
