//! The interface of event sources, and the recording of the events that they detect.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use headwater_event_values::EventPath;
use headwater_model::{Event, EventData, Problem, SpecVersion, Timestamp};
use headwater_sandbox::ConnectionPolicy;
use headwater_store::{JournalAppend, Store, UniqueKey};
use tokio::sync::{Notify, watch};
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::delivery_log::DeliveryLog;
use crate::event_filter::EventFilter;
use crate::event_queue::EventQueue;
use crate::{Result, TargetExecutor, TriggersOptions};

/// Pause between two polls of a folder or branch that does not exist.
pub(crate) const ABSENT_PAUSE: Duration = Duration::from_secs(1);
/// Minimum pause between two polls.
pub(crate) const POLL_PAUSE_MIN: Duration = Duration::from_millis(20);

/// A source of events, such as a folder, a bucket, a schedule, a branch or a topic.
#[async_trait]
pub(crate) trait EventSource: Send {
    /// Detects and records the events since the last poll. After an error, the source is replaced
    /// by a new source, which reads its position from the store.
    async fn poll(&mut self, context: &SourceContext) -> Result<PollResult>;
}

/// Result of a poll of a source.
pub(crate) struct PollResult {
    /// Pause until the next poll.
    pub pause: Duration,
    /// Reason why events may be missing or late, if any.
    pub fault: Option<Problem>,
}

impl PollResult {
    /// Creates the result of a poll without a fault.
    pub(crate) fn after(pause: Duration) -> Self {
        PollResult { pause, fault: None }
    }

    /// Creates the result of a poll if the folder or branch does not exist.
    pub(crate) fn absent(fault: Problem) -> Self {
        PollResult { pause: ABSENT_PAUSE, fault: Some(fault) }
    }
}

/// Events that are recorded in one batch together with the position of their source.
#[derive(Default)]
pub(crate) struct DetectedEvents {
    pub events: Vec<NewEvent>,
    /// Journal entries that store the new position.
    pub entries: Vec<JournalAppend>,
    /// Unique keys. The store rejects the batch if an earlier batch has one of these keys, so that
    /// no occurrence is recorded twice.
    pub unique: Vec<UniqueKey>,
    /// True if the source detects these occurrences again after a power failure. The store then
    /// does not sync the batch to disk.
    pub is_durable: bool,
}

/// An event that has no id yet.
pub(crate) struct NewEvent {
    pub source: String,
    pub subject: Option<String>,
    pub time: Timestamp,
    pub data: EventData,
    pub caused_by: Vec<String>,
    /// The span of the request that caused the event, in the format of the header `traceparent`.
    pub trace: Option<String>,
}

impl NewEvent {
    pub(crate) fn with_id(self, id: String) -> Event {
        let NewEvent { source, subject, time, data, caused_by, .. } = self;
        Event { specversion: SpecVersion::default(), id, source, subject, time, data, caused_by }
    }
}

/// The settings and components that an event source uses.
#[derive(Clone)]
pub(crate) struct SourceContext {
    /// The trigger's name.
    pub trigger: String,
    pub options: Arc<TriggersOptions>,
    /// The servers to which the source may connect.
    pub policy: ConnectionPolicy,
    pub log: DeliveryLog,
    /// The targets, which also decide which occurrences the trigger's deployer may see.
    pub targets: Arc<dyn TargetExecutor>,
    /// Path of the order key in the events.
    pub order_by: Option<EventPath>,
    /// The filter for events; `None` records all events.
    pub filter: Option<EventFilter>,
    pub queue: Arc<EventQueue>,
    /// Notified to request a poll.
    pub wake: Arc<Notify>,
    /// Token that is cancelled when the trigger stops.
    pub stop: CancellationToken,
}

impl SourceContext {
    pub(crate) fn now(&self) -> Timestamp {
        self.options.clock.now()
    }

    pub(crate) fn store(&self) -> &dyn Store {
        &*self.log.store
    }

    /// Returns true if the trigger's filter selects an event.
    pub(crate) fn admits(&self, event: &Event) -> bool {
        self.filter.as_ref().is_none_or(|filter| filter.admits(event))
    }

    /// Polls the source after each change of a counter, until the guard is dropped. Returns `None`
    /// if the sources are polled only on request.
    pub(crate) fn listen(&self, mut counter: watch::Receiver<u64>) -> Option<DropGuard> {
        if self.options.manual {
            return None;
        }
        let stop = self.stop.child_token();
        let (guard, wake) = (stop.clone().drop_guard(), self.wake.clone());
        tokio::spawn(async move {
            while let Some(Ok(())) = stop.run_until_cancelled(counter.changed()).await {
                wake.notify_one();
            }
        });
        Some(guard)
    }

    /// Records the events that the filter selects, and queues their deliveries.
    pub(crate) async fn record(&self, detected: DetectedEvents) -> Result<()> {
        let deliveries = self.log.record(self, detected).await?;
        self.queue.counts.accepted(deliveries.len());
        for delivery in deliveries {
            self.queue.push(delivery);
        }
        Ok(())
    }

    /// Queues deliveries that are stored but not in the queue: the store may have applied a batch
    /// although it returned an error.
    pub(crate) async fn catch_up(&self) -> Result<()> {
        for read in self.log.unfinished().await? {
            if read.trigger != self.trigger || self.queue.knows(&read.event) {
                continue;
            }
            // The delivery may have ended since it was read. It must not start again.
            if let Some(delivery) = self.log.delivery(&read.event).await? {
                self.queue.push(delivery);
            }
        }
        Ok(())
    }
}
