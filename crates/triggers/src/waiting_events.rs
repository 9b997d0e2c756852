//! The events of one queue that wait in the journal `trigger_batches`, and the ids of recently
//! accepted events.
//!
//! The entries of the journal are listed in memory, each with its user. While a user's limit is
//! reached, the entries of this user need not be read.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use headwater_event_values::{IdHash, RecentIds};
use headwater_model::{Event, JobId, Timestamp};
use headwater_store::{JournalAppend, KeyRange, Store, WriteBatch};
use parking_lot::Mutex;
use serde::Deserialize;
use tokio::sync::Notify;

use crate::delivery_log::{Delivery, DeliveryLog};
use crate::event_ingestion::{
    BATCHES, IDS, NewEntry, WaitingEntry, decode_ids, entry_key, parse_key, prefix,
    stored_deliveries,
};
use crate::event_source::SourceContext;
use crate::journal_codec::{decode, read_all};
use crate::occurrence_source::readable;
use crate::{Error, Result};

/// Number of entries that are read at once.
const PAGE: usize = 16;

/// An entry of the journal, as it is listed in memory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ListedEntry {
    /// Number of events.
    pub events: usize,
    /// The user that sent the events; `None` for the lake's owner.
    pub user: Option<Arc<str>>,
}

/// The part of a stored entry that a [`ListedEntry`] is made from.
#[derive(Deserialize)]
struct EntryHead {
    call: CallHead,
}

#[derive(Deserialize)]
struct CallHead {
    #[serde(default)]
    user: Option<String>,
}

#[derive(Debug, Default)]
struct WaitingByUser {
    by_user: BTreeMap<Option<Arc<str>>, EntriesOfUser>,
    /// Number of events of all users.
    events: usize,
}

#[derive(Debug, Default)]
struct EntriesOfUser {
    /// The number of events of each entry, by the id of its first event.
    by_first: BTreeMap<JobId, usize>,
    /// Number of the user's events.
    events: usize,
}

/// The waiting events of one queue, and the ids of the events that it recently accepted.
#[derive(Debug, Default)]
pub(crate) struct CallQueue {
    listed: Mutex<WaitingByUser>,
    /// True if the store may contain an entry that is not listed.
    is_uncertain: AtomicBool,
    /// Lock that is held while an entry is removed or replaced.
    changes: tokio::sync::Mutex<()>,
    ids: Mutex<RecentIds>,
    /// Notified when the ids of a batch are no longer reserved: it was stored or rejected.
    ended: Notify,
    /// True if the ids in memory include all stored ids.
    is_loaded: tokio::sync::Mutex<bool>,
}

impl CallQueue {
    /// Returns the number of events that wait.
    pub(crate) fn waiting(&self) -> usize {
        self.listed.lock().events
    }

    /// Returns the number of a user's events that wait.
    pub(crate) fn waiting_of(&self, user: Option<&str>) -> usize {
        let user = user.map(Arc::from);
        self.listed.lock().by_user.get(&user).map_or(0, |entries| entries.events)
    }

    /// Adds stored entries to the list.
    pub(crate) fn list(&self, entries: impl IntoIterator<Item = (JobId, ListedEntry)>) {
        let mut listed = self.listed.lock();
        for (first, ListedEntry { events, user }) in entries {
            let entries = listed.by_user.entry(user).or_default();
            let before = entries.by_first.insert(first, events).unwrap_or_default();
            entries.events = entries.events + events - before;
            listed.events = listed.events + events - before;
        }
    }

    /// Removes an entry from the list.
    fn unlist(&self, first: JobId, user: Option<&Arc<str>>) {
        let mut listed = self.listed.lock();
        let user = user.cloned();
        let Some(entries) = listed.by_user.get_mut(&user) else { return };
        let removed = entries.by_first.remove(&first).unwrap_or_default();
        entries.events -= removed;
        if entries.by_first.is_empty() {
            listed.by_user.remove(&user);
        }
        listed.events -= removed;
    }

