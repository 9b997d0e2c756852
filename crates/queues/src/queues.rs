//! The queues of a lake.
//!
//! | journal | key | value |
//! |---|---|---|
//! | `queues` | queue | its attributes |
//! | `queue_messages` | `QUEUE/ID` | a message |
//! | `queue_deduplication` | `QUEUE/ID` | the message that was sent with this deduplication id |

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use chrono::TimeDelta;
use headwater_model::{Clock, Timestamp};
use headwater_store::{Append, Batch, Entry, KeyRange, Store};
use parking_lot::RwLock;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::message::{NewMessage, ReceivedMessage, SentMessage, StoredMessage, body_md5, sequence};
use crate::queue::{OpenQueue, QueueCounts, QueueInfo};
use crate::state::{Pick, Picked, Slot, State};
use crate::{Error, QueueAttributes, Result};

const QUEUES: &str = "queues";
const MESSAGES: &str = "queue_messages";
const DEDUPLICATION: &str = "queue_deduplication";

/// Maximum number of messages in a queue.
const MESSAGES_MAX: usize = 1_000_000;
/// Entries that are read per request of the store.
const PAGE: usize = 1_000;
/// Deduplication ids in memory after which old ones are removed.
const IDS_MAX: usize = 10_000;

/// The queues of a lake. Clones are handles to the same queues.
#[derive(Clone)]
pub struct Queues {
    store: Arc<dyn Store>,
    clock: Arc<dyn Clock>,
    open: Arc<RwLock<BTreeMap<String, Arc<OpenQueue>>>>,
    /// Held while queues are created, changed or deleted.
    changes: Arc<tokio::sync::Mutex<()>>,
}

/// How to receive messages.
#[derive(Debug, Clone, Copy, Default)]
pub struct ReceiveOptions {
    /// Maximum number of messages.
    pub limit: usize,
    /// Time that the messages are invisible, in seconds; that of the queue by default.
    pub visibility: Option<u32>,
    /// Time to wait for a message, in seconds; that of the queue by default.
    pub wait: Option<u32>,
}

impl std::fmt::Debug for Queues {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Queues").field("queues", &self.open.read().len()).finish()
    }
}

impl Queues {
    /// Reads the queues and the state of their messages.
    pub async fn open(store: Arc<dyn Store>, clock: Arc<dyn Clock>) -> Result<Self> {
        let queues = Queues { store, clock, open: Arc::default(), changes: Arc::default() };
        for entry in queues.scan(QUEUES, "").await? {
            let info: QueueInfo = decode(QUEUES, &entry)?;
            let prefix = format!("{}/", info.name);
            let mut state = State::default();
            for entry in queues.scan(MESSAGES, &prefix).await? {
                let message: StoredMessage = decode(MESSAGES, &entry)?;
                state.messages.insert(message.id.clone(), Slot::of(&message));
            }
            for entry in queues.scan(DEDUPLICATION, &prefix).await? {
                let sent: (String, Timestamp) = decode(DEDUPLICATION, &entry)?;
                state.deduplication.insert(entry.key[prefix.len()..].to_owned(), sent);
            }
            let queue = Arc::new(OpenQueue::new(info.clone(), state));
            queues.forget_ids(&info.name, &queue).await?;
            queues.open.write().insert(info.name, queue);
        }
        Ok(queues)
    }

    /// Creates a queue. An existing queue with the same attributes is not changed.
    pub async fn create(
        &self,
        name: &str,
        given: &BTreeMap<String, String>,
        tags: BTreeMap<String, String>,
    ) -> Result<QueueInfo> {
        let attributes = QueueAttributes::new(name, given)?;
        let _guard = self.changes.lock().await;
        if let Ok(existing) = self.queue(name) {
            let info = existing.info.lock().clone();
            let mut wanted = info.attributes.clone();
            // Only the attributes that are given must be equal.
            wanted.update(given)?;
            let is_equal = wanted == info.attributes;
            return if is_equal { Ok(info) } else { Err(Error::QueueExists { name: name.into() }) };
        }
        self.check_redrive(&attributes)?;
        let now = self.clock.now();
        let info = QueueInfo { name: name.into(), attributes, tags, created: now, modified: now };
        self.put(&info).await?;
        let queue = Arc::new(OpenQueue::new(info.clone(), State::default()));
        self.open.write().insert(name.to_owned(), queue);
        Ok(info)
    }

