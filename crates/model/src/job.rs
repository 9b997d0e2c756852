//! Jobs: one id, one life cycle and one event stream for everything that runs.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use uuid::Uuid;

use crate::{Problem, Timestamp, Usage};

/// A job's id: a UUID of version 7, so that ids sort by time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct JobId(pub Uuid);

impl JobId {
    /// Creates a new id.
    pub fn generate() -> Self {
        JobId(Uuid::now_v7())
    }

    /// Returns the last twelve digits for display; the first ones are only the time.
    pub fn short(&self) -> String {
        self.0.simple().to_string()[20..].to_owned()
    }
}

impl fmt::Display for JobId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl FromStr for JobId {
    type Err = uuid::Error;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Uuid::parse_str(text).map(JobId)
    }
}

/// The kind of a job.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, ToSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum JobKind {
    /// One SQL statement.
    Query,
    /// An import of files into a table.
    Import,
    /// A run of a project's models on a branch.
    Run,
    /// Delivery of an event to an import, a run or both in order.
    Trigger,
    /// Maintenance of tables: compaction, expiry, removal of unreferenced files.
    Maintenance,
    /// A call of a function, by a client or a trigger.
    Function,
    /// A merge of a ref into a branch.
    Merge,
    /// The cherry-pick of a commit to a branch.
    CherryPick,
    /// The revert of a commit.
    Revert,
    /// A comparison of two refs, or of two states of a table.
    Diff,
    /// A commit of an Iceberg REST client.
    Commit,
}

impl JobKind {
    /// All kinds.
    pub const ALL: [JobKind; 11] = [
        JobKind::Query,
        JobKind::Import,
        JobKind::Run,
        JobKind::Trigger,
        JobKind::Maintenance,
        JobKind::Function,
        JobKind::Merge,
        JobKind::CherryPick,
        JobKind::Revert,
        JobKind::Diff,
        JobKind::Commit,
    ];

    /// Returns true for short jobs whose caller waits for the result. Their records are written in
    /// groups, and old ones are aggregated by day.
    pub const fn is_brief(self) -> bool {
        !matches!(self, JobKind::Import | JobKind::Run | JobKind::Trigger | JobKind::Maintenance)
    }

    /// Returns the name in the API.
    pub const fn as_str(self) -> &'static str {
        match self {
            JobKind::Query => "query",
            JobKind::Import => "import",
            JobKind::Run => "run",
            JobKind::Trigger => "trigger",
            JobKind::Maintenance => "maintenance",
            JobKind::Function => "function",
            JobKind::Merge => "merge",
            JobKind::CherryPick => "cherry_pick",
            JobKind::Revert => "revert",
            JobKind::Diff => "diff",
            JobKind::Commit => "commit",
        }
    }
}

/// The status of a job.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum JobStatus {
    /// Recorded, not started.
    Queued,
    /// Running.
    Running,
    /// Ended successfully.
    Succeeded,
    /// Ended with an error.
    Failed,
    /// Cancelled by a user.
    Cancelled,
    /// Interrupted by the end of the server.
    Interrupted,
}

impl JobStatus {
    /// Returns true if the status is final.
    pub const fn is_final(self) -> bool {
        !matches!(self, JobStatus::Queued | JobStatus::Running)
    }
}

/// A job.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Job {
    /// The id.
    #[schema(value_type = String)]
    pub id: JobId,
    /// The kind.
    pub kind: JobKind,
    /// The status.
    pub status: JobStatus,
    /// A one-line summary: the statement, the table and files, or the project.
    pub summary: String,
    /// The author.
    pub author: String,
    /// The ref that the job reads or changes.
    pub reference: Option<String>,
    /// The id of the event that caused it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub event: Option<String>,
    /// The time it was recorded.
    #[schema(value_type = String, format = DateTime)]
    pub created: Timestamp,
    /// The time it started.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub started: Option<Timestamp>,
    /// The time it ended.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub ended: Option<Timestamp>,
    /// The resource usage.
    pub usage: Usage,
    /// The cost of the usage, by the rate card at the job's end.
    #[serde(default)]
    pub cost: f64,
    /// The error, if it failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<Problem>,
    /// The reasons why a queued job has not started. For a single job, also those of its queued
    /// function calls.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub waits_for: Vec<String>,
    /// The result: `ImportReport`, `RunReport`, `MaintainReport`, or nothing.
    #[serde(default, skip_serializing_if = "serde_json::Value::is_null")]
    #[schema(value_type = Object)]
    pub result: serde_json::Value,
}

/// An event of a job.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct JobEvent {
    /// The sequence number within the job, from 1.
    pub sequence: u64,
    /// The time.
    #[schema(value_type = String, format = DateTime)]
    pub time: Timestamp,
    /// Kind of the event, with its fields.
    #[serde(flatten)]
    pub event: JobEventKind,
}

/// The source of a log line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum LogStream {
    /// Standard output of a function.
    Stdout,
    /// Standard error of a function.
    Stderr,
    /// Headwater itself.
    System,
}

/// The outcome of a model or expectation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum StepStatus {
    /// It succeeded.
    Succeeded,
    /// It was up to date and did not run.
    Unchanged,
    /// It failed.
    Failed,
    /// An expectation returned false in a run that is not strict.
    Warned,
    /// It was skipped, because a step that it needs failed or the run was cancelled.
    Skipped,
}

/// Kind of a job event, with its fields; the set is closed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum JobEventKind {
    /// The job started.
    Started,
    /// The progress of a stage.
    Progress {
        /// The stage: `infer schema`, `import`, `install packages`.
        stage: String,
        /// Units done.
        done: u64,
        /// The total number of units, if known.
        total: Option<u64>,
        /// The unit: `files`, `rows`, `bytes`, `models`.
        unit: String,
    },
    /// A line printed by a function, or a remark by Headwater.
    Log {
        /// The source of the line.
        stream: LogStream,
        /// The model that printed it.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        model: Option<String>,
        /// The user's file that printed it.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        file: Option<String>,
        /// The line in that file.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        line: Option<u32>,
        /// The text without its line end.
        text: String,
    },
    /// The steps of a run are known.
    Planned {
        /// The steps, parents before children.
        steps: Vec<crate::PlannedStep>,
    },
    /// A model or expectation began.
    StepStarted {
        /// The name.
        step: String,
    },
    /// A model or expectation ended.
    StepEnded {
        /// The outcome and usage.
        #[serde(flatten)]
        report: Box<crate::StepReport>,
    },
    /// The job ended; nothing follows.
    Ended {
        /// The final status.
        status: JobStatus,
        /// The error, if it did not succeed.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        error: Option<Problem>,
    },
}
