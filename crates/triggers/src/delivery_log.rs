//! The log of events and of their deliveries.
//!
//! | journal | key | value |
//! |---|---|---|
//! | `trigger_events` | event id | the event, which never changes |
//! | `trigger_deliveries` | event id | a delivery that is pending, running or failed |
//! | `trigger_deliveries_done` | event id | a delivery that is done |
//! | `trigger_counts` | trigger | number of deliveries that are done |
//! | `trigger_batch_results` | event id | the failed items of a call whose rows were committed |
//!
//! Each source has its own journal of positions. One batch records an event, its delivery, the
//! position of its source, and unique keys of the occurrence (the file, message or time that caused
//! the event). The store rejects a batch with an existing unique key, so an occurrence is never
//! recorded twice. This also holds for two processes, and for a retry after an error of the store.

use std::sync::Arc;

use headwater_event_values::{call_event, loop_problem};
use headwater_jobs::Jobs;
use headwater_model::{Actor, Event, JobId, Problem, Timestamp, TriggerEvent, TriggerEventStatus};
use headwater_store::{JournalAppend, KeyRange, ReverseScan, Store, WriteBatch};
use headwater_telemetry::TraceContext;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::async_calls::target_of;
use crate::event_source::{DetectedEvents, NewEvent, SourceContext};
use crate::event_split::BATCH_RESULTS;
use crate::journal_codec::{decode, encode, read, read_all};
use crate::target::{is_retryable, with_retryable};
use crate::{Error, Result, event_logging};

const EVENTS: &str = "trigger_events";
pub(crate) const OPEN: &str = "trigger_deliveries";
pub(crate) const DONE: &str = "trigger_deliveries_done";
const COUNTS: &str = "trigger_counts";

/// Stored events of more than this number of bytes are large. The parsed values of an event need
/// several times this memory.
const LARGE_BYTES: usize = 8 << 20;

/// Maximum total size of the large events that are being delivered, in MiB.
const LARGE_MIB_MAX: u32 = 128;

/// The delivery of an event to the targets of its trigger.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Delivery {
    /// Id of the event.
    pub event: String,
    pub trigger: String,
    pub status: TriggerEventStatus,
    /// Time at which the event was recorded.
    pub created: Timestamp,
    /// Earliest time of the next attempt.
    pub due: Timestamp,
    /// Number of attempts so far.
    pub attempts: u32,
    /// Job of the last attempt; `None` before the first attempt.
    pub job: Option<JobId>,
    /// Error of the last attempt, if it failed; before the first attempt, the reason why the event
    /// must not be delivered, if any ([`Delivery::rejection`]).
    pub error: Option<Problem>,
    /// Order key: deliveries of a trigger with the same key are executed one after the other.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
    /// Principal that caused the event; `None` if a source detected it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub author: Option<String>,
    /// User whose limits apply to the delivery's job; `None` if no limits apply.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// The identity that caused the event; the targets run with its permissions. `None` for an
    /// event that a source detected.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub actor: Option<Actor>,
    /// Time of the last replay; `None` if the event was never replayed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replayed: Option<Timestamp>,
}

impl Delivery {
    /// Creates a delivery that is due now.
    pub(crate) fn new(event: String, trigger: &str, now: Timestamp) -> Self {
        Delivery {
            event,
            trigger: trigger.to_owned(),
            status: TriggerEventStatus::Pending,
            created: now,
            due: now,
            attempts: 0,
            job: None,
            error: None,
            key: None,
            author: None,
            user: None,
            actor: None,
            replayed: None,
        }
    }

    /// Returns the journal entries that store the delivery. `done` is the number of the trigger's
    /// deliveries that are done, including this delivery.
    pub(crate) fn entries(&self, done: u64) -> Result<Vec<JournalAppend>> {
        if self.status != TriggerEventStatus::Done {
            return Ok(vec![self.open_entry()?]);
        }
        Ok(vec![
            JournalAppend::tombstone(OPEN, &self.event),
            JournalAppend::put(DONE, &self.event, encode(self)?),
            JournalAppend::put(COUNTS, &self.trigger, encode(&done)?),
        ])
    }