    fn check_redrive(&self, attributes: &QueueAttributes) -> Result<()> {
        let Some(redrive) = &attributes.redrive else { return Ok(()) };
        let target = self.queue(&redrive.queue)?;
        if target.attributes().is_fifo == attributes.is_fifo {
            return Ok(());
        }
        let reason = "the dead-letter queue of a FIFO queue must be a FIFO queue, and of another \
                      queue must not";
        Err(Error::Invalid { reason: reason.into() })
    }

    /// Returns a queue.
    pub fn get(&self, name: &str) -> Result<QueueInfo> {
        Ok(self.queue(name)?.info.lock().clone())
    }

    /// Returns the queues whose names have a prefix, by name.
    pub fn list(&self, prefix: &str) -> Vec<QueueInfo> {
        let open = self.open.read();
        let listed = open.iter().filter(|(name, _)| name.starts_with(prefix));
        listed.map(|(_, queue)| queue.info.lock().clone()).collect()
    }

    /// Returns the numbers of messages of a queue.
    pub async fn counts(&self, name: &str) -> Result<QueueCounts> {
        let queue = self.queue(name)?;
        self.expire(name, &queue).await?;
        let counts = queue.state.lock().counts(self.clock.now());
        Ok(counts)
    }

    /// Changes attributes of a queue.
    pub async fn set_attributes(&self, name: &str, given: &BTreeMap<String, String>) -> Result<()> {
        let _guard = self.changes.lock().await;
        let queue = self.queue(name)?;
        let mut info = queue.info.lock().clone();
        info.attributes.update(given)?;
        self.check_redrive(&info.attributes)?;
        info.modified = self.clock.now();
        self.put(&info).await?;
        *queue.info.lock() = info;
        queue.arrived.notify_waiters();
        Ok(())
    }

    /// Deletes a queue with its messages.
    pub async fn delete(&self, name: &str) -> Result<()> {
        let _guard = self.changes.lock().await;
        let queue = self.queue(name)?;
        let _storing = queue.storing.write().await;
        let entries = vec![Append::tombstone(QUEUES, name)];
        self.store.apply(Batch { entries, ..Batch::default() }).await?;
        self.open.write().remove(name);
        *queue.state.lock() = State::default();
        queue.arrived.notify_waiters();
        self.trim(name).await
    }

    /// Deletes the messages of a queue.
    pub async fn purge(&self, name: &str) -> Result<()> {
        let queue = self.queue(name)?;
        let _storing = queue.storing.write().await;
        queue.state.lock().messages.clear();
        self.trim_journal(MESSAGES, name).await
    }

    async fn trim(&self, name: &str) -> Result<()> {
        self.trim_journal(MESSAGES, name).await?;
        self.trim_journal(DEDUPLICATION, name).await
    }

    async fn trim_journal(&self, journal: &str, name: &str) -> Result<()> {
        let range = KeyRange { prefix: format!("{name}/"), ..KeyRange::default() };
        self.store.trim(journal, &range).await?;
        Ok(())
    }

