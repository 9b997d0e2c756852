//! Delivery of messages to receivers.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use chrono::TimeDelta;
use headwater_store::{JournalEntry, KeyRange, WriteBatch};
use tokio::time::Instant;

use crate::journal::{MESSAGES, decode, deletion_entry, delivery_entry, key, message_entry};
use crate::message::{ReceivedMessage, StoredMessage, sequence_text};
use crate::message_selection::{ReceiveCriteria, SelectedMessages};
use crate::message_state::MessageState;
use crate::queue::OpenQueue;
use crate::queues::detached;
use crate::{Error, Queues, Result};

/// Default maximum size of the messages that one call receives, in bytes. It exceeds the size of
/// the 10 messages that one request of SQS receives.
const RECEIVE_BYTES_MAX: usize = 32 << 20;

/// Maximum size of the messages that one scan reads, in bytes.
const SCAN_BYTES_MAX: usize = 32 << 20;

/// Options for receiving messages.
#[derive(Debug, Clone, Copy, Default)]
pub struct ReceiveOptions {
    /// Maximum number of messages.
    pub limit: usize,
    /// Time in seconds that the messages are invisible; by default the queue's visibility timeout.
    pub visibility: Option<u32>,
    /// Time in seconds to wait for a message; by default the queue's waiting time.
    pub wait: Option<u32>,
}

impl Queues {
    /// Receives visible messages. Waits for a message if there are none.
    pub async fn receive(
        &self,
        name: &str,
        options: ReceiveOptions,
    ) -> Result<Vec<ReceivedMessage>> {
        self.receive_limited(name, options, RECEIVE_BYTES_MAX).await
    }

    /// Receives visible messages whose bodies and attributes together have at most `bytes_max`
    /// bytes, but at least one message. Waits if no message is visible. Messages above the limit
    /// stay visible.
    pub async fn receive_limited(
        &self,
        name: &str,
        options: ReceiveOptions,
        bytes_max: usize,
    ) -> Result<Vec<ReceivedMessage>> {
        let queue = self.queue(name)?;
        let wait = options.wait.unwrap_or(queue.attributes().receive_wait);
        let deadline = Instant::now() + Duration::from_secs(u64::from(wait));
        loop {
            if !self.until_visible(&queue, deadline).await? {
                return Ok(Vec::new());
            }
            let (queues, queue) = (self.clone(), queue.clone());
            let work = async move { queues.receive_now(&queue, options, bytes_max).await };
            let received = detached(work).await?;
            if !received.is_empty() {
                return Ok(received);
            }
        }
    }

    /// Waits until a message can be received. Returns false if the time limit ends first.
    pub async fn wait(&self, name: &str, limit: Duration) -> Result<bool> {
        let queue = self.queue(name)?;
        self.until_visible(&queue, Instant::now() + limit).await
    }

    async fn until_visible(&self, queue: &OpenQueue, deadline: Instant) -> Result<bool> {
        loop {
            let arrived = queue.arrived.notified();
            tokio::pin!(arrived);
            // Register now, so that no later notification is missed.
            arrived.as_mut().enable();
            let next = {
                let mut state = queue.state.lock();
                if state.is_deleted {
                    return Err(Error::QueueNotFound { name: queue.name.clone() });
                }
                if state.has_visible(self.clock.now()) {
                    return Ok(true);
                }
                state.next_visible()
            };
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() || self.is_closed() {
                return Ok(false);
            }
            let next = next.and_then(|next| (next - self.clock.now()).to_std().ok());
            let _ = tokio::time::timeout(next.unwrap_or(left).min(left), arrived).await;
        }
    }

    async fn receive_now(
        &self,
        queue: &Arc<OpenQueue>,
        options: ReceiveOptions,
        bytes_max: usize,
    ) -> Result<Vec<ReceivedMessage>> {
        let attributes = queue.attributes();
        let now = self.clock.now();
        let seconds = |seconds: u32| TimeDelta::seconds(i64::from(seconds));
        let redrive = attributes.redrive.as_ref();
        let target = redrive.and_then(|redrive| self.queue(&redrive.queue).ok());
        let pick = ReceiveCriteria {
            limit: options.limit,
            bytes_max,
            until: now + seconds(options.visibility.unwrap_or(attributes.visibility_timeout)),
            expired: now - seconds(attributes.retention),
            receive_count_max: redrive
                .filter(|_| target.is_some())
                .map(|redrive| redrive.receive_count_max),
        };
        let selected = queue.state.lock().pick(now, pick);
        let received = selected.received.clone();
        let messages = self.deliver(queue, target, selected).await;
        // The messages do not reach the receiver, so this delivery must not count.
        if messages.is_err() {
            queue.state.lock().undo_reception(&received, now);
            queue.arrived.notify_waiters();
        }
        messages
    }

