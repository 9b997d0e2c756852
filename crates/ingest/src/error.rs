//! Errors of an import.
//!
//! [`Error`] is the crate's one error type. Its messages name the file, line, column or table in
//! backticks.

use std::collections::BTreeMap;

use headwater_model::{ErrorCode, Problem, ToProblem};
use serde_json::Value;

use crate::bad_row::BadRow;

/// A result of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// An error of an import.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// An error of the lake that the import writes to.
    #[error(transparent)]
    Lake(Box<headwater_lake::Error>),
    /// A source that is not an absolute path.
    #[error("`{path}` is not an absolute path")]
    RelativeSource {
        /// The source as given.
        path: String,
    },
    /// A source that matches no file.
    #[error("no file matches `{path}`")]
    NoFiles {
        /// The source as given.
        path: String,
        /// The reason why no file matches; `None` if the path does not exist.
        note: Option<&'static str>,
    },
    /// Files without any column, for a table that does not exist yet.
    #[error("{}", no_columns(.file, *.more, *.empty))]
    NoColumns {
        /// The first file without columns.
        file: String,
        /// Number of further files without columns.
        more: usize,
        /// True if all files without columns are empty.
        empty: bool,
    },
    /// A file whose name ends with a compression suffix, but that is not compressed.
    #[error("`{file}` is not a {what} file, although its name indicates one")]
    NotPacked {
        /// The name of the file.
        file: String,
        /// The compression that the file's name indicates: `gzip` or `zstd`.
        what: &'static str,
    },
    /// A file whose format cannot be detected.
    #[error("the format of `{file}` cannot be detected from its name or its first bytes")]
    UnknownFormat {
        /// The name of the file.
        file: String,
    },
    /// An unknown encoding label.
    #[error("`{label}` is not an encoding")]
    UnknownEncoding {
        /// The label as given.
        label: String,
    },
    /// A declared type or partition refers to a column that is neither in a file nor in the table.
    #[error("column `{column}` is in none of the files")]
    ColumnNotFound {
        /// The column as given.
        column: String,
        /// A column with a similar name, to suggest in the hint.
        near: Option<String>,
    },
    /// A column whose type in a file cannot be converted to its type in the table.
    #[error("column `{column}` is `{found}` in `{file}` and `{expected}` in the table")]
    TypeConflict {
        /// The name of the column.
        column: String,
        /// The column's type in the file.
        found: String,
        /// The column's type in the table.
        expected: String,
        /// The name of the file.
        file: String,
    },
    /// A declared type that differs from the type in the table.
    #[error("column `{column}` is `{existing}` in the table, and cannot become `{declared}`")]
    TypeFixed {
        /// The name of the column.
        column: String,
        /// The column's type in the table.
        existing: String,
        /// The declared type.
        declared: String,
    },
    /// The first row that cannot be read.
    #[error("{0}")]
    BadRow(Box<BadRow>),
    /// A file that the operating system cannot read.
    #[error("`{file}` cannot be read")]
    File {
        /// The name of the file.
        file: String,
        /// The operating system's error.
        source: std::io::Error,
    },
    /// A source that is a file of a lake, or a file with credentials.
    #[error("`{file}` cannot be read: it belongs to a lake, or may contain credentials")]
    Private {
        /// The name of the file, or the source as given.
        file: String,
    },
    /// A file that does not have the expected format, such as a corrupt gzip stream or a truncated
    /// Parquet file.
    #[error("`{file}` cannot be read as {what}: {reason}")]
    BrokenFile {
        /// The name of the file.
        file: String,
        /// The expected format: `gzip`, `zstd`, `parquet`, `arrow` or `a JSON array`.
        what: &'static str,
        /// The reason why the file cannot be read.
        reason: String,
    },
    /// A file that changed while it was imported.
    #[error("`{file}` changed while it was imported")]
    FileChanged {
        /// The name of the file.
        file: String,
    },
    /// An invalid option.
    #[error("{message}")]
    InvalidRequest {
        /// The error message.
        message: String,
        /// The hint: how to correct the option.
        hint: &'static str,
    },
    /// An import that was cancelled.
    #[error("the import was cancelled")]
    Cancelled,
    /// The import is not allowed to perform an action on a table.
    #[error("{0}")]
    Denied(Box<Problem>),
    /// An internal error, such as a reader that ended before its writer.
    #[error("{message}")]
    Internal {
        /// The error message.
        message: String,
    },
}

