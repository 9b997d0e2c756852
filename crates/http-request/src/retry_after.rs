//! The time after which a client may repeat a rejected request.

use axum::http::HeaderValue;
use headwater_model::Problem;
use headwater_service::LOGIN_RETRY_AFTER;

/// Returns the value of the header `retry-after`: the seconds after which the client may retry the
/// request.
pub fn retry_after(problem: &Problem) -> HeaderValue {
    let seconds = problem.context.get(LOGIN_RETRY_AFTER).and_then(serde_json::Value::as_u64);
    HeaderValue::from(seconds.unwrap_or(1))
}