    /// Returns the journal entries that store a new delivery and its event.
    pub(crate) fn new_entries(&self, event: &Event) -> Result<Vec<JournalAppend>> {
        Ok(vec![self.open_entry()?, JournalAppend::put(EVENTS, &event.id, encode(event)?)])
    }

    /// Returns the journal entries that remove a delivery that is not done, and its event.
    pub(crate) fn removal(&self) -> Vec<JournalAppend> {
        removal(&self.event)
    }

    /// Returns the reason why the event must not be delivered, if any: it closes a loop, or cannot
    /// be parsed. Its delivery then ends as failed without an attempt. A replay ignores the reason.
    pub(crate) fn rejection(&self) -> Option<&Problem> {
        let error = self.error.as_ref().filter(|error| is_retryable(error) == Some(false));
        error.filter(|_| self.attempts == 0 && self.replayed.is_none())
    }

    /// Returns the event of a call of `function`, in place of an event that cannot be read.
    pub(crate) fn unreadable_event(&self, function: &str, content: Value) -> Event {
        call_event(self.event.clone(), &self.trigger, self.created, function, content)
    }

    /// Returns the event with its delivery.
    pub(crate) fn of(self, event: Event) -> TriggerEvent {
        let Delivery { trigger, status, created, due, attempts, job, error, author, .. } = self;
        TriggerEvent { event, trigger, status, created, due, attempts, job, error, author }
    }

    pub(crate) fn open_entry(&self) -> Result<JournalAppend> {
        Ok(JournalAppend::put(OPEN, &self.event, encode(self)?))
    }
}

/// The journals of events and deliveries.
#[derive(Clone)]
pub(crate) struct DeliveryLog {
    pub jobs: Jobs,
    pub store: Arc<dyn Store>,
    /// Permits for deliveries of large events, one permit for each MiB of an event.
    large: Arc<Semaphore>,
}

impl DeliveryLog {
    pub(crate) fn new(jobs: Jobs, store: Arc<dyn Store>) -> Self {
        DeliveryLog { jobs, store, large: Arc::new(Semaphore::new(LARGE_MIB_MAX as usize)) }
    }

    /// Records events, with the position of the event source. Returns the deliveries of the events,
    /// in the same order.
    pub(crate) async fn record(
        &self,
        context: &SourceContext,
        detected: DetectedEvents,
    ) -> Result<Vec<Delivery>> {
        let (trigger, now) = (context.trigger.as_str(), context.now());
        let DetectedEvents { events, entries, unique, is_durable } = detected;
        let mut batch =
            WriteBatch { entries, unique, relaxed: is_durable, ..WriteBatch::default() };
        let with_id = |event: NewEvent| {
            let id = self.jobs.new_id();
            let cause = event.trace.as_deref().and_then(TraceContext::parse);
            self.jobs.monitor().telemetry().link_event_to(id, cause);
            event.with_id(id.to_string())
        };
        let events = events.into_iter().map(with_id);
        // Do not filter events of files, because the file source has already filtered each file.
        let admits = |event: &Event| !event.files().is_empty() || context.admits(event);
        let events: Vec<Event> = events.filter(admits).collect();
        let mut deliveries = Vec::with_capacity(events.len());
        for event in &events {
            let of_path = context.order_by.as_ref().and_then(|path| path.key(event));
            let key = of_path.or_else(|| event.group().map(str::to_owned));
            let error = loop_problem(event, trigger).map(|problem| with_retryable(problem, false));
            let new = Delivery::new(event.id.clone(), trigger, now);
            let delivery = Delivery { error, key, ..new };
            batch.entries.extend(delivery.new_entries(event)?);
            deliveries.push(delivery);
        }
        self.store.apply(batch).await?;
        for event in &events {
            event_logging::recorded(trigger, event);
        }
        Ok(deliveries)
    }

    /// Returns the deliveries that are not done, oldest first.
    pub(crate) async fn unfinished(&self) -> Result<Vec<Delivery>> {
        let mut deliveries = Vec::new();
        for entry in read_all(&*self.store, OPEN, "").await? {
            match decode(OPEN, &entry.key, &entry.value) {
                Ok(delivery) => deliveries.push(delivery),
                Err(error) => {
                    tracing::warn!(%error, "skipping a trigger event that cannot be read");
                }
            }
        }
        Ok(deliveries)
    }

