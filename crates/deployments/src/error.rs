//! Errors of deployments and standalone triggers, with hints.

use headwater_model::{ErrorCode, ObjectId, ToProblem};

/// A result of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// An error of this crate.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No version has the requested id, or several versions have the requested prefix.
    #[error("{}", not_found_text(text, *several))]
    NoDeployment {
        /// The id or the prefix of an id in the request.
        text: String,
        /// True if the prefix is ambiguous.
        several: bool,
    },
    /// A record, manifest or file of a version is missing or cannot be decoded.
    #[error("the deployed version `{}` cannot be read", version.short())]
    Corrupt {
        /// The version.
        version: ObjectId,
    },
    /// A trigger cannot be encoded for the store.
    #[error("the trigger cannot be encoded: {reason}")]
    NotEncoded {
        /// The error of the encoder.
        reason: String,
    },
    /// The store failed.
    #[error(transparent)]
    Store(#[from] headwater_store::Error),
}

impl ToProblem for Error {
    fn code(&self) -> ErrorCode {
        match self {
            Error::NoDeployment { .. } => ErrorCode::DeploymentNotFound,
            Error::Corrupt { .. } => ErrorCode::Corrupt,
            Error::NotEncoded { .. } => ErrorCode::Internal,
            Error::Store(error) => error.code(),
        }
    }

    fn hint(&self) -> Option<String> {
        match self {
            Error::NoDeployment { .. } => {
                Some("List the versions with `headwater deployment ls`.".to_owned())
            }
            Error::Corrupt { .. } => {
                Some("Deploy the project again with `headwater deploy`.".to_owned())
            }
            Error::NotEncoded { .. } => None,
            Error::Store(error) => error.hint(),
        }
    }
}

fn not_found_text(text: &str, several: bool) -> String {
    if several {
        format!("several deployed versions match `{text}`")
    } else {
        format!("no deployed version `{text}`")
    }
}
