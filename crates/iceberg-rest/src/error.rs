//! Errors in the format of Iceberg's specification, with the exception names that clients expect.

use axum::Json;
use axum::http::StatusCode;
use axum::http::header::RETRY_AFTER;
use axum::response::{IntoResponse, Response};
use headwater_http_request::retry_after;
use headwater_model::{ErrorCode, Problem, TableName, ToProblem};
use headwater_service::LOGIN_RETRY_AFTER;
use headwater_service::iceberg::ChangeError;
use serde_json::{Value, json};

/// The result of a handler.
pub type HandlerResult<T> = Result<T, IcebergError>;

/// An error that is sent as a response.
#[derive(Debug)]
pub struct IcebergError {
    problem: Box<Problem>,
    status: StatusCode,
    kind: &'static str,
}

impl IcebergError {
    /// Creates the error of an invalid value in a request.
    pub(crate) fn invalid(message: impl Into<String>) -> Self {
        Problem::new(ErrorCode::InvalidArgument, message).into()
    }

    /// Creates the error of a missing table.
    pub(crate) fn no_table(name: &str) -> Self {
        Problem::new(ErrorCode::TableNotFound, format!("Table does not exist: {name}")).into()
    }

    /// Creates the error of a missing namespace.
    pub(crate) fn no_namespace(name: &str) -> Self {
        let message = format!("Namespace {name} does not exists");
        Problem::new(ErrorCode::NamespaceNotFound, message).into()
    }

    /// Creates the error for a body whose fields contradict each other.
    pub(crate) fn unprocessable(message: impl Into<String>) -> Self {
        let error = IcebergError::invalid(message);
        let (status, kind) = (StatusCode::UNPROCESSABLE_ENTITY, "UnprocessableEntityException");
        IcebergError { status, kind, ..error }
    }

    /// Converts the error of a request that changes the catalog. If it is unknown whether the
    /// change was committed, the status is 5xx, because after any other status, clients delete the
    /// files that they wrote for the change.
    pub(crate) fn of_change(error: ChangeError) -> Self {
        let unknown = matches!(error, ChangeError::Unknown(_));
        let mut error = IcebergError::new(error.problem().clone());
        if !unknown || error.status == StatusCode::SERVICE_UNAVAILABLE {
            return error;
        }
        if !error.status.is_server_error() {
            error.status = StatusCode::INTERNAL_SERVER_ERROR;
        }
        error.with_kind("CommitStateUnknownException")
    }

    /// Replaces the exception for a missing table, if the error has it, by the one for a missing
    /// view.
    pub(crate) fn for_view(mut self) -> Self {
        if self.problem.code == ErrorCode::TableNotFound {
            self.kind = NO_VIEW;
        }
        self
    }

    /// Sets the name of the exception.
    pub(crate) fn with_kind(mut self, kind: &'static str) -> Self {
        self.kind = kind;
        self
    }

    /// Marks an error as an unsupported scan, so that clients plan the scan themselves.
    pub(crate) fn for_scan(mut self) -> Self {
        if self.problem.code == ErrorCode::UnsupportedStatement {
            (self.status, self.kind) =
                (StatusCode::NOT_ACCEPTABLE, "UnsupportedOperationException");
        }
        self
    }

    /// Returns the error code of the problem.
    pub(crate) fn code(&self) -> ErrorCode {
        self.problem.code
    }
}

/// The name of the exception for a missing view.
const NO_VIEW: &str = "NoSuchViewException";