    /// Returns the oldest entry whose user is selected.
    fn oldest(&self, is_selected: impl Fn(Option<&str>) -> bool) -> Option<(JobId, ListedEntry)> {
        let listed = self.listed.lock();
        let selected = listed.by_user.iter().filter(|(user, _)| is_selected(user.as_deref()));
        let first = selected
            .filter_map(|(user, entries)| Some((entries.by_first.first_key_value()?, user)));
        let ((first, events), user) = first.min_by_key(|((first, _), _)| **first)?;
        Some((*first, ListedEntry { events: *events, user: user.clone() }))
    }

    /// Records that the store may contain an entry that is not listed.
    pub(crate) fn set_uncertain(&self) {
        self.is_uncertain.store(true, Ordering::Relaxed);
    }

    /// Reads the entries that are stored but not listed: the store may have applied a batch
    /// although it returned an error.
    pub(crate) async fn catch_up(&self, context: &SourceContext) -> Result<()> {
        if !self.is_uncertain.swap(false, Ordering::Relaxed) {
            return Ok(());
        }
        let _guard = self.changes.lock().await;
        let stored = context.log.waiting(&prefix(&context.trigger)).await;
        let stored = stored.inspect_err(|_| self.set_uncertain())?;
        self.list(stored.into_iter().map(|(_, first, entry)| (first, entry)));
        Ok(())
    }

    /// Queues the deliveries of all events in the oldest entry whose user is selected. Returns
    /// false if there is no such entry.
    pub(crate) async fn queue_next(
        &self,
        context: &SourceContext,
        is_selected: impl Fn(Option<&str>) -> bool,
    ) -> Result<bool> {
        let _guard = self.changes.lock().await;
        let queue = &context.trigger;
        let Some((first, listed)) = self.oldest(is_selected) else { return Ok(false) };
        let key = entry_key(queue, first, listed.events);
        let Some(entry) = context.store().latest(BATCHES, &key).await? else {
            // A batch that the store applied despite an error has removed or replaced this entry.
            self.unlist(first, listed.user.as_ref());
            self.set_uncertain();
            return Ok(true);
        };
        let deliveries = stored_deliveries(context, &entry, first);
        let mut entries = vec![JournalAppend::tombstone(BATCHES, &key)];
        for (event, delivery) in &deliveries {
            entries.extend(delivery.new_entries(event)?);
        }
        // Not synced: after a power failure, the durable entry is read and queued again.
        context
            .store()
            .apply(WriteBatch { entries, relaxed: true, ..WriteBatch::default() })
            .await?;
        for (_, delivery) in deliveries {
            context.queue.push(delivery);
        }
        // Remove the entry from the list only after its events are queued. Otherwise, a call with
        // an order key could overtake these events.
        self.unlist(first, listed.user.as_ref());
        context.log.trim_waiting(&key).await?;
        Ok(true)
    }

    /// Takes a waiting event out of its stored entry. The same batch of the store writes the
    /// journal entries that `also` returns. Returns `None` if the event does not wait.
    pub(crate) async fn take(
        &self,
        log: &DeliveryLog,
        queue: &str,
        id: JobId,
        also: impl FnOnce(&Event, &Delivery) -> Result<Vec<JournalAppend>> + Send,
    ) -> Result<Option<(Event, Delivery)>> {
        let _guard = self.changes.lock().await;
        let Some((key, mut waiting)) = log.waiting_entry(queue, id).await? else { return Ok(None) };
        let Some(first) = waiting.events.first().map(|event| event.id) else { return Ok(None) };
        let Some((event, delivery)) = waiting.find(queue, id) else { return Ok(None) };
        waiting.events.retain(|event| event.id != id);
        let rest = NewEntry { call: &waiting.call, time: waiting.time, events: &waiting.events };
        let mut entries = vec![JournalAppend::tombstone(BATCHES, &key)];
        entries.extend(rest.append(queue)?);
        entries.extend(also(&event, &delivery)?);
        let applied = log.store.apply(WriteBatch { entries, ..WriteBatch::default() }).await;
        // The store may have applied the batch despite the error, so the stored events must be read
        // again.
        applied.inspect_err(|_| self.set_uncertain())?;
        self.unlist(first, rest.listed().user.as_ref());
        self.list(rest.events.first().map(|event| (event.id, rest.listed())));
        if let Err(error) = log.trim_waiting(&key).await {
            // The tombstone uses space, but has no effect.
            tracing::warn!(%error, "the deletion marker of a waiting event cannot be removed");
        }
        Ok(Some((event, delivery)))
    }

