//! A trigger's definition, checked and ready for use.

use std::path::{Path, PathBuf};
use std::time::Duration;

use globset::{GlobBuilder, GlobMatcher};
use headwater_event_values::EventPath;
use headwater_model::{
    DEFAULT_NAMESPACE, FilesTrigger, MAIN_BRANCH, TableName, TablesTrigger, Timestamp, Trigger,
};
use headwater_schedules::Schedule;

use crate::async_calls::{queue_name, target_of};
use crate::bucket_source::{self, ObjectFilter};
use crate::event_filter::EventFilter;
use crate::event_queue::Concurrency;
use crate::event_source::EventSource;
use crate::file_source::FileSource;
use crate::kafka::{self, KafkaSource, WatchedTopic};
use crate::nats_source::{self, NatsSource, WatchedStream};
use crate::occurrence_source::{self, OccurrenceFilter, OccurrenceSource};
use crate::postgres_outbox;
use crate::postgres_source::{PostgresSource, WatchedDatabase};
use crate::queue_source::{QueueSource, WatchedQueue};
use crate::remote_bucket_source::{RemoteBucketSource, WatchedBucket};
use crate::schedule_source::{self, ScheduleSource};
use crate::table_source::{self, TableSource};
use crate::waiting_event_source::WaitingEventSource;
use crate::{ConnectionPolicy, Error, Result};

/// Default and maximum number of concurrent deliveries to a function.
const CONCURRENCY_DEFAULT: u32 = 16;
const CONCURRENCY_MAX: u32 = 1_000;

/// A trigger with its parsed source.
#[derive(Debug)]
pub(crate) struct TriggerDefinition {
    pub trigger: Trigger,
    pub source: TriggerSource,
    pub concurrency: Concurrency,
    /// Path of the order key in the events.
    pub order_by: Option<EventPath>,
    /// The filter for events; `None` records all events of the source.
    pub filter: Option<EventFilter>,
    /// The servers to which the source may connect.
    pub policy: ConnectionPolicy,
}

/// The parsed source of a trigger.
#[derive(Debug)]
pub(crate) enum TriggerSource {
    Files(WatchedFolder),
    Schedule(Box<Schedule>),
    Tables(WatchedTables),
    /// Changes of objects in the lake's buckets, merges, or ends of jobs.
    Occurrences(Box<OccurrenceFilter>),
    /// Objects of another object store.
    Remote(Box<WatchedBucket>),
    Queue(WatchedQueue),
    Postgres(Box<WatchedDatabase>),
    Nats(Box<WatchedStream>),
    Kafka(Box<WatchedTopic>),
    /// Asynchronous calls of a function, which clients send.
    Calls,
}

/// Watched tables of a branch.
#[derive(Debug, Clone)]
pub(crate) struct WatchedTables {
    pub branch: String,
    /// Patterns for qualified table names.
    patterns: Vec<GlobMatcher>,
    pub debounce: Duration,
    pub batch: usize,
    /// Maximum number per minute of events whose cause is unknown.
    pub max_events_per_minute: u32,
}

/// A watched folder.
#[derive(Debug, Clone)]
pub(crate) struct WatchedFolder {
    pub path: PathBuf,
    pub recursive: bool,
    /// True if the file pattern is matched against the path within the folder; false if it is
    /// matched against the file name.
    pub whole_path: bool,
    pub pattern: Option<GlobMatcher>,
    pub debounce: Duration,
    pub batch: usize,
    /// True to skip empty files, because they contain nothing to import.
    pub skip_empty: bool,
}

/// Validates a trigger of a project file. Errors: `invalid_project`.
pub fn check_trigger(trigger: &Trigger) -> Result<()> {
    let definition = TriggerDefinition::new(trigger, Path::new("/"))?;
    let has_files = trigger.files.is_some() || trigger.bucket.is_some();
    let is_empty = definition.trigger.import.is_some_and(|import| import.sources.is_empty());
    if is_empty && !has_files {
        let hint = "Name the files with the key `sources` of `import`.";
        return Err(invalid(trigger, "its events contain no files to import", hint));
    }
    Ok(())
}