    /// Sends messages. They are durable on return. The outcome of each message is returned; an
    /// error of the store applies to all.
    pub async fn send(
        &self,
        name: &str,
        sender: &str,
        messages: Vec<NewMessage>,
    ) -> Result<Vec<Result<SentMessage>>> {
        let queue = self.queue(name)?;
        let attributes = queue.attributes();
        let _order = if attributes.is_fifo { Some(queue.order.lock().await) } else { None };
        let _storing = queue.storing.read().await;
        let count = queue.state.lock().messages.len();
        if count + messages.len() > MESSAGES_MAX {
            return Err(Error::QueueFull { name: name.to_owned(), messages: count });
        }
        let now = self.clock.now();
        let mut outcomes = Vec::with_capacity(messages.len());
        let mut stored = Vec::new();
        let mut ids = HashMap::new();
        let mut entries = Vec::new();
        for message in messages {
            if let Err(error) = message.check(&attributes) {
                outcomes.push(Err(error));
                continue;
            }
            let key = message.deduplication(&attributes);
            let earlier = key.as_ref().and_then(|key| {
                let state = queue.state.lock();
                let known = state.deduplication.get(key).or_else(|| ids.get(key));
                let is_recent = |sent: &Timestamp| *sent + crate::state::DEDUPLICATION >= now;
                known.filter(|(_, sent)| is_recent(sent)).map(|(id, _)| id.clone())
            });
            let id = earlier.clone().unwrap_or_else(|| uuid::Uuid::now_v7().to_string());
            let sequence = attributes.is_fifo.then(|| sequence(&id));
            let body_md5 = body_md5(&message.body);
            outcomes.push(Ok(SentMessage { id: id.clone(), body_md5, sequence }));
            if earlier.is_some() {
                continue;
            }
            if let Some(key) = key.clone() {
                let sent = (id.clone(), now);
                entries.push(Append::put(DEDUPLICATION, format!("{name}/{key}"), encode(&sent)));
                ids.insert(key, sent);
            }
            let delay = message.delay.unwrap_or(attributes.delay);
            let message = StoredMessage {
                id,
                body: message.body,
                attributes: message.attributes,
                sent: now,
                sender: sender.to_owned(),
                group: message.group,
                deduplication_id: key,
                received: 0,
                first_received: None,
                visible: now + TimeDelta::seconds(i64::from(delay)),
                receipt: None,
            };
            entries.push(put_message(name, &message));
            stored.push(message);
        }
        if !entries.is_empty() {
            self.store.apply(Batch { entries, ..Batch::default() }).await?;
        }
        let mut state = queue.state.lock();
        state.deduplication.extend(ids);
        for message in &stored {
            state.messages.insert(message.id.clone(), Slot::of(message));
        }
        let is_crowded = state.deduplication.len() > IDS_MAX;
        drop(state);
        queue.arrived.notify_waiters();
        if is_crowded {
            self.forget_ids(name, &queue).await?;
        }
        Ok(outcomes)
    }

    /// Receives visible messages, and waits for some if there are none.
    pub async fn receive(
        &self,
        name: &str,
        options: ReceiveOptions,
    ) -> Result<Vec<ReceivedMessage>> {
        let queue = self.queue(name)?;
        let wait = options.wait.unwrap_or(queue.attributes().receive_wait);
        let deadline = tokio::time::Instant::now() + Duration::from_secs(u64::from(wait));
        loop {
            let arrived = queue.arrived.notified();
            tokio::pin!(arrived);
            // Notifications from now on are not missed.
            arrived.as_mut().enable();
            let received = self.receive_now(name, &queue, options).await?;
            let left = deadline.saturating_duration_since(tokio::time::Instant::now());
            if !received.is_empty() || left.is_zero() {
                return Ok(received);
            }
            let next = queue.state.lock().next_visible(self.clock.now());
            let next = next.and_then(|next| (next - self.clock.now()).to_std().ok());
            let _ = tokio::time::timeout(next.unwrap_or(left).min(left), arrived).await;
            self.queue(name)?;
        }
    }

