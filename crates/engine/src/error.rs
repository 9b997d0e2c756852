//! Errors of statements, with code, hint and position.
//!
//! [`Error`] is the only error type of this crate. `datafusion_error` converts DataFusion's errors,
//! so that they never leave the crate unchanged. Messages quote the offending word in backticks. If
//! the text of the statement is known, a message includes the line and column of that word.

use std::collections::BTreeMap;

use headwater_model::{ErrorCode, Problem, ToProblem};
use headwater_sql::PositionSuffix;
pub use headwater_sql::{Error as SqlError, Position};
use headwater_sql_functions::format_bytes as bytes;
use serde_json::{Value, json};

use crate::datafusion_error::CLOCK_CHANGE;

/// Result of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Error of a statement.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The statement was rejected before it ran.
    #[error(transparent)]
    Sql(#[from] SqlError),
    /// A function or operator rejected its arguments or result.
    #[error(transparent)]
    Function(#[from] headwater_sql_functions::Error),
    /// The lake rejected the operation or failed.
    #[error(transparent)]
    Lake(#[from] headwater_lake::Error),
    /// The catalog rejected the operation or failed.
    #[error(transparent)]
    Catalog(#[from] headwater_catalog::Error),
    /// A table file could not be read or written.
    #[error(transparent)]
    Tables(#[from] headwater_tables::Error),
    /// A name breaks the naming rules.
    #[error(transparent)]
    Name(#[from] headwater_model::NameError),
    /// A system table or an external source of rows failed.
    #[error(transparent)]
    Problem(#[from] Problem),
    /// No table has this name.
    #[error("table `{table}` is not in `{reference}`{}", PositionSuffix(position))]
    TableNotFound {
        /// Table name as written.
        table: String,
        /// Ref that was searched.
        reference: String,
        /// Most similar table name.
        near: Option<String>,
        /// Position in the statement.
        position: Option<Position>,
    },
    /// No system table has this name.
    #[error("there is no system table `{table}`{}", PositionSuffix(position))]
    SystemTableNotFound {
        /// Table name as written, without its namespace.
        table: String,
        /// Most similar system table, with its namespace.
        near: Option<String>,
        /// All system tables.
        known: Vec<String>,
        /// Position in the statement.
        position: Option<Position>,
    },
    /// No namespace has this name.
    #[error("namespace `{namespace}` is not in `{reference}`{}", PositionSuffix(position))]
    NamespaceNotFound {
        /// Namespace as written.
        namespace: String,
        /// Ref that was searched.
        reference: String,
        /// Most similar namespace.
        near: Option<String>,
        /// Position in the statement.
        position: Option<Position>,
    },
    /// Several source rows match the same target row, and each would change it.
    #[error("a row of `{table}` matches more than one source row")]
    MatchedTwice {
        /// Target table.
        table: String,
    },
    /// A view cannot be read.
    #[error("view `{view}` cannot be read: {message}")]
    View {
        /// View name.
        view: String,
        /// Message of the underlying error.
        message: String,
        /// Code of the underlying error.
        code: ErrorCode,
        /// Hint of the underlying error.
        hint: Option<String>,
    },
    /// Views that refer to each other in a cycle, or are nested too deeply.
    #[error("{message}")]
    ViewChain {
        /// Message with the names of the views.
        message: String,
    },
    /// A table, view or namespace with this name exists.
    #[error("{what} `{name}` already exists")]
    AlreadyExists {
        /// `table`, `view`, `function` or `namespace`.
        what: &'static str,
        /// Name of the existing object.
        name: String,
    },
    /// A write to a ref that is not a branch.
    #[error("`{reference}` is not a branch; only branches can be written to")]
    NotABranch {
        /// Ref that the statement writes to.
        reference: String,
    },
    /// A write to a protected branch.
    #[error("branch `{branch}` is protected")]
    Protected {
        /// Branch name.
        branch: String,
    },
    /// An invalid operand value, found during execution.
    #[error("{message}{}", PositionSuffix(position))]
    Value {
        /// Description of the failure.
        message: String,
        /// Position of the value, if it is a constant in the statement.
        position: Option<Position>,
    },
    /// A number out of range for its type.
    #[error("{message}")]
    Overflow {
        /// Description of the value and type.
        message: String,
    },
    /// The statement reached its memory limit, and no more data could be spilled.
    #[error("the statement needs more than its memory limit of {}", bytes(*limit))]
    MemoryLimit {
        /// The limit in bytes.
        limit: u64,
    },
    /// All statements together reached the memory limit of the engine.
    #[error("the running statements exceed the engine's memory limit of {}", bytes(*limit))]
    EngineMemory {
        /// The limit in bytes.
        limit: u64,
    },
    /// The statement was cancelled because the server reached its memory limit.
    #[error("the server reached its memory limit of {} and stopped its largest statement", bytes(*limit))]
    ServerMemory {
        /// The limit in bytes.
        limit: u64,
    },
    /// The spill files of the statement reached their limit.
    #[error("the statement spilled more than the limit of {} to disk", bytes(*limit))]
    SpillLimit {
        /// The limit in bytes.
        limit: u64,
    },
    /// The disk of the spill folder is full.
    #[error("no space is left on the disk to spill to")]
    DiskFull,
    /// The statement was cancelled.
    #[error("the statement was stopped")]
    Cancelled,
    /// A table file could not be read.
    #[error("a table file cannot be read: {message}")]
    Storage {
        /// Message of the object store or the file reader.
        message: String,
    },
    /// A bug of the engine.
    #[error("the statement failed inside the engine: {message}")]
    Internal {
        /// Description of the failure.
        message: String,
    },
}

impl Error {
    /// Creates an error for an unsupported statement or clause.
    pub(crate) fn unsupported(what: impl Into<String>) -> Self {
        Error::Sql(SqlError::unsupported(what))
    }

    /// Creates an error for SQL that cannot be planned.
    pub(crate) fn invalid(message: impl Into<String>) -> Self {
        Error::Sql(SqlError::invalid(message))
    }

    /// Returns the position of the error in the statement, if known.
    pub fn position(&self) -> Option<Position> {
        match self {
            Error::Sql(error) => error.position(),
            Error::Function(error) => error.position(),
            Error::TableNotFound { position, .. }
            | Error::SystemTableNotFound { position, .. }
            | Error::NamespaceNotFound { position, .. }
            | Error::Value { position, .. } => *position,
            _ => None,
        }
    }
}

impl ToProblem for Error {
    fn code(&self) -> ErrorCode {
        match self {
            Error::Sql(error) => error.code(),
            Error::Function(error) => error.code(),
            Error::Lake(error) => error.code(),
            Error::Catalog(error) => error.code(),
            Error::Tables(error) => error.code(),
            Error::Name(error) => error.code(),
            Error::Problem(problem) => problem.code,
            Error::View { code, .. } => *code,
            Error::ViewChain { .. } => ErrorCode::InvalidSql,
            Error::TableNotFound { .. } | Error::SystemTableNotFound { .. } => {
                ErrorCode::TableNotFound
            }
            Error::NamespaceNotFound { .. } => ErrorCode::NamespaceNotFound,
            Error::AlreadyExists { .. } => ErrorCode::AlreadyExists,
            Error::NotABranch { .. } => ErrorCode::InvalidArgument,
            Error::Protected { .. } => ErrorCode::BranchProtected,
            Error::Value { .. } | Error::Overflow { .. } | Error::MatchedTwice { .. } => {
                ErrorCode::BadRow
            }
            Error::MemoryLimit { .. } | Error::EngineMemory { .. } | Error::ServerMemory { .. } => {
                ErrorCode::MemoryLimit
            }
            Error::SpillLimit { .. } | Error::DiskFull => ErrorCode::DiskFull,
            Error::Cancelled => ErrorCode::Cancelled,
            Error::Storage { .. } => ErrorCode::Storage,
            Error::Internal { .. } => ErrorCode::Internal,
        }
    }

    fn hint(&self) -> Option<String> {
        match self {
            Error::Sql(error) => error.hint(),
            Error::Function(error) => error.hint(),
            Error::Lake(error) => error.hint(),
            Error::Catalog(error) => error.hint(),
            Error::Tables(error) => error.hint(),
            Error::Name(error) => error.hint(),
            Error::Problem(problem) => problem.hint.clone(),
            Error::View { hint, .. } => hint.clone(),
            Error::TableNotFound { near: Some(near), .. }
            | Error::SystemTableNotFound { near: Some(near), .. }
            | Error::NamespaceNotFound { near: Some(near), .. } => {
                Some(format!("Did you mean `{near}`?"))
            }
            Error::SystemTableNotFound { near: None, known, .. } => {
                Some(match known.split_last() {
                    Some((last, rest)) if !rest.is_empty() => {
                        format!("The system tables are {} and {last}.", rest.join(", "))
                    }
                    _ => "No system tables are available.".to_owned(),
                })
            }
            other => other.fixed_hint().map(str::to_owned),
        }
    }

    fn forwarded(&self) -> Option<&Problem> {
        if let Error::Problem(problem) = self { Some(problem) } else { None }
    }

    fn context(&self) -> BTreeMap<String, Value> {
        let mut context = match self {
            Error::Lake(error) => error.context(),
            Error::Catalog(error) => error.context(),
            Error::Tables(error) => error.context(),
            Error::Problem(problem) => problem.context.clone(),
            Error::SpillLimit { limit } => BTreeMap::from([("limit_bytes".into(), json!(limit))]),
            _ => BTreeMap::new(),
        };
        let position = self.position();
        context.extend(position.map(|position| ("line".to_owned(), json!(position.line))));
        context.extend(position.map(|position| ("column".to_owned(), json!(position.column))));
        context
    }
}

impl Error {
    /// Returns the hint of a variant whose hint does not depend on its fields.
    fn fixed_hint(&self) -> Option<&'static str> {
        match self {
            Error::AlreadyExists { what: "table", .. } => {
                Some("Use CREATE OR REPLACE TABLE, or choose another name.")
            }
            Error::ViewChain { .. } => Some("Change one of the views to read tables only."),
            Error::AlreadyExists { what: "view", .. } => {
                Some("Use CREATE OR REPLACE VIEW, or choose another name.")
            }
            Error::MatchedTwice { .. } => {
                Some("Make the source rows unique, for example with DISTINCT ON or GROUP BY.")
            }
            Error::AlreadyExists { .. } => Some("Use IF NOT EXISTS, or choose another name."),
            Error::NotABranch { .. } => {
                Some("Write to a branch, or first create a branch from this ref.")
            }
            Error::Protected { .. } => Some("Write to another branch and merge that branch."),
            Error::TableNotFound { .. } => Some("List the tables with `headwater table ls`."),
            Error::NamespaceNotFound { .. } => {
                Some("List the namespaces with `headwater namespace ls`.")
            }
            Error::MemoryLimit { .. } => {
                Some("Raise the limit, read fewer columns or rows, or join smaller tables.")
            }
            Error::EngineMemory { .. } | Error::ServerMemory { .. } => {
                Some("Run fewer statements at once, or give the server more memory.")
            }
            Error::SpillLimit { .. } => Some("Raise the spill limit, or read fewer rows."),
            Error::DiskFull => Some("Free some space and try again."),
            Error::Value { message, .. } if message.contains(CLOCK_CHANGE) => {
                Some("Write the offset from UTC, as in `2026-03-29 03:30:00+02:00`.")
            }
            Error::Value { message, .. } if is_failed_cast(message) => {
                Some("Write a value of this type, or use `TRY_CAST`, which returns null instead.")
            }
            Error::Overflow { .. } => {
                Some("Cast the operands to a wider type, such as DECIMAL(38, 0) or DOUBLE.")
            }
            _ => None,
        }
    }
}

/// Returns true for Arrow's message about a text that is not a value of a type.
fn is_failed_cast(message: &str) -> bool {
    ["cannot cast string '", "cannot cast value '"].iter().any(|cast| message.contains(cast))
}
