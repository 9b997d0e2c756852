//! Error codes and their equivalents in HTTP, SQL and shells. Every crate has its own error enum,
//! which implements [`ToProblem`]. Errors are sent to clients only as a [`Problem`], into which
//! [`ToProblem`] converts them. This module does not format errors for a terminal.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// A stable error code. Its text is part of the public interface.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum ErrorCode {
    /// An argument, option or field has an invalid value.
    InvalidArgument,
    /// A name breaks the naming rules.
    InvalidName,
    /// SQL that cannot be parsed or planned.
    InvalidSql,
    /// A statement or clause that is not supported.
    UnsupportedStatement,
    /// The table does not have the column.
    ColumnNotFound,
    /// An error in a project file, model or decorator.
    InvalidProject,
    /// The table does not exist at the ref.
    TableNotFound,
    /// The namespace does not exist at the ref.
    NamespaceNotFound,
    /// The branch, tag or commit does not exist.
    RefNotFound,
    /// The job does not exist.
    JobNotFound,
    /// The environment does not exist.
    EnvironmentNotFound,
    /// The project has no callable function of this name.
    FunctionNotFound,
    /// The trigger, or the event source mapping of a queue, does not exist.
    TriggerNotFound,
    /// The event does not exist.
    EventNotFound,
    /// Nothing is deployed, or the version does not exist.
    DeploymentNotFound,
    /// The secret does not exist.
    SecretNotFound,
    /// The bucket does not exist.
    BucketNotFound,
    /// The queue does not exist.
    QueueNotFound,
    /// The object or multipart upload does not exist.
    ObjectNotFound,
    /// The file, folder, lake or project does not exist.
    FileNotFound,
    /// The API has no endpoint with this path.
    RouteNotFound,
    /// An earlier statement of the transaction failed.
    TransactionFailed,
    /// The object to create exists already.
    AlreadyExists,
    /// The object does not meet the conditions of the request.
    PreconditionFailed,
    /// A concurrent commit changed the same object first.
    CommitConflict,
    /// Both sides of a merge changed the same table.
    MergeConflict,
    /// The namespace has tables.
    NotEmpty,
    /// The branch rejects direct writes, or is the branch of a failed run.
    BranchProtected,
    /// The request has no valid token.
    Unauthenticated,
    /// The request is not allowed.
    Forbidden,
    /// An input row does not match the column types of the table.
    BadRow,
    /// A user's function raised an error, or its result cannot be converted to a table.
    FunctionFailed,
    /// An expectation returned false.
    ExpectationFailed,
    /// A model of the run failed.
    RunFailed,
    /// Packages cannot be resolved or installed.
    EnvironmentFailed,
    /// A memory limit was reached.
    MemoryLimit,
    /// The limit on the size of files in `/tmp` was reached.
    TempLimit,
    /// A time limit was reached.
    TimeLimit,
    /// An event reached its maximum age before it was delivered.
    EventExpired,
    /// A trigger caused its own event, directly or indirectly, or the chain of triggers that caused
    /// the event is too long.
    LoopDetected,
    /// A queue or another limited resource is full.
    TooBusy,
    /// A limit of the user was reached.
    QuotaExceeded,
    /// The disk is full, or a disk limit was reached.
    DiskFull,
    /// The job was stopped.
    Cancelled,
    /// The server stopped while the job was running.
    Interrupted,
    /// The server cannot be reached, is shutting down, or has an incompatible version.
    Unavailable,
    /// The system does not support or permit the isolation of functions.
    IsolationUnavailable,
    /// Access to a file or an object store failed.
    Storage,
    /// Stored data cannot be read.
    Corrupt,
    /// An internal error of Headwater.
    Internal,
}

/// A row of [`TABLE`]: code, text, HTTP status, SQLSTATE and exit code.
type ErrorRow = (ErrorCode, &'static str, u16, &'static str, u8);

