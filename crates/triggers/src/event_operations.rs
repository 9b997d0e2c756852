//! Operations on events: list, show, replay, remove.
//!
//! An open event waits in a batch of its queue, or has a delivery. In both states it is listed and
//! shown as pending, and can be replayed and removed.

use std::collections::BTreeSet;
use std::sync::Arc;

use headwater_model::{Event, JobId, TriggerEvent, TriggerEventStatus};
use headwater_store::{Error as StoreError, JournalEntry, ReverseScan};

use crate::delivery_log::{DONE, Delivery, OPEN, digits};
use crate::event_queue::EventQueue;
use crate::journal_codec::decode;
use crate::waiting_events::WaitingScan;
use crate::{Error, Result, TriggerEventFilter, Triggers};

/// Maximum total size of the events in one list, in bytes; the list ends at the next event.
const LISTED_BYTES_MAX: usize = 64 << 20;

/// Number of events of a removed trigger that are listed and deleted at a time.
const FORGOTTEN_MAX: usize = 1_000;

/// Runs work as a task, so that the queue in memory is updated even if the caller is cancelled.
pub(crate) async fn to_end<T: Send + 'static>(
    work: impl Future<Output = Result<T>> + Send + 'static,
) -> Result<T> {
    tokio::spawn(work).await.unwrap_or(Err(Error::Store(StoreError::Closed)))
}

/// Returns the size of an event as JSON.
fn size(event: &TriggerEvent) -> usize {
    serde_json::to_vec(event).map_or(0, |text| text.len())
}

impl Triggers {
    /// Returns events, newest first. A list ends after 64 MiB of events.
    pub async fn events(&self, filter: &TriggerEventFilter) -> Result<Vec<TriggerEvent>> {
        self.events_visible(filter, &|_| true).await
    }

    /// Returns the events that a user may see, newest first. The limit of the filter applies to the
    /// visible events.
    pub async fn events_visible(
        &self,
        filter: &TriggerEventFilter,
        is_visible: &(dyn Fn(&TriggerEvent) -> bool + Sync),
    ) -> Result<Vec<TriggerEvent>> {
        let store = &*self.inner.log.store;
        let mut scans = vec![ReverseScan::new(OPEN, None, None)];
        if filter.statuses.is_empty() || filter.statuses.contains(&TriggerEventStatus::Done) {
            scans.push(ReverseScan::new(DONE, None, None));
        }
        let mut waiting = self.waiting_scans(filter);
        let (mut events, mut bytes) = (Vec::new(), 0);
        while events.len() < filter.limit && bytes < LISTED_BYTES_MAX {
            let mut newest = None;
            for scan in &mut scans {
                newest = newest.max(scan.peek(store).await?.map(|entry| entry.key.clone()));
            }
            for scan in &mut waiting {
                newest = newest.max(scan.peek(store).await?.map(str::to_owned));
            }
            let Some(newest) = newest else { break };
            // An event may move to another journal meanwhile, and so be in several scans. Take it
            // only once.
            let waits = waiting.iter_mut().filter_map(|scan| scan.pop_id(&newest)).last();
            let entry = scans.iter_mut().filter_map(|scan| scan.pop_key(&newest)).last();
            let listed = match (entry, waits) {
                (Some(entry), _) => self.listed(&entry, filter).await,
                (None, Some((event, delivery))) if filter.admits(&delivery) => {
                    Ok(Some(delivery.of(event)))
                }
                (None, _) => Ok(None),
            };
            match listed {
                Ok(event) => {
                    let visible = event.filter(is_visible);
                    bytes += visible.as_ref().map_or(0, size);
                    events.extend(visible);
                }
                Err(error @ (Error::EventNotFound { .. } | Error::Corrupt { .. })) => {
                    tracing::warn!(%error, "skipping a trigger event that cannot be read");
                }
                Err(error) => return Err(error),
            }
        }
        match &filter.trigger {
            Some(name) if events.is_empty() && !self.is_known(name) => Err(self.no_trigger(name)),
            _ => Ok(events),
        }
    }

    /// Returns true if a trigger or a queue of calls has this name.
    fn is_known(&self, name: &str) -> bool {
        self.inner.workers.lock().contains_key(name) || self.inner.queues.lock().contains_key(name)
    }

    /// Returns scans of the waiting events that the filter can select.
    fn waiting_scans(&self, filter: &TriggerEventFilter) -> Vec<WaitingScan> {
        let statuses = &filter.statuses;
        if !statuses.is_empty() && !statuses.contains(&TriggerEventStatus::Pending) {
            return Vec::new();
        }
        let queues = self.inner.queues.lock();
        let selected = queues.iter().filter(|(name, queue)| {
            let is_named = filter.trigger.as_ref().is_none_or(|trigger| trigger == *name);
            is_named && queue.intake.waiting() > 0
        });
        selected.map(|(name, _)| WaitingScan::new(name.clone())).collect()
    }

