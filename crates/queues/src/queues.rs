//! The queues of a lake: create, change, list and delete them.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use headwater_model::Clock;
use headwater_store::{JournalAppend, Store, WriteBatch};
use parking_lot::RwLock;

use crate::journal::{
    DEDUPLICATION, MESSAGES, QUEUES, RECEPTIONS, decode, encode, parse_key, scan, trim,
};
use crate::message::{DeliveryState, StoredMessage};
use crate::message_state::{MessagePhase, MessageState};
use crate::queue::{OpenQueue, QueueCounts, QueueRecord};
use crate::queue_state::{DeduplicationEntry, QueueState};
use crate::receive::restore;
use crate::{Error, QueueAttributes, Result};

/// Number of deleted messages of a queue after which the journal entries of these messages are
/// removed.
const GONE_MAX: usize = 500;

/// Maximum number of tags of a queue.
const TAGS_MAX: usize = 50;

/// The queues of a lake. Clones are handles to the same queues.
#[derive(Clone)]
pub struct Queues {
    pub(crate) store: Arc<dyn Store>,
    pub(crate) clock: Arc<dyn Clock>,
    open: Arc<RwLock<BTreeMap<String, Arc<OpenQueue>>>>,
    /// A lock that is held while queues are created, changed or deleted.
    changes: Arc<tokio::sync::Mutex<()>>,
    /// True after [`Queues::close`]: receivers no longer wait for messages.
    is_closed: Arc<AtomicBool>,
}

impl std::fmt::Debug for Queues {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Queues").field("queues", &self.open.read().len()).finish()
    }
}

impl Queues {
    /// Reads the queues and their messages, without the bodies.
    pub async fn open(store: Arc<dyn Store>, clock: Arc<dyn Clock>) -> Result<Self> {
        let mut infos = BTreeMap::new();
        for entry in scan(&store, QUEUES).await? {
            let info: QueueRecord = decode(QUEUES, &entry)?;
            infos.insert(info.id.clone(), info);
        }
        let states = read_states(&store, &infos).await?;
        let (open, changes) = (Arc::default(), Arc::default());
        let queues = Queues { store, clock, open, changes, is_closed: Arc::default() };
        for (id, state) in states {
            let Some(info) = infos.remove(&id) else { continue };
            let queue = Arc::new(OpenQueue::new(info, state));
            queues.open.write().insert(queue.name.clone(), queue);
        }
        Ok(queues)
    }

    /// Ends the waits of all receivers. From then on, receivers no longer wait for messages.
    pub fn close(&self) {
        self.is_closed.store(true, Ordering::SeqCst);
        for queue in self.open.read().values() {
            queue.arrived.notify_waiters();
        }
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.is_closed.load(Ordering::SeqCst)
    }

    /// Creates a queue. An existing queue with the same attributes is not changed. Returns the
    /// queue, and true if the queue is new.
    pub async fn create(
        &self,
        name: &str,
        given: &BTreeMap<String, String>,
        tags: BTreeMap<String, String>,
    ) -> Result<(QueueRecord, bool)> {
        let attributes = QueueAttributes::new(name, given)?;
        let guard = self.changes.clone().lock_owned().await;
        if let Ok(existing) = self.queue(name) {
            let info = existing.info.lock().clone();
            let mut wanted = info.attributes.clone();
            // Compare only the attributes in the request, not the other attributes of the queue.
            wanted.update(given)?;
            if wanted != info.attributes {
                return Err(Error::QueueExists { name: name.into() });
            }
            return Ok((info, false));
        }
        self.check_redrive(name, &attributes)?;
        check_tags(&tags)?;
        let now = self.clock.now();
        let (id, name) = (uuid::Uuid::now_v7().to_string(), name.to_owned());
        let info = QueueRecord { id, name, attributes, tags, created: now, modified: now };
        let queues = self.clone();
        detached(async move {
            let _guard = guard;
            queues.put(&info).await?;
            let queue = Arc::new(OpenQueue::new(info.clone(), QueueState::default()));
            queues.open.write().insert(info.name.clone(), queue);
            Ok((info, true))
        })
        .await
    }

