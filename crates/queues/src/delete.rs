//! Deletion of messages, and changes of their visibility.

use std::sync::Arc;

use chrono::TimeDelta;
use headwater_store::{JournalAppend, WriteBatch};

use crate::journal::{deletion_entry, delivery_entry};
use crate::message::DeliveryState;
use crate::queue::OpenQueue;
use crate::queues::detached;
use crate::receive::restore;
use crate::{Error, Queues, Result};

impl Queues {
    /// Deletes messages by the receipts of their deliveries. The deletion is durable on return. A
    /// receipt of an earlier delivery, or of a message that was deleted, has no effect.
    pub async fn delete_messages(
        &self,
        name: &str,
        receipts: &[String],
    ) -> Result<Vec<Result<()>>> {
        let queue = self.queue(name)?;
        let mut deleted = Vec::new();
        let mut outcomes = Vec::with_capacity(receipts.len());
        {
            let mut state = queue.state.lock();
            for receipt in receipts {
                outcomes.push(parse_receipt(receipt).map(|(sequence, receipt_id)| {
                    if state.begin_deletion(sequence, receipt_id) {
                        deleted.push(sequence);
                    }
                }));
            }
        }
        if !deleted.is_empty() {
            let queues = self.clone();
            detached(async move { queues.delete_now(&queue, deleted, false).await }).await?;
        }
        Ok(outcomes)
    }

    async fn delete_now(
        &self,
        queue: &Arc<OpenQueue>,
        sequences: Vec<u64>,
        relaxed: bool,
    ) -> Result<()> {
        let entry = |sequence: &u64| deletion_entry(&queue.id, *sequence);
        let entries: Vec<JournalAppend> = sequences.iter().map(entry).collect();
        let batch = WriteBatch { entries, relaxed, ..WriteBatch::default() };
        if let Err(error) = self.store.apply(batch).await {
            restore(queue, &sequences);
            return Err(error.into());
        }
        self.end_deletion(queue, &sequences).await
    }

    /// Removes messages from memory, after their deletion was stored.
    pub(crate) async fn end_deletion(
        &self,
        queue: &Arc<OpenQueue>,
        sequences: &[u64],
    ) -> Result<()> {
        {
            let mut state = queue.state.lock();
            for sequence in sequences {
                state.remove(*sequence);
            }
        }
        // For a FIFO queue, the next messages of a group may be visible now.
        queue.arrived.notify_waiters();
        self.compact(queue).await
    }

    /// Deletes messages that are older than the retention of the queue.
    pub(crate) async fn expire(&self, queue: &Arc<OpenQueue>) -> Result<()> {
        let retention = i64::from(queue.attributes().retention);
        let before = self.clock.now() - TimeDelta::seconds(retention);
        let expired = queue.state.lock().expire(before);
        self.forget_messages(queue, expired).await
    }

    /// Deletes messages that no client has deleted, such as expired messages. The deletion is not
    /// synced to disk. If a power failure undoes it, the queue deletes the messages again.
    pub(crate) async fn forget_messages(
        &self,
        queue: &Arc<OpenQueue>,
        sequences: Vec<u64>,
    ) -> Result<()> {
        if sequences.is_empty() {
            return Ok(());
        }
        let (queues, queue) = (self.clone(), queue.clone());
        detached(async move { queues.delete_now(&queue, sequences, true).await }).await
    }

    /// Sets the time, counted from now, for which a received message is invisible.
    ///
    /// Errors: `invalid_argument` if the message is not in flight.
    pub async fn change_visibility(&self, name: &str, receipt: &str, seconds: u32) -> Result<()> {
        let until = self.clock.now() + TimeDelta::seconds(i64::from(seconds));
        self.change_delivery(name, receipt, |delivery| delivery.visible = until).await
    }

    /// Returns a received message to the queue. The delivery is not counted, and the message
    /// becomes visible after a pause.
    ///
    /// Errors: `invalid_argument` if the message is not in flight.
    pub async fn release(&self, name: &str, receipt: &str, seconds: u32) -> Result<()> {
        let until = self.clock.now() + TimeDelta::seconds(i64::from(seconds));
        let release = |delivery: &mut DeliveryState| {
            delivery.visible = until;
            delivery.received = delivery.received.saturating_sub(1);
        };
        self.change_delivery(name, receipt, release).await
    }

    async fn change_delivery(
        &self,
        name: &str,
        receipt: &str,
        change: impl FnOnce(&mut DeliveryState),
    ) -> Result<()> {
        let queue = self.queue(name)?;
        let (sequence, receipt_id) = parse_receipt(receipt)?;
        let now = self.clock.now();
        let changed = queue.state.lock().change_delivery(sequence, receipt_id, now, change);
        let changed = changed.ok_or_else(|| Error::NotInFlight { receipt: receipt.to_owned() })?;
        let entries = vec![delivery_entry(&queue.id, sequence, &changed)];
        self.store.apply(WriteBatch { entries, relaxed: true, ..WriteBatch::default() }).await?;
        queue.arrived.notify_waiters();
        Ok(())
    }
}

pub(crate) fn parse_receipt(receipt: &str) -> Result<(u64, &str)> {
    let invalid = || Error::InvalidReceipt { receipt: receipt.chars().take(100).collect() };
    let (sequence, receipt_id) = receipt.split_once('/').ok_or_else(invalid)?;
    let is_number = sequence.len() == 20 && sequence.bytes().all(|byte| byte.is_ascii_digit());
    let sequence = sequence.parse().ok().filter(|_| is_number).ok_or_else(invalid)?;
    uuid::Uuid::parse_str(receipt_id).map_err(|_| invalid())?;
    Ok((sequence, receipt_id))
}
