//! Errors as gRPC statuses: the message contains the position in the statement and the hint,
//! because most clients show only the message.

use headwater_model::{ErrorCode, Problem};
use tonic::{Code, Status};

/// The metadata key of the error as JSON.
const DETAIL: &str = "x-headwater-problem-bin";

/// Maximum length of the error as JSON, in bytes; a longer one is omitted. Many clients accept 8
/// KiB of metadata.
const DETAIL_BYTES_MAX: usize = 4 << 10;

/// Converts an error to a gRPC status.
pub fn to_status(problem: Problem) -> Status {
    let mut message = problem.message.clone();
    for cause in &problem.causes {
        message.push_str(": ");
        message.push_str(cause);
    }
    if let Some(hint) = &problem.hint {
        message.push('\n');
        message.push_str("hint: ");
        message.push_str(hint);
    }
    let mut status = Status::new(code(problem.code), message);
    let detail = serde_json::to_vec(&problem).ok();
    if let Some(bytes) = detail.filter(|bytes| bytes.len() <= DETAIL_BYTES_MAX) {
        status
            .metadata_mut()
            .insert_bin(DETAIL, tonic::metadata::BinaryMetadataValue::from_bytes(&bytes));
    }
    status
}

/// Returns an HTTP response with an error, for requests that are rejected before they reach
/// [`FlightSql`](crate::FlightSql).
pub fn error_response(problem: Problem) -> http::Response<tonic::body::Body> {
    to_status(problem).into_http()
}

/// Converts an error of encoding or decoding to a gRPC status.
pub fn internal(error: impl std::fmt::Display) -> Status {
    Status::internal(error.to_string())
}

fn code(code: ErrorCode) -> Code {
    match code {
        ErrorCode::UnsupportedStatement => Code::Unimplemented,
        ErrorCode::CommitConflict | ErrorCode::MergeConflict | ErrorCode::Interrupted => {
            Code::Aborted
        }
        ErrorCode::Cancelled => Code::Cancelled,
        ErrorCode::TimeLimit | ErrorCode::EventExpired => Code::DeadlineExceeded,
        ErrorCode::AlreadyExists => Code::AlreadyExists,
        ErrorCode::Corrupt => Code::DataLoss,
        other => match other.http_status() {
            400 | 422 if is_limit(other) => Code::ResourceExhausted,
            400 | 422 => Code::InvalidArgument,
            401 => Code::Unauthenticated,
            403 => Code::PermissionDenied,
            404 => Code::NotFound,
            409 | 412 => Code::FailedPrecondition,
            429 | 507 => Code::ResourceExhausted,
            503 => Code::Unavailable,
            _ => Code::Internal,
        },
    }
}

fn is_limit(code: ErrorCode) -> bool {
    matches!(code, ErrorCode::MemoryLimit | ErrorCode::TempLimit)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_message_contains_the_hint_and_the_code_fits() {
        let problem = Problem::new(ErrorCode::TableNotFound, "table `a` is not in `main`");
        let status = to_status(problem.with_hint("did you mean `b`?"));
        assert_eq!(status.code(), Code::NotFound);
        assert_eq!(status.message(), "table `a` is not in `main`\nhint: Did you mean `b`?");
        for code in ErrorCode::all() {
            assert_ne!(super::code(code), Code::Ok, "{code}");
        }
    }
}
