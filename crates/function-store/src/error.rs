//! Errors of stored functions, with hints.

use headwater_model::{ErrorCode, ToProblem};

/// A result of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// An error of this crate.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The function does not exist.
    #[error("function `{name}` does not exist")]
    NotFound {
        /// The requested function.
        name: String,
    },
    /// The function has no such version or alias.
    #[error("function `{name}` has no version or alias `{qualifier}`")]
    NoVersion {
        /// The name of the function.
        name: String,
        /// The version or alias.
        qualifier: String,
    },
    /// The layer, the layer version or a permission of the version does not exist.
    #[error("{what}")]
    NoLayer {
        /// The message, which names the missing layer, version or permission.
        what: String,
    },
    /// The function has no such setting.
    #[error("function `{name}` has no {what}")]
    NoSetting {
        /// The function.
        name: String,
        /// The setting that is missing.
        what: String,
    },
    /// The function or alias to create already exists.
    #[error("{what} already exists")]
    Exists {
        /// The function or alias.
        what: String,
        /// The hint: how to change the existing object.
        hint: String,
    },
    /// An alias prevents the deletion of a version.
    #[error(
        "version {version} of function `{name}` cannot be deleted: alias `{alias}` refers to this \
         version"
    )]
    VersionInUse {
        /// The name of the function.
        name: String,
        /// The version to delete.
        version: u64,
        /// An alias that refers to the version.
        alias: String,
    },
    /// The function's revision differs from the revision that the request expects.
    #[error("function `{name}` is at revision `{found}`, not `{expected}`")]
    WrongRevision {
        /// The name of the function.
        name: String,
        /// The current revision.
        found: String,
        /// The revision in the request.
        expected: String,
    },
    /// Other requests changed the function at the same time.
    #[error("function `{name}` was changed by another request")]
    Conflict {
        /// The name of the function.
        name: String,
    },
    /// The archive cannot be read, or contains an entry that is not accepted.
    #[error("the archive is rejected: {reason}")]
    Archive {
        /// The reason for the rejection.
        reason: String,
        /// The hint: how to fix the archive.
        hint: &'static str,
    },
    /// A setting or file is invalid.
    #[error("{message}")]
    Invalid {
        /// The error message.
        message: String,
        /// The hint: how to fix the setting or file.
        hint: String,
    },
    /// Stored data cannot be read.
    #[error("function `{name}` cannot be read")]
    Corrupt {
        /// The name of the function.
        name: String,
    },
    /// A large archive or pack file cannot be written to the server's disk, or read from the disk.
    #[error("the function's files cannot be written to or read from the disk")]
    Disk {
        /// The system's error.
        source: std::io::Error,
    },
    /// A pack file cannot be stored or read.
    #[error(transparent)]
    Objects(#[from] headwater_objects::Error),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] headwater_store::Error),
}

impl Error {
    pub(crate) fn invalid(message: impl Into<String>, hint: impl Into<String>) -> Self {
        Error::Invalid { message: message.into(), hint: hint.into() }
    }

    pub(crate) fn exists(what: impl Into<String>, hint: impl Into<String>) -> Self {
        Error::Exists { what: what.into(), hint: hint.into() }
    }

    pub(crate) fn archive(reason: impl Into<String>, hint: &'static str) -> Self {
        Error::Archive { reason: reason.into(), hint }
    }

    pub(crate) fn disk(source: std::io::Error) -> Self {
        Error::Disk { source }
    }

    pub(crate) fn corrupt(name: &str) -> Self {
        Error::Corrupt { name: name.to_owned() }
    }
}

impl ToProblem for Error {
    fn code(&self) -> ErrorCode {
        match self {
            Error::NotFound { .. }
            | Error::NoVersion { .. }
            | Error::NoSetting { .. }
            | Error::NoLayer { .. } => ErrorCode::FunctionNotFound,
            Error::Exists { .. } => ErrorCode::AlreadyExists,
            Error::VersionInUse { .. } => ErrorCode::NotEmpty,
            Error::WrongRevision { .. } => ErrorCode::PreconditionFailed,
            Error::Conflict { .. } => ErrorCode::CommitConflict,
            Error::Archive { .. } | Error::Invalid { .. } => ErrorCode::InvalidArgument,
            Error::Corrupt { .. } => ErrorCode::Corrupt,
            Error::Disk { source } if source.kind() == std::io::ErrorKind::StorageFull => {
                ErrorCode::DiskFull
            }
            Error::Disk { .. } => ErrorCode::Storage,
            Error::Objects(error) => error.code(),
            Error::Store(error) => error.code(),
        }
    }

    fn hint(&self) -> Option<String> {
        match self {
            Error::NotFound { .. } => {
                let hint = "List the functions with `headwater function ls`; functions of a \
                            project have no versions of their own";
                Some(hint.to_owned())
            }
            Error::NoVersion { name, .. } => {
                Some(format!("List the versions with `headwater function versions {name}`"))
            }
            Error::NoLayer { .. } => {
                Some("List the versions of layers with `headwater function layer ls`".to_owned())
            }
            Error::NoSetting { .. } => {
                Some("Check the version or alias, or create the setting first".to_owned())
            }
            Error::Exists { hint, .. } | Error::Invalid { hint, .. } => Some(hint.clone()),
            Error::VersionInUse { .. } => Some("Delete the alias first".to_owned()),
            Error::WrongRevision { .. } | Error::Conflict { .. } => {
                Some("Read the function again and repeat the request".to_owned())
            }
            Error::Archive { hint, .. } => Some((*hint).to_owned()),
            Error::Corrupt { .. } => Some("Deploy the function again".to_owned()),
            Error::Disk { .. } => Some("Check the free space of the lake's folder".to_owned()),
            Error::Objects(error) => error.hint(),
            Error::Store(error) => error.hint(),
        }
    }
}
