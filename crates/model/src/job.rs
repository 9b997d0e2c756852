//! Jobs: everything that runs has one id, one life cycle and one stream of events.

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
    /// A new id.
    pub fn generate() -> Self {
        JobId(Uuid::now_v7())
    }

    /// The last twelve digits, for people: the first ones are only the time.
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

/// What a job does.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, ToSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum JobKind {
    /// One SQL statement.
    Query,
    /// Files into a table.
    Import,
    /// A project's models on a branch.
    Run,
    /// Delivery of an event to an import, a run, or one after the other.
    Trigger,
    /// Keeping tables small and clean.
    Maintenance,
    /// One call of a function, by a client or by a trigger.
    Function,
    /// A merge of a ref into a branch.
    Merge,
    /// A commit's change, applied to another branch.
    CherryPick,
    /// A commit's change, undone.
    Revert,
    /// A comparison of two refs or of two states of a table.
    Diff,
    /// A commit of an Iceberg REST client.
    Commit,
}

impl JobKind {
    /// Every kind.
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

    /// Returns true for short jobs whose caller waits for the answer. Their records are written in
    /// groups, and old ones are summed by day.
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

/// Where a job stands in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum JobStatus {
    /// Recorded, not begun.
    Queued,
    /// Under way.
    Running,
    /// Ended well.
    Succeeded,
    /// Ended with an error.
    Failed,
    /// Stopped by a person.
    Cancelled,
    /// The server ended while it ran.
    Interrupted,
}

impl JobStatus {
    /// Whether nothing more will happen.
    pub const fn is_final(self) -> bool {
        !matches!(self, JobStatus::Queued | JobStatus::Running)
    }
}

/// A job, as it is listed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Job {
    /// Its id.
    #[schema(value_type = String)]
    pub id: JobId,
    /// What it does.
    pub kind: JobKind,
    /// Where it stands.
    pub status: JobStatus,
    /// One line for people: the statement, the table and files, the project.
    pub summary: String,
    /// Who asked for it.
    pub author: String,
    /// The ref it works on.
    pub reference: Option<String>,
    /// The trigger event that caused it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub event: Option<String>,
    /// When it was recorded.
    #[schema(value_type = String, format = DateTime)]
    pub created: Timestamp,
    /// When it began.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub started: Option<Timestamp>,
    /// When it ended.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub ended: Option<Timestamp>,
    /// What it took.
    pub usage: Usage,
    /// What the usage costs by the rate card in force when it ended.
    #[serde(default)]
    pub cost: f64,
    /// Why it failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<Problem>,
    /// Why it has not begun, for a queued job; for one job alone, also what its function calls wait
    /// for.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub waits_for: Vec<String>,
    /// What it answered: `ImportReport`, `RunReport`, `MaintainReport`, or nothing.
    #[serde(default, skip_serializing_if = "serde_json::Value::is_null")]
    #[schema(value_type = Object)]
    pub result: serde_json::Value,
}

/// One entry of a job's event stream.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct JobEvent {
    /// Counts from 1 within the job.
    pub sequence: u64,
    /// When it happened.
    #[schema(value_type = String, format = DateTime)]
    pub time: Timestamp,
    /// Kind of the event, with its fields.
    #[serde(flatten)]
    pub event: JobEventKind,
}

/// Where a printed line came from.
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

/// How a model or expectation ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum StepStatus {
    /// It ran and succeeded.
    Succeeded,
    /// Nothing it depends on changed, so it was not run again.
    Unchanged,
    /// It ran and failed.
    Failed,
    /// An expectation failed, and its severity is `warn` or the run is not strict.
    Warned,
    /// Something it needs failed, or the run was stopped.
    Skipped,
}

/// Kind of a job event, with its fields; the set is closed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum JobEventKind {
    /// The job began.
    Started,
    /// How far a stage is.
    Progress {
        /// The stage: `infer schema`, `import`, `install packages`.
        stage: String,
        /// Units done.
        done: u64,
        /// Units in all, where known.
        total: Option<u64>,
        /// The unit: `files`, `rows`, `bytes`, `models`.
        unit: String,
    },
    /// A line printed by a function, or a remark by Headwater.
    Log {
        /// Where it came from.
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
        /// The text, without its line end.
        text: String,
    },
    /// The steps of a run are known.
    Planned {
        /// The steps, parents before children.
        steps: Vec<crate::PlannedStep>,
    },
    /// A model or expectation began.
    StepStarted {
        /// Its name.
        step: String,
    },
    /// A model or expectation ended.
    StepEnded {
        /// What it took and how it ended.
        #[serde(flatten)]
        report: Box<crate::StepReport>,
    },
    /// The job ended; nothing follows.
    Ended {
        /// How.
        status: JobStatus,
        /// Why, where it did not succeed.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        error: Option<Problem>,
    },
}