    /// Deletes the expired messages, moves the dead ones, and returns the received ones.
    async fn deliver(
        &self,
        queue: &Arc<OpenQueue>,
        target: Option<Arc<OpenQueue>>,
        selected: SelectedMessages,
    ) -> Result<Vec<ReceivedMessage>> {
        let SelectedMessages { received, dead, expired } = selected;
        // Finish both deletions even if one fails: a message that stays in the phase `Deleting`
        // blocks its group.
        let forgotten = self.forget_messages(queue, expired).await;
        if let Some(target) = target {
            self.move_dead(queue, &target, dead).await?;
        }
        forgotten?;
        let mut bodies = self.bodies(queue, &received).await?;
        let mut entries = Vec::with_capacity(received.len());
        let mut messages = Vec::with_capacity(received.len());
        {
            let mut state = queue.state.lock();
            for sequence in received {
                let Some(message) = bodies.remove(&sequence) else {
                    // The message is not in the store: its deletion was stored although the store
                    // returned an error.
                    state.remove(sequence);
                    continue;
                };
                let Some(delivery) = state.delivery(sequence) else { continue };
                entries.push(delivery_entry(&queue.id, sequence, delivery));
                let receipt = delivery.receipt.clone().unwrap_or_default();
                messages.push(ReceivedMessage {
                    message,
                    sequence,
                    received: delivery.received,
                    first_received: delivery.first_received.unwrap_or_else(|| self.clock.now()),
                    receipt: format!("{}/{receipt}", sequence_text(sequence)),
                });
            }
        }
        if !entries.is_empty() {
            // This write is not synced to disk. If a power failure undoes it, the messages are
            // visible again before their timeout, which "at least once" allows.
            self.store
                .apply(WriteBatch { entries, relaxed: true, ..WriteBatch::default() })
                .await?;
        }
        Ok(messages)
    }

    /// Reads messages by their sequence numbers.
    async fn bodies(
        &self,
        queue: &OpenQueue,
        sequences: &[u64],
    ) -> Result<HashMap<u64, StoredMessage>> {
        let mut found: HashMap<String, JournalEntry> = HashMap::new();
        if let [first, .., last] = sequences {
            // Messages that are received together are usually adjacent, so read them in one scan.
            let limit = sequences.len() * 2;
            // The range may also contain large messages that were not selected, so limit the bytes
            // to read.
            let bytes = queue.state.lock().bytes_between([*first, *last], limit);
            if bytes <= SCAN_BYTES_MAX {
                let range = KeyRange::with_prefix(format!("{}/", queue.id))
                    .from(key(&queue.id, *first))
                    .until(format!("{}\0", key(&queue.id, *last)))
                    .limit(limit);
                let entries = self.store.scan(MESSAGES, &range).await?;
                found.extend(entries.into_iter().map(|entry| (entry.key.clone(), entry)));
            }
        }
        let mut bodies = HashMap::with_capacity(sequences.len());
        for &sequence in sequences {
            let key = key(&queue.id, sequence);
            let entry = match found.remove(&key) {
                Some(entry) => Some(entry),
                None => self.store.latest(MESSAGES, &key).await?,
            };
            if let Some(entry) = entry {
                bodies.insert(sequence, decode(MESSAGES, &entry)?);
            }
        }
        Ok(bodies)
    }

    /// Moves messages to the dead-letter queue, in one batch.
    async fn move_dead(
        &self,
        queue: &Arc<OpenQueue>,
        target: &Arc<OpenQueue>,
        dead: Vec<u64>,
    ) -> Result<()> {
        if dead.is_empty() {
            return Ok(());
        }
        let bodies = self.bodies(queue, &dead).await;
        let mut bodies = bodies.inspect_err(|_| restore(queue, &dead))?;
        let is_fifo = target.attributes().is_fifo;
        let now = self.clock.now();
        let mut entries = Vec::new();
        let mut added = Vec::new();
        // Keep the order of `dead`: if the target is a FIFO queue, it delivers in this order.
        for &from in &dead {
            let Some(message) = bodies.remove(&from) else { continue };
            let message = StoredMessage { visible: now, ..message };
            let mut state = target.state.lock();
            let sequence = state.next_sequence(now);
            state.add(sequence, MessageState::new(&message, is_fifo));
            entries.push(deletion_entry(&queue.id, from));
            entries.push(message_entry(&target.id, sequence, &message));
            added.push(sequence);
        }
        let stored = self.store.apply(WriteBatch { entries, ..WriteBatch::default() }).await;
        if let Err(error) = stored {
            restore(queue, &dead);
            let mut state = target.state.lock();
            for sequence in added {
                state.remove(sequence);
            }
            return Err(error.into());
        }
        target.state.lock().publish(added);
        target.arrived.notify_waiters();
        self.end_deletion(queue, &dead).await
    }
}

/// Makes messages visible again after their deletion failed.
pub(crate) fn restore(queue: &OpenQueue, sequences: &[u64]) {
    let mut state = queue.state.lock();
    for sequence in sequences {
        state.restore(*sequence);
    }
}
