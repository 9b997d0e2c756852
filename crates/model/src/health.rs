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
    /// Its process id.
    pub pid: u32,
    /// The folder of its lake.
    pub lake: String,
    /// Jobs under way.
    pub jobs_running: u64,
}