    /// Returns the event of a stored delivery if it matches the filter.
    async fn listed(
        &self,
        stored: &JournalEntry,
        filter: &TriggerEventFilter,
    ) -> Result<Option<TriggerEvent>> {
        let delivery = self.current(decode(OPEN, &stored.key, &stored.value)?);
        if !filter.admits(&delivery) {
            return Ok(None);
        }
        self.inner.log.with_event(delivery).await.map(Some)
    }

    /// Returns the event whose id equals, begins with or ends with this text.
    pub async fn event(&self, text: &str) -> Result<TriggerEvent> {
        for (name, _, id) in self.queues_with_waiting(text) {
            if let Some((event, delivery)) = self.inner.log.waiting_event(&name, id).await? {
                return Ok(delivery.of(event));
            }
        }
        let delivery = self.delivery(text).await?;
        self.inner.log.with_event(delivery).await
    }

    /// Returns the queues that may contain a waiting event with this id: name, queue, parsed id.
    fn queues_with_waiting(&self, id: &str) -> Vec<(String, Arc<EventQueue>, JobId)> {
        let Ok(id) = id.parse::<JobId>() else { return Vec::new() };
        let queues = self.inner.queues.lock();
        let waiting = queues.iter().filter(|(_, queue)| queue.intake.waiting() > 0);
        waiting.map(|(name, queue)| (name.clone(), queue.clone(), id)).collect()
    }

    /// Queues a waiting event. With an order key, it continues to wait, to preserve the order.
    async fn replay_waiting(&self, text: &str) -> Result<Option<TriggerEvent>> {
        let log = &self.inner.log;
        for (name, queue, id) in self.queues_with_waiting(text) {
            let Some((event, delivery)) = log.waiting_event(&name, id).await? else { continue };
            if delivery.key.is_some() {
                return Ok(Some(delivery.of(event)));
            }
            if let Some((event, delivery)) = self.take_waiting(&name, &queue, id, true).await? {
                return Ok(Some(delivery.of(event)));
            }
        }
        Ok(None)
    }

    /// Removes a waiting event from its journal entry. If `queues` is true, queues its delivery.
    async fn take_waiting(
        &self,
        name: &str,
        queue: &EventQueue,
        id: JobId,
        queues: bool,
    ) -> Result<Option<(Event, Delivery)>> {
        let also = |event: &Event, delivery: &Delivery| {
            if queues { delivery.new_entries(event) } else { Ok(Vec::new()) }
        };
        let taken = queue.intake.take(&self.inner.log, name, id, also).await;
        match &taken {
            Ok(Some((_, delivery))) if queues => queue.push(delivery.clone()),
            Ok(_) => {}
            // The store may have applied the batch despite the error, so read the store again.
            Err(_) => queue.set_uncertain(),
        }
        taken
    }

    /// Delivers an event again. A failed event starts over with its first attempt, and a pending
    /// event becomes due immediately. A waiting event without an order key is queued immediately.
    ///
    /// Errors: `event_not_found`; `trigger_not_found` if its trigger is not defined;
    /// `invalid_argument` if the event is running or done.
    pub async fn replay(&self, text: &str) -> Result<TriggerEvent> {
        let (triggers, text) = (self.clone(), text.to_owned());
        to_end(async move { triggers.replay_now(&text).await }).await
    }

    async fn replay_now(&self, text: &str) -> Result<TriggerEvent> {
        if let Some(event) = self.replay_waiting(text).await? {
            return Ok(event);
        }
        let delivery = self.delivery(text).await?;
        let queue = &self.queue_of(&delivery).await?;
        let refused = |status| Error::EventNotReplayable { id: delivery.event.clone(), status };
        let replayed = match delivery.status {
            TriggerEventStatus::Running => return Err(refused("running")),
            TriggerEventStatus::Done => return Err(refused("done")),
            TriggerEventStatus::Pending => {
                let now = self.inner.options.clock.now();
                queue.expedite(&delivery.event, now).unwrap_or(delivery)
            }
            TriggerEventStatus::Failed if queue.take_failed(&delivery.event) => {
                self.start_over(queue, delivery).await?
            }
            TriggerEventStatus::Failed => return Err(refused("being replayed")),
        };
        self.inner.log.with_event(replayed).await
    }

    /// Removes an event that is waiting, pending or failed, so that it is never delivered.
    ///
    /// Errors: `event_not_found`; `invalid_argument` if the event is running or done.
    pub async fn remove(&self, text: &str) -> Result<TriggerEvent> {
        let (triggers, text) = (self.clone(), text.to_owned());
        to_end(async move { triggers.remove_now(&text).await }).await
    }

