//! Jobs: all work runs as a job with an id, a status and a stream of events.

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
    /// Returns a new id.
    pub fn generate() -> Self {
        JobId(Uuid::now_v7())
    }

    /// Returns the last twelve digits, for display; the first digits encode only the time.
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

/// The kind of a job's work.
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
    /// Delivery of an event to its targets, in order.
    Trigger,
    /// Maintenance of tables.
    Maintenance,
    /// One call of a function, by a client or by a trigger.
    Function,
    /// A merge of a ref into a branch.
    Merge,
    /// A cherry-pick of a commit's change onto another branch.
    CherryPick,
    /// A revert of a commit's change.
    Revert,
    /// A comparison of two refs or of two states of a table.
    Diff,
    /// A commit of an Iceberg REST client.
    Commit,
    /// All requests of one SQS client to a queue within one minute.
    Queue,
    /// One run of a project for each value of a parameter.
    Backfill,
}

impl JobKind {
    /// All kinds.
    pub const ALL: [JobKind; 13] = [
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
        JobKind::Queue,
        JobKind::Backfill,
    ];

    /// Returns true for kinds whose jobs are usually short, and whose caller waits for the result.
    /// The records of these jobs are written in groups, and old records are aggregated by day.
    pub const fn is_short(self) -> bool {
        !matches!(
            self,
            JobKind::Import
                | JobKind::Run
                | JobKind::Trigger
                | JobKind::Maintenance
                | JobKind::Backfill
        )
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
            JobKind::Queue => "queue",
            JobKind::Backfill => "backfill",
        }
    }
}

/// The status of a job.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum JobStatus {
    /// The job is recorded, but has not started.
    Queued,
    /// The job is running.
    Running,
    /// The job ended without an error.
    Succeeded,
    /// The job ended with an error.
    Failed,
    /// The job was stopped by request.
    Cancelled,
    /// The server stopped while the job was running.
    Interrupted,
}

impl JobStatus {
    /// The statuses that cannot change.
    pub const FINAL: [JobStatus; 4] =
        [JobStatus::Succeeded, JobStatus::Failed, JobStatus::Cancelled, JobStatus::Interrupted];

    /// Returns the name in the API.
    pub const fn as_str(self) -> &'static str {
        match self {
            JobStatus::Queued => "queued",
            JobStatus::Running => "running",
            JobStatus::Succeeded => "succeeded",
            JobStatus::Failed => "failed",
            JobStatus::Cancelled => "cancelled",
            JobStatus::Interrupted => "interrupted",
        }
    }

    /// Returns true if the status cannot change.
    pub const fn is_final(self) -> bool {
        !matches!(self, JobStatus::Queued | JobStatus::Running)
    }
}

/// A job.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Job {
    /// The job's id.
    #[schema(value_type = String)]
    pub id: JobId,
    /// The kind of the job's work.
    pub kind: JobKind,
    /// The job's status.
    pub status: JobStatus,
    /// A one-line description: the statement, the table and its files, or the project.
    pub summary: String,
    /// The author of the request.
    pub author: String,
    /// The ref that the job reads or writes.
    pub reference: Option<String>,
    /// The trigger event that caused the job.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub event: Option<String>,
    /// The time at which the job was recorded.
    #[schema(value_type = String, format = DateTime)]
    pub created: Timestamp,
    /// The time at which the job started.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub started: Option<Timestamp>,
    /// The time at which the job ended.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub ended: Option<Timestamp>,
    /// The resources that the job used.
    pub usage: Usage,
    /// The cost of the usage, by the rate card at the time the job ended.
    #[serde(default)]
    pub cost: f64,
    /// The error of a failed job.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<Problem>,
    /// The reasons why a queued job has not started. A response with only this job also contains
    /// the reasons why the job's function calls are waiting.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub waits_for: Vec<String>,
    /// The result, such as an `ImportReport`, `RunReport` or `MaintainReport`; null if there is
    /// none.
    #[serde(default, skip_serializing_if = "serde_json::Value::is_null")]
    #[schema(value_type = Object)]
    pub result: serde_json::Value,
}

/// One entry of a job's event stream.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct JobEvent {
    /// The sequence number, from 1 within the job.
    pub sequence: u64,
    /// The time of the event.
    #[schema(value_type = String, format = DateTime)]
    pub time: Timestamp,
    /// Kind of the event, with its fields.
    #[serde(flatten)]
    pub event: JobEventKind,
}

/// The origin of a printed line.
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

/// The status of a model or expectation after a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum StepStatus {
    /// The step ran and succeeded.
    Succeeded,
    /// The step did not run, because its result is up to date.
    Unchanged,
    /// The model did not run, because an earlier run computed its table from the same code,
    /// packages, parameters and inputs.
    Reused,
    /// The step ran and failed.
    Failed,
    /// An expectation failed, but its severity is `warn` or the run is not strict.
    Warned,
    /// The step did not run, because a step on which it depends failed or the run was stopped.
    Skipped,
}

/// The kind of a job event, with its fields.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum JobEventKind {
    /// The job started.
    Started,
    /// Progress of a stage.
    Progress {
        /// The stage: `infer schema`, `import`, `install packages`.
        stage: String,
        /// Number of units done.
        done: u64,
        /// Total number of units, if known.
        total: Option<u64>,
        /// The unit: `files`, `rows`, `bytes`, `models`.
        unit: String,
    },
    /// A line printed by a function, or a message of Headwater.
    Log {
        /// The origin of the line.
        stream: LogStream,
        /// The model that printed the line.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        model: Option<String>,
        /// The user's file that printed the line.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        file: Option<String>,
        /// The number of the line in that file.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        line: Option<u32>,
        /// The text, without its line end.
        text: String,
    },
    /// The steps of a run were planned.
    Planned {
        /// The steps, parents before children.
        steps: Vec<crate::PlannedStep>,
    },
    /// The packages of an environment that the run uses. An exact rerun installs them again.
    Environment {
        /// The environment's declaration and packages.
        #[serde(flatten)]
        environment: Box<crate::RunEnvironment>,
    },
    /// A model or expectation started.
    StepStarted {
        /// The name of the model or expectation.
        step: String,
    },
    /// A model or expectation ended.
    StepEnded {
        /// The result and usage of the model or expectation.
        #[serde(flatten)]
        report: Box<crate::StepReport>,
    },
    /// The run for one value of a backfill ended.
    ValueEnded {
        /// The outcome: `value`, `status`, `attempts`, `job`, `commit` and `error`.
        #[schema(value_type = Object)]
        report: serde_json::Value,
    },
    /// The job ended. This is the last event.
    Ended {
        /// The final status.
        status: JobStatus,
        /// The error, if the job did not succeed.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        error: Option<Problem>,
    },
}