    fn check_redrive(&self, name: &str, attributes: &QueueAttributes) -> Result<()> {
        let Some(redrive) = &attributes.redrive else { return Ok(()) };
        let invalid = |reason: &str| Err(Error::Invalid { reason: reason.to_owned() });
        if redrive.queue == name {
            return invalid("a queue cannot be its own dead-letter queue");
        }
        let target = self.queue(&redrive.queue)?;
        if target.attributes().is_fifo != attributes.is_fifo {
            return invalid(
                "the dead-letter queue must be of the same type, standard or FIFO, as the queue",
            );
        }
        Ok(())
    }

    /// Returns a queue.
    pub fn get(&self, name: &str) -> Result<QueueRecord> {
        Ok(self.queue(name)?.info.lock().clone())
    }

    /// Returns the queues whose names have a prefix, by name.
    pub fn list(&self, prefix: &str) -> Vec<QueueRecord> {
        let open = self.open.read();
        let listed = open.iter().filter(|(name, _)| name.starts_with(prefix));
        listed.map(|(_, queue)| queue.info.lock().clone()).collect()
    }

    /// Returns the numbers of messages of a queue.
    pub async fn counts(&self, name: &str) -> Result<QueueCounts> {
        let queue = self.queue(name)?;
        self.expire(&queue).await?;
        let counts = queue.state.lock().counts(self.clock.now());
        Ok(counts)
    }

    /// Changes attributes of a queue.
    pub async fn set_attributes(&self, name: &str, given: &BTreeMap<String, String>) -> Result<()> {
        self.change(name, |info| {
            info.attributes.update(given)?;
            self.check_redrive(name, &info.attributes)?;
            info.modified = self.clock.now();
            Ok(())
        })
        .await
    }

    /// Adds tags to a queue. Tags with the same keys are replaced.
    pub async fn tag(&self, name: &str, tags: BTreeMap<String, String>) -> Result<()> {
        self.change(name, |info| {
            info.tags.extend(tags);
            check_tags(&info.tags)
        })
        .await
    }

    /// Removes tags of a queue.
    pub async fn untag(&self, name: &str, keys: &[String]) -> Result<()> {
        self.change(name, |info| {
            info.tags.retain(|key, _| !keys.contains(key));
            Ok(())
        })
        .await
    }

    async fn change(
        &self,
        name: &str,
        change: impl FnOnce(&mut QueueRecord) -> Result<()>,
    ) -> Result<()> {
        let guard = self.changes.clone().lock_owned().await;
        let queue = self.queue(name)?;
        let mut info = queue.info.lock().clone();
        change(&mut info)?;
        let queues = self.clone();
        detached(async move {
            let _guard = guard;
            queues.put(&info).await?;
            *queue.info.lock() = info;
            queue.arrived.notify_waiters();
            Ok(())
        })
        .await
    }

    /// Deletes a queue with its messages.
    pub async fn delete(&self, name: &str) -> Result<()> {
        let (queues, name) = (self.clone(), name.to_owned());
        detached(async move { queues.delete_queue(&name).await }).await
    }

    async fn delete_queue(&self, name: &str) -> Result<()> {
        let _guard = self.changes.lock().await;
        let queue = self.queue(name)?;
        let entries = vec![JournalAppend::tombstone(QUEUES, name)];
        self.store.apply(WriteBatch { entries, ..WriteBatch::default() }).await?;
        self.open.write().remove(name);
        *queue.state.lock() = QueueState::deleted();
        queue.arrived.notify_waiters();
        let journals = [MESSAGES, RECEPTIONS, DEDUPLICATION];
        trim(&self.store, &journals, &queue.id, [0, u64::MAX]).await
    }

    /// Deletes the messages of a queue. Messages that are sent after the call stay. The deletion is
    /// durable on return.
    pub async fn purge(&self, name: &str) -> Result<()> {
        let (queues, name) = (self.clone(), name.to_owned());
        detached(async move { queues.purge_queue(&name).await }).await
    }

    async fn purge_queue(&self, name: &str) -> Result<()> {
        let _guard = self.changes.lock().await;
        let queue = self.queue(name)?;
        let purged = queue.state.lock().begin_purge(self.clock.now());
        if let Err(error) = self.purge_entries(&queue, &purged.ranges).await {
            restore(&queue, &purged.sequences);
            return Err(error);
        }
        self.end_deletion(&queue, &purged.sequences).await
    }

    async fn purge_entries(&self, queue: &OpenQueue, ranges: &[[u64; 2]]) -> Result<()> {
        for range in ranges {
            trim(&self.store, &[MESSAGES, RECEPTIONS], &queue.id, *range).await?;
        }
        // The removal above is not synced to disk. This write is, together with all earlier
        // batches.
        let info = queue.info.lock().clone();
        self.put(&info).await
    }