impl TriggerDefinition {
    pub(crate) fn new(trigger: &Trigger, project: &Path) -> Result<Self> {
        let name = trigger.name.trim();
        if name.is_empty() || name.contains(char::is_control) {
            let hint = "Give the trigger a name of letters, digits and underscores.";
            return Err(invalid(trigger, "the name is empty or has control characters", hint));
        }
        if target_of(name).is_some() {
            let reason = "names with `/functions/` and `/destinations/` are reserved";
            return Err(invalid(trigger, reason, "Choose another name."));
        }
        if trigger.targets().is_empty() {
            let hint = "Add `import`, `run = true` or `function`.";
            return Err(invalid(trigger, "the trigger has no target", hint));
        }
        if trigger.function.is_some() && (trigger.targets().len() > 1) {
            let hint = "Remove `function`, or write a second trigger for the function.";
            let reason = "a trigger with `function` cannot also import files or start a run";
            return Err(invalid(trigger, reason, hint));
        }
        if trigger.function.is_some() && !trigger.parameters.is_empty() {
            let hint = "Remove `parameters`; the function receives the event.";
            return Err(invalid(
                trigger,
                "`parameters` is only for triggers that start a run",
                hint,
            ));
        }
        let source = TriggerSource::new(trigger, project)?;
        check_division(trigger, &source)?;
        let (concurrency, order_by) = (concurrency(trigger)?, order_by(trigger)?);
        let filter = EventFilter::new(trigger)?;
        let (trigger, policy) = (trigger.clone(), ConnectionPolicy::default());
        Ok(TriggerDefinition { trigger, source, concurrency, order_by, filter, policy })
    }
}

impl TriggerDefinition {
    /// Returns the definition of the queue for a function's asynchronous calls.
    pub(crate) fn of_calls(function: &str) -> Self {
        let trigger = Trigger {
            name: queue_name(function),
            function: Some(function.to_owned()),
            ..Trigger::default()
        };
        let concurrency = Concurrency::AtMost(CONCURRENCY_DEFAULT as usize);
        let (source, policy) = (TriggerSource::Calls, ConnectionPolicy::default());
        TriggerDefinition { trigger, source, concurrency, order_by: None, filter: None, policy }
    }

    /// Returns true if a worker for this definition can also execute the other definition. The file
    /// and line of a definition do not matter.
    pub(crate) fn is_same(&self, other: &TriggerDefinition) -> bool {
        let defined_at = other.trigger.defined_at.clone();
        let trigger = Trigger { defined_at, ..self.trigger.clone() };
        trigger == other.trigger && self.policy.is_same(&other.policy)
    }
}

impl TriggerSource {
    /// The journals with the positions of sources.
    pub(crate) const POSITION_JOURNALS: [&str; 8] = [
        bucket_source::POSITIONS,
        schedule_source::POSITIONS,
        table_source::POSITIONS,
        occurrence_source::MERGE_POSITIONS,
        occurrence_source::JOB_POSITIONS,
        postgres_outbox::POSITIONS,
        nats_source::POSITIONS,
        kafka::POSITIONS,
    ];

