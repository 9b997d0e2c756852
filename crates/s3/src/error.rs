//! Conversion of the service's errors into errors of the S3 protocol.

use headwater_model::{ErrorCode, Problem};
use http::StatusCode;
use s3s::{S3Error, S3ErrorCode};

/// Field of a problem's context that contains the error code of the S3 protocol.
const S3_CODE: &str = "s3_code";

/// Converts an error of the service.
pub(crate) fn s3_error_of(problem: Problem) -> S3Error {
    let named = problem.context.get(S3_CODE).and_then(|code| code.as_str());
    let known = named.and_then(|code| S3ErrorCode::from_bytes(code.as_bytes()));
    let code = known.unwrap_or_else(|| code_of(problem.code));
    let is_internal = code.status_code().is_none_or(|status| status.is_server_error());
    if is_internal && !problem.code.has_unknown_outcome() {
        tracing::debug!("an S3 request failed: {problem}");
    }
    let message = match problem.hint {
        Some(hint) => format!("{}. {hint}", problem.message),
        None => problem.message,
    };
    let mut error = S3Error::with_message(code, message);
    if named.is_none()
        && let Ok(status) = StatusCode::from_u16(problem.code.http_status())
        && problem.code != ErrorCode::Unauthenticated
        && problem.code != ErrorCode::TooBusy
    {
        error.set_status_code(status);
    }
    error
}

fn code_of(code: ErrorCode) -> S3ErrorCode {
    match code {
        ErrorCode::Unauthenticated | ErrorCode::Forbidden => S3ErrorCode::AccessDenied,
        ErrorCode::InvalidArgument | ErrorCode::InvalidName => S3ErrorCode::InvalidArgument,
        ErrorCode::BucketNotFound => S3ErrorCode::NoSuchBucket,
        ErrorCode::ObjectNotFound => S3ErrorCode::NoSuchKey,
        ErrorCode::PreconditionFailed => S3ErrorCode::PreconditionFailed,
        ErrorCode::CommitConflict => S3ErrorCode::OperationAborted,
        ErrorCode::TooBusy => S3ErrorCode::SlowDown,
        ErrorCode::Unavailable => S3ErrorCode::ServiceUnavailable,
        _ => S3ErrorCode::InternalError,
    }
}

/// Returns the error of an unsupported feature.
pub(crate) fn unsupported(feature: &str) -> S3Error {
    S3Error::with_message(S3ErrorCode::NotImplemented, format!("{feature} is not supported"))
}