    /// Returns an event. Errors: `event_not_found`.
    pub(crate) async fn event(&self, id: &str) -> Result<Event> {
        let event = read(&*self.store, EVENTS, id).await?;
        event.ok_or_else(|| Error::EventNotFound { id: id.to_owned(), several: false })
    }

    /// Returns an event for its delivery. Waits while too many large events are being delivered; a
    /// large event needs a permit until the end of its delivery.
    ///
    /// Errors: `event_not_found`.
    pub(crate) async fn event_to_deliver(
        &self,
        id: &str,
    ) -> Result<(Event, Option<OwnedSemaphorePermit>)> {
        let Some(stored) = self.store.latest(EVENTS, id).await? else {
            return Err(Error::EventNotFound { id: id.to_owned(), several: false });
        };
        let bytes = stored.value.len();
        if bytes <= LARGE_BYTES {
            return Ok((decode(EVENTS, &stored.key, &stored.value)?, None));
        }
        // Free the memory of the event while it waits for the permit.
        drop(stored);
        let mib = u32::try_from(bytes >> 20).unwrap_or(u32::MAX).min(LARGE_MIB_MAX);
        let permit = self.large.clone().acquire_many_owned(mib).await.ok();
        Ok((self.event(id).await?, permit))
    }

    /// Returns a delivery of any status.
    pub(crate) async fn delivery(&self, event: &str) -> Result<Option<Delivery>> {
        match read(&*self.store, OPEN, event).await? {
            Some(delivery) => Ok(Some(delivery)),
            None => read(&*self.store, DONE, event).await,
        }
    }

    /// Returns a delivery with its event. A dead letter that cannot be read has an event without
    /// content, so that a user can list and remove it.
    pub(crate) async fn with_event(&self, delivery: Delivery) -> Result<TriggerEvent> {
        let event = match self.event(&delivery.event).await {
            Err(Error::EventNotFound { .. } | Error::Corrupt { .. })
                if delivery.status == TriggerEventStatus::Failed =>
            {
                let function = target_of(&delivery.trigger).unwrap_or_default();
                delivery.unreadable_event(function, Value::Null)
            }
            event => event?,
        };
        Ok(delivery.of(event))
    }

    /// Returns the number of deliveries of a trigger that are done.
    pub(crate) async fn done(&self, trigger: &str) -> Result<u64> {
        Ok(read(&*self.store, COUNTS, trigger).await?.unwrap_or_default())
    }

    /// Stores deliveries that are not done.
    pub(crate) async fn store_open(&self, deliveries: &[Delivery]) -> Result<()> {
        self.append(deliveries.iter().map(Delivery::open_entry).collect::<Result<_>>()?).await
    }

    /// Stores journal entries in one batch.
    pub(crate) async fn append(&self, entries: Vec<JournalAppend>) -> Result<()> {
        if !entries.is_empty() {
            self.store.apply(WriteBatch { entries, ..WriteBatch::default() }).await?;
        }
        Ok(())
    }

    /// Removes a delivery that is not done, and its event.
    pub(crate) async fn remove(&self, event: &str) -> Result<()> {
        self.append(removal(event)).await
    }

    /// Removes the entries of a journal whose keys are not in `kept`.
    pub(crate) async fn retain(&self, journal: &str, kept: &[&str]) -> Result<()> {
        let stored = read_all(&*self.store, journal, "").await?.into_iter();
        let gone = stored.filter(|entry| !kept.contains(&entry.key.as_str()));
        self.append(gone.map(|entry| JournalAppend::tombstone(journal, entry.key)).collect()).await
    }

    /// Deletes a trigger's count of delivered events.
    pub(crate) async fn forget(&self, trigger: &str) -> Result<()> {
        let entries = vec![JournalAppend::tombstone(COUNTS, trigger)];
        self.store.apply(WriteBatch { entries, ..WriteBatch::default() }).await?;
        Ok(())
    }