    fn new(trigger: &Trigger, project: &Path) -> Result<Self> {
        let Trigger { files, bucket, schedule, tables, merges, jobs, .. } = trigger;
        let Trigger { queue, postgres, nats, kafka, .. } = trigger;
        let given = [
            files.is_some(),
            bucket.is_some(),
            schedule.is_some(),
            tables.is_some(),
            merges.is_some(),
            jobs.is_some(),
            queue.is_some(),
            postgres.is_some(),
            nats.is_some(),
            kafka.is_some(),
        ];
        if given.iter().filter(|is_given| **is_given).count() > 1 {
            return Err(not_one_source(trigger));
        }
        if let Some(files) = files {
            return Ok(TriggerSource::Files(WatchedFolder::new(trigger, files, project)?));
        }
        if let Some(bucket) = bucket.as_ref().filter(|bucket| bucket.is_remote()) {
            return Ok(TriggerSource::Remote(Box::new(WatchedBucket::new(trigger, bucket)?)));
        }
        if let Some(bucket) = bucket {
            let filter = ObjectFilter::new(trigger, bucket)?;
            return Ok(TriggerSource::Occurrences(Box::new(OccurrenceFilter::Objects(filter))));
        }
        if let Some(tables) = tables {
            return Ok(TriggerSource::Tables(WatchedTables::new(trigger, tables)?));
        }
        if merges.is_some() {
            return Ok(TriggerSource::Occurrences(Box::new(OccurrenceFilter::merges(trigger)?)));
        }
        if let Some(jobs) = jobs {
            return Ok(TriggerSource::Occurrences(Box::new(OccurrenceFilter::jobs(
                trigger, jobs,
            )?)));
        }
        if let Some(queue) = queue {
            return Ok(TriggerSource::Queue(WatchedQueue::new(trigger, queue)?));
        }
        if let Some(postgres) = postgres {
            return Ok(TriggerSource::Postgres(Box::new(WatchedDatabase::new(trigger, postgres)?)));
        }
        if let Some(nats) = nats {
            return Ok(TriggerSource::Nats(Box::new(WatchedStream::new(trigger, nats)?)));
        }
        if let Some(kafka) = kafka {
            return Ok(TriggerSource::Kafka(Box::new(WatchedTopic::new(trigger, kafka)?)));
        }
        let schedule = Schedule::new(schedule.as_ref().ok_or_else(|| not_one_source(trigger))?);
        let invalid = |(reason, hint): (String, &str)| invalid(trigger, reason, hint);
        Ok(TriggerSource::Schedule(Box::new(schedule.map_err(invalid)?)))
    }

    /// Creates the event source, which starts at its stored position.
    pub(crate) fn open(&self) -> Box<dyn EventSource> {
        match self {
            TriggerSource::Files(folder) => Box::new(FileSource::new(folder.clone())),
            TriggerSource::Schedule(schedule) => {
                Box::new(ScheduleSource::new((**schedule).clone()))
            }
            TriggerSource::Tables(tables) => Box::new(TableSource::new(tables.clone())),
            TriggerSource::Occurrences(occurrences) => {
                Box::new(OccurrenceSource::new((**occurrences).clone()))
            }
            TriggerSource::Remote(objects) => {
                Box::new(RemoteBucketSource::new((**objects).clone()))
            }
            TriggerSource::Queue(messages) => Box::new(QueueSource::new(messages.clone())),
            TriggerSource::Postgres(events) => Box::new(PostgresSource::new((**events).clone())),
            TriggerSource::Nats(events) => Box::new(NatsSource::new((**events).clone())),
            TriggerSource::Kafka(events) => Box::new(KafkaSource::new((**events).clone())),
            TriggerSource::Calls => Box::new(WaitingEventSource::default()),
        }
    }

    /// Returns the journal with the positions of this kind of source. A position is deleted with
    /// its trigger, so a trigger that is deployed again starts at the current time or commit.
    /// Returns `None` for a source that keeps positions after its trigger is removed.
    pub(crate) fn position_journal(&self) -> Option<&'static str> {
        match self {
            TriggerSource::Files(_)
            | TriggerSource::Remote(_)
            | TriggerSource::Queue(_)
            | TriggerSource::Calls => None,
            TriggerSource::Schedule(_) => Some(schedule_source::POSITIONS),
            TriggerSource::Tables(_) => Some(table_source::POSITIONS),
            TriggerSource::Occurrences(occurrences) => Some(occurrences.positions()),
            TriggerSource::Postgres(_) => Some(postgres_outbox::POSITIONS),
            TriggerSource::Nats(_) => Some(nats_source::POSITIONS),
            TriggerSource::Kafka(_) => Some(kafka::POSITIONS),
        }
    }

    /// Returns true if a poll waits until notifications stop arriving. Objects and messages are
    /// complete when their notification arrives, so their sources are polled immediately.
    pub(crate) fn waits_for_quiet(&self) -> bool {
        matches!(
            self,
            TriggerSource::Files(_) | TriggerSource::Schedule(_) | TriggerSource::Tables(_)
        )
    }

    /// Returns the next scheduled time.
    pub(crate) fn next_after(&self, time: Timestamp) -> Option<Timestamp> {
        match self {
            TriggerSource::Schedule(schedule) => schedule.next_after(time),
            TriggerSource::Files(_)
            | TriggerSource::Tables(_)
            | TriggerSource::Occurrences(_)
            | TriggerSource::Remote(_)
            | TriggerSource::Queue(_)
            | TriggerSource::Postgres(_)
            | TriggerSource::Nats(_)
            | TriggerSource::Kafka(_)
            | TriggerSource::Calls => None,
        }
    }
}