impl<E: Into<headwater_lake::Error>> From<E> for Error {
    fn from(error: E) -> Self {
        Error::Lake(Box::new(error.into()))
    }
}

impl ToProblem for Error {
    fn code(&self) -> ErrorCode {
        match self {
            Error::Lake(error) => error.code(),
            Error::FileChanged { .. } => ErrorCode::CommitConflict,
            Error::NoFiles { .. } => ErrorCode::FileNotFound,
            Error::RelativeSource { .. }
            | Error::UnknownFormat { .. }
            | Error::UnknownEncoding { .. }
            | Error::InvalidRequest { .. }
            | Error::TypeConflict { .. }
            | Error::TypeFixed { .. } => ErrorCode::InvalidArgument,
            Error::ColumnNotFound { .. } => ErrorCode::ColumnNotFound,
            Error::BadRow(_)
            | Error::BrokenFile { .. }
            | Error::NoColumns { .. }
            | Error::NotPacked { .. } => ErrorCode::BadRow,
            Error::File { source, .. } => io_code(source),
            Error::Private { .. } => ErrorCode::Forbidden,
            Error::Cancelled => ErrorCode::Cancelled,
            Error::Denied(problem) => problem.code,
            Error::Internal { .. } => ErrorCode::Internal,
        }
    }

    fn hint(&self) -> Option<String> {
        match self {
            Error::Lake(error) => error.hint(),
            Error::ColumnNotFound { near: Some(near), .. } => {
                Some(format!("Did you mean `{near}`?"))
            }
            Error::BadRow(row) => Some(row.hint()),
            Error::Denied(problem) => problem.hint.clone(),
            Error::NoFiles { note, .. } => Some(note.unwrap_or(NO_FILES_HINT).to_owned()),
            Error::InvalidRequest { hint, .. } => Some((*hint).to_owned()),
            other => other.fixed_hint().map(str::to_owned),
        }
    }

    fn context(&self) -> BTreeMap<String, Value> {
        match self {
            Error::Lake(error) => error.context(),
            Error::BadRow(row) => row.context(),
            Error::Denied(problem) => problem.context.clone(),
            _ => BTreeMap::new(),
        }
    }
}

const NO_FILES_HINT: &str =
    "Check the path; name files, folders or globs such as `/data/*.csv.gz`.";

impl Error {
    /// Returns the hint of a variant whose hint does not depend on its data.
    fn fixed_hint(&self) -> Option<&'static str> {
        match self {
            Error::ColumnNotFound { .. } => {
                Some("List the columns with `headwater table import --dry-run`.")
            }
            Error::RelativeSource { .. } => Some("Use an absolute path, starting with `/`."),
            Error::Private { .. } => Some("Query the table, or name a file outside the lake."),
            Error::NoColumns { .. } => Some(
                "Import a file with a header line or rows. Or create the table first; an empty file \
                 then adds no rows.",
            ),
            Error::NotPacked { .. } => Some(
                "Download or create the file again; or, if the file is not compressed, remove the \
                 suffix from its name.",
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
            Error::TypeFixed { .. } => Some("Omit the type, or import into another table."),
            Error::FileChanged { .. } => {
                Some("Import the file again when no program writes to it.")
            }
            Error::BrokenFile { .. } => Some(
                "The file may be truncated: download or create the file again, or do not import \
                 it.",
            ),
            _ => None,
        }
    }

    /// Returns true for an error of the reader or writer thread which only reports that the other
    /// thread ended early. The cause is then the other thread's error.
    pub(crate) fn is_internal(&self) -> bool {
        match self {
            Error::Internal { .. } => true,
            Error::Lake(error) => matches!(**error, headwater_lake::Error::Internal { .. }),
            _ => false,
        }
    }

    /// Returns true if another commit changed the branch, so that a retry from the branch's new
    /// head may succeed.
    pub(crate) fn is_stale(&self) -> bool {
        matches!(self, Error::Lake(error) if error.is_stale())
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