    /// Removes events that are done, except the newest `done_kept` events.
    pub(crate) async fn trim(&self, done_kept: usize) -> Result<()> {
        // Keep events that are recorded during the removal: their ids are greater than `fence`.
        let fence = self.jobs.new_id().to_string();
        let mut done = ReverseScan::new(DONE, None, None);
        let mut oldest = None;
        for _ in 0..done_kept {
            if done.peek(&*self.store).await?.is_none() {
                break;
            }
            oldest = done.pop().map(|entry| entry.key);
        }
        let Some(oldest) = oldest.filter(|oldest| *oldest < fence) else { return Ok(()) };
        // A waiting event has an id but no delivery yet. Read the waiting events before the
        // deliveries: one of the two reads then finds an event that moves meanwhile.
        let until = match self.oldest_waiting().await? {
            Some(waiting) => waiting.min(oldest),
            None => oldest,
        };
        let range = KeyRange { until: Some(until.clone()), ..KeyRange::default() };
        self.store.trim(DONE, &range).await?;
        let kept = read_all(&*self.store, OPEN, "").await?;
        let kept: Vec<String> = kept.into_iter().map(|entry| entry.key).collect();
        for range in gaps(&kept, &until) {
            self.store.trim(OPEN, &range).await?;
            self.store.trim(EVENTS, &range).await?;
            self.store.trim(BATCH_RESULTS, &range).await?;
        }
        Ok(())
    }
}

fn removal(event: &str) -> Vec<JournalAppend> {
    vec![JournalAppend::tombstone(OPEN, event), JournalAppend::tombstone(EVENTS, event)]
}

/// Returns the hexadecimal digits of an id in lower case, without hyphens.
pub(crate) fn digits(text: &str) -> String {
    text.trim().chars().filter(|c| *c != '-').map(|c| c.to_ascii_lowercase()).collect()
}

/// Returns the ranges of keys before `until` that contain neither a key in `kept` nor the parts of
/// its event: a running event may be divided meanwhile.
fn gaps(kept: &[String], until: &str) -> Vec<KeyRange> {
    let mut gaps = Vec::new();
    let mut from: Option<String> = None;
    let recorded = kept.iter().filter_map(|key| key.split('.').next());
    for id in recorded.filter(|id| *id < until).chain([until]) {
        if from.as_deref().is_none_or(|from| from < id) {
            let until = Some(id.to_owned());
            gaps.push(KeyRange { from, until, ..KeyRange::default() });
        }
        // The ids of parts begin with `ID.`.
        from = Some(format!("{id}/"));
    }
    gaps
}

#[cfg(test)]
mod tests {
    use headwater_jobs::JobsOptions;
    use headwater_model::SystemClock;
    use headwater_store::MemoryStore;

    use super::*;
    use crate::event_ingestion::{BATCHES, prefix};

    #[tokio::test]
    async fn a_trim_keeps_events_that_wait() {
        let store: Arc<dyn Store> = Arc::new(MemoryStore::new());
        let jobs = Jobs::open(store.clone(), Arc::new(SystemClock), JobsOptions::default());
        let log = DeliveryLog::new(jobs.await.expect("jobs"), store.clone());
        let ids: Vec<String> = log.jobs.new_ids(4).iter().map(ToString::to_string).collect();
        let value = || bytes::Bytes::from_static(b"{}");
        // The second event waits in the second queue; the others are done.
        let waiting = format!("{}{}/1", prefix("/functions/b"), ids[1]);
        let later = format!("{}{}/1", prefix("/functions/a"), ids[3]);
        let mut entries: Vec<JournalAppend> =
            ids.iter().map(|id| JournalAppend::put(EVENTS, id, value())).collect();
        entries.extend([0, 2, 3].map(|index| JournalAppend::put(DONE, &ids[index], value())));
        entries.extend([&later, &waiting].map(|key| JournalAppend::put(BATCHES, key, value())));
        store.apply(WriteBatch { entries, ..WriteBatch::default() }).await.expect("applied");
        assert_eq!(log.oldest_waiting().await.expect("an id").as_ref(), Some(&ids[1]));

        let events = async || {
            let stored = read_all(&*store, EVENTS, "").await.expect("events");
            stored.into_iter().map(|entry| entry.key).collect::<Vec<_>>()
        };
        log.trim(1).await.expect("a trim");
        assert_eq!(events().await, ids[1..]);
        // Without a waiting event, all events before the newest one are removed.
        let entries = vec![JournalAppend::tombstone(BATCHES, &waiting)];
        store.apply(WriteBatch { entries, ..WriteBatch::default() }).await.expect("applied");
        log.trim(1).await.expect("a trim");
        assert_eq!(events().await, ids[3..]);
    }
}
