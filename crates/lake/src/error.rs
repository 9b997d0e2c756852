//! Errors of the lake: errors of transactions, merges and maintenance, and errors of the underlying
//! crates.

use std::collections::BTreeMap;

use headwater_model::{ErrorCode, Problem, TableName, ToProblem};
use serde_json::{Value, json};

/// A result of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// An error of the lake.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The name is invalid.
    #[error(transparent)]
    Name(#[from] headwater_model::NameError),
    /// An error of the catalog.
    #[error(transparent)]
    Catalog(Box<headwater_catalog::Error>),
    /// The error of a group commit, shared by all appends of the group.
    #[error(transparent)]
    Shared(std::sync::Arc<Error>),
    /// An error while reading or writing table files.
    #[error(transparent)]
    Tables(Box<headwater_tables::Error>),
    /// An error of the metadata store.
    #[error(transparent)]
    Store(#[from] headwater_store::Error),
    /// The table does not exist at the ref.
    #[error("table `{table}` is not in `{reference}`")]
    TableNotFound {
        /// The requested name.
        table: TableName,
        /// The ref that was searched.
        reference: String,
        /// The most similar table name.
        near: Option<String>,
    },
    /// The target of a write is not a branch.
    #[error("`{reference}` is not a branch; only branches can be written to")]
    NotABranch {
        /// The requested ref.
        reference: String,
    },
    /// The table to create already exists.
    #[error("table `{table}` already exists")]
    TableExists {
        /// The existing table.
        table: TableName,
    },
    /// The name of the table to create is already used by a view.
    #[error("`{view}` already exists as a view")]
    ViewExists {
        /// The existing view.
        view: TableName,
    },
    /// The operation requires a table, but the name refers to a view.
    #[error("`{view}` is a view, not a table")]
    IsView {
        /// The requested name, which refers to a view.
        view: TableName,
    },
    /// The view does not exist at the ref.
    #[error(
        "view `{view}` is not in `{reference}`{}",
        if *.table { "; a table with this name exists" } else { "" }
    )]
    ViewNotFound {
        /// The requested name.
        view: TableName,
        /// The ref that was searched.
        reference: String,
        /// The most similar view name.
        near: Option<String>,
        /// True if there is a table with the requested name.
        table: bool,
    },
    /// A concurrent commit changed the same table.
    #[error("table `{table}` on branch `{branch}` was changed by a concurrent commit")]
    CommitConflict {
        /// The table that both commits change.
        table: TableName,
        /// The branch of the commits.
        branch: String,
    },
    /// The field id of a new column is already used on another branch.
    #[error("a new column of `{table}` has a field id that another branch already uses")]
    FieldIdTaken {
        /// The table with the new column.
        table: TableName,
    },
    /// The branch already has this table under another name.
    #[error("`{table}` cannot be registered: the metadata belongs to table `{other}`")]
    TableTwice {
        /// The new name.
        table: TableName,
        /// The existing name.
        other: TableName,
    },
    /// A concurrent commit imported a file of this import.
    #[error("`{file}` was imported into `{table}` by a concurrent commit")]
    ImportedMeanwhile {
        /// The file that both commits import.
        file: String,
        /// The table into which the file was imported.
        table: TableName,
    },
    /// The target branch requires checks that the source has not passed.
    #[error(
        "`{branch}` requires that the expectations of project `{project}` pass; {} `{reference}`{}",
        if *moved { "they passed on" } else { "they have not passed on" },
        if *moved { format!(", which lacks the latest commits of `{branch}`") } else { String::new() }
    )]
    NotChecked {
        /// The target branch.
        branch: String,
        /// The source of the merge.
        reference: String,
        /// The project whose checks are required.
        project: String,
        /// True if the checks passed on the source, but the target has commits that this checked
        /// state does not contain.
        moved: bool,
    },
    /// Maintenance would remove more than half of the files of the warehouse.
    #[error("the maintenance would remove {files} of {of} files, more than half")]
    MostWouldGo {
        /// The number of unreferenced files.
        files: u64,
        /// The number of existing files.
        of: u64,
    },
    /// An option or argument is invalid.
    #[error("{message}")]
    InvalidRequest {
        /// The error message.
        message: String,
        /// The hint: how to correct the option or argument.
        hint: &'static str,
    },
    /// The author of a merge may not resolve a conflict by taking the source's version of a table.
    #[error("{0}")]
    Denied(Box<Problem>),
    /// The maintenance was cancelled.
    #[error("the maintenance was cancelled")]
    Cancelled,
    /// Rows or schemas could not be converted in Arrow.
    #[error("a record batch cannot be built")]
    Arrow(#[from] arrow::error::ArrowError),
    /// The list of imported files cannot be read.
    #[error("the list of imported files of `{table}` cannot be read: {reason}")]
    ImportState {
        /// The table with the list.
        table: TableName,
        /// The reason why the list cannot be read.
        reason: String,
    },
    /// The warehouse of a lake cannot be changed after tables were created.
    #[error("the lake has tables in the warehouse `{current}`, which cannot be changed")]
    WarehouseFixed {
        /// The current warehouse; `local` for the folder next to the database.
        current: String,
    },
    /// A folder of the lake cannot be created or opened.
    #[error("the lake's folder `{path}` cannot be opened")]
    Folder {
        /// The folder's path.
        path: String,
        /// The error of the operating system.
        source: std::io::Error,
    },
    /// An internal error.
    #[error("{message}")]
    Internal {
        /// The error message.
        message: String,
    },
}

impl From<headwater_catalog::Error> for Error {
    fn from(error: headwater_catalog::Error) -> Self {
        Error::Catalog(Box::new(error))
    }
}

