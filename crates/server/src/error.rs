//! What can go wrong while a server starts or ends. What goes wrong in a request is a
//! [`headwater_model::Problem`] of the room it went wrong in.

use std::path::PathBuf;

use headwater_model::{ErrorCode, Fault, Problem};

use crate::ServerInfo;

/// A result of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What can go wrong while a server starts or ends.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Another server holds the lake.
    #[error("the lake `{}` is held by another server{}", lake.display(), describe(info.as_deref()))]
    LakeHeld {
        /// The lake's folder.
        lake: PathBuf,
        /// What the holder says of itself, where it has said so yet.
        info: Option<Box<ServerInfo>>,
    },
    /// The service failed to start.
    #[error(transparent)]
    Service(#[from] headwater_service::Error),
    /// A file or folder of the lake cannot be used.
    #[error("`{}` cannot be used", path.display())]
    Folder {
        /// The file or folder.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// An address cannot be listened on.
    #[error("`{address}` cannot be listened on")]
    Listen {
        /// The address or socket.
        address: String,
        /// Why.
        source: std::io::Error,
    },
    /// The address is reachable from other machines, and nothing yet checks who asks.
    #[error("`{address}` is not a loopback address")]
    NotLoopback {
        /// The address.
        address: std::net::SocketAddr,
    },
}

/// ` (process 4711, version 0.1.0, socket /lake/server.sock)`, as far as it is known.
fn describe(info: Option<&ServerInfo>) -> String {
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

impl Fault for Error {
    fn code(&self) -> ErrorCode {
        match self {
            Error::LakeHeld { .. } | Error::Listen { .. } => ErrorCode::Unavailable,
            Error::Folder { .. } => ErrorCode::Storage,
            Error::NotLoopback { .. } => ErrorCode::InvalidArgument,
            Error::Service(error) => error.code(),
        }
    }

    fn hint(&self) -> Option<String> {
        match self {
            Error::LakeHeld { .. } => Some("End it with `headwater stop`.".into()),
            Error::Listen { .. } => Some("Choose another port, or 0 to have one picked.".into()),
            Error::NotLoopback { .. } => Some("Listen on 127.0.0.1 or [::1].".into()),
            Error::Service(error) => error.hint(),
            Error::Folder { .. } => None,
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
