//! Sending of messages.

use std::collections::HashSet;
use std::sync::Arc;

use chrono::TimeDelta;
use headwater_model::Timestamp;
use headwater_store::{Error as StoreError, JournalAppend, UniqueKey, WriteBatch};

use crate::journal::{DEDUPLICATION, encode, key, message_entry, trim};
use crate::message::{NewMessage, SentMessage, StoredMessage, body_md5, sequence_text};
use crate::message_state::MessageState;
use crate::queue::OpenQueue;
use crate::queue_state::{DeduplicationEntry, QueueState};
use crate::queues::detached;
use crate::{Error, QueueAttributes, Queues, Result};

/// Maximum number of messages in a queue.
const MESSAGES_MAX: usize = 1_000_000;

/// Number of deduplication ids in memory above which old ids are removed.
const IDS_MAX: usize = 10_000;

/// The `scope` of the unique keys of messages that are sent only once.
const ONCE: &str = "queue_messages";

/// A batch of messages that are stored together.
#[derive(Default)]
struct SendBatch {
    outcomes: Vec<Result<SentMessage>>,
    /// Sequence numbers of the new messages.
    sequences: Vec<u64>,
    entries: Vec<JournalAppend>,
}

impl Queues {
    /// Sends messages, which are durable on return. Returns the outcome of each message; if the
    /// store fails, all messages have its error.
    pub async fn send(
        &self,
        name: &str,
        sender: &str,
        messages: Vec<NewMessage>,
    ) -> Result<Vec<Result<SentMessage>>> {
        let (queues, queue, sender) = (self.clone(), self.queue(name)?, sender.to_owned());
        detached(async move { queues.send_now(&queue, &sender, messages, None).await }).await
    }

    /// Sends a message, unless a message with the same id was sent to the queue before. The message
    /// is durable on return. The id is kept forever, even after the message is deleted.
    pub async fn send_once(
        &self,
        name: &str,
        sender: &str,
        message: NewMessage,
        id: &str,
    ) -> Result<()> {
        let (queues, queue, sender) = (self.clone(), self.queue(name)?, sender.to_owned());
        let once = UniqueKey { scope: ONCE.to_owned(), key: format!("{}/{id}", queue.id) };
        let send = async move {
            let sent = queues.send_now(&queue, &sender, vec![message], Some(once)).await;
            match sent {
                Err(Error::Store(StoreError::NotUnique { .. })) => Ok(()),
                sent => sent?.into_iter().try_for_each(|outcome| outcome.map(drop)),
            }
        };
        detached(send).await
    }

    async fn send_now(
        &self,
        queue: &Arc<OpenQueue>,
        sender: &str,
        messages: Vec<NewMessage>,
        once: Option<UniqueKey>,
    ) -> Result<Vec<Result<SentMessage>>> {
        let attributes = queue.attributes();
        let _order = if attributes.is_fifo { Some(queue.order.lock().await) } else { None };
        let now = self.clock.now();
        let mut sending = SendBatch::default();
        {
            let mut state = queue.state.lock();
            if state.is_deleted {
                return Err(Error::QueueNotFound { name: queue.name.clone() });
            }
            let count = state.len();
            if count + messages.len() > MESSAGES_MAX {
                return Err(Error::QueueFull { name: queue.name.clone(), messages: count });
            }
            for message in messages {
                let prepared = SendContext { queue, attributes: &attributes, sender, now };
                let outcome = prepared.add(message, &mut state, &mut sending);
                sending.outcomes.push(outcome);
            }
        }
        if sending.entries.is_empty() {
            return Ok(sending.outcomes);
        }
        let (entries, unique) = (sending.entries, once.into_iter().collect());
        let stored =
            self.store.apply(WriteBatch { entries, unique, ..WriteBatch::default() }).await;
        {
            let mut state = queue.state.lock();
            if let Err(error) = stored {
                state.forget(&sending.sequences.iter().copied().collect::<HashSet<u64>>());
                for sequence in sending.sequences {
                    state.remove(sequence);
                }
                return Err(error.into());
            }
            state.publish(sending.sequences);
        }
        queue.arrived.notify_waiters();
        self.forget_ids(queue, now).await?;
        Ok(sending.outcomes)
    }

    /// Removes old deduplication ids, if there are many.
    async fn forget_ids(&self, queue: &OpenQueue, now: Timestamp) -> Result<()> {
        let before = {
            let mut state = queue.state.lock();
            if state.deduplication_count() < IDS_MAX {
                return Ok(());
            }
            state.forget_old(now)
        };
        let Some(last) = before.checked_sub(1) else { return Ok(()) };
        trim(&self.store, &[DEDUPLICATION], &queue.id, [0, last]).await
    }
}

/// Values that all messages of a batch share.
struct SendContext<'a> {
    queue: &'a OpenQueue,
    attributes: &'a QueueAttributes,
    sender: &'a str,
    now: Timestamp,
}

impl SendContext<'_> {
    /// Adds a message to the queue in memory, and to the batch of the store.
    fn add(
        &self,
        new: NewMessage,
        state: &mut QueueState,
        sending: &mut SendBatch,
    ) -> Result<SentMessage> {
        let SendContext { queue, attributes, sender, now } = *self;
        new.check(attributes)?;
        let body_md5 = body_md5(&new.body);
        let deduplication_id = new.deduplication(attributes);
        if let Some(id) = &deduplication_id
            && let Some(earlier) = state.deduplicated(id, now)
        {
            let sequence = Some(sequence_text(earlier.sequence));
            return Ok(SentMessage { id: earlier.message.clone(), body_md5, sequence });
        }
        let id = uuid::Uuid::new_v4().to_string();
        let sequence = state.next_sequence(now);
        if let Some(deduplication_id) = &deduplication_id {
            let value = encode(&(deduplication_id, &id, now));
            sending.entries.push(JournalAppend::put(
                DEDUPLICATION,
                key(&queue.id, sequence),
                value,
            ));
            let sent = DeduplicationEntry { sequence, message: id.clone(), sent: now };
            state.deduplicate(deduplication_id.clone(), sent);
        }
        let delay = new.delay.unwrap_or(attributes.delay);
        let visible = now + TimeDelta::seconds(i64::from(delay));
        let message = StoredMessage {
            id: id.clone(),
            body: new.body,
            attributes: new.attributes,
            sent: now,
            visible: if attributes.is_fifo { state.after_delayed(visible) } else { visible },
            sender: sender.to_owned(),
            group: new.group,
            deduplication_id,
            caused_by: new.caused_by,
        };
        state.add(sequence, MessageState::new(&message, attributes.is_fifo));
        sending.entries.push(message_entry(&queue.id, sequence, &message));
        sending.sequences.push(sequence);
        let sequence = attributes.is_fifo.then(|| sequence_text(sequence));
        Ok(SentMessage { id, body_md5, sequence })
    }
}