    async fn remove_now(&self, text: &str) -> Result<TriggerEvent> {
        for (name, queue, id) in self.queues_with_waiting(text) {
            if let Some((event, delivery)) = self.take_waiting(&name, &queue, id, false).await? {
                return Ok(delivery.of(event));
            }
        }
        let delivery = self.delivery(text).await?;
        let refused = |status| Error::EventNotRemovable { id: delivery.event.clone(), status };
        match delivery.status {
            TriggerEventStatus::Running => return Err(refused("running")),
            TriggerEventStatus::Done => return Err(refused("done")),
            TriggerEventStatus::Pending | TriggerEventStatus::Failed => {}
        }
        let event = self.inner.log.with_event(delivery.clone()).await?;
        let queue = self.queue(&delivery.trigger).await?;
        let id = &delivery.event;
        if !queue.take_failed(id) && queue.take_pending(id).is_none() {
            return Err(refused("running"));
        }
        if let Err(error) = self.inner.log.remove(id).await {
            queue.restore(delivery);
            return Err(error);
        }
        Ok(event)
    }

    /// Deletes the pending and failed events of a removed trigger, and its count of delivered
    /// events. A running event is not stopped; it is deleted after the attempt, unless the attempt
    /// succeeds. The record of the files for which the trigger fired is kept, so a new trigger with
    /// the same name does not fire for them again.
    pub async fn forget(&self, trigger: &str) -> Result<()> {
        if let Some(queue) = self.inner.queues.lock().get(trigger) {
            queue.abandon_running();
        }
        let filter = TriggerEventFilter {
            statuses: vec![TriggerEventStatus::Pending, TriggerEventStatus::Failed],
            trigger: Some(trigger.to_owned()),
            limit: FORGOTTEN_MAX,
        };
        // Keep events that are recorded during the deletion: their ids are greater than `fence`.
        let fence = self.inner.log.jobs.new_id().to_string();
        let mut skipped: BTreeSet<String> = BTreeSet::new();
        loop {
            let is_left =
                |event: &TriggerEvent| event.event.id < fence && !skipped.contains(&event.event.id);
            let events = match self.events_visible(&filter, &is_left).await {
                Err(Error::TriggerNotFound { .. }) => Vec::new(),
                events => events?,
            };
            if events.is_empty() {
                break;
            }
            // Keep only the ids, because the events may be large.
            let ids: Vec<String> = events.into_iter().map(|event| event.event.id).collect();
            for id in ids {
                match self.remove(&id).await {
                    Ok(_) => {}
                    // The event started or ended in the meantime.
                    Err(Error::EventNotRemovable { .. } | Error::EventNotFound { .. }) => {
                        skipped.insert(id);
                    }
                    Err(error) => return Err(error),
                }
            }
        }
        self.inner.log.forget(trigger).await?;
        if self.inner.workers.lock().contains_key(trigger) {
            // The trigger is still active and uses the queue.
            return Ok(());
        }
        let mut queues = self.inner.queues.lock();
        if queues.get(trigger).is_some_and(|queue| queue.open_count() == 0) {
            queues.remove(trigger);
        }
        Ok(())
    }

    async fn start_over(&self, queue: &EventQueue, failed: Delivery) -> Result<Delivery> {
        let now = self.inner.options.clock.now();
        let pending = Delivery {
            status: TriggerEventStatus::Pending,
            due: now,
            attempts: 0,
            replayed: Some(now),
            ..failed.clone()
        };
        if let Err(error) = self.inner.log.store_open(std::slice::from_ref(&pending)).await {
            queue.update(failed);
            return Err(error);
        }
        queue.update(pending.clone());
        Ok(pending)
    }

    /// Returns the delivery of the event whose id equals, begins with or ends with this text.
    async fn delivery(&self, text: &str) -> Result<Delivery> {
        let log = &self.inner.log;
        if let Some(delivery) = log.delivery(text).await? {
            return Ok(self.current(delivery));
        }
        let wanted = digits(text);
        let mut found = BTreeSet::new();
        for journal in [OPEN, DONE] {
            let mut deliveries = ReverseScan::new(journal, None, None);
            while deliveries.peek(&*log.store).await?.is_some() {
                let key = deliveries.pop().map(|entry| entry.key).unwrap_or_default();
                let id = digits(&key);
                if !wanted.is_empty() && (id.starts_with(&wanted) || id.ends_with(&wanted)) {
                    found.insert(key);
                }
            }
        }
        let several = found.len() > 1;
        let not_found = || Error::EventNotFound { id: text.to_owned(), several };
        let id = found.pop_first().filter(|_| !several).ok_or_else(not_found)?;
        let delivery = log.delivery(&id).await?.ok_or_else(not_found)?;
        Ok(self.current(delivery))
    }

    /// Returns the state of a delivery in memory, which may be newer than `delivery`, as stored.
    fn current(&self, delivery: Delivery) -> Delivery {
        let queue = self.inner.queues.lock().get(&delivery.trigger).cloned();
        queue.and_then(|queue| queue.open(&delivery.event)).unwrap_or(delivery)
    }
}
