//! What can go wrong in the lake: errors of the crates below it, and those of transactions,
//! merges and maintenance.
//!
//! [`Error`] is the crate's one error type. Its messages name the table, branch or view in backticks.

use std::collections::BTreeMap;

use headwater_model::{ErrorCode, Fault, TableName};
use serde_json::{Value, json};

/// A result of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What can go wrong in the lake.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A name that breaks the naming rules.
    #[error(transparent)]
    Name(#[from] headwater_model::NameError),
    /// The catalog refused or failed.
    #[error(transparent)]
    Catalog(Box<headwater_catalog::Error>),
    /// What happened to a commit of several appends together.
    #[error(transparent)]
    Shared(std::sync::Arc<Error>),
    /// Reading or writing table files failed.
    #[error(transparent)]
    Tables(Box<headwater_tables::Error>),
    /// The metadata store failed.
    #[error(transparent)]
    Store(#[from] headwater_store::Error),
    /// No table of that name at that ref.
    #[error("table `{table}` is not in `{reference}`")]
    TableNotFound {
        /// The name that was asked for.
        table: TableName,
        /// Where it was looked for.
        reference: String,
        /// A table with a name near it.
        near: Option<String>,
    },
    /// A write to something that is no branch.
    #[error("`{reference}` is not a branch, and only a branch can be written to")]
    NotABranch {
        /// The ref that was given.
        reference: String,
    },
    /// A table that was to be created exists.
    #[error("table `{table}` is there already")]
    TableExists {
        /// The table.
        table: TableName,
    },
    /// A name that a view has.
    #[error("`{view}` is there already, as a view")]
    ViewExists {
        /// The view.
        view: TableName,
    },
    /// A view where only a table will do.
    #[error("`{view}` is a view, and not a table")]
    IsView {
        /// The view.
        view: TableName,
    },
    /// No view of that name at that ref.
    #[error("view `{view}` is not in `{reference}`{}", if *.table { ", but a table of that name" } else { "" })]
    ViewNotFound {
        /// The name that was asked for.
        view: TableName,
        /// Where it was looked for.
        reference: String,
        /// A view with a name near it.
        near: Option<String>,
        /// Whether a table has the name.
        table: bool,
    },
    /// Another commit changed the same table first.
    #[error("table `{table}` on branch `{branch}` was changed by another commit in the meantime")]
    CommitConflict {
        /// The table.
        table: TableName,
        /// The branch.
        branch: String,
    },
    /// A new column under a field id that another branch gave to another.
    #[error("a new column of `{table}` has a field id that another branch gave away")]
    FieldIdTaken {
        /// The table.
        table: TableName,
    },
    /// A table that the branch has under another name.
    #[error("`{table}` would be the same table as `{other}`")]
    TableTwice {
        /// The name that was to be made.
        table: TableName,
        /// The name that it has.
        other: TableName,
    },
    /// A file of this import was imported by another commit while the import ran.
    #[error("`{file}` was imported into `{table}` by another commit in the meantime")]
    ImportedMeanwhile {
        /// The file.
        file: String,
        /// The table.
        table: TableName,
    },
    /// A merge into a branch that takes only what was checked.
    #[error(
        "`{branch}` takes what the expectations of project `{project}` have passed on, and `{reference}` {}",
        if *moved { "lacks what came to it since" } else { "is no such commit" }
    )]
    NotChecked {
        /// The branch.
        branch: String,
        /// What was to be merged.
        reference: String,
        /// The project.
        project: String,
        /// Whether they passed, but on a commit that has not all that the branch has.
        moved: bool,
    },
    /// A removal of files that would take most of what is there.
    #[error("{files} of {of} files would be removed, which is most of what is there")]
    MostWouldGo {
        /// Files that nothing needs.
        files: u64,
        /// Files that are there.
        of: u64,
    },
    /// An option that cannot be used.
    #[error("{message}")]
    InvalidRequest {
        /// What is wrong with it.
        message: String,
        /// What to do.
        hint: &'static str,
    },
    /// Maintenance that was cancelled.
    #[error("the maintenance was cancelled")]
    Cancelled,
    /// Arrow refused a conversion.
    #[error("a record batch cannot be built")]
    Arrow(#[from] arrow::error::ArrowError),
    /// The recorded list of imported files cannot be read back.
    #[error("the list of imported files of `{table}` cannot be read: {reason}")]
    ImportState {
        /// The table.
        table: TableName,
        /// What is wrong with it.
        reason: String,
    },
    /// Another warehouse for a lake that has tables in one.
    #[error("the lake has tables in the warehouse `{current}`, and cannot take another")]
    WarehouseFixed {
        /// Where they lie; `local` for the folder beside the database.
        current: String,
    },
    /// A folder of the lake cannot be made or opened.
    #[error("the lake's folder `{path}` cannot be opened")]
    Folder {
        /// The folder.
        path: String,
        /// What the system says.
        source: std::io::Error,
    },
    /// A fault of Headwater's own.
    #[error("{message}")]
    Internal {
        /// What happened.
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

impl Fault for Error {
    fn code(&self) -> ErrorCode {
        match self {
            Error::Name(error) => error.code(),
            Error::Catalog(error) => error.code(),
            Error::Shared(error) => error.code(),
            Error::Tables(error) => error.code(),
            Error::Store(error) => error.code(),
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
    /// The hint of a variant whose hint does not depend on its data.
    fn fixed_hint(&self) -> Option<&'static str> {
        match self {
            Error::TableNotFound { .. } => Some("List the tables with `headwater table ls`."),
            Error::NotChecked { .. } => Some(
                "Merge the branch into yours, run the project there with `headwater run`, and merge \
                 what that leaves.",
            ),
            Error::MostWouldGo { .. } => Some(
                "Look whether the lake's database is the right one; then say `--force`, or wait until \
                 less is to go.",
            ),
            Error::WarehouseFixed { .. } => Some(
                "Leave `--warehouse` out; or make another lake with `headwater init --warehouse`, and \
                 import what it is to have.",
            ),
            Error::NotABranch { .. } => Some("Name a branch, or create one there first."),
            Error::TableExists { .. } | Error::ViewExists { .. } => {
                Some("Drop it first, or choose another name.")
            }
            Error::ViewNotFound { table: true, .. } => {
                Some("Name it to `headwater table`, or in SQL to a statement for tables.")
            }
            Error::ViewNotFound { .. } => Some("List the views with `headwater view ls`."),
            Error::IsView { .. } => Some(
                "Write to the tables that it reads, or replace it with `CREATE OR REPLACE VIEW`.",
            ),
            Error::FieldIdTaken { .. } => Some("Load the table again, and add the column anew."),
            Error::TableTwice { .. } => Some("Drop the other table first, or rename it."),
            Error::CommitConflict { .. } | Error::ImportedMeanwhile { .. } => {
                Some("Run it again: it will start from the new state.")
            }
            _ => None,
        }
    }

    /// Whether others changed the branch each time that something was tried, which was often.
    pub fn is_contended(&self) -> bool {
        match self {
            Error::Catalog(error) => matches!(**error, headwater_catalog::Error::Contended { .. }),
            Error::Shared(error) => error.is_contended(),
            _ => false,
        }
    }

    /// Whether the same work may succeed if it starts again from the branch's new head.
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