impl From<headwater_tables::Error> for Error {
    fn from(error: headwater_tables::Error) -> Self {
        Error::Tables(Box::new(error))
    }
}

impl ToProblem for Error {
    fn code(&self) -> ErrorCode {
        match self {
            Error::Name(error) => error.code(),
            Error::Catalog(error) => error.code(),
            Error::Shared(error) => error.code(),
            Error::Tables(error) => error.code(),
            Error::Store(error) => error.code(),
            Error::Denied(problem) => problem.code,
            Error::TableNotFound { .. } | Error::ViewNotFound { .. } => ErrorCode::TableNotFound,
            Error::TableExists { .. } | Error::ViewExists { .. } => ErrorCode::AlreadyExists,
            Error::CommitConflict { .. }
            | Error::ImportedMeanwhile { .. }
            | Error::FieldIdTaken { .. } => ErrorCode::CommitConflict,
            Error::NotChecked { .. } => ErrorCode::BranchProtected,
            Error::NotABranch { .. }
            | Error::IsView { .. }
            | Error::TableTwice { .. }
            | Error::InvalidRequest { .. }
            | Error::MostWouldGo { .. }
            | Error::WarehouseFixed { .. } => ErrorCode::InvalidArgument,
            Error::Folder { source, .. } => io_code(source),
            Error::Cancelled => ErrorCode::Cancelled,
            Error::ImportState { .. } => ErrorCode::Corrupt,
            Error::Arrow(_) | Error::Internal { .. } => ErrorCode::Internal,
        }
    }

    fn hint(&self) -> Option<String> {
        match self {
            Error::Name(error) => error.hint(),
            Error::Catalog(error) => error.hint(),
            Error::Shared(error) => error.hint(),
            Error::Tables(error) => error.hint(),
            Error::Store(error) => error.hint(),
            Error::Denied(problem) => problem.hint.clone(),
            Error::TableNotFound { near: Some(near), .. }
            | Error::ViewNotFound { near: Some(near), .. } => {
                Some(format!("Did you mean `{near}`?"))
            }
            Error::InvalidRequest { hint, .. } => Some((*hint).to_owned()),
            other => other.fixed_hint().map(str::to_owned),
        }
    }

    fn context(&self) -> BTreeMap<String, Value> {
        match self {
            Error::Name(error) => error.context(),
            Error::Catalog(error) => error.context(),
            Error::Shared(error) => error.context(),
            Error::Tables(error) => error.context(),
            Error::Store(error) => error.context(),
            Error::Denied(problem) => problem.context.clone(),
            Error::CommitConflict { table, branch } => {
                let entries = [("table", json!(table)), ("branch", json!(branch))];
                entries.map(|(key, value)| (key.to_owned(), value)).into()
            }
            Error::TableNotFound { table, .. } => [("table".to_owned(), json!(table))].into(),
            Error::IsView { view } => [("view".to_owned(), json!(view))].into(),
            Error::ViewNotFound { view, table: true, .. } => {
                [("table".to_owned(), json!(view))].into()
            }
            _ => BTreeMap::new(),
        }
    }
}

impl Error {
    /// Returns the hint of the errors whose hint is always the same.
    fn fixed_hint(&self) -> Option<&'static str> {
        match self {
            Error::TableNotFound { .. } => Some("List the tables with `headwater table ls`."),
            Error::NotChecked { .. } => Some(
                "Merge the target into the source, run the project there with `headwater run`, and \
                 merge again.",
            ),
            Error::MostWouldGo { .. } => {
                Some("Check that the lake uses the right database, then use `--force`.")
            }
            Error::WarehouseFixed { .. } => Some(
                "Omit `--warehouse`. Or create another lake with `headwater init --warehouse`, and \
                 import the data there.",
            ),
            Error::NotABranch { .. } => {
                Some("Write to a branch, or first create a branch at this ref.")
            }
            Error::TableExists { .. } => Some("Drop the table first, or choose another name."),
            Error::ViewExists { .. } => Some("Drop the view first, or choose another name."),
            Error::ViewNotFound { table: true, .. } => {
                Some("Use `headwater table`, or the SQL statement for tables.")
            }
            Error::ViewNotFound { .. } => Some("List the views with `headwater view ls`."),
            Error::IsView { .. } => Some(
                "Write to the tables that the view reads, or replace the view with `CREATE OR \
                 REPLACE VIEW`.",
            ),
            Error::FieldIdTaken { .. } => Some("Reload the table and add the column again."),
            Error::TableTwice { .. } => Some("Drop or rename the other table first."),
            Error::CommitConflict { .. } | Error::ImportedMeanwhile { .. } => {
                Some("Repeat the operation: it then reads the latest commit.")
            }
            _ => None,
        }
    }

    /// Returns true if an operation stopped its retries because the branch changed during every
    /// attempt.
    pub fn is_contended(&self) -> bool {
        match self {
            Error::Catalog(error) => matches!(**error, headwater_catalog::Error::Contended { .. }),
            Error::Shared(error) => error.is_contended(),
            _ => false,
        }
    }

    /// Returns true if the operation can succeed when it is repeated from the new head of the
    /// branch.
    pub fn is_stale(&self) -> bool {
        matches!(self, Error::CommitConflict { .. } | Error::ImportedMeanwhile { .. })
    }
}

fn io_code(error: &std::io::Error) -> ErrorCode {
    match error.kind() {
        std::io::ErrorKind::NotFound => ErrorCode::FileNotFound,
        std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded => ErrorCode::DiskFull,
        std::io::ErrorKind::PermissionDenied => ErrorCode::Forbidden,
        _ => ErrorCode::Storage,
    }
}