    pub(crate) fn queue(&self, name: &str) -> Result<Arc<OpenQueue>> {
        let found = self.open.read().get(name).cloned();
        found.ok_or_else(|| Error::QueueNotFound { name: name.to_owned() })
    }

    async fn put(&self, info: &QueueRecord) -> Result<()> {
        let entries = vec![JournalAppend::put(QUEUES, &info.name, encode(info))];
        self.store.apply(WriteBatch { entries, ..WriteBatch::default() }).await?;
        Ok(())
    }

    /// Removes the entries of deleted messages from the journals, if there are at least `GONE_MAX`.
    pub(crate) async fn compact(&self, queue: &OpenQueue) -> Result<()> {
        let ranges = {
            let mut state = queue.state.lock();
            if state.deleted_count() < GONE_MAX { Vec::new() } else { state.take_deleted_ranges() }
        };
        for range in ranges {
            trim(&self.store, &[MESSAGES, RECEPTIONS], &queue.id, range).await?;
        }
        Ok(())
    }
}

/// Runs work to completion in a task, even if the caller is cancelled.
pub(crate) async fn detached<T: Send + 'static>(
    work: impl Future<Output = Result<T>> + Send + 'static,
) -> Result<T> {
    tokio::spawn(work).await.unwrap_or(Err(Error::Stopped))
}

fn check_tags(tags: &BTreeMap<String, String>) -> Result<()> {
    let is_tag = |(key, value): (&String, &String)| {
        (1..=128).contains(&key.chars().count()) && value.chars().count() <= 256
    };
    if tags.len() <= TAGS_MAX && tags.iter().all(is_tag) {
        return Ok(());
    }
    let reason = format!(
        "a queue has at most {TAGS_MAX} tags, with keys of 1 to 128 and values of at most 256 \
         characters"
    );
    Err(Error::Invalid { reason })
}

/// Returns the messages of each queue as they are held in memory, by queue id. Removes entries of
/// deleted queues.
async fn read_states(
    store: &Arc<dyn Store>,
    infos: &BTreeMap<String, QueueRecord>,
) -> Result<BTreeMap<String, QueueState>> {
    let mut states: BTreeMap<String, QueueState> = BTreeMap::new();
    let mut removed = Vec::new();
    let mut deliveries: HashMap<String, DeliveryState> = HashMap::new();
    for entry in scan(store, RECEPTIONS).await? {
        deliveries.insert(entry.key.clone(), decode(RECEPTIONS, &entry)?);
    }
    for entry in scan(store, MESSAGES).await? {
        let Some((queue, sequence)) = parse_key(&entry.key) else { continue };
        let Some(info) = infos.get(queue) else {
            removed.push(JournalAppend::tombstone(MESSAGES, entry.key));
            continue;
        };
        let message: StoredMessage = decode(MESSAGES, &entry)?;
        let mut slot = MessageState::new(&message, info.attributes.is_fifo);
        slot.phase = MessagePhase::Invisible;
        let state = states.entry(queue.to_owned()).or_default();
        match deliveries.remove(&entry.key) {
            Some(delivery) => slot.delivery = delivery,
            None if info.attributes.is_fifo => {
                slot.delivery.visible = state.after_delayed(slot.delivery.visible);
            }
            None => {}
        }
        state.add(sequence, slot);
    }
    removed.extend(deliveries.into_keys().map(|key| JournalAppend::tombstone(RECEPTIONS, key)));
    for entry in scan(store, DEDUPLICATION).await? {
        let Some((queue, sequence)) = parse_key(&entry.key) else { continue };
        if !infos.contains_key(queue) {
            removed.push(JournalAppend::tombstone(DEDUPLICATION, entry.key));
            continue;
        }
        let (id, message, sent) = decode(DEDUPLICATION, &entry)?;
        let state = states.entry(queue.to_owned()).or_default();
        state.deduplicate(id, DeduplicationEntry { sequence, message, sent });
    }
    if !removed.is_empty() {
        let batch = WriteBatch { entries: removed, relaxed: true, ..WriteBatch::default() };
        store.apply(batch).await?;
    }
    for id in infos.keys() {
        states.entry(id.clone()).or_default();
    }
    Ok(states)
}
