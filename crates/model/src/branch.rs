//! Branches and tags.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::{CommitId, Timestamp};

/// The name prefix of the branches of open transactions. Lists omit these branches.
pub const TRANSACTION_BRANCHES: &str = "_transaction/";

/// A branch.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Branch {
    /// The branch's name.
    pub name: String,
    /// The commit at the head of the branch.
    #[schema(value_type = String)]
    pub commit: CommitId,
    /// True if the branch is protected: it rejects direct writes, and only merges change it.
    #[serde(default)]
    pub protected: bool,
    /// The project whose expectations must have passed before a merge into the branch.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub requires: Option<String>,
    /// The failed run that wrote this branch, or that wrote the branch from which this branch was
    /// created. A branch with such a run cannot be merged without checks.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub quarantine: Option<String>,
    /// The time at which the branch was created.
    #[schema(value_type = String, format = DateTime)]
    pub created: Timestamp,
}

impl Branch {
    /// Returns the branches that do not belong to open transactions.
    pub fn visible(mut branches: Vec<Branch>) -> Vec<Branch> {
        branches.retain(|branch| !branch.name.starts_with(TRANSACTION_BRANCHES));
        branches
    }
}

/// A tag: a name for one commit.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Tag {
    /// The tag's name.
    pub name: String,
    /// The commit that the tag names.
    #[schema(value_type = String)]
    pub commit: CommitId,
    /// The time at which the tag was created.
    #[schema(value_type = String, format = DateTime)]
    pub created: Timestamp,
}

/// Request for a new branch or tag.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct CreateRef {
    /// The new name.
    pub name: String,
    /// The ref at which the branch or tag starts; `main` by default.
    #[serde(default)]
    #[schema(value_type = Option<String>)]
    pub from: Option<crate::RefSpec>,
    /// Succeed without a change if the name exists.
    #[serde(default)]
    pub if_not_exists: bool,
}

/// Request to update a branch or tag.
#[derive(Debug, Clone, Default, Serialize, Deserialize, ToSchema)]
pub struct UpdateRef {
    /// The new name.
    #[serde(default)]
    pub name: Option<String>,
    /// Branches only: true to reject direct writes.
    #[serde(default)]
    pub protected: Option<bool>,
    /// Branches only: the project whose expectations must have passed before a merge. Setting a
    /// project also protects the branch; removing the protection removes the requirement.
    #[serde(default)]
    pub requires: Option<String>,
}