/// The table of codes, in the order of the enum.
const TABLE: [ErrorRow; 50] = [
    (ErrorCode::InvalidArgument, "invalid_argument", 400, "22023", 2),
    (ErrorCode::InvalidName, "invalid_name", 400, "42602", 2),
    (ErrorCode::InvalidSql, "invalid_sql", 400, "42601", 2),
    (ErrorCode::UnsupportedStatement, "unsupported_statement", 400, "0A000", 2),
    (ErrorCode::ColumnNotFound, "column_not_found", 400, "42703", 2),
    (ErrorCode::InvalidProject, "invalid_project", 400, "42000", 2),
    (ErrorCode::TableNotFound, "table_not_found", 404, "42P01", 3),
    (ErrorCode::NamespaceNotFound, "namespace_not_found", 404, "3F000", 3),
    (ErrorCode::RefNotFound, "ref_not_found", 404, "3D000", 3),
    (ErrorCode::JobNotFound, "job_not_found", 404, "02000", 3),
    (ErrorCode::EnvironmentNotFound, "environment_not_found", 404, "02000", 3),
    (ErrorCode::FunctionNotFound, "function_not_found", 404, "02000", 3),
    (ErrorCode::TriggerNotFound, "trigger_not_found", 404, "02000", 3),
    (ErrorCode::EventNotFound, "event_not_found", 404, "02000", 3),
    (ErrorCode::DeploymentNotFound, "deployment_not_found", 404, "02000", 3),
    (ErrorCode::SecretNotFound, "secret_not_found", 404, "02000", 3),
    (ErrorCode::BucketNotFound, "bucket_not_found", 404, "02000", 3),
    (ErrorCode::QueueNotFound, "queue_not_found", 404, "02000", 3),
    (ErrorCode::ObjectNotFound, "object_not_found", 404, "02000", 3),
    (ErrorCode::FileNotFound, "file_not_found", 404, "58P01", 3),
    (ErrorCode::RouteNotFound, "route_not_found", 404, "02000", 3),
    (ErrorCode::TransactionFailed, "transaction_failed", 409, "25P02", 4),
    (ErrorCode::AlreadyExists, "already_exists", 409, "42P07", 4),
    (ErrorCode::PreconditionFailed, "precondition_failed", 412, "22023", 4),
    (ErrorCode::CommitConflict, "commit_conflict", 409, "40001", 4),
    (ErrorCode::MergeConflict, "merge_conflict", 409, "40001", 4),
    (ErrorCode::NotEmpty, "not_empty", 409, "2BP01", 4),
    (ErrorCode::BranchProtected, "branch_protected", 403, "42501", 8),
    (ErrorCode::Unauthenticated, "unauthenticated", 401, "28000", 8),
    (ErrorCode::Forbidden, "forbidden", 403, "42501", 8),
    (ErrorCode::BadRow, "bad_row", 422, "22P02", 5),
    (ErrorCode::FunctionFailed, "function_failed", 422, "39000", 5),
    (ErrorCode::ExpectationFailed, "expectation_failed", 422, "23514", 5),
    (ErrorCode::RunFailed, "run_failed", 422, "39000", 5),
    (ErrorCode::EnvironmentFailed, "environment_failed", 422, "39000", 5),
    (ErrorCode::MemoryLimit, "memory_limit", 422, "53200", 6),
    (ErrorCode::TempLimit, "temp_limit", 422, "53100", 6),
    (ErrorCode::TimeLimit, "time_limit", 422, "57014", 6),
    (ErrorCode::EventExpired, "event_expired", 422, "57014", 6),
    (ErrorCode::LoopDetected, "loop_detected", 422, "54001", 6),
    (ErrorCode::TooBusy, "too_busy", 429, "53300", 7),
    (ErrorCode::QuotaExceeded, "quota_exceeded", 429, "53400", 7),
    (ErrorCode::DiskFull, "disk_full", 507, "53100", 6),
    (ErrorCode::Cancelled, "cancelled", 409, "57014", 130),
    (ErrorCode::Interrupted, "interrupted", 409, "57P01", 5),
    (ErrorCode::Unavailable, "unavailable", 503, "57P03", 7),
    (ErrorCode::IsolationUnavailable, "isolation_unavailable", 503, "0A000", 7),
    (ErrorCode::Storage, "storage", 500, "58030", 1),
    (ErrorCode::Corrupt, "corrupt", 500, "XX001", 1),
    (ErrorCode::Internal, "internal", 500, "XX000", 1),
];

impl ErrorCode {
    const fn row(self) -> &'static ErrorRow {
        &TABLE[self as usize]
    }

    /// Returns all codes, in the order of the table.
    pub fn all() -> impl Iterator<Item = ErrorCode> {
        TABLE.iter().map(|row| row.0)
    }

    /// Returns true if a request that returned this error may still have taken effect.
    pub const fn has_unknown_outcome(self) -> bool {
        use ErrorCode::{Corrupt, Internal, Storage, Unavailable};
        matches!(self, Storage | Corrupt | Unavailable | Internal)
    }

    /// Returns the text of the code, for example `table_not_found`.
    pub const fn as_str(self) -> &'static str {
        self.row().1
    }

    /// Returns the HTTP status.
    pub const fn http_status(self) -> u16 {
        self.row().2
    }

    /// Returns the five-character SQLSTATE.
    pub const fn sqlstate(self) -> &'static str {
        self.row().3
    }

    /// Returns the exit code of a command that ends with this error.
    pub const fn exit_code(self) -> u8 {
        self.row().4
    }
}

impl std::fmt::Display for ErrorCode {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The code, hint and context that an error enum provides, for the conversion to a [`Problem`].
pub trait ToProblem: std::error::Error {
    /// Returns the code.
    fn code(&self) -> ErrorCode;

    /// Returns the hint: one imperative sentence with a remedy, if there is one.
    fn hint(&self) -> Option<String> {
        None
    }

    /// Returns machine-readable values, such as the table of a conflict and the change on each
    /// side.
    fn context(&self) -> BTreeMap<String, serde_json::Value> {
        BTreeMap::new()
    }

    /// Returns the problem that this error contains, if the error only forwards a problem of
    /// another component.
    fn forwarded(&self) -> Option<&Problem> {
        None
    }