/// Returns the HTTP status and the name of the exception for an error code.
fn kind(code: ErrorCode) -> (u16, &'static str) {
    use ErrorCode as Code;
    match code {
        Code::TableNotFound => (404, "NoSuchTableException"),
        Code::NamespaceNotFound => (404, "NoSuchNamespaceException"),
        Code::RefNotFound => (404, "NoSuchWarehouseException"),
        Code::AlreadyExists => (409, "AlreadyExistsException"),
        Code::CommitConflict | Code::MergeConflict => (409, "CommitFailedException"),
        Code::NotEmpty => (409, "NamespaceNotEmptyException"),
        Code::BranchProtected | Code::Forbidden => (403, "ForbiddenException"),
        Code::Unauthenticated => (401, "NotAuthorizedException"),
        Code::RouteNotFound => (404, "NotFoundException"),
        Code::Unavailable => (503, "ServiceUnavailableException"),
        Code::TooBusy => (503, "SlowDownException"),
        Code::QuotaExceeded => (429, "TooManyRequestsException"),
        code if code.http_status() >= 500 => (500, "InternalServerError"),
        _ => (400, "BadRequestException"),
    }
}

impl IcebergError {
    fn new(problem: Problem) -> Self {
        let (status, kind) = kind(problem.code);
        // A lock-out after failed logins has another status than a busy server, because clients
        // immediately repeat a request to a busy server.
        let is_lock_out = problem.context.contains_key(LOGIN_RETRY_AFTER);
        let status = if is_lock_out { problem.code.http_status() } else { status };
        let status = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        IcebergError { problem: Box::new(problem), status, kind }
    }
}

/// Returns the message that Iceberg's reference catalogs send for this error, because clients and
/// their tests compare messages. Returns `None` if the reference catalogs have no fixed message for
/// this error.
fn reference_message(problem: &Problem, kind: &str) -> Option<String> {
    let text = |key: &str| problem.context.get(key).and_then(Value::as_str);
    match problem.code {
        ErrorCode::TableNotFound => {
            let what = if kind == NO_VIEW { "View" } else { "Table" };
            let name = text("table")?.parse::<TableName>().ok()?.qualified();
            Some(format!("{what} does not exist: {name}"))
        }
        ErrorCode::NamespaceNotFound => {
            Some(format!("Namespace {} does not exists", text("namespace")?))
        }
        ErrorCode::NotEmpty => Some(format!("Namespace {} is not empty", text("namespace")?)),
        ErrorCode::CommitConflict => Some(format!("Requirement failed: {}", text("requirement")?)),
        _ => None,
    }
}

impl<E: ToProblem> From<E> for IcebergError {
    fn from(error: E) -> Self {
        IcebergError::new(error.to_problem())
    }
}

impl IntoResponse for IcebergError {
    fn into_response(self) -> Response {
        let IcebergError { problem, status, kind } = self;
        if status.is_server_error() {
            tracing::error!(code = %problem.code, causes = ?problem.causes, "{}", problem.message);
        }
        let mut message = match reference_message(&problem, kind) {
            // For commit conflicts, the reference message already contains Headwater's message.
            Some(reference) if problem.code == ErrorCode::CommitConflict => reference,
            Some(reference) => format!("{reference}: {}", problem.message),
            None => problem.message.clone(),
        };
        for more in problem.causes.iter().chain(&problem.hint) {
            message = format!("{}: {more}", message.trim_end_matches('.'));
        }
        let seconds = retry_after(&problem);
        let error = json!({"message": message, "type": kind, "code": status.as_u16()});
        let mut response = (status, Json(json!({ "error": error }))).into_response();
        if matches!(status, StatusCode::SERVICE_UNAVAILABLE | StatusCode::TOO_MANY_REQUESTS) {
            response.headers_mut().insert(RETRY_AFTER, seconds);
        }
        response
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_result_of_a_commit_is_a_server_error() {
        for code in [ErrorCode::Cancelled, ErrorCode::QuotaExceeded, ErrorCode::Internal] {
            let problem = Problem::new(code, "the job was stopped");
            let unknown = IcebergError::of_change(ChangeError::Unknown(problem.clone()));
            let status = unknown.status;
            assert_eq!((status.as_u16(), unknown.kind), (500, "CommitStateUnknownException"));
            let rejected = IcebergError::of_change(ChangeError::Rejected(problem));
            assert_ne!(rejected.kind, "CommitStateUnknownException");
        }
    }
}
