//! The principal, the content type and the body of a request.

use axum::extract::rejection::BytesRejection;
use axum::http::header::CONTENT_TYPE;
use axum::http::request::Parts;
use axum::http::{HeaderMap, StatusCode};
use headwater_model::{AUTHOR_BYTES_MAX, ErrorCode, Principal, Problem};

/// Header with the author of the changes that a request makes. An author in the body of the request
/// overrides the header.
const AUTHOR_HEADER: &str = "x-headwater-author";

/// Returns the authenticated principal of a request, with the author from the header.
///
/// Errors: `unauthenticated`; `invalid_argument` if the header is not UTF-8 text of at most 200
/// bytes.
pub fn principal(parts: &Parts) -> Result<Principal, Problem> {
    let principal = parts.extensions.get::<Principal>().cloned();
    let principal = principal.ok_or_else(|| {
        Problem::new(ErrorCode::Unauthenticated, "the request is not authenticated")
    })?;
    let Some(value) = parts.headers.get(AUTHOR_HEADER) else { return Ok(principal) };
    match std::str::from_utf8(value.as_bytes()) {
        Ok(author) if author.len() <= AUTHOR_BYTES_MAX => {
            Ok(principal.with_author(Some(author.to_owned())))
        }
        _ => Err(Problem::new(
            ErrorCode::InvalidArgument,
            format!("header `{AUTHOR_HEADER}` is invalid"),
        )
        .with_hint("Send UTF-8 text of at most 200 bytes.")),
    }
}

/// Checks that the body is JSON. Rejects the content types of HTML forms, because any web page can
/// submit a form to any server.
pub fn check_content_type(headers: &HeaderMap) -> Result<(), Problem> {
    let sent = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or("");
    let essence = sent.split(';').next().unwrap_or("").trim().to_ascii_lowercase();
    if essence == "application/json" || essence.ends_with("+json") {
        return Ok(());
    }
    let message = format!("the content type `{sent}` is not supported");
    Err(Problem::new(ErrorCode::InvalidArgument, message)
        .with_hint("Send JSON, with the header `content-type: application/json`."))
}

/// Converts the error that axum reports for a body that is too long or incomplete.
pub fn body_error(rejection: &BytesRejection) -> Problem {
    if rejection.status() == StatusCode::PAYLOAD_TOO_LARGE {
        let problem = Problem::new(ErrorCode::InvalidArgument, "the request body is too long");
        return problem
            .with_hint("Send at most 64 MiB for a run, and at most 1 MiB in other requests.");
    }
    let problem = Problem::new(ErrorCode::InvalidArgument, "the request body is incomplete");
    let mut problem = problem.with_hint("Send the request again.");
    problem.causes.push(rejection.body_text());
    problem
}
