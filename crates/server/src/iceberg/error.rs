//! How an error leaves by this door: in the form of Iceberg's specification, with the name that its clients
//! know each kind by.

use axum::Json;
use axum::http::header::RETRY_AFTER;
use axum::http::{HeaderValue, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use headwater_model::{ErrorCode, Fault, Problem, TableName};
use serde_json::{Value, json};

use super::ROOT;
use crate::http::failure::Failure;

/// What a handler answers.
pub type Answer<T> = Result<T, Refusal>;

/// An error on its way out.
#[derive(Debug)]
pub struct Refusal {
    problem: Box<Problem>,
    status: StatusCode,
    kind: &'static str,
}

impl Refusal {
    /// A value in the request that cannot be used.
    pub fn invalid(message: impl Into<String>) -> Self {
        Problem::new(ErrorCode::InvalidArgument, message).into()
    }

    /// A table that is not there.
    pub fn no_table(name: &str) -> Self {
        Problem::new(ErrorCode::TableNotFound, format!("Table does not exist: {name}")).into()
    }

    /// A namespace that is not there.
    pub fn no_namespace(name: &str) -> Self {
        let message = format!("Namespace {name} does not exists");
        Problem::new(ErrorCode::NamespaceNotFound, message).into()
    }

    /// Something that is there already.
    pub fn exists(what: &str) -> Self {
        Problem::new(ErrorCode::AlreadyExists, format!("{what} is there already")).into()
    }

    /// A body whose parts contradict each other.
    pub fn unprocessable(message: impl Into<String>) -> Self {
        let refusal = Refusal::invalid(message);
        let (status, kind) = (StatusCode::UNPROCESSABLE_ENTITY, "UnprocessableEntityException");
        Refusal { status, kind, ..refusal }
    }

    /// The same about a view: what is not there is one.
    pub fn of_view(mut self) -> Self {
        if self.problem.code == ErrorCode::TableNotFound {
            self.kind = NO_VIEW;
        }
        self
    }

    /// The same about something else that is not there.
    pub fn named(mut self, kind: &'static str) -> Self {
        self.kind = kind;
        self
    }

    /// The same about a scan: what cannot be done is not the client's fault.
    pub fn of_scan(mut self) -> Self {
        if self.problem.code == ErrorCode::UnsupportedStatement {
            (self.status, self.kind) =
                (StatusCode::NOT_ACCEPTABLE, "UnsupportedOperationException");
        }
        self
    }

    /// Whether nobody can tell from it if a change was made.
    pub fn is_doubtful(&self) -> bool {
        self.status.is_server_error()
    }

    /// The error of a commit of which nobody can tell if it was made.
    pub fn of_commit(mut self) -> Self {
        if self.is_doubtful() && self.status != StatusCode::SERVICE_UNAVAILABLE {
            self.kind = "CommitStateUnknownException";
        }
        self
    }

    /// What went wrong, as it is recorded.
    pub fn problem(&self) -> Problem {
        Problem::clone(&self.problem)
    }

    /// The code, as the HTTP API has it.
    pub fn code(&self) -> ErrorCode {
        self.problem.code
    }
}

/// What Iceberg calls the error of a view that is not there.
const NO_VIEW: &str = "NoSuchViewException";

/// What Iceberg calls each kind of error, and its status.
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
        code if code.http_status() >= 500 => (500, "InternalServerError"),
        _ => (400, "BadRequestException"),
    }
}

impl Refusal {
    fn of(problem: Problem) -> Self {
        let (status, kind) = kind(problem.code);
        let status = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        Refusal { problem: Box::new(problem), status, kind }
    }
}

/// What Iceberg's own catalogs say of an error, which clients and their tests know it by; none where they
/// say nothing that is not in the message.
fn sentence(problem: &Problem, kind: &str) -> Option<String> {
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

impl<E: Fault> From<E> for Refusal {
    fn from(error: E) -> Self {
        Refusal::of(error.to_problem())
    }
}

impl From<Failure> for Refusal {
    fn from(failure: Failure) -> Self {
        Refusal::of(failure.0)
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let Refusal { problem, status, kind } = self;
        if status.is_server_error() {
            tracing::error!(code = %problem.code, causes = ?problem.causes, "{}", problem.message);
        }
        let mut message = match sentence(&problem, kind) {
            // The sentence has all that the message says.
            Some(sentence) if problem.code == ErrorCode::CommitConflict => sentence,
            Some(sentence) => format!("{sentence}: {}", problem.message),
            None => problem.message.clone(),
        };
        for more in problem.causes.iter().chain(&problem.hint) {
            message = format!("{}: {more}", message.trim_end_matches('.'));
        }
        let error = json!({"message": message, "type": kind, "code": status.as_u16()});
        let mut response = (status, Json(json!({ "error": error }))).into_response();
        if status == StatusCode::SERVICE_UNAVAILABLE {
            response.headers_mut().insert(RETRY_AFTER, HeaderValue::from_static("1"));
        }
        response
    }
}

/// Whether an address lies behind this door, and errors have its form.
pub(crate) fn is_iceberg(uri: &Uri) -> bool {
    let rest = uri.path().strip_prefix(ROOT);
    rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}
