//! Errors of environments.

use std::collections::BTreeMap;

use headwater_model::{ErrorCode, ToProblem};
use serde_json::{Value, json};

/// Result with an error of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Error of an environment.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The environment cannot be built.
    #[error("{message}")]
    Failed {
        /// The failure, with uv's message if uv failed.
        message: String,
        /// The suggested fix.
        hint: String,
    },
    /// The host has no such Python version.
    #[error("there is no Python `{wanted}` on this machine; found: {}", list(.found))]
    PythonNotFound {
        /// The requested version.
        wanted: String,
        /// The installed versions.
        found: Vec<String>,
    },
    /// The id or prefix matches no environment, or more than one.
    #[error("the id `{id}` matches no environment, or more than one")]
    NotFound {
        /// The requested id or prefix.
        id: String,
    },
    /// A subprocess could not be run.
    #[error(transparent)]
    Sandbox(#[from] headwater_sandbox::Error),
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
    /// Returns a function that converts a system error and names the failed operation.
    pub(crate) fn io(what: impl Into<String>) -> impl FnOnce(std::io::Error) -> Error {
        let what = what.into();
        move |source| Error::Io { what, source }
    }

    /// Returns the error for an environment that cannot be built.
    pub(crate) fn failed(message: impl Into<String>, hint: impl Into<String>) -> Error {
        Error::Failed { message: message.into(), hint: hint.into() }
    }
}

impl ToProblem for Error {
    fn code(&self) -> ErrorCode {
        match self {
            Error::Failed { .. } | Error::PythonNotFound { .. } => ErrorCode::EnvironmentFailed,
            Error::NotFound { .. } => ErrorCode::EnvironmentNotFound,
            Error::Sandbox(error) => error.code(),
            Error::Io { source, .. } if source.kind() == std::io::ErrorKind::StorageFull => {
                ErrorCode::DiskFull
            }
            Error::Io { .. } => ErrorCode::Internal,
        }
    }

    fn hint(&self) -> Option<String> {
        match self {
            Error::Failed { hint, .. } => Some(hint.clone()),
            Error::PythonNotFound { .. } => Some(
                "Install that version (with pyenv, or `uv python install`), or use an installed one."
                    .to_owned(),
            ),
            Error::NotFound { .. } => {
                Some("List the environments with `headwater environment ls`.".to_owned())
            }
            Error::Io { source, .. } if source.kind() == std::io::ErrorKind::StorageFull => {
                Some("Free space on the disk that holds the lake's environments.".to_owned())
            }
            Error::Sandbox(_) | Error::Io { .. } => None,
        }
    }

    fn context(&self) -> BTreeMap<String, Value> {
        match self {
            Error::PythonNotFound { found, .. } => {
                BTreeMap::from([("found".to_owned(), json!(found))])
            }
            _ => BTreeMap::new(),
        }
    }
}

fn list(found: &[String]) -> String {
    if found.is_empty() { "none".to_owned() } else { found.join(", ") }
}
