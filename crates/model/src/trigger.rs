//! Triggers and their events: files that land, clocks that strike, and tables that change.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::{CommitId, JobId, Problem, Timestamp};

/// A trigger: `[[trigger]]` in `headwater.toml`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Trigger {
    /// Its name, unique in the project.
    pub name: String,
    /// Files that land in a folder; exactly one of `files`, `schedule` and `tables` is given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub files: Option<FilesTrigger>,
    /// A clock that strikes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub schedule: Option<ScheduleTrigger>,
    /// Tables that change on the branch, whoever changes them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tables: Option<TablesTrigger>,
    /// The branch to work on; `main` where nothing is said.
    #[serde(default)]
    pub branch: Option<String>,
    /// Import the files into this table; first, where a run follows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub import: Option<TriggerImport>,
    /// Run the project.
    #[serde(default)]
    pub run: bool,
    /// Parameters of the run; `{file}`, `{files}`, `{tables}`, `{commit}`, `{time}`, `{date}` and
    /// `{event}` are filled in from the event.
    #[serde(default)]
    pub parameters: BTreeMap<String, String>,
    /// How often an event is tried again before it is kept as failed; 5 where nothing is said.
    #[serde(default = "retries_default")]
    pub retries: u32,
}

fn retries_default() -> u32 {
    5
}

/// Watches a folder.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct FilesTrigger {
    /// The folder, relative to the project's root.
    pub folder: String,
    /// Which file names; every one where nothing is said.
    #[serde(default)]
    pub pattern: Option<String>,
    /// Whether folders below are watched too.
    #[serde(default)]
    pub recursive: bool,
    /// How long a file must not have changed before it is taken, such as `500ms`; `1s` by default.
    #[serde(default = "debounce_default", with = "duration_text")]
    #[schema(value_type = String)]
    pub debounce: Duration,
    /// The most files in one event; 500 where nothing is said.
    #[serde(default = "batch_default")]
    pub batch: usize,
}

fn debounce_default() -> Duration {
    Duration::from_secs(1)
}

fn batch_default() -> usize {
    500
}

/// Strikes by a cron pattern.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ScheduleTrigger {
    /// Five fields, or six with seconds first.
    pub cron: String,
    /// An IANA time zone; UTC where nothing is said.
    #[serde(default)]
    pub timezone: Option<String>,
    /// What to do about scheduled times missed while no server ran; `once` by default.
    #[serde(default)]
    pub catchup: CatchupPolicy,
}

/// What to do about scheduled times missed while no server ran.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum CatchupPolicy {
    /// Forget them.
    Skip,
    /// Make up for all of them by one.
    #[default]
    Once,
    /// Make up for each.
    All,
}

/// Watches the commits of a branch.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct TablesTrigger {
    /// Which tables: names, and patterns such as `raw.*`; without a namespace, those of `public`.
    pub names: Vec<String>,
    /// How long no further commit may come before those that came are taken, such as `500ms`; `1s` by
    /// default. They are taken after ten times as long in any case.
    #[serde(default = "debounce_default", with = "duration_text")]
    #[schema(value_type = String)]
    pub debounce: Duration,
    /// The most commits in one event; 500 where nothing is said. With 1, each commit is an event.
    #[serde(default = "batch_default")]
    pub batch: usize,
    /// The most events a minute, after a burst of 60, for changes of unknown cause; 10 by default.
    /// Further changes wait.
    #[serde(default = "max_events_per_minute_default")]
    #[schema(minimum = 1)]
    pub max_events_per_minute: u32,
}

fn max_events_per_minute_default() -> u32 {
    10
}

/// What a trigger imports into.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct TriggerImport {
    /// The table.
    pub table: String,
    /// For schedules and tables: files, folders and globs relative to the project's root.
    #[serde(default)]
    pub sources: Vec<String>,
    /// What to do with a row that cannot be read.
    #[serde(default)]
    pub on_error: crate::OnError,
}

/// Durations as text: `500ms`, `2s`, `5m`.
mod duration_text {
    use std::borrow::Cow;
    use std::time::Duration;

    use serde::{Deserialize, Deserializer, Serializer};

    pub(super) fn serialize<S: Serializer>(
        duration: &Duration,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        let milliseconds = duration.as_millis();
        if milliseconds.is_multiple_of(1000) {
            serializer.collect_str(&format_args!("{}s", milliseconds / 1000))
        } else {
            serializer.collect_str(&format_args!("{milliseconds}ms"))
        }
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Duration, D::Error> {
        let text = Cow::<'de, str>::deserialize(deserializer)?;
        parse(&text).ok_or_else(|| {
            let message = format!("`{text}` is not a duration such as `500ms` or `2s`");
            serde::de::Error::custom(message)
        })
    }

    fn parse(text: &str) -> Option<Duration> {
        match text.trim().strip_suffix("ms") {
            Some(number) => number.trim().parse().ok().map(Duration::from_millis),
            None => crate::parse_duration(text).ok(),
        }
    }

    #[cfg(test)]
    mod tests {
        use super::*;

        #[test]
        fn durations_are_read_and_written_as_text() {
            for (text, milliseconds) in [("500ms", 500), ("0s", 0), ("2s", 2_000)] {
                let duration = parse(text).expect("a duration");
                assert_eq!(duration, Duration::from_millis(milliseconds));
                let written = serialize(&duration, serde_json::value::Serializer);
                assert_eq!(written.expect("text"), text);
            }
            assert_eq!(parse("5m"), Some(Duration::from_secs(300)));
            for wrong in ["", "ms", "1000", "soon", "-1s"] {
                assert_eq!(parse(wrong), None, "{wrong}");
            }
        }
    }
}

/// A trigger, as it is listed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct TriggerStatus {
    /// The trigger.
    #[serde(flatten)]
    pub trigger: Trigger,
    /// The next strike of a schedule.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub next: Option<Timestamp>,
    /// Events waiting or under way.
    pub pending: u64,
    /// Events acted on.
    pub done: u64,
    /// Events given up.
    pub failed: u64,
    /// What keeps the trigger from seeing what happens, such as a folder that is not there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<Problem>,
}

/// Where an event stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum TriggerEventStatus {
    /// Recorded, and to be acted on when due.
    Pending,
    /// A job acts on it.
    Running,
    /// Acted on.
    Done,
    /// Given up after the last retry, and kept with its error.
    Failed,
}

/// Something that happened, recorded before anything acts on it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct TriggerEvent {
    /// Its id; the commit that it causes carries it.
    pub id: String,
    /// The trigger.
    pub trigger: String,
    /// Where it stands.
    pub status: TriggerEventStatus,
    /// When it was recorded.
    #[schema(value_type = String, format = DateTime)]
    pub created: Timestamp,
    /// When it is to be acted on next.
    #[schema(value_type = String, format = DateTime)]
    pub due: Timestamp,
    /// The files that landed, absolute; empty for anything else.
    #[serde(default)]
    pub files: Vec<String>,
    /// The strike, for a schedule.
    #[serde(default)]
    #[schema(value_type = Option<String>, format = DateTime)]
    pub scheduled: Option<Timestamp>,
    /// The tables that changed, by name with their namespace.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tables: Vec<String>,
    /// The last commit that changed them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub commit: Option<CommitId>,
    /// The triggers whose events led to it, by name. None of them fires for what it leads to in turn.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub led_by: Vec<String>,
    /// How often it was tried.
    pub attempts: u32,
    /// The job of the last try.
    #[serde(default)]
    #[schema(value_type = Option<String>)]
    pub job: Option<JobId>,
    /// Why the last try failed.
    #[serde(default)]
    pub error: Option<Problem>,
}
