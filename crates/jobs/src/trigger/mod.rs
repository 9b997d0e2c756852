//! Triggers: files that land, clocks that strike and tables that change become events, and events are
//! acted on by jobs.
//!
//! What holds: an event is stored, together with the files, the strike or the commits it stands for,
//! before anything acts on it; a file's version, a strike and a commit become one event each, whatever
//! fails and whenever the process ends; the events of one trigger are acted on in order and one at a time,
//! those of different triggers beside each other; an event is tried again with back-off and at last
//! kept with its error, never dropped. The folder is the truth: notices by the system only make it
//! be looked at sooner.

mod act;
mod book;
mod commits;
mod definition;
mod files;
mod follow;
mod handle;
mod ledger;
mod notice;
mod observe;
mod pace;
mod schedule;
mod watch;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use headwater_model::{Clock, Problem, Trigger, TriggerEvent, TriggerEventStatus};
use headwater_store::Store;
use serde_json::Value;

pub use commits::{Commits, MadeCommit};
pub use definition::check_trigger;
pub use handle::Triggers;

use crate::{JobContext, Jobs};

/// What acts on events.
#[async_trait]
pub trait TriggerActions: Send + Sync {
    /// Acts on an event: imports its files, runs the project, or both; answers what the job
    /// answers.
    ///
    /// Every commit should carry an id made by [`event_part`] from the event's, so that it is made
    /// at most once however often the event is acted on; that an import was committed already is no
    /// reason not to run. A problem of code `already_exists` whose context holds as `event` the id
    /// of the last part (or, where there is only one, of the event itself) means that the event was
    /// acted on.
    ///
    /// `too_busy` and `unavailable` do not count as tries.
    async fn act(
        &self,
        trigger: &Trigger,
        event: &TriggerEvent,
        context: JobContext,
    ) -> Result<Value, Problem>;

    /// The queue in which jobs of this trigger's events wait; see [`crate::NewJob::queue`]. None by
    /// default.
    fn queue(&self, _trigger: &Trigger) -> Option<String> {
        None
    }
}

/// The id of one commit of an event that causes several: `<event>/import`, `<event>/run`.
pub fn event_part(event: &str, part: &str) -> String {
    format!("{event}/{part}")
}

/// How [`Triggers`] works.
#[derive(Clone)]
pub struct TriggersOptions {
    /// Where events are kept.
    pub store: Arc<dyn Store>,
    /// What schedules strike by.
    pub clock: Arc<dyn Clock>,
    /// The jobs that act.
    pub jobs: Jobs,
    /// The commits that triggers on tables follow; none where there are none to follow. None by default.
    pub commits: Option<Arc<dyn Commits>>,
    /// The project's root, absolute; folders are relative to it.
    pub project: PathBuf,
    /// The pause before the first retry; it doubles with every further one. 1 s by default.
    pub retry_pause: Duration,
    /// The longest pause before a retry. 5 minutes by default.
    pub retry_pause_max: Duration,
    /// How often a folder is looked at when nothing is noticed. 5 s by default.
    pub look_every: Duration,
    /// How many events that were acted on are kept. 10,000 by default.
    pub done_kept: usize,
    /// Nothing happens by itself, only by [`Triggers::tick`]. For tests.
    pub manual: bool,
}

impl TriggersOptions {
    /// The defaults.
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
            project: project.into(),
            retry_pause: Duration::from_secs(1),
            retry_pause_max: Duration::from_mins(5),
            look_every: Duration::from_secs(5),
            done_kept: 10_000,
            manual: false,
        }
    }
}

/// Which events to list.
#[derive(Debug, Clone, PartialEq)]
pub struct TriggerEventFilter {
    /// Only these statuses; all, where none is named.
    pub statuses: Vec<TriggerEventStatus>,
    /// Only events of this trigger.
    pub trigger: Option<String>,
    /// At most so many, the newest; 100 by default.
    pub limit: usize,
}

impl Default for TriggerEventFilter {
    fn default() -> Self {
        TriggerEventFilter { statuses: Vec::new(), trigger: None, limit: 100 }
    }
}

impl TriggerEventFilter {
    fn admits(&self, event: &TriggerEvent) -> bool {
        (self.statuses.is_empty() || self.statuses.contains(&event.status))
            && self.trigger.as_ref().is_none_or(|trigger| *trigger == event.trigger)
    }
}
