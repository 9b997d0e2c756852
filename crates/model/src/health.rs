//! The health of a server.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// The response of `GET /health`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Health {
    /// `ok`, or `stopping` during the shutdown.
    pub status: String,
    /// The server's version.
    pub version: String,
    /// The server's process id. This field and the fields below are returned only with the token or
    /// over the Unix socket.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pid: Option<u32>,
    /// The lake's folder.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lake: Option<String>,
    /// Number of running jobs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub jobs_running: Option<u64>,
}