impl WatchedFolder {
    fn new(trigger: &Trigger, files: &FilesTrigger, project: &Path) -> Result<Self> {
        if files.folder.trim().is_empty() {
            return Err(invalid(trigger, "`folder` is empty", "Name a folder to watch."));
        }
        let matcher = |pattern: &String| {
            let glob = GlobBuilder::new(pattern).literal_separator(true).build();
            glob.map(|glob| glob.compile_matcher()).map_err(|error| {
                let hint = "Write a pattern such as `*.csv` or `*.{csv,csv.gz}`.";
                invalid(trigger, format!("`pattern` is invalid: {error}"), hint)
            })
        };
        Ok(WatchedFolder {
            path: clean(&project.join(&files.folder)),
            recursive: files.recursive,
            whole_path: files.pattern.as_ref().is_some_and(|pattern| pattern.contains('/')),
            pattern: files.pattern.as_ref().map(matcher).transpose()?,
            debounce: files.debounce,
            batch: files.batch.max(1),
            skip_empty: trigger.import.is_some(),
        })
    }
}

impl WatchedTables {
    fn new(trigger: &Trigger, tables: &TablesTrigger) -> Result<Self> {
        let hint = "Name tables such as `orders`, or patterns such as `raw.*`.";
        if tables.names.is_empty() {
            return Err(invalid(trigger, "the list of tables is empty", hint));
        }
        if tables.max_events_per_minute == 0 {
            let hint = "Set `max_events_per_minute` to a number above 0, or leave out the setting.";
            return Err(invalid(trigger, "`max_events_per_minute` is 0", hint));
        }
        let matcher = |name: &String| {
            let name = name.trim();
            // Reject an invalid table name, because it would never match a table.
            let is_name = name.contains(['*', '?', '[', '{']) || name.parse::<TableName>().is_ok();
            let wrong = |reason: String| invalid(trigger, reason, hint);
            if !is_name {
                return Err(wrong(format!("`{name}` is not a table name")));
            }
            let whole = if name.contains('.') {
                name.to_owned()
            } else {
                format!("{DEFAULT_NAMESPACE}.{name}")
            };
            // Names match case-insensitively, as in SQL.
            let glob = GlobBuilder::new(&whole).case_insensitive(true).build();
            glob.map(|glob| glob.compile_matcher())
                .map_err(|error| wrong(format!("`{name}` is not a pattern: {error}")))
        };
        Ok(WatchedTables {
            branch: trigger.branch.clone().unwrap_or_else(|| MAIN_BRANCH.to_owned()),
            patterns: tables.names.iter().map(matcher).collect::<Result<_>>()?,
            debounce: tables.debounce,
            batch: tables.batch.max(1),
            max_events_per_minute: tables.max_events_per_minute,
        })
    }

    /// Returns true if a table is watched.
    pub(crate) fn is_watched(&self, table: &TableName) -> bool {
        let name = table.qualified();
        self.patterns.iter().any(|pattern| pattern.is_match(&name))
    }
}

fn not_one_source(trigger: &Trigger) -> Error {
    let reason = "it needs exactly one of `files`, `bucket`, `schedule`, `tables`, `merges`, \
                  `jobs`, `queue`, `postgres`, `nats` and `kafka`";
    invalid(trigger, reason, "Give the trigger one source, such as `files` or `schedule`.")
}

