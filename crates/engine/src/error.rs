//! What can go wrong with a statement, and what to do about it.
//!
//! [`Error`] is the room's one error type. DataFusion's own errors never leave the room as they
//! are:
//! `planning_error` turns them into these. Messages name the offending word in backticks and, where
//! the statement's text is known, the line and column at which it stands.

use std::collections::BTreeMap;

use headwater_model::{ErrorCode, Fault, Problem};
use headwater_sql::At;
pub use headwater_sql::{Error as SqlError, Position};
use headwater_sql_functions::format_bytes as bytes;
use serde_json::{Value, json};

/// A result of this room.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why a statement was refused or failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The statement is refused before it runs.
    #[error(transparent)]
    Sql(#[from] SqlError),
    /// A function or operator refused its arguments or result.
    #[error(transparent)]
    Function(#[from] headwater_sql_functions::Error),
    /// The lake refused or failed.
    #[error(transparent)]
    Lake(#[from] headwater_lake::Error),
    /// The catalog refused or failed.
    #[error(transparent)]
    Catalog(#[from] headwater_catalog::Error),
    /// Reading or writing table files failed.
    #[error(transparent)]
    Tables(#[from] headwater_tables::Error),
    /// A name that breaks the naming rules.
    #[error(transparent)]
    Name(#[from] headwater_model::NameError),
    /// A system table, or whoever feeds rows in, failed.
    #[error(transparent)]
    Problem(#[from] Problem),
    /// No table of that name.
    #[error("table `{table}` is not in `{reference}`{}", At(position))]
    TableNotFound {
        /// The table as written.
        table: String,
        /// The ref it was looked for at.
        reference: String,
        /// A table with a similar name.
        near: Option<String>,
        /// Where.
        position: Option<Position>,
    },
    /// No table of that name in the system's namespace.
    #[error("there is no system table `{table}`{}", At(position))]
    SystemTableNotFound {
        /// The table as written, without its namespace.
        table: String,
        /// One with a similar name, with its namespace.
        near: Option<String>,
        /// All that there are.
        known: Vec<String>,
        /// Where.
        position: Option<Position>,
    },
    /// No namespace of that name.
    #[error("namespace `{namespace}` is not in `{reference}`{}", At(position))]
    NamespaceNotFound {
        /// The namespace as written.
        namespace: String,
        /// The ref it was looked for at.
        reference: String,
        /// A namespace with a similar name.
        near: Option<String>,
        /// Where.
        position: Option<Position>,
    },
    /// A row to change that several rows fit, each of which would change it.
    #[error("a row of `{table}` is matched by more than one row, and could be changed only once")]
    MatchedTwice {
        /// The table.
        table: String,
    },
    /// A view that cannot be read.
    #[error("view `{view}` cannot be read: {message}")]
    View {
        /// The view.
        view: String,
        /// What is wrong with what it reads.
        message: String,
        /// The code of that.
        code: ErrorCode,
        /// What to do about it.
        hint: Option<String>,
    },
    /// Views that read each other in a circle, or too deep.
    #[error("{message}")]
    ViewChain {
        /// Which.
        message: String,
    },
    /// A table, view or namespace that is there already.
    #[error("{what} `{name}` is there already")]
    AlreadyExists {
        /// `table`, `view` or `namespace`.
        what: &'static str,
        /// Its name.
        name: String,
    },
    /// A write at a ref that is no branch.
    #[error("`{reference}` is not a branch, and only a branch can be written to")]
    NotABranch {
        /// The ref.
        reference: String,
    },
    /// A write to a branch that takes none.
    #[error("branch `{branch}` is protected")]
    Protected {
        /// The branch.
        branch: String,
    },
    /// A value that an operation could not take, met while rows were computed.
    #[error("{message}{}", At(position))]
    Value {
        /// What happened.
        message: String,
        /// The place of a constant that is such a value.
        position: Option<Position>,
    },
    /// A number that does not fit its type.
    #[error("{message}")]
    Overflow {
        /// What did not fit.
        message: String,
    },
    /// The statement's memory limit was reached and nothing was left to spill.
    #[error("the statement needs more than its memory limit of {}", bytes(*limit))]
    MemoryLimit {
        /// The limit in bytes.
        limit: u64,
    },
    /// Every statement together reached the engine's memory limit.
    #[error("the statements running now need more than the engine's memory of {}", bytes(*limit))]
    EngineMemory {
        /// The limit in bytes.
        limit: u64,
    },
    /// The statement was ended because the server's memory was used up.
    #[error("the server's memory of {} is used up, and this statement held most", bytes(*limit))]
    ServerMemory {
        /// The limit in bytes.
        limit: u64,
    },
    /// What was spilled reached its limit.
    #[error("the statement spilled more than the limit of {} to disk", bytes(*limit))]
    SpillLimit {
        /// The limit in bytes.
        limit: u64,
    },
    /// The disk that is spilled to is full.
    #[error("no space is left on the disk to spill to")]
    DiskFull,
    /// The work was stopped.
    #[error("the statement was stopped")]
    Cancelled,
    /// A table file cannot be read.
    #[error("a table file cannot be read: {message}")]
    Storage {
        /// What the store or the file says.
        message: String,
    },
    /// A fault of our own.
    #[error("the statement failed inside the engine: {message}")]
    Internal {
        /// What happened.
        message: String,
    },
}

impl Error {
    /// A statement or clause that is refused by name.
    pub(crate) fn unsupported(what: impl Into<String>) -> Self {
        Error::Sql(SqlError::unsupported(what))
    }

    /// SQL that does not plan, for a reason in words.
    pub(crate) fn invalid(message: impl Into<String>) -> Self {
        Error::Sql(SqlError::invalid(message))
    }

    /// Where in the statement the error stands, if that is known.
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

impl Fault for Error {
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
                    _ => "There are no system tables here.".to_owned(),
                })
            }
            other => other.fixed_hint().map(str::to_owned),
        }
    }

    fn context(&self) -> BTreeMap<String, Value> {
        let mut context = match self {
            Error::Lake(error) => error.context(),
            Error::Catalog(error) => error.context(),
            Error::Tables(error) => error.context(),
            Error::Problem(problem) => problem.context.clone(),
            _ => BTreeMap::new(),
        };
        if let Some(position) = self.position() {
            context.insert("line".to_owned(), json!(position.line));
            context.insert("column".to_owned(), json!(position.column));
        }
        context
    }
}

impl Error {
    /// The hint of a variant whose hint does not depend on its data.
    fn fixed_hint(&self) -> Option<&'static str> {
        match self {
            Error::AlreadyExists { what: "table", .. } => {
                Some("Use CREATE OR REPLACE TABLE, or choose another name.")
            }
            Error::ViewChain { .. } => Some("Replace one of them with a query of tables."),
            Error::AlreadyExists { what: "view", .. } => {
                Some("Use CREATE OR REPLACE VIEW, or choose another name.")
            }
            Error::MatchedTwice { .. } => Some(
                "Let one row of the source fit each row, such as with DISTINCT ON or GROUP BY.",
            ),
            Error::AlreadyExists { .. } => Some("Use IF NOT EXISTS, or choose another name."),
            Error::NotABranch { .. } => Some("Name a branch, or create one there first."),
            Error::Protected { .. } => Some("Write to another branch and merge it."),
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
            Error::Overflow { .. } => Some(
                "Cast what it is computed from to a wider type, such as DECIMAL(38, 0) or DOUBLE.",
            ),
            _ => None,
        }
    }
}
