//! Errors of secrets, with hints. No error contains a value or a key.

use std::path::PathBuf;

use headwater_model::{ErrorCode, ToProblem};

use crate::secret_store::VALUE_BYTES_MAX;

/// A result of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// An error of this crate.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The name cannot be used as an environment variable.
    #[error("`{name}` is not a valid secret name")]
    InvalidName {
        /// The name, cut to the maximum length.
        name: String,
    },
    /// The value is empty, too large, or has a NUL byte.
    #[error("the value of secret `{name}` {reason}")]
    InvalidValue {
        /// The secret.
        name: String,
        /// The reason, as a verb phrase.
        reason: &'static str,
    },
    /// The secret does not exist.
    #[error("secret `{name}` does not exist")]
    NotFound {
        /// The secret.
        name: String,
    },
    /// Another request changed the secret first.
    #[error("secret `{name}` was changed by another request")]
    Conflict {
        /// The secret.
        name: String,
    },
    /// The key file does not exist, although secrets are encrypted with its key.
    #[error("key file `{}` does not exist", path.display())]
    NoKey {
        /// The file.
        path: PathBuf,
    },
    /// Other users of the machine can access the key file.
    #[error("key file `{}` is accessible to other users (mode {mode:03o})", path.display())]
    ExposedKey {
        /// The file.
        path: PathBuf,
        /// The permission bits of the file.
        mode: u32,
    },
    /// The key file or the output of the key command is not a key.
    #[error("{origin} does not contain a valid key (32 bytes in Base64)")]
    InvalidKey {
        /// The file or the command.
        origin: String,
    },
    /// The key command failed.
    #[error("the key command `{command}` failed: {reason}")]
    KeyCommand {
        /// The command.
        command: String,
        /// The command's exit status, or the system's error.
        reason: String,
    },
    /// A file cannot be read or written.
    #[error("file `{}` cannot be {action}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// The failed operation: `read` or `written`.
        action: &'static str,
        /// The system's error.
        source: std::io::Error,
    },
    /// The value was encrypted with another key.
    #[error(
        "secret `{name}` was encrypted with key `{stored}`, but the current key is `{current}`"
    )]
    OtherKey {
        /// The secret.
        name: String,
        /// The id of the key that encrypted the value.
        stored: String,
        /// The id of the current key.
        current: String,
    },
    /// The stored record is damaged or belongs to another secret.
    #[error("secret `{name}` cannot be decrypted")]
    Corrupt {
        /// The secret.
        name: String,
    },
    /// The store failed.
    #[error(transparent)]
    Store(#[from] headwater_store::Error),
}

impl ToProblem for Error {
    fn code(&self) -> ErrorCode {
        match self {
            Error::InvalidName { .. } => ErrorCode::InvalidName,
            Error::InvalidValue { .. } => ErrorCode::InvalidArgument,
            Error::NotFound { .. } => ErrorCode::SecretNotFound,
            Error::Conflict { .. } => ErrorCode::CommitConflict,
            Error::NoKey { .. } => ErrorCode::FileNotFound,
            Error::ExposedKey { .. } => ErrorCode::Forbidden,
            Error::InvalidKey { .. } | Error::KeyCommand { .. } => ErrorCode::Unavailable,
            Error::File { .. } => ErrorCode::Storage,
            Error::OtherKey { .. } | Error::Corrupt { .. } => ErrorCode::Corrupt,
            Error::Store(error) => error.code(),
        }
    }

    fn hint(&self) -> Option<String> {
        match self {
            Error::InvalidName { .. } => {
                Some("Use letters, digits and `_`, not starting with a digit.".to_owned())
            }
            Error::InvalidValue { .. } => {
                Some(format!("Pass 1 to {VALUE_BYTES_MAX} bytes of text on standard input."))
            }
            Error::NotFound { name } => Some(format!(
                "Run `headwater secret set {name}`, or correct the name of the secret."
            )),
            Error::Conflict { name } => Some(format!("Run `headwater secret set {name}` again.")),
            Error::NoKey { .. } => Some(
                "Restore the file from a backup. Without a backup, remove each secret with \
                 `headwater secret rm NAME` and set it again."
                    .to_owned(),
            ),
            Error::ExposedKey { path, .. } => Some(format!("Run `chmod 600 {}`.", path.display())),
            Error::InvalidKey { .. } => {
                Some("Create a key with `head -c 32 /dev/urandom | base64`.".to_owned())
            }
            Error::KeyCommand { .. } => Some(
                "Test the command in a shell: it must print the key and exit with status 0."
                    .to_owned(),
            ),
            Error::OtherKey { name, .. } | Error::Corrupt { name } => Some(format!(
                "Restore the key that encrypted the secret, or run `headwater secret set {name}` \
                 again."
            )),
            Error::File { .. } => None,
            Error::Store(error) => error.hint(),
        }
    }
}
