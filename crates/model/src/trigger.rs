//! Triggers and the deliveries of their events.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::{
    BucketTrigger, Event, JobId, JobsTrigger, KafkaTrigger, MAIN_BRANCH, MergesTrigger,
    NatsTrigger, PostgresTrigger, Problem, QueueTrigger, Timestamp, duration_text, schedule_text,
};

/// A trigger: `[[trigger]]` in `headwater.toml`, or an item of `on` in `@headwater.function`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Trigger {
    /// The trigger's name, unique in the project.
    pub name: String,
    /// Files that arrive in a folder; exactly one of `files`, `bucket`, `schedule`, `tables`,
    /// `merges`, `jobs`, `queue`, `postgres`, `nats` and `kafka` is given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub files: Option<FilesTrigger>,
    /// Objects that are created in a bucket of the lake or of another object store, or removed from
    /// a bucket of the lake.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bucket: Option<BucketTrigger>,
    /// Scheduled times. A string instead of an object is the value of `cron`.
    #[serde(
        default,
        deserialize_with = "schedule_text::deserialize",
        skip_serializing_if = "Option::is_none"
    )]
    pub schedule: Option<ScheduleTrigger>,
    /// Changes of tables on the branch, by any client.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tables: Option<TablesTrigger>,
    /// Merges of branches and tags into branches.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub merges: Option<MergesTrigger>,
    /// Ends of jobs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub jobs: Option<JobsTrigger>,
    /// Messages of a queue of the lake.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub queue: Option<QueueTrigger>,
    /// Notifications or rows of a PostgreSQL database.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub postgres: Option<PostgresTrigger>,
    /// Messages of a NATS JetStream stream.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub nats: Option<NatsTrigger>,
    /// Records of a topic of Apache Kafka.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kafka: Option<KafkaTrigger>,
    /// The branch to watch, import into and run on; `main` by default.
    #[serde(default)]
    pub branch: Option<String>,
    /// A pattern in EventBridge's language. Only events that match it are recorded; by default, all
    /// events are recorded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Object>)]
    pub filter: Option<serde_json::Value>,
    /// Imports the files into this table; if `run` is also set, the import comes first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub import: Option<TriggerImport>,
    /// Runs the project.
    #[serde(default)]
    pub run: bool,
    /// Calls this function with the event as its only argument. Excludes `import` and `run`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub function: Option<String>,
    /// Parameters of the run. The placeholders `{file}`, `{files}`, `{bucket}`, `{key}`,
    /// `{tables}`, `{branch}`, `{source}`, `{commit}`, `{job}`, `{status}`, `{payload}`,
    /// `{payload.FIELD}`, `{payloads}`, `{time}`, `{date}` and `{event}` are replaced with values
    /// from the event.
    #[serde(default)]
    pub parameters: BTreeMap<String, String>,
    /// The number of retries before an event is marked as failed; 5 by default.
    #[serde(default = "retries_default")]
    pub retries: u32,
    /// Maximum age of an event, such as `6h`; `24h` by default. An older event is not retried and
    /// is marked as failed. Each event is attempted at least once.
    #[serde(default = "max_age_default", with = "duration_text")]
    #[schema(value_type = String)]
    pub max_age: Duration,
    /// For functions: the maximum number of events delivered concurrently, up to 1,000; 16 by
    /// default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub concurrency: Option<u32>,
    /// For functions: the path of a value in events, such as `subject`. Events with the same value
    /// are delivered one at a time, in order.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub order_by: Option<String>,
    /// For functions that receive several items in one event: the function returns
    /// `{"batchItemFailures": [{"itemIdentifier": ID}]}`, and only these items are delivered again.
    /// If the order is preserved, all items after the first failed item are delivered again, too.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub report_failures: bool,
    /// For functions that receive several items in one event: an event whose call fails is divided
    /// into halves, down to single items. A division does not count as an attempt.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub bisect: bool,
    /// The file and line of the declaration; not a key of `[[trigger]]`.
    #[serde(skip)]
    pub defined_at: String,
}

impl Default for Trigger {
    fn default() -> Self {
        Trigger {
            name: String::new(),
            files: None,
            bucket: None,
            schedule: None,
            tables: None,
            merges: None,
            jobs: None,
            queue: None,
            postgres: None,
            nats: None,
            kafka: None,
            branch: None,
            filter: None,
            import: None,
            run: false,
            function: None,
            parameters: BTreeMap::new(),
            retries: retries_default(),
            max_age: max_age_default(),
            concurrency: None,
            order_by: None,
            report_failures: false,
            bisect: false,
            defined_at: String::new(),
        }
    }
}

