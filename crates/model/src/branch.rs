//! Branches and tags, as they are listed and asked for.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::{CommitId, Timestamp};

/// A branch.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Branch {
    /// Its name.
    pub name: String,
    /// The commit it stands at.
    #[schema(value_type = String)]
    pub commit: CommitId,
    /// Takes no direct writes; changes come by merge.
    #[serde(default)]
    pub protected: bool,
    /// The project whose expectations must have passed on what is merged into it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub requires: Option<String>,
    /// The failed run whose branch this is, or was made from: it cannot be merged unchecked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub quarantine: Option<String>,
    /// When the branch was made.
    #[schema(value_type = String, format = DateTime)]
    pub created: Timestamp,
}

/// A tag: a name for one commit.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Tag {
    /// Its name.
    pub name: String,
    /// The commit it names.
    #[schema(value_type = String)]
    pub commit: CommitId,
    /// When the tag was made.
    #[schema(value_type = String, format = DateTime)]
    pub created: Timestamp,
}

/// Asks for a new branch or a new tag.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct CreateRef {
    /// The new name.
    pub name: String,
    /// Where it begins; `main` where nothing is said.
    #[serde(default)]
    #[schema(value_type = Option<String>)]
    pub from: Option<crate::RefSpec>,
    /// Succeed where the name exists already, leaving it as it is.
    #[serde(default)]
    pub if_not_exists: bool,
}

/// Asks for a change to a branch or tag.
#[derive(Debug, Clone, Default, Serialize, Deserialize, ToSchema)]
pub struct UpdateRef {
    /// A new name.
    #[serde(default)]
    pub name: Option<String>,
    /// Branches only: whether direct writes are refused.
    #[serde(default)]
    pub protected: Option<bool>,
    /// Branches only: the project whose expectations must have passed on what is merged into it, which
    /// protects it too. Nothing is required any more when it is no longer protected.
    #[serde(default)]
    pub requires: Option<String>,
}
