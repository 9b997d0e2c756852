//! Errors of the HTTP API: a [`Problem`] as JSON, with the HTTP status of its code.

use axum::Json;
use axum::http::StatusCode;
use axum::http::header::RETRY_AFTER;
use axum::response::{IntoResponse, Response};
use headwater_http_request::retry_after;
use headwater_model::{ErrorCode, Problem, ToProblem};

/// The result of a handler.
pub type HandlerResult<T> = Result<T, ErrorResponse>;

/// A problem that is sent as a response.
#[derive(Debug)]
pub struct ErrorResponse(pub Problem);

impl<E: ToProblem> From<E> for ErrorResponse {
    fn from(error: E) -> Self {
        ErrorResponse(error.to_problem())
    }
}

impl ErrorResponse {
    /// Creates the error of an invalid value in a request.
    pub fn invalid(message: impl Into<String>, hint: impl Into<String>) -> Self {
        ErrorResponse(Problem::new(ErrorCode::InvalidArgument, message).with_hint(hint))
    }

    /// Adds a cause.
    pub fn caused_by(mut self, cause: String) -> Self {
        self.0.causes.push(cause);
        self
    }
}

impl IntoResponse for ErrorResponse {
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.0.code.http_status());
        let status = status.unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        if status.is_server_error() {
            tracing::error!(code = %self.0.code, causes = ?self.0.causes, "{}", self.0.message);
        }
        let is_temporary = matches!(self.0.code, ErrorCode::TooBusy | ErrorCode::Unavailable);
        let seconds = retry_after(&self.0);
        let mut response = (status, Json(self.0)).into_response();
        if is_temporary {
            response.headers_mut().insert(RETRY_AFTER, seconds);
        }
        response
    }
}