    /// Reads the stored ids of recent events, unless they have been read.
    pub(crate) async fn load(&self, context: &SourceContext) -> Result<()> {
        let mut is_loaded = self.is_loaded.lock().await;
        if !*is_loaded {
            let prefix = prefix(&context.trigger);
            for entry in read_all(context.store(), IDS, &prefix).await? {
                let (time, ids) = decode_ids(&entry.value).ok_or_else(|| Error::Corrupt {
                    journal: IDS.to_owned(),
                    key: entry.key.clone(),
                    reason: "it has a wrong length".to_owned(),
                })?;
                self.ids.lock().add(entry.key, time, ids);
            }
            *is_loaded = true;
        }
        Ok(())
    }

    /// Reserves ids. Waits until earlier batches with the same ids are stored or rejected.
    pub(crate) async fn reserve(&self, hashes: &[IdHash], events: &[JobId]) -> Vec<Option<JobId>> {
        loop {
            let ended = self.ended.notified();
            tokio::pin!(ended);
            // Register now, so that no later notification is missed.
            ended.as_mut().enable();
            if let Some(earlier) = self.ids.lock().reserve(hashes, events) {
                return earlier;
            }
            ended.await;
        }
    }

    /// Records the ids of a batch as accepted, because the batch is stored. `key` is the key of the
    /// journal entry with these ids.
    pub(crate) fn publish_ids(&self, key: String, time: Timestamp, hashes: Vec<IdHash>) {
        self.ids.lock().publish(key, time, hashes);
        self.ended.notify_waiters();
    }

    /// Releases the ids of a batch for which the store returned an error. The store may have
    /// applied the batch nevertheless, so the stored ids are loaded again.
    pub(crate) async fn release_ids(&self, hashes: &[IdHash]) {
        self.ids.lock().release(hashes);
        *self.is_loaded.lock().await = false;
        self.set_uncertain();
        self.ended.notify_waiters();
    }

    /// Removes the ids of events that are older than the retention time.
    pub(crate) async fn expire(&self, context: &SourceContext) -> Result<()> {
        let expired = self.ids.lock().expire(context.now());
        let Some(last) = expired else { return Ok(()) };
        let range = KeyRange::with_prefix(prefix(&context.trigger)).until(format!("{last}\0"));
        Ok(context.store().trim(IDS, &range).await.map(drop)?)
    }
}

impl DeliveryLog {
    /// Returns the entries whose keys have a prefix: queue, id of the first event, and entry.
    pub(crate) async fn waiting(&self, prefix: &str) -> Result<Vec<(String, JobId, ListedEntry)>> {
        let mut waiting = Vec::new();
        let mut from = None;
        loop {
            let range = KeyRange { from, limit: PAGE, ..KeyRange::with_prefix(prefix.to_owned()) };
            let page = self.store.scan(BATCHES, &range).await?;
            for entry in &page {
                let Some((queue, first, events)) = parse_key(&entry.key) else { continue };
                let head = decode::<EntryHead>(BATCHES, &entry.key, &entry.value);
                let user = head.ok().and_then(|head| head.call.user).map(Arc::from);
                waiting.push((queue.to_owned(), first, ListedEntry { events, user }));
            }
            let Some(last) = page.last() else { return Ok(waiting) };
            from = Some(format!("{}\0", last.key));
        }
    }