    /// Converts the error to a problem. The problem's causes are the sources of the error or, if
    /// the error forwards a problem, the causes of that problem.
    fn to_problem(&self) -> Problem {
        let forwarded = self.forwarded().map(|problem| problem.causes.clone());
        Problem {
            code: self.code(),
            message: self.to_string(),
            causes: forwarded.unwrap_or_else(|| causes(self.source())),
            hint: self.hint().map(sentence),
            context: self.context(),
        }
    }
}

/// Conversion of a result's error into a [`Problem`].
pub trait ResultExt<T> {
    /// Returns the value, or the error as a problem.
    fn or_problem(self) -> Result<T, Problem>;
}

impl<T, E: ToProblem> ResultExt<T> for Result<T, E> {
    fn or_problem(self) -> Result<T, Problem> {
        self.map_err(|error| error.to_problem())
    }
}

/// Formats a text as a sentence: makes the first character upper-case, and adds a final period
/// unless the text ends with punctuation.
pub fn sentence(mut text: String) -> String {
    if let Some(first) = text.get_mut(..1) {
        first.make_ascii_uppercase();
    }
    if text.ends_with(|c: char| c.is_alphanumeric() || ")`\"'".contains(c)) {
        text.push('.');
    }
    text
}

fn causes(mut source: Option<&(dyn std::error::Error + 'static)>) -> Vec<String> {
    let mut found: Vec<String> = Vec::new();
    while let Some(cause) = source {
        let text = cause.to_string();
        // Some errors repeat the message of their source. Do not list such a message twice.
        if !found.iter().any(|above| above.contains(&text)) {
            found.push(text);
        }
        source = cause.source();
    }
    found
}

/// An error as it is sent over HTTP and in the event stream, and as it is stored.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Problem {
    /// The error code.
    pub code: ErrorCode,
    /// The message: a lower-case fragment with the offending value in backticks.
    pub message: String,
    /// The causes, outermost first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub causes: Vec<String>,
    /// The hint: one imperative sentence.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
    /// Machine-readable values, such as the table of a conflict.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schema(value_type = Object)]
    pub context: BTreeMap<String, serde_json::Value>,
}

impl Problem {
    /// Creates a problem with a code and a message.
    pub fn new(code: ErrorCode, message: impl Into<String>) -> Self {
        Problem {
            code,
            message: message.into(),
            causes: Vec::new(),
            hint: None,
            context: BTreeMap::new(),
        }
    }

    /// Sets the hint.
    #[must_use]
    pub fn with_hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(sentence(hint.into()));
        self
    }

    /// Replaces the name of an internal branch, which the user does not know. In the message and
    /// the causes, `description` replaces it. In the hint, which may be a command, the branch name
    /// `other` replaces it.
    #[must_use]
    pub fn without_branch(mut self, name: &str, description: &str, other: &str) -> Self {
        let described = |text: &str| {
            let text = text.replace(&format!("branch `{name}`"), description);
            text.replace(&format!("`{name}`"), description).replace(name, description)
        };
        self.message = described(&self.message);
        for cause in &mut self.causes {
            *cause = described(cause.as_str());
        }
        self.hint = self.hint.map(|hint| hint.replace(name, other));
        self
    }
}

impl std::fmt::Display for Problem {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Problem {}

impl ToProblem for Problem {
    fn code(&self) -> ErrorCode {
        self.code
    }

    fn hint(&self) -> Option<String> {
        self.hint.clone()
    }

    fn context(&self) -> BTreeMap<String, serde_json::Value> {
        self.context.clone()
    }

    fn to_problem(&self) -> Problem {
        self.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_of_a_hidden_branch_is_replaced() {
        let message = "table `t` on branch `_t/1` changed, and is not in `_t/1`";
        let mut problem = Problem::new(ErrorCode::Internal, message);
        problem.causes.push("dropped on _t/1".to_owned());
        let problem = problem.with_hint("Run `headwater table ls --ref _t/1`.");
        let problem = problem.without_branch("_t/1", "this transaction", "main");
        let expected = "table `t` on this transaction changed, and is not in this transaction";
        assert_eq!(problem.message, expected);
        assert_eq!(problem.causes, ["dropped on this transaction"]);
        assert_eq!(problem.hint.as_deref(), Some("Run `headwater table ls --ref main`."));
    }

    #[test]
    fn hints_are_sentences() {
        let hint = |text: &str| Problem::new(ErrorCode::Internal, "x").with_hint(text).hint;
        assert_eq!(hint("try again").as_deref(), Some("Try again."));
        assert_eq!(hint("`a` or `b`").as_deref(), Some("`a` or `b`."));
        assert_eq!(hint("Did you mean `a`?").as_deref(), Some("Did you mean `a`?"));
        assert_eq!(hint("").as_deref(), Some(""));
    }

    #[test]
    fn every_row_is_at_the_index_of_its_error_code() {
        for (index, row) in TABLE.iter().enumerate() {
            assert_eq!(row.0 as usize, index, "`{}` is out of order", row.1);
            assert_eq!(serde_json::json!(row.0), row.1);
            assert_eq!(row.3.len(), 5);
        }
    }
}