    async fn receive_now(
        &self,
        name: &str,
        queue: &OpenQueue,
        options: ReceiveOptions,
    ) -> Result<Vec<ReceivedMessage>> {
        self.expire(name, queue).await?;
        let _storing = queue.storing.read().await;
        let attributes = queue.attributes();
        let visibility = options.visibility.unwrap_or(attributes.visibility_timeout);
        let now = self.clock.now();
        let redrive = attributes.redrive.filter(|redrive| self.queue(&redrive.queue).is_ok());
        let pick = Pick {
            limit: options.limit,
            until: now + TimeDelta::seconds(i64::from(visibility)),
            receive_count_max: redrive.as_ref().map(|redrive| redrive.receive_count_max),
        };
        let Picked { received, dead } = queue.state.lock().pick(now, pick);
        if let Some(redrive) = redrive {
            self.bury(name, queue, &redrive.queue, &dead).await?;
        }
        let mut entries = Vec::with_capacity(received.len());
        let mut answers = Vec::with_capacity(received.len());
        for id in received {
            let key = format!("{name}/{id}");
            let Some(entry) = self.store.latest(MESSAGES, &key).await? else {
                // It was deleted by a batch whose outcome was unknown.
                queue.state.lock().messages.remove(&id);
                continue;
            };
            let mut message: StoredMessage = decode(MESSAGES, &entry)?;
            let Some(slot) = queue.state.lock().messages.get(&id).cloned() else { continue };
            message.received = slot.received;
            message.first_received.get_or_insert(now);
            message.visible = slot.visible;
            message.receipt.clone_from(&slot.receipt);
            entries.push(put_message(name, &message));
            let receipt = format!("{id}/{}", slot.receipt.unwrap_or_default());
            answers.push(ReceivedMessage { message, receipt });
        }
        if !entries.is_empty() {
            // After a power failure the messages are visible earlier, which is allowed.
            self.store.apply(Batch { entries, relaxed: true, ..Batch::default() }).await?;
        }
        Ok(answers)
    }

    /// Moves messages to the dead-letter queue, in one batch.
    async fn bury(
        &self,
        name: &str,
        queue: &OpenQueue,
        target: &str,
        dead: &[String],
    ) -> Result<()> {
        if dead.is_empty() {
            return Ok(());
        }
        let to = self.queue(target)?;
        let mut entries = Vec::new();
        let mut moved = Vec::new();
        for id in dead {
            let key = format!("{name}/{id}");
            let Some(entry) = self.store.latest(MESSAGES, &key).await? else { continue };
            let mut message: StoredMessage = decode(MESSAGES, &entry)?;
            (message.visible, message.receipt) = (self.clock.now(), None);
            message.received = 0;
            entries.push(Append::tombstone(MESSAGES, key));
            entries.push(put_message(target, &message));
            moved.push(message);
        }
        let _storing = to.storing.read().await;
        self.store.apply(Batch { entries, ..Batch::default() }).await?;
        for message in moved {
            queue.state.lock().messages.remove(&message.id);
            to.state.lock().messages.insert(message.id.clone(), Slot::of(&message));
        }
        to.arrived.notify_waiters();
        Ok(())
    }

    /// Deletes messages by the receipts of their receptions. A receipt of an earlier reception, or
    /// of a message that was deleted, has no effect.
    pub async fn delete_messages(
        &self,
        name: &str,
        receipts: &[String],
    ) -> Result<Vec<Result<()>>> {
        let queue = self.queue(name)?;
        let _storing = queue.storing.read().await;
        let mut entries = Vec::new();
        let mut ids = Vec::new();
        let mut outcomes = Vec::with_capacity(receipts.len());
        for receipt in receipts {
            outcomes.push(parse_receipt(receipt).map(|(id, reception)| {
                let state = queue.state.lock();
                let slot = state.messages.get(id);
                if slot.is_some_and(|slot| slot.receipt.as_deref() == Some(reception)) {
                    entries.push(Append::tombstone(MESSAGES, format!("{name}/{id}")));
                    ids.push(id.to_owned());
                }
            }));
        }
        if !entries.is_empty() {
            self.store.apply(Batch { entries, ..Batch::default() }).await?;
        }
        for id in ids {
            queue.state.lock().messages.remove(&id);
        }
        // The next messages of a group may be visible now.
        queue.arrived.notify_waiters();
        Ok(outcomes)
    }

