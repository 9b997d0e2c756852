//! Determines the protocol of a request from its path.

use axum::body::Body;
use axum::http::Uri;
use axum::response::{IntoResponse, Response};
use headwater_iceberg_rest::IcebergError;
use headwater_model::Problem;

use crate::http::ErrorResponse;
use crate::{console, flight, iceberg};

/// Paths of the HTTP API that need no token. Responses at these paths contain no data of the lake,
/// and a login has no token yet.
const PUBLIC_PATHS: [&str; 4] = ["/health", "/v1/login", "/v1/openapi.json", "/v1/session"];

/// Returns true if a path needs no token.
pub fn is_public(path: &str) -> bool {
    PUBLIC_PATHS.contains(&path) || iceberg::is_token_path(path) || console::is_asset(path)
}

/// Encodes an error in the format of the request's protocol.
pub fn error_response(uri: &Uri, problem: Problem) -> Response {
    if headwater_iceberg_rest::contains(uri) {
        IcebergError::from(problem).into_response()
    } else if flight::contains(uri.path()) {
        headwater_flight::error_response(problem).map(Body::new)
    } else {
        ErrorResponse(problem).into_response()
    }
}
