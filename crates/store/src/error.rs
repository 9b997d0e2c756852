//! Errors of the store.

use std::sync::Arc;

use headwater_model::{ErrorCode, ToProblem};

/// A result with the error type of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// An error of the store. Cheap to clone: if a transaction with several batches fails, each batch
/// gets a clone of its error.
#[derive(Debug, Clone, thiserror::Error)]
pub enum Error {
    /// The value of a ref differs from the value that the batch expects.
    #[error("ref `{name}` was changed concurrently")]
    Conflict {
        /// The ref's name.
        name: String,
    },
    /// A unique key exists already.
    #[error("{scope} `{key}` already exists")]
    NotUnique {
        /// The namespace of the key.
        scope: String,
        /// The key that already exists.
        key: String,
    },
    /// A batch contains a ref or a unique key twice.
    #[error("invalid batch: {reason}")]
    InvalidBatch {
        /// Reason why the batch is invalid.
        reason: String,
    },
    /// Another process held the write lock of the database for too long.
    #[error("timeout while waiting for another process to unlock the lake's database")]
    Busy,
    /// The disk or the configured size limit is full.
    #[error("no space left for the lake's database")]
    DiskFull,
    /// The database content is damaged.
    #[error("the lake's database is corrupt: {reason}")]
    Corrupt {
        /// Description of the damage.
        reason: String,
    },
    /// The file was written by a later version of Headwater.
    #[error(
        "`{path}` has format version {found}; this version of Headwater supports up to {known}"
    )]
    TooNew {
        /// The file's path.
        path: String,
        /// The format version of the file.
        found: i64,
        /// The newest supported format version.
        known: i64,
    },
    /// Any other error of the database or the disk.
    #[error("cannot {what}")]
    Storage {
        /// The failed operation, as an infinitive with its object.
        what: String,
        /// The error of the database.
        #[source]
        source: Arc<dyn std::error::Error + Send + Sync>,
    },
    /// The store's writer has stopped, because the process is shutting down.
    #[error("the store is closed")]
    Closed,
}

impl ToProblem for Error {
    fn code(&self) -> ErrorCode {
        match self {
            Error::Conflict { .. } => ErrorCode::CommitConflict,
            Error::NotUnique { .. } => ErrorCode::AlreadyExists,
            Error::InvalidBatch { .. } => ErrorCode::Internal,
            Error::Busy => ErrorCode::TooBusy,
            Error::DiskFull => ErrorCode::DiskFull,
            Error::Corrupt { .. } => ErrorCode::Corrupt,
            Error::TooNew { .. } | Error::Closed => ErrorCode::Unavailable,
            Error::Storage { .. } => ErrorCode::Storage,
        }
    }

    fn hint(&self) -> Option<String> {
        let hint = match self {
            Error::Conflict { .. } => "Read the ref again and retry the change.",
            Error::Busy => {
                "Try again. If the error persists, stop the other process that uses the lake."
            }
            Error::DiskFull => "Free disk space and try again; no data was lost.",
            Error::Corrupt { .. } => "Restore the lake's database from a backup.",
            Error::TooNew { .. } => {
                "Update Headwater to the version that created the lake, or a later one."
            }
            Error::NotUnique { .. }
            | Error::InvalidBatch { .. }
            | Error::Storage { .. }
            | Error::Closed => return None,
        };
        Some(hint.to_owned())
    }
}
