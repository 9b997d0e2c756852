//! How an error leaves by HTTP: a [`Problem`] as JSON, with the status of its code.

use axum::Json;
use axum::http::header::RETRY_AFTER;
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use headwater_model::{ErrorCode, Fault, Problem};

/// What a handler answers.
pub type Answer<T> = Result<T, Failure>;

/// An error on its way out.
#[derive(Debug)]
pub struct Failure(pub Problem);

impl<E: Fault> From<E> for Failure {
    fn from(error: E) -> Self {
        Failure(error.to_problem())
    }
}

impl Failure {
    /// A value in the request that cannot be used.
    pub fn invalid(message: impl Into<String>, hint: impl Into<String>) -> Self {
        Failure(Problem::new(ErrorCode::InvalidArgument, message).with_hint(hint))
    }

    /// The HTTP status of a problem.
    pub fn status(problem: &Problem) -> StatusCode {
        StatusCode::from_u16(problem.code.http_status())
            .unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
    }
}

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        let status = Failure::status(&self.0);
        if status.is_server_error() {
            tracing::error!(code = %self.0.code, causes = ?self.0.causes, "{}", self.0.message);
        }
        let busy = matches!(self.0.code, ErrorCode::TooBusy | ErrorCode::Unavailable);
        let mut response = (status, Json(self.0)).into_response();
        if busy {
            response.headers_mut().insert(RETRY_AFTER, HeaderValue::from_static("1"));
        }
        response
    }
}