impl Trigger {
    /// Returns the targets of the trigger's events, in the order of their execution.
    pub fn targets(&self) -> Vec<TriggerTarget<'_>> {
        let import = self.import.as_ref().map(TriggerTarget::Import);
        let function = self.function.as_deref().map(TriggerTarget::Function);
        import.into_iter().chain(self.run.then_some(TriggerTarget::Run)).chain(function).collect()
    }

    /// Returns true if some of an event's items can be delivered again without the others.
    pub fn divides(&self) -> bool {
        self.report_failures || self.bisect
    }

    /// Returns the names of the secrets that the trigger's source uses.
    pub fn secrets(&self) -> Vec<&str> {
        let postgres = self.postgres.as_ref().and_then(|postgres| postgres.secret.as_deref());
        let nats = self.nats.as_ref().and_then(|nats| nats.secret.as_deref());
        let kafka = self.kafka.iter().flat_map(|kafka| [&kafka.secret, &kafka.ca]);
        let kafka = kafka.filter_map(|secret| secret.as_deref());
        postgres.into_iter().chain(nats).chain(kafka).collect()
    }

    /// Returns the names and patterns of the branches into which a merge fires the trigger; empty
    /// for other sources.
    pub fn merge_targets(&self) -> Vec<&str> {
        let Some(merges) = &self.merges else { return Vec::new() };
        if merges.into.is_empty() {
            return vec![self.branch.as_deref().unwrap_or(MAIN_BRANCH)];
        }
        merges.into.iter().map(String::as_str).collect()
    }

    /// Returns a short description of the trigger's source.
    pub fn source(&self) -> String {
        if let Some(files) = &self.files {
            return format!(
                "files in {}/{}",
                files.folder,
                files.pattern.as_deref().unwrap_or("*")
            );
        }
        if let Some(bucket) = &self.bucket {
            return bucket.to_string();
        }
        if let Some(schedule) = &self.schedule {
            return format!("{} {}", schedule.cron, schedule.timezone.as_deref().unwrap_or("UTC"));
        }
        if self.merges.is_some() {
            return format!("merges into {}", self.merge_targets().join(", "));
        }
        if let Some(jobs) = &self.jobs {
            return jobs.to_string();
        }
        if let Some(queue) = &self.queue {
            return queue.to_string();
        }
        if let Some(postgres) = &self.postgres {
            return postgres.to_string();
        }
        if let Some(nats) = &self.nats {
            return nats.to_string();
        }
        if let Some(kafka) = &self.kafka {
            return kafka.to_string();
        }
        let changes = |tables: &TablesTrigger| format!("changes of {}", tables.names.join(", "));
        self.tables.as_ref().map(changes).unwrap_or_default()
    }
}

/// A target of a trigger's events.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum TriggerTarget<'a> {
    /// An import into a table.
    Import(&'a TriggerImport),
    /// A run of the project.
    Run,
    /// A call of a function.
    Function(&'a str),
}

impl fmt::Display for TriggerTarget<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            TriggerTarget::Import(import) => write!(f, "import {}", import.table),
            TriggerTarget::Run => f.write_str("run"),
            TriggerTarget::Function(name) => write!(f, "function {name}"),
        }
    }
}

fn retries_default() -> u32 {
    5
}

fn max_age_default() -> Duration {
    Duration::from_hours(24)
}

/// Fires when files arrive in a folder.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct FilesTrigger {
    /// The folder, relative to the project's root.
    pub folder: String,
    /// Pattern of file names; all by default.
    #[serde(default)]
    pub pattern: Option<String>,
    /// Includes subfolders.
    #[serde(default)]
    pub recursive: bool,
    /// Time without a change after which a file is considered complete, such as `500ms`; `1s` by
    /// default.
    #[serde(default = "debounce_default", with = "duration_text")]
    #[schema(value_type = String)]
    pub debounce: Duration,
    /// The maximum number of files in one event; 500 by default.
    #[serde(default = "batch_default")]
    pub batch: usize,
}

fn debounce_default() -> Duration {
    Duration::from_secs(1)
}

fn batch_default() -> usize {
    500
}

