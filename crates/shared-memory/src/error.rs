//! Errors of tables in shared memory and their files, with hints. A full disk has its own code,
//! because the user can free space. Other errors are faults of the server, or of the process that
//! wrote a file.

use arrow::error::ArrowError;
use headwater_model::{ErrorCode, ToProblem};

/// A result of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// An error of this crate.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Arrow data could not be written or read.
    #[error("the rows of a table cannot be encoded or decoded")]
    Arrow(#[from] ArrowError),
    /// A system call failed.
    #[error("cannot {what}")]
    Io {
        /// The failed operation.
        what: String,
        /// The system's error.
        source: std::io::Error,
    },
}

impl Error {
    /// Returns a function that converts a system error to an [`Error::Io`] with the failed
    /// operation.
    pub(crate) fn io(what: impl Into<String>) -> impl FnOnce(std::io::Error) -> Error {
        let what = what.into();
        move |source| Error::Io { what, source }
    }

    fn is_disk_full(&self) -> bool {
        match self {
            Error::Io { source, .. } | Error::Arrow(ArrowError::IoError(_, source)) => {
                source.kind() == std::io::ErrorKind::StorageFull
            }
            Error::Arrow(_) => false,
        }
    }
}

impl ToProblem for Error {
    fn code(&self) -> ErrorCode {
        if self.is_disk_full() { ErrorCode::DiskFull } else { ErrorCode::Internal }
    }

    fn hint(&self) -> Option<String> {
        let hint = "Free space on the disk that holds the lake, or process fewer rows.";
        self.is_disk_full().then(|| hint.to_owned())
    }
}
