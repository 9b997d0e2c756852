//! The event source of a queue of calls: it turns events that clients sent in batches into
//! deliveries. Other calls are recorded by [`Triggers::accept`](crate::Triggers::accept).
//!
//! One batch of the store removes an entry with events and adds their deliveries, so each event has
//! exactly one delivery, also after a crash.

use std::time::Duration;

use async_trait::async_trait;
use headwater_store::{Append, Batch, KeyRange};

use crate::Result;
use crate::event_batch::{BATCHES, WaitingEntry, prefix};
use crate::event_queue::OPEN_MAX;
use crate::record::decode;
use crate::source::{EventSource, PollResult, SourceContext};

/// The source. It is replaced after an error of the store.
#[derive(Default)]
pub(crate) struct BatchSource {
    /// True if all stored deliveries are in the queue.
    is_caught_up: bool,
}

#[async_trait]
impl EventSource for BatchSource {
    async fn poll(&mut self, context: &SourceContext) -> Result<PollResult> {
        if !self.is_caught_up || context.queue.take_uncertain() {
            // If the store returned an error, a call may have been recorded without being queued.
            context.catch_up().await?;
            self.is_caught_up = true;
        }
        while context.queue.open_count() < OPEN_MAX && !context.stop.is_cancelled() {
            if !queue_next(context).await? {
                break;
            }
        }
        Ok(PollResult::after(Duration::MAX))
    }
}

/// Queues the deliveries of the oldest entry. Returns false if no events wait.
async fn queue_next(context: &SourceContext) -> Result<bool> {
    let queue = &context.trigger;
    let range = KeyRange::with_prefix(prefix(queue)).limit(1);
    let Some(entry) = context.store().scan(BATCHES, &range).await?.pop() else { return Ok(false) };
    let waiting: WaitingEntry = decode(BATCHES, &entry.key, &entry.value)?;
    let deliveries = waiting.deliveries(queue);
    let mut entries = vec![Append::tombstone(BATCHES, &entry.key)];
    for (event, delivery) in &deliveries {
        entries.extend(delivery.new_entries(event)?);
    }
    // The entry itself is durable. If a power failure undoes the batch, it is read again.
    let batch = Batch { entries, relaxed: true, ..Batch::default() };
    let applied = context.store().apply(batch).await;
    // The batch may have been applied despite an error.
    if applied.is_ok() || context.store().latest(BATCHES, &entry.key).await?.is_none() {
        context.queue.intake.remove_waiting(deliveries.len());
    }
    applied?;
    for (_, delivery) in deliveries {
        if let Some(problem) = &delivery.error {
            let (event, error) = (&delivery.event, &problem.message);
            tracing::warn!(event, error, "accepted event cannot be parsed; recorded as failed");
        }
        context.queue.push(delivery);
    }
    let range = KeyRange::with_prefix(entry.key.clone()).until(format!("{}\0", entry.key));
    context.store().trim(BATCHES, &range).await?;
    Ok(true)
}