/// The format of the event that a function receives.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum EventFormat {
    /// The format of AWS: for objects, a notification of S3 with one record; for scheduled times,
    /// an event of EventBridge; for messages of a queue, an event of SQS; for records of Kafka, an
    /// event of a self-managed cluster.
    #[default]
    Aws,
    /// The event in CloudEvents format.
    CloudEvents,
}

/// Fires at the times of an expression.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ScheduleTrigger {
    /// The expression: a cron pattern with five fields, or six with seconds first; a rate such as
    /// `rate(5 minutes)`; or a single time such as `at(2030-12-01T08:00:00)`.
    pub cron: String,
    /// An IANA time zone; UTC by default.
    #[serde(default)]
    pub timezone: Option<String>,
    /// Policy for scheduled times that passed while no server was running; `once` by default.
    #[serde(default)]
    pub catchup: CatchupPolicy,
    /// Format of the events that a function receives; `aws` by default.
    #[serde(default)]
    pub format: EventFormat,
}

/// Policy for scheduled times that passed while no server was running.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum CatchupPolicy {
    /// Ignores the missed times.
    Skip,
    /// Fires once for all missed times.
    #[default]
    Once,
    /// Fires for each missed time.
    All,
}

/// Fires when commits of a branch change tables.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct TablesTrigger {
    /// Table names and patterns such as `raw.*`. Names without a namespace are in `public`.
    pub names: Vec<String>,
    /// Time without a further commit after which an event is recorded, such as `500ms`; `1s` by
    /// default. The total delay is at most ten times this value.
    #[serde(default = "debounce_default", with = "duration_text")]
    #[schema(value_type = String)]
    pub debounce: Duration,
    /// The maximum number of commits in one event; 500 by default. With 1, each commit is an event.
    #[serde(default = "batch_default")]
    pub batch: usize,
    /// The maximum number of events per minute for changes that no known event caused, after an
    /// initial burst of 60; 10 by default. Further changes are delayed.
    #[serde(default = "max_events_per_minute_default")]
    #[schema(minimum = 1)]
    pub max_events_per_minute: u32,
}

fn max_events_per_minute_default() -> u32 {
    10
}

/// The import of a trigger.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct TriggerImport {
    /// The table.
    pub table: String,
    /// Files, folders and globs in the project's root. Triggers on files or buckets need none.
    #[serde(default)]
    pub sources: Vec<String>,
    /// Policy for rows that cannot be read.
    #[serde(default)]
    pub on_error: crate::OnError,
}

/// A trigger with its status.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct TriggerStatus {
    /// The trigger.
    #[serde(flatten)]
    pub trigger: Trigger,
    /// The file and line of the trigger's declaration.
    #[serde(default)]
    pub defined_at: String,
    /// The next scheduled time.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub next: Option<Timestamp>,
    /// The number of events that are pending or running.
    pub pending: u64,
    /// The number of delivered events.
    pub done: u64,
    /// The number of failed events.
    pub failed: u64,
    /// The current problem of the trigger's source, such as a missing folder. While it lasts,
    /// events may be missing or late.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<Problem>,
}

/// Status of an event's delivery.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum TriggerEventStatus {
    /// The event is recorded, but is not yet due or has not been delivered.
    Pending,
    /// A job is delivering the event.
    Running,
    /// The event was delivered.
    Done,
    /// Delivery failed after the last retry. The event is kept with its error.
    Failed,
}

/// An event and its delivery.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct TriggerEvent {
    /// The event.
    #[serde(flatten)]
    pub event: Event,
    /// The trigger.
    pub trigger: String,
    /// Status of the delivery.
    pub status: TriggerEventStatus,
    /// Time at which the event was recorded.
    #[schema(value_type = String, format = DateTime)]
    pub created: Timestamp,
    /// Earliest time of the next attempt.
    #[schema(value_type = String, format = DateTime)]
    pub due: Timestamp,
    /// The number of attempts so far.
    pub attempts: u32,
    /// Job of the last attempt.
    #[serde(default)]
    #[schema(value_type = Option<String>)]
    pub job: Option<JobId>,
    /// Error of the last attempt. For a pending event that waits because the function's budget is
    /// exhausted or the user has reached a limit, the error says so.
    #[serde(default)]
    pub error: Option<Problem>,
    /// The principal that called the function; absent if a trigger recorded the event.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub author: Option<String>,
}
