//! What can go wrong in the lake: everything its rooms report, and what only an import or a
//! transaction can find.
//!
//! [`Error`] is the room's one error type. Its messages name the offending file, line, column or
//! table in backticks; its hints say what to do about it.

use std::collections::BTreeMap;

use headwater_model::{ErrorCode, Fault, TableName};
use serde_json::{Value, json};

use crate::import::BadRow;

/// A result of this room.
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
    /// A source that is no absolute path.
    #[error("`{path}` is not an absolute path")]
    RelativeSource {
        /// The source as given.
        path: String,
    },
    /// A source that names no file.
    #[error("`{path}` names no file")]
    NoFiles {
        /// The source as given.
        path: String,
        /// Why nothing was found, where there is more to say than that nothing is there.
        note: Option<&'static str>,
    },
    /// Files without a single column, for a table that is not there yet.
    #[error("{}", no_columns(.file, *.more, *.empty))]
    NoColumns {
        /// The first of them.
        file: String,
        /// How many others there are.
        more: usize,
        /// Whether they have no bytes at all.
        empty: bool,
    },
    /// A file that its name says is packed, and that is not.
    #[error("`{file}` is no {what} file, although its name says so")]
    NotPacked {
        /// The file.
        file: String,
        /// What its name says: `gzip`, `zstd`.
        what: &'static str,
    },
    /// A file whose format cannot be told.
    #[error("the format of `{file}` cannot be told from its name or its first bytes")]
    UnknownFormat {
        /// The file.
        file: String,
    },
    /// An encoding label that means nothing.
    #[error("`{label}` is not an encoding")]
    UnknownEncoding {
        /// The label as given.
        label: String,
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
    /// A declared type, or a partition, for a column that no file and no table has.
    #[error("column `{column}` is in none of the files")]
    ColumnNotFound {
        /// The column as given.
        column: String,
        /// A column with a name near it.
        near: Option<String>,
    },
    /// A column whose type in a file cannot become its type in the table.
    #[error("column `{column}` is `{found}` in `{file}` and `{expected}` in the table")]
    TypeConflict {
        /// The column.
        column: String,
        /// Its type in the file.
        found: String,
        /// Its type in the table.
        expected: String,
        /// The file.
        file: String,
    },
    /// A declared type that differs from the one the table has.
    #[error("column `{column}` is `{existing}` in the table, and cannot become `{declared}`")]
    TypeFixed {
        /// The column.
        column: String,
        /// Its type in the table.
        existing: String,
        /// The type that was asked for.
        declared: String,
    },
    /// The first row that cannot be read.
    #[error("{0}")]
    BadRow(Box<BadRow>),
    /// A file that the system cannot read.
    #[error("`{file}` cannot be read")]
    File {
        /// The file.
        file: String,
        /// What the system says.
        source: std::io::Error,
    },
    /// A file that is not what it claims to be: a broken gzip stream, a torn Parquet file.
    #[error("`{file}` cannot be read as {what}: {reason}")]
    BrokenFile {
        /// The file.
        file: String,
        /// What it was read as: `gzip`, `zstd`, `parquet`, `arrow`, `a JSON array`.
        what: &'static str,
        /// What is wrong with it.
        reason: String,
    },
    /// A file that was written to while it was imported.
    #[error("`{file}` changed while it was imported")]
    FileChanged {
        /// The file.
        file: String,
    },
    /// Stopped by a person.
    #[error("the import was stopped")]
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
            | Error::FieldIdTaken { .. }
            | Error::FileChanged { .. } => ErrorCode::CommitConflict,
            Error::NoFiles { .. } => ErrorCode::FileNotFound,
            Error::NotChecked { .. } => ErrorCode::BranchProtected,
            Error::NotABranch { .. }
            | Error::IsView { .. }
            | Error::TableTwice { .. }
            | Error::RelativeSource { .. }
            | Error::UnknownFormat { .. }
            | Error::UnknownEncoding { .. }
            | Error::InvalidRequest { .. }
            | Error::MostWouldGo { .. }
            | Error::WarehouseFixed { .. }
            | Error::TypeConflict { .. }
            | Error::TypeFixed { .. } => ErrorCode::InvalidArgument,
            Error::ColumnNotFound { .. } => ErrorCode::ColumnNotFound,
            Error::BadRow(_)
            | Error::BrokenFile { .. }
            | Error::NoColumns { .. }
            | Error::NotPacked { .. } => ErrorCode::BadRow,
            Error::File { source, .. } | Error::Folder { source, .. } => io_code(source),
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
            | Error::ViewNotFound { near: Some(near), .. }
            | Error::ColumnNotFound { near: Some(near), .. } => {
                Some(format!("Did you mean `{near}`?"))
            }
            Error::BadRow(row) => Some(row.hint()),
            Error::NoFiles { note, .. } => Some(note.unwrap_or(NO_FILES_HINT).to_owned()),
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
            Error::BadRow(row) => row.context(),
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

const NO_FILES_HINT: &str =
    "Check the path; name files, folders or globs such as `/data/*.csv.gz`.";

impl Error {
    /// The hint of a variant whose hint does not depend on its data.
    fn fixed_hint(&self) -> Option<&'static str> {
        match self {
            Error::TableNotFound { .. } => Some("List the tables with `headwater table ls`."),
            Error::ColumnNotFound { .. } => {
                Some("See what columns there are with `headwater table import --dry-run`.")
            }
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
            Error::RelativeSource { .. } => {
                Some("Give the path from the root, beginning with `/`.")
            }
            Error::NoColumns { .. } => Some(
                "Name a file that has a header line or rows, or make the table first: then a file \
                 that is empty adds nothing to it.",
            ),
            Error::NotPacked { .. } => Some(
                "Get the file again; or, if it was never packed, take the ending off its name.",
            ),
            Error::UnknownFormat { .. } => {
                Some("Name the format with `--format csv`, `ndjson`, `parquet` or `arrow`.")
            }
            Error::UnknownEncoding { .. } => {
                Some("Use a label such as `utf-8`, `utf-16le`, `windows-1252` or `shift_jis`.")
            }
            Error::TypeConflict { .. } => {
                Some("Import into another table, or declare the column's type.")
            }
            Error::TypeFixed { .. } => Some("Leave the type out, or import into another table."),
            Error::FileChanged { .. } => {
                Some("Import the file again when nothing writes to it any more.")
            }
            Error::BrokenFile { .. } => {
                Some("Get the file again, or leave it out: it may be cut short.")
            }
            _ => None,
        }
    }

    /// Whether it says only that some part of an import ended.
    pub(crate) fn is_internal(&self) -> bool {
        matches!(self, Error::Internal { .. })
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
    pub(crate) fn is_stale(&self) -> bool {
        matches!(self, Error::CommitConflict { .. } | Error::ImportedMeanwhile { .. })
    }
}

fn no_columns(file: &str, more: usize, empty: bool) -> String {
    let which = match more {
        0 => format!("`{file}`"),
        1 => format!("`{file}` and one more file"),
        more => format!("`{file}` and {more} more files"),
    };
    match (more, empty) {
        (0, true) => format!("{which} is empty"),
        (_, true) => format!("{which} are empty"),
        (0, false) => format!("{which} has no columns"),
        (_, false) => format!("{which} have no columns"),
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
