//! Errors that prevent the start of the export.

use headwater_model::{ErrorCode, ToProblem};
use thiserror::Error as ThisError;

/// The result of this crate.
pub type Result<T> = std::result::Result<T, Error>;

/// An error that prevents the start of the export.
#[derive(Debug, ThisError)]
pub enum Error {
    /// The endpoint is not a URL with the scheme `http` or `https`.
    #[error("`{url}` is not an HTTP URL of an OpenTelemetry collector")]
    InvalidEndpoint {
        /// The invalid endpoint.
        url: String,
    },
    /// The additional headers or attributes are invalid. The message omits them, because headers
    /// contain secrets.
    #[error("the {what} of the trace export must be a list such as `name=value,name=value`")]
    InvalidList {
        /// `headers` or `attributes`.
        what: &'static str,
    },
    /// The exporter or its client cannot be created.
    #[error("the export of traces cannot start: {reason}")]
    Exporter {
        /// The message of the underlying error.
        reason: String,
    },
}

impl ToProblem for Error {
    fn code(&self) -> ErrorCode {
        match self {
            Error::InvalidEndpoint { .. } | Error::InvalidList { .. } => ErrorCode::InvalidArgument,
            Error::Exporter { .. } => ErrorCode::Internal,
        }
    }

    fn hint(&self) -> Option<String> {
        match self {
            Error::InvalidEndpoint { .. } => {
                Some("Pass a URL such as `http://127.0.0.1:4318`.".to_owned())
            }
            Error::InvalidList { .. } => {
                Some("Encode other characters in values as in URLs, such as `%2C`.".to_owned())
            }
            Error::Exporter { .. } => None,
        }
    }
}
