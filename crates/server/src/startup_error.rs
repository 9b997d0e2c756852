//! Errors at the start and shutdown of a server. Errors of requests are
//! [`headwater_model::Problem`]s.

use std::path::PathBuf;

use headwater_model::{ErrorCode, Problem, ToProblem};

use crate::ServerRecord;

/// A result of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// An error of a server's start or shutdown.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Another server has locked the lake.
    #[error(
        "the lake `{}` is in use by another server{}",
        lake.display(),
        describe(info.as_deref())
    )]
    LakeHeld {
        /// The lake's folder.
        lake: PathBuf,
        /// The description of the other server, if that server has published one.
        info: Option<Box<ServerRecord>>,
    },
    /// The service failed to start.
    #[error(transparent)]
    Service(#[from] headwater_service::Error),
    /// A file or folder of the lake cannot be used.
    #[error("cannot read or write `{}`", path.display())]
    Folder {
        /// The file or folder.
        path: PathBuf,
        /// The cause.
        source: std::io::Error,
    },
    /// The server cannot listen on an address.
    #[error("cannot listen on `{address}`")]
    Listen {
        /// The address or socket.
        address: String,
        /// The cause.
        source: std::io::Error,
    },
    /// Other machines can reach the address, but the listener has no TLS.
    #[error("`{address}` is not a loopback address, so HTTP must be encrypted")]
    NoTls {
        /// The address.
        address: std::net::SocketAddr,
    },
    /// Other machines can reach the address of the PostgreSQL listener, but the listener has no
    /// TLS.
    #[error("`{address}` is not a loopback address, so PostgreSQL must be encrypted")]
    NoPostgresTls {
        /// The address.
        address: std::net::SocketAddr,
    },
    /// Other machines can reach the address, but requests need no authentication.
    #[error("`{address}` is not a loopback address, so requests must need a token")]
    NoAuth {
        /// The address.
        address: std::net::SocketAddr,
    },
    /// A certificate or its key is invalid.
    #[error("`{}` is not a usable certificate or key: {reason}", path.display())]
    Certificate {
        /// The file.
        path: PathBuf,
        /// The cause.
        reason: String,
    },
    /// TLS cannot be set up.
    #[error("TLS cannot be used: {reason}")]
    Tls {
        /// The cause.
        reason: String,
    },
}

/// Describes the server, such as ` (process 4711, version 0.1.0, socket /lake/server.sock)`.
fn describe(info: Option<&ServerRecord>) -> String {
    let Some(info) = info else { return String::new() };
    let mut text = format!(" (process {}, version {}", info.pid, info.version);
    if let Some(socket) = &info.socket {
        text.push_str(&format!(", socket {}", socket.display()));
    }
    if let Some(http) = &info.http {
        text.push_str(&format!(", http {http}"));
    }
    text + ")"
}

impl ToProblem for Error {
    fn code(&self) -> ErrorCode {
        match self {
            Error::LakeHeld { .. } | Error::Listen { .. } => ErrorCode::Unavailable,
            Error::Folder { .. } => ErrorCode::Storage,
            Error::NoTls { .. }
            | Error::NoPostgresTls { .. }
            | Error::NoAuth { .. }
            | Error::Certificate { .. } => ErrorCode::InvalidArgument,
            Error::Tls { .. } => ErrorCode::Internal,
            Error::Service(error) => error.code(),
        }
    }

    fn hint(&self) -> Option<String> {
        match self {
            Error::LakeHeld { .. } => Some("Stop the other server with `headwater stop`.".into()),
            Error::Listen { .. } => Some("Choose another port, or 0 for a free one.".into()),
            Error::NoTls { .. } => Some(
                "Use `--tls-certificate FILE --tls-key FILE` or `--tls-self-signed`; use \
                 `--behind-proxy` if a proxy terminates TLS; or listen on 127.0.0.1 or [::1]."
                    .into(),
            ),
            Error::NoPostgresTls { .. } => Some(
                "Use `--tls-certificate FILE --tls-key FILE` or `--tls-self-signed`, or listen on \
                 127.0.0.1 or [::1]; `--behind-proxy` is for HTTP only."
                    .into(),
            ),
            Error::NoAuth { .. } => {
                Some("Remove `--no-auth`, or listen on 127.0.0.1 or [::1].".into())
            }
            Error::Certificate { .. } => Some(
                "Use PEM files: the certificate followed by its intermediate certificates, and \
                 its private key without a password."
                    .into(),
            ),
            Error::Service(error) => error.hint(),
            Error::Folder { .. } | Error::Tls { .. } => None,
        }
    }

    fn to_problem(&self) -> Problem {
        if let Error::Service(error) = self {
            return error.to_problem();
        }
        let mut problem = Problem::new(self.code(), self.to_string());
        problem.hint = self.hint();
        if let Some(cause) = std::error::Error::source(self) {
            problem.causes.push(cause.to_string());
        }
        problem
    }
}
