//! Asking for a merge, and what came of it.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::{Commit, CommitId, TableName};

/// Asks to merge a ref into a branch.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct MergeRequest {
    /// What to merge: a branch, tag or commit.
    #[schema(value_type = String)]
    pub source: crate::RefSpec,
    /// The message of the merge commit; one is made where none is given.
    #[serde(default)]
    pub message: Option<String>,
    /// Say what would happen and change nothing.
    #[serde(default)]
    pub dry_run: bool,
    /// Merge the branch of a failed run all the same.
    #[serde(default)]
    pub unchecked: bool,
}

/// How a merge ended.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct MergeReport {
    /// What happened to the target.
    pub outcome: MergeOutcome,
    /// The target's head afterwards.
    #[schema(value_type = String)]
    pub commit: CommitId,
    /// The nearest commit that both sides come from.
    #[schema(value_type = Option<String>)]
    pub base: Option<CommitId>,
    /// The tables that the target took over.
    #[schema(value_type = Vec<String>)]
    pub tables: Vec<TableName>,
    /// The conflicts, where there are any; then nothing was changed.
    #[serde(default)]
    pub conflicts: Vec<MergeConflict>,
}

/// What a merge did to its target.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum MergeOutcome {
    /// The target had everything already.
    UpToDate,
    /// The target had not moved: it now stands at the source.
    FastForward,
    /// A commit with two parents.
    Merged,
    /// Nothing: both sides changed the same tables.
    Conflict,
}

/// A table that both sides changed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct MergeConflict {
    /// The table.
    #[schema(value_type = String)]
    pub table: TableName,
    /// The commit of the target that last changed it, since the base.
    pub target: Option<Commit>,
    /// What the target did, in words: `appended`, `replaced`, `created`, `dropped`, `changed`.
    pub target_change: String,
    /// The commit of the source that last changed it, since the base.
    pub source: Option<Commit>,
    /// What the source did.
    pub source_change: String,
}
