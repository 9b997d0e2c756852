//! Secrets: named values that functions read as environment variables.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::Timestamp;

/// A secret, without its value.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Secret {
    /// Name of the secret and of the environment variable.
    pub name: String,
    /// Number of times the secret has been set since it was created.
    pub version: u64,
    /// Time at which the secret was created.
    #[schema(value_type = String, format = DateTime)]
    pub created: Timestamp,
    /// Time at which the secret was last set.
    #[schema(value_type = String, format = DateTime)]
    pub updated: Timestamp,
    /// Author of the last version.
    pub author: String,
}

/// A request that sets a secret.
#[derive(Clone, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SetSecret {
    /// The value: 1 byte to 64 KiB of text without NUL. No response returns it.
    pub value: String,
}

impl std::fmt::Debug for SetSecret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SetSecret").finish_non_exhaustive()
    }
}
