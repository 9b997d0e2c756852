//! Errors of sandboxed processes.

use headwater_model::{ErrorCode, ToProblem};

/// Result with an error of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Error of the spawner or of the operating system.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The spawner failed to start, or ended.
    #[error("the process that starts sandboxes (spawner) {reason}")]
    Spawner {
        /// A description of the failure.
        reason: String,
    },
    /// A system call failed.
    #[error("cannot {what}")]
    Io {
        /// The operation that failed, as a verb phrase, such as "write a request".
        what: String,
        /// The system's error.
        source: std::io::Error,
    },
}

impl Error {
    /// Returns a function that wraps a system error in an [`Error::Io`]. `what` is the failed
    /// operation.
    pub fn io(what: impl Into<String>) -> impl FnOnce(std::io::Error) -> Error {
        let what = what.into();
        move |source| Error::Io { what, source }
    }
}

impl ToProblem for Error {
    fn code(&self) -> ErrorCode {
        match self {
            Error::Io { source, .. } if source.kind() == std::io::ErrorKind::StorageFull => {
                ErrorCode::DiskFull
            }
            Error::Io { .. } | Error::Spawner { .. } => ErrorCode::Internal,
        }
    }
}