    /// Returns the smallest id of all events that wait, in any queue.
    pub(crate) async fn oldest_waiting(&self) -> Result<Option<String>> {
        // The first key of a queue has the queue's smallest id.
        let first = self.first_keys(BATCHES).await?.into_iter();
        Ok(first.filter_map(|(_, rest)| rest.split('/').next().map(str::to_owned)).min())
    }

    /// Returns the queues with ids of recent events.
    pub(crate) async fn queues_with_ids(&self) -> Result<Vec<String>> {
        Ok(self.first_keys(IDS).await?.into_iter().map(|(queue, _)| queue).collect())
    }

    /// Returns the first key of each queue in a journal, as a pair: the queue, and the rest of the
    /// key.
    async fn first_keys(&self, journal: &str) -> Result<Vec<(String, String)>> {
        let mut found: Vec<(String, String)> = Vec::new();
        loop {
            // Continue after all keys of the last queue, which have the form `QUEUE\nREST`.
            let from = found.last().map(|(queue, _)| format!("{queue}\u{b}"));
            let range = KeyRange { from, limit: 1, ..KeyRange::default() };
            let Some(entry) = self.store.scan(journal, &range).await?.pop() else {
                return Ok(found);
            };
            let (queue, rest) = entry.key.split_once('\n').unwrap_or((entry.key.as_str(), ""));
            found.push((queue.to_owned(), rest.to_owned()));
        }
    }

    /// Returns the entry that can contain a waiting event, with its key.
    async fn waiting_entry(
        &self,
        queue: &str,
        id: JobId,
    ) -> Result<Option<(String, WaitingEntry)>> {
        // The ranges of ids of the entries do not overlap. So only the last entry that begins at or
        // before the id can contain the event.
        let range = KeyRange::with_prefix(prefix(queue)).reverse().limit(1);
        let range = range.until(format!("{}{id}0", prefix(queue)));
        let Some(entry) = self.store.scan(BATCHES, &range).await?.pop() else { return Ok(None) };
        let waiting = decode(BATCHES, &entry.key, &entry.value)?;
        Ok(Some((entry.key, waiting)))
    }

    /// Returns a waiting event of a queue.
    pub(crate) async fn waiting_event(
        &self,
        queue: &str,
        id: JobId,
    ) -> Result<Option<(Event, Delivery)>> {
        let entry = self.waiting_entry(queue, id).await?;
        Ok(entry.and_then(|(_, waiting)| waiting.find(queue, id)))
    }

    /// Removes the tombstone that remains after an entry was deleted.
    async fn trim_waiting(&self, key: &str) -> Result<()> {
        let range = KeyRange::with_prefix(key).until(format!("{key}\0"));
        self.store.trim(BATCHES, &range).await?;
        Ok(())
    }
}

/// The waiting events of one queue, newest first.
pub(crate) struct WaitingScan {
    queue: String,
    /// Events from this key on have been read; `None` at the start.
    until: Option<String>,
    events: Vec<(Event, Delivery)>,
    is_done: bool,
}

impl WaitingScan {
    pub(crate) fn new(queue: String) -> Self {
        WaitingScan { queue, until: None, events: Vec::new(), is_done: false }
    }

    /// Returns the id of the next event.
    pub(crate) async fn peek(&mut self, store: &dyn Store) -> Result<Option<&str>> {
        while self.events.is_empty() && !self.is_done {
            let range = KeyRange {
                until: self.until.take(),
                ..KeyRange::with_prefix(prefix(&self.queue)).reverse().limit(1)
            };
            let Some(entry) = store.scan(BATCHES, &range).await?.pop() else {
                self.is_done = true;
                break;
            };
            if let Some(waiting) = readable::<WaitingEntry>(BATCHES, &entry) {
                self.events = waiting.deliveries(&self.queue);
            }
            self.until = Some(entry.key);
        }
        Ok(self.events.last().map(|(event, _)| event.id.as_str()))
    }

    /// Removes and returns the next event if it has this id.
    pub(crate) fn pop_id(&mut self, id: &str) -> Option<(Event, Delivery)> {
        self.events.pop_if(|(event, _)| event.id == id)
    }
}