    /// Changes the time that a received message is invisible, from now on.
    pub async fn change_visibility(&self, name: &str, receipt: &str, seconds: u32) -> Result<()> {
        let queue = self.queue(name)?;
        let _storing = queue.storing.read().await;
        let (id, reception) = parse_receipt(receipt)?;
        let now = self.clock.now();
        let until = now + TimeDelta::seconds(i64::from(seconds));
        {
            let mut state = queue.state.lock();
            let slot = state.messages.get_mut(id);
            let slot = slot.filter(|slot| slot.receipt.as_deref() == Some(reception));
            let slot = slot.filter(|slot| slot.visible > now);
            let slot = slot.ok_or_else(|| Error::NotInFlight { id: id.to_owned() })?;
            slot.visible = until;
        }
        let key = format!("{name}/{id}");
        if let Some(entry) = self.store.latest(MESSAGES, &key).await? {
            let message: StoredMessage = decode(MESSAGES, &entry)?;
            let message = StoredMessage { visible: until, ..message };
            let entries = vec![put_message(name, &message)];
            self.store.apply(Batch { entries, relaxed: true, ..Batch::default() }).await?;
        }
        queue.arrived.notify_waiters();
        Ok(())
    }

    fn queue(&self, name: &str) -> Result<Arc<OpenQueue>> {
        let found = self.open.read().get(name).cloned();
        found.ok_or_else(|| Error::QueueNotFound { name: name.to_owned() })
    }

    async fn put(&self, info: &QueueInfo) -> Result<()> {
        let entries = vec![Append::put(QUEUES, &info.name, encode(info))];
        self.store.apply(Batch { entries, ..Batch::default() }).await?;
        Ok(())
    }

    /// Deletes messages that are older than the retention of the queue.
    async fn expire(&self, name: &str, queue: &OpenQueue) -> Result<()> {
        let retention = i64::from(queue.attributes().retention);
        let before = self.clock.now() - TimeDelta::seconds(retention);
        let expired = queue.state.lock().expire(before);
        self.remove(MESSAGES, name, expired).await
    }

    async fn forget_ids(&self, name: &str, queue: &OpenQueue) -> Result<()> {
        let old = queue.state.lock().forget_ids(self.clock.now());
        self.remove(DEDUPLICATION, name, old).await
    }

    async fn remove(&self, journal: &str, name: &str, ids: Vec<String>) -> Result<()> {
        if ids.is_empty() {
            return Ok(());
        }
        let entry = |id: String| Append::tombstone(journal, format!("{name}/{id}"));
        let entries = ids.into_iter().map(entry).collect();
        self.store.apply(Batch { entries, relaxed: true, ..Batch::default() }).await?;
        Ok(())
    }

    async fn scan(&self, journal: &str, prefix: &str) -> Result<Vec<Entry>> {
        let mut entries: Vec<Entry> = Vec::new();
        loop {
            let range = KeyRange {
                prefix: prefix.to_owned(),
                from: entries.last().map(|last| format!("{}\0", last.key)),
                limit: PAGE,
                ..KeyRange::default()
            };
            let page = self.store.scan(journal, &range).await?;
            let is_last = page.len() < PAGE;
            entries.extend(page);
            if is_last {
                return Ok(entries);
            }
        }
    }
}

fn put_message(queue: &str, message: &StoredMessage) -> Append {
    Append::put(MESSAGES, format!("{queue}/{}", message.id), encode(message))
}

fn parse_receipt(receipt: &str) -> Result<(&str, &str)> {
    let invalid = || Error::InvalidReceipt { receipt: receipt.chars().take(100).collect() };
    let (id, reception) = receipt.split_once('/').ok_or_else(invalid)?;
    let is_id = |text: &str| uuid::Uuid::parse_str(text).is_ok();
    if is_id(id) && is_id(reception) { Ok((id, reception)) } else { Err(invalid()) }
}

fn encode(value: &impl Serialize) -> Bytes {
    // Texts, numbers and times always have a JSON form.
    serde_json::to_vec(value).unwrap_or_default().into()
}

fn decode<T: DeserializeOwned>(journal: &'static str, entry: &Entry) -> Result<T> {
    serde_json::from_slice(&entry.value).map_err(|error| Error::Corrupt {
        journal,
        key: entry.key.clone(),
        reason: error.to_string(),
    })
}
