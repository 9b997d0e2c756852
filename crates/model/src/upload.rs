//! Uploads: files that a client sends, for an import or a function.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::Timestamp;

/// A file that was sent to the server.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Upload {
    /// Absolute path on the server's machine, for use as an import source.
    pub path: String,
    /// Length in bytes.
    pub bytes: u64,
    /// The time after which the file can be deleted.
    #[schema(value_type = String, format = DateTime)]
    pub expires: Timestamp,
}
