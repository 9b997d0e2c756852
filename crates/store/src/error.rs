//! What can go wrong in the store.

use std::sync::Arc;

use headwater_model::{ErrorCode, Fault};

/// A result of this room.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What can go wrong in the store. Cheap to clone, since batches written together fail together.
#[derive(Debug, Clone, thiserror::Error)]
pub enum Error {
    /// A ref did not hold what the batch expected.
    #[error("ref `{name}` was changed by someone else")]
    Conflict {
        /// The ref.
        name: String,
    },
    /// A key that may be used once was used before.
    #[error("{scope} `{key}` exists already")]
    NotUnique {
        /// What kind of key.
        scope: String,
        /// The key.
        key: String,
    },
    /// A batch that contradicts itself.
    #[error("a batch {reason}")]
    InvalidBatch {
        /// In which way.
        reason: String,
    },
    /// Other processes kept the database to themselves for too long.
    #[error("the lake's database stayed locked by another process")]
    Busy,
    /// There is no room left.
    #[error("there is no room left for the lake's database")]
    DiskFull,
    /// What was stored cannot be read back.
    #[error("the lake's database cannot be read: {reason}")]
    Corrupt {
        /// What is wrong with it.
        reason: String,
    },
    /// The file was written by a later version.
    #[error("`{path}` has format {found}, and this version reads up to {known}")]
    TooNew {
        /// The file.
        path: String,
        /// Its format.
        found: i64,
        /// The newest format known here.
        known: i64,
    },
    /// The database or the disk refused something else.
    #[error("cannot {what}")]
    Storage {
        /// What was tried.
        what: String,
        /// The answer.
        #[source]
        source: Arc<dyn std::error::Error + Send + Sync>,
    },
    /// The store's writer has ended, as it does when the process is stopping.
    #[error("the store is closed")]
    Closed,
}

impl Fault for Error {
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
            Error::Conflict { .. } => "Read the ref again and repeat the change.",
            Error::Busy => "Try again; if it stays so, end the process that holds the file.",
            Error::DiskFull => "Free space on that disk and try again; nothing was lost.",
            Error::Corrupt { .. } => "Restore the file from a backup, or ask for help with it.",
            Error::TooNew { .. } => "Update Headwater to the version that wrote the lake.",
            Error::NotUnique { .. }
            | Error::InvalidBatch { .. }
            | Error::Storage { .. }
            | Error::Closed => return None,
        };
        Some(hint.to_owned())
    }
}
