//! What a server says of itself.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// The answer of `GET /health`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Health {
    /// `ok`, or `stopping` while the server lets its last jobs end.
    pub status: String,
    /// The server's version.
    pub version: String,
    /// Its process id; only for who shows the token, as all below.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pid: Option<u32>,
    /// The folder of its lake.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lake: Option<String>,
    /// Jobs under way.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub jobs_running: Option<u64>,
}
