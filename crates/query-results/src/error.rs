//! Errors of asynchronous queries and their stored results.

use std::io;
use std::sync::Arc;

use headwater_model::{ErrorCode, ToProblem};

/// A result with the error type of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// An error of this crate.
#[derive(Debug, Clone, thiserror::Error)]
pub enum Error {
    /// No query has the id.
    #[error("there is no query `{id}`")]
    QueryNotFound {
        /// The requested id.
        id: String,
    },
    /// The query has not ended.
    #[error("the query `{id}` has not ended")]
    NotEnded {
        /// The id of the query.
        id: String,
    },
    /// The result of a query exceeds the limit of one result.
    #[error("the result is too large: more than {limit} bytes")]
    TooLarge {
        /// The limit of one result, in bytes.
        limit: u64,
    },
    /// The maximum number of queries is already running.
    #[error("the limit of {limit} running asynchronous queries is reached")]
    TooMany {
        /// The maximum number of running queries.
        limit: usize,
    },
    /// The identity already has the maximum number of running queries.
    #[error("the limit of {limit} running asynchronous queries per user is reached")]
    TooManyOwn {
        /// The maximum number of running queries of one identity.
        limit: usize,
    },
    /// A file of a result cannot be read or written.
    #[error("the result of a query cannot be read or written: {0}")]
    Io(Arc<io::Error>),
    /// Rows cannot be encoded or decoded.
    #[error("the rows of a result cannot be read or written: {0}")]
    Rows(String),
}

impl From<io::Error> for Error {
    fn from(error: io::Error) -> Self {
        Error::Io(Arc::new(error))
    }
}

impl From<arrow::error::ArrowError> for Error {
    fn from(error: arrow::error::ArrowError) -> Self {
        match error {
            arrow::error::ArrowError::IoError(_, error) => error.into(),
            other => Error::Rows(other.to_string()),
        }
    }
}

impl ToProblem for Error {
    fn code(&self) -> ErrorCode {
        match self {
            Error::QueryNotFound { .. } => ErrorCode::JobNotFound,
            Error::NotEnded { .. } => ErrorCode::PreconditionFailed,
            Error::TooLarge { .. } => ErrorCode::QuotaExceeded,
            Error::TooMany { .. } | Error::TooManyOwn { .. } => ErrorCode::TooBusy,
            Error::Io(error) if error.kind() == io::ErrorKind::StorageFull => ErrorCode::DiskFull,
            Error::Io(_) => ErrorCode::Storage,
            Error::Rows(_) => ErrorCode::Internal,
        }
    }

    fn hint(&self) -> Option<String> {
        Some(match self {
            Error::QueryNotFound { .. } => {
                "Run the query again: a result is kept for a limited time.".to_owned()
            }
            Error::NotEnded { id } => {
                format!("Wait for the end of the query with `GET /v1/queries/{id}?wait_ms=30000`.")
            }
            Error::TooLarge { .. } => {
                "Return fewer rows, or write them with `CREATE TABLE … AS` or `COPY … TO`."
                    .to_owned()
            }
            Error::TooMany { .. } | Error::TooManyOwn { .. } => {
                "Try again when a query has ended.".to_owned()
            }
            Error::Io(_) | Error::Rows(_) => return None,
        })
    }
}
