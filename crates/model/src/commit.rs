//! A commit of the catalog: one state of every table, and how it came about.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::{CommitId, Timestamp};

/// Property: the job that made the commit.
pub const PROPERTY_JOB: &str = "headwater.job";

/// Property: the trigger event that caused the commit; at most one commit carries a given id.
pub const PROPERTY_EVENT: &str = "headwater.event";

/// Property: the commit whose change this one makes again.
pub const PROPERTY_PICKED: &str = "headwater.picked";

/// Property: the commit that this one undoes.
pub const PROPERTY_REVERTED: &str = "headwater.reverted";

/// A commit, as it is listed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Commit {
    /// SHA-256 of the commit's content.
    #[schema(value_type = String)]
    pub id: CommitId,
    /// None for the first commit, one for most, two for a merge: the target's head, then the source's.
    #[schema(value_type = Vec<String>)]
    pub parents: Vec<CommitId>,
    /// Who made it.
    pub author: String,
    /// The first line is the subject.
    pub message: String,
    /// When it was made.
    #[schema(value_type = String, format = DateTime)]
    pub time: Timestamp,
    /// Anything else, such as the job's id.
    #[serde(default)]
    pub properties: BTreeMap<String, String>,
}
