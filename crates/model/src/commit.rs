//! A commit of the catalog: the state of all tables at one time, and the origin of this state.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::{CommitId, Timestamp};

/// Key of a commit's property: the id of the job that created the commit.
pub const PROPERTY_JOB: &str = "headwater.job";

/// Key of a commit's property: the id of the trigger event that caused the commit. At most one
/// commit contains a given event id.
pub const PROPERTY_EVENT: &str = "headwater.event";

/// Key of a commit's property: the id of the commit whose change this commit, a cherry-pick,
/// applied again.
pub const PROPERTY_PICKED: &str = "headwater.picked";

/// Key of a commit's property: the id of the commit that this commit reverted.
pub const PROPERTY_REVERTED: &str = "headwater.reverted";

/// A commit.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Commit {
    /// SHA-256 of the commit's content.
    #[schema(value_type = String)]
    pub id: CommitId,
    /// Parent commits: none for the first commit, one for most, two for a merge (the target's head,
    /// then the source's).
    #[schema(value_type = Vec<String>)]
    pub parents: Vec<CommitId>,
    /// The author of the commit.
    pub author: String,
    /// The message; its first line is the subject.
    pub message: String,
    /// The time of the commit.
    #[schema(value_type = String, format = DateTime)]
    pub time: Timestamp,
    /// Other properties, such as the job's id.
    #[serde(default)]
    pub properties: BTreeMap<String, String>,
}
