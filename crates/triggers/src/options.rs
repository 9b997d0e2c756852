//! Options of triggers, and the filter for lists of events.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use headwater_jobs::Jobs;
use headwater_model::{Clock, TriggerEventStatus};
use headwater_objects::Objects;
use headwater_queues::Queues;
use headwater_secrets::SecretStore;
use headwater_store::Store;

use crate::delivery_log::Delivery;
use crate::{CommitSource, RemoteBuckets, back_off};

/// Options of [`crate::Triggers`].
#[derive(Clone)]
pub struct TriggersOptions {
    /// Store for events and deliveries.
    pub store: Arc<dyn Store>,
    /// Clock for schedules and retries.
    pub clock: Arc<dyn Clock>,
    /// Queue for the jobs that deliver events.
    pub jobs: Jobs,
    /// Commits, for triggers on tables. With `None`, the default, triggers on tables never fire.
    pub commits: Option<Arc<dyn CommitSource>>,
    /// Buckets, for triggers on objects. With `None`, the default, triggers on objects never fire.
    pub objects: Option<Objects>,
    /// Buckets of other object stores, for triggers on objects in these buckets. With `None`, the
    /// default, these triggers never fire.
    pub remote: Option<Arc<dyn RemoteBuckets>>,
    /// Queues, for triggers on messages. With `None`, the default, triggers on messages never fire.
    pub queues: Option<Queues>,
    /// Secrets with the credentials of servers. With `None`, the default, triggers that name a
    /// secret cannot connect.
    pub secrets: Option<SecretStore>,
    /// The project's root as an absolute path. Paths of folders are relative to this root.
    pub project: PathBuf,
    /// Pause before the first retry. It doubles with each later retry. 1 s by default.
    pub retry_pause: Duration,
    /// Maximum pause before a retry. 5 minutes by default.
    pub retry_pause_max: Duration,
    /// Pause before the first attempt to connect again to a server that sends messages. It doubles
    /// with each later attempt. 500 ms by default.
    pub reconnect_pause: Duration,
    /// Maximum pause before an attempt to connect again. 30 s by default.
    pub reconnect_pause_max: Duration,
    /// Pause between two polls of a source without notifications. 5 s by default.
    pub poll_interval: Duration,
    /// Number of events that are kept after their delivery. 10,000 by default.
    pub done_kept: usize,
    /// If true, only [`crate::Triggers::tick`] detects and delivers events. For tests.
    pub manual: bool,
}

impl TriggersOptions {
    /// Returns options with the default values.
    pub fn new(
        store: Arc<dyn Store>,
        clock: Arc<dyn Clock>,
        jobs: Jobs,
        project: impl Into<PathBuf>,
    ) -> Self {
        TriggersOptions {
            store,
            clock,
            jobs,
            commits: None,
            objects: None,
            remote: None,
            queues: None,
            secrets: None,
            project: project.into(),
            retry_pause: Duration::from_secs(1),
            retry_pause_max: Duration::from_mins(5),
            reconnect_pause: back_off::PAUSE,
            reconnect_pause_max: back_off::PAUSE_MAX,
            poll_interval: Duration::from_secs(5),
            done_kept: 10_000,
            manual: false,
        }
    }
}

/// Filter of a list of events.
#[derive(Debug, Clone, PartialEq)]
pub struct TriggerEventFilter {
    /// Only events with one of these statuses; all if empty.
    pub statuses: Vec<TriggerEventStatus>,
    /// Only events of this trigger; `None` for all triggers.
    pub trigger: Option<String>,
    /// Maximum number of events, newest first; 100 by default.
    pub limit: usize,
}

impl Default for TriggerEventFilter {
    fn default() -> Self {
        TriggerEventFilter { statuses: Vec::new(), trigger: None, limit: 100 }
    }
}

impl TriggerEventFilter {
    pub(crate) fn admits(&self, delivery: &Delivery) -> bool {
        (self.statuses.is_empty() || self.statuses.contains(&delivery.status))
            && self.trigger.as_ref().is_none_or(|trigger| *trigger == delivery.trigger)
    }
}