/// Returns the number of events that are delivered concurrently.
fn concurrency(trigger: &Trigger) -> Result<Concurrency> {
    if trigger.function.is_none() {
        if trigger.concurrency.is_some() || trigger.order_by.is_some() {
            let reason = "`concurrency` and `order_by` are only for functions";
            let hint =
                "Remove these settings; imports and runs take events in order, one at a time.";
            return Err(invalid(trigger, reason, hint));
        }
        return Ok(Concurrency::Serial);
    }
    let count = trigger.concurrency.unwrap_or(CONCURRENCY_DEFAULT);
    if !(1..=CONCURRENCY_MAX).contains(&count) {
        let reason = format!("`concurrency` must be between 1 and {CONCURRENCY_MAX}, not {count}");
        return Err(invalid(trigger, reason, "Write a number such as `concurrency = 4`."));
    }
    Ok(Concurrency::AtMost(count as usize))
}

/// Checks the option `bisect`, which divides failed events: the target must be a function, and an
/// event must have several items.
fn check_division(trigger: &Trigger, source: &TriggerSource) -> Result<()> {
    if !trigger.divides() {
        return Ok(());
    }
    if trigger.function.is_none() {
        let hint = "Remove these settings, or call a function.";
        let reason = "`report_failures` and `bisect` are only for functions";
        return Err(invalid(trigger, reason, hint));
    }
    match source {
        TriggerSource::Files(_)
        | TriggerSource::Queue(_)
        | TriggerSource::Postgres(_)
        | TriggerSource::Nats(_)
        | TriggerSource::Kafka(_) => Ok(()),
        TriggerSource::Schedule(_)
        | TriggerSource::Tables(_)
        | TriggerSource::Occurrences(_)
        | TriggerSource::Remote(_)
        | TriggerSource::Calls => {
            let reason = "`report_failures` and `bisect` need a source whose events can contain \
                          several items";
            let hint = "Remove these settings, or use the source `files`, `queue`, `postgres`, \
                        `nats` or `kafka`.";
            Err(invalid(trigger, reason, hint))
        }
    }
}

fn order_by(trigger: &Trigger) -> Result<Option<EventPath>> {
    let Some(text) = &trigger.order_by else { return Ok(None) };
    EventPath::parse(text).map(Some).ok_or_else(|| {
        let hint = "Use an event field, such as `subject`, `source` or `data.branch`.";
        invalid(trigger, format!("events have no field `{text}` to order by"), hint)
    })
}

/// Returns the path without `.` and trailing separators, so that each file has only one key.
fn clean(path: &Path) -> PathBuf {
    path.components().collect()
}

pub(crate) fn invalid(trigger: &Trigger, reason: impl Into<String>, hint: &str) -> Error {
    Error::InvalidTrigger {
        trigger: trigger.name.clone(),
        reason: reason.into(),
        hint: hint.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn tables_are_watched_by_name_and_by_pattern() {
        let names = ["orders", "raw.*", "sales.{a,b}", "t_?"];
        let tables = json!({"name": "a", "run": true, "tables": {"names": names}});
        let trigger: Trigger = serde_json::from_value(tables).expect("a trigger");
        let definition = TriggerDefinition::new(&trigger, Path::new("/")).expect("a definition");
        let TriggerSource::Tables(tables) = definition.source else { panic!("no tables") };
        let watched = |name: &str| tables.is_watched(&name.parse().expect("a name"));
        for name in ["orders", "public.Orders", "raw.x", "sales.b", "t_1"] {
            assert!(watched(name), "{name}");
        }
        for name in ["orders2", "other.orders", "rawer.x", "sales.c", "t_12", "raw_x"] {
            assert!(!watched(name), "{name}");
        }
    }

    #[test]
    fn a_moved_declaration_is_the_same_definition() {
        let trigger = Trigger {
            name: "a".to_owned(),
            function: Some("f".to_owned()),
            queue: serde_json::from_value(json!("orders")).expect("a queue"),
            ..Trigger::default()
        };
        let definition =
            |trigger| TriggerDefinition::new(&trigger, Path::new("/")).expect("a definition");
        let moved = Trigger { defined_at: "f.py:7".to_owned(), ..trigger.clone() };
        let changed = Trigger { retries: 1, ..trigger.clone() };
        let first = definition(trigger);
        assert!(first.is_same(&definition(moved)));
        assert!(!first.is_same(&definition(changed)));
    }
}
