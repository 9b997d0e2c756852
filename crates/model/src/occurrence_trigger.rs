//! Trigger sources: merges into branches and ends of jobs. Also the records of these occurrences,
//! which other components write for the triggers.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::{CommitId, EventData, JobId, JobKind, JobStatus, Problem, Timestamp, Usage};

/// Name of the journal of merges. The catalog adds a record of each merge, as long as a trigger
/// watches merges.
pub const MERGE_JOURNAL: &str = "branch_merges";

/// Name of the journal of job ends. A record of each job's end is added, as long as a trigger
/// watches ends of jobs.
pub const JOB_END_JOURNAL: &str = "job_ends";

/// Fires when a branch or tag is merged into a branch.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct MergesTrigger {
    /// Names of target branches, and patterns such as `release/*`; the trigger's `branch` by
    /// default.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub into: Vec<String>,
}

/// Fires when a job ends.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct JobsTrigger {
    /// The kinds of job.
    pub kinds: Vec<JobKind>,
    /// The final statuses; all by default.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub statuses: Vec<JobStatus>,
    /// Names of projects, functions, tables and triggers, and patterns such as `sales_*`; all by
    /// default. See `name` and `trigger` of `EndedJob`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub names: Vec<String>,
}

impl JobsTrigger {
    /// Returns true if the trigger watches jobs of this kind that end with this status. Does not
    /// compare the job's name.
    pub fn selects(&self, kind: JobKind, status: JobStatus) -> bool {
        self.kinds.contains(&kind) && (self.statuses.is_empty() || self.statuses.contains(&status))
    }
}

impl fmt::Display for JobsTrigger {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kinds: Vec<&str> = self.kinds.iter().map(|kind| kind.as_str()).collect();
        write!(f, "ends of jobs: {}", kinds.join(", "))?;
        if !self.names.is_empty() {
            write!(f, " of {}", self.names.join(", "))?;
        }
        Ok(())
    }
}

/// A merge of a ref into a branch, as the catalog records it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct BranchMerge {
    /// The target branch.
    pub branch: String,
    /// The merged branch or tag.
    pub source: String,
    /// The target's commit before the merge.
    pub before: CommitId,
    /// The target's commit after the merge.
    pub commit: CommitId,
    /// The merged commit.
    pub source_commit: CommitId,
    /// The tables and views that the merge changed, qualified by their namespaces.
    pub tables: Vec<String>,
    /// The author of the merge.
    pub author: String,
    /// The properties of the merge commit, for example the job that merged.
    pub properties: BTreeMap<String, String>,
    /// The time of the merge.
    pub time: Timestamp,
}

impl From<BranchMerge> for EventData {
    fn from(merge: BranchMerge) -> Self {
        let BranchMerge { branch, source, before, commit, source_commit, tables, author, .. } =
            merge;
        EventData::BranchMerged { branch, source, before, commit, source_commit, tables, author }
    }
}

/// A job that has ended.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct EndedJob {
    /// The job's id.
    #[schema(value_type = String)]
    pub id: JobId,
    /// The kind of the job's work.
    pub kind: JobKind,
    /// The final status.
    pub status: JobStatus,
    /// The project of a run, the function of a call, or the table of an import.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// The trigger whose event the job delivered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trigger: Option<String>,
    /// The job's one-line description.
    pub summary: String,
    /// The author of the request.
    pub author: String,
    /// The ref that the job read or wrote.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reference: Option<String>,
    /// The event that caused the job.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub event: Option<String>,
    /// The time at which the job was recorded.
    #[schema(value_type = String, format = DateTime)]
    pub created: Timestamp,
    /// The time at which the job started.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = DateTime)]
    pub started: Option<Timestamp>,
    /// The time at which the job ended.
    #[schema(value_type = String, format = DateTime)]
    pub ended: Timestamp,
    /// The resources that the job used.
    pub usage: Usage,
    /// The cost of the usage.
    pub cost: f64,
    /// The error, if the job did not succeed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<Problem>,
}
