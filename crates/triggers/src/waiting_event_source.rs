//! The event source of a function's call queue: it turns events that clients sent in batches, and
//! that wait in a journal, into deliveries. A call outside a batch is recorded by
//! [`Triggers::accept`](crate::Triggers::accept).
//!
//! One batch of the store removes a journal entry and adds the deliveries of the entry's events. So
//! each event has exactly one delivery, even after a crash. The events of a user whose limit is
//! reached stay in the journal. So these events take no capacity from the events of other users.

use std::time::Duration;

use async_trait::async_trait;

use crate::Result;
use crate::event_source::{EventSource, PollResult, SourceContext};

/// The source of a function's waiting events. It is replaced after an error of the store.
#[derive(Default)]
pub(crate) struct WaitingEventSource {
    /// True if all stored deliveries are in the queue.
    is_caught_up: bool,
}

#[async_trait]
impl EventSource for WaitingEventSource {
    async fn poll(&mut self, context: &SourceContext) -> Result<PollResult> {
        let (queue, intake) = (&context.queue, &context.queue.intake);
        if !self.is_caught_up || queue.take_uncertain() {
            // Queue calls that the store recorded although it returned an error.
            context.catch_up().await?;
            self.is_caught_up = true;
        }
        intake.catch_up(context).await?;
        while queue.has_capacity(context.now()) && !context.stop.is_cancelled() {
            let is_selected = |user: Option<&str>| !queue.is_blocked(user);
            let queued = intake.queue_next(context, is_selected).await;
            if !queued.inspect_err(|_| intake.set_uncertain())? {
                break;
            }
        }
        intake.load(context).await?;
        intake.expire(context).await?;
        let pause = queue.next_unblocked(context.now()).filter(|_| intake.waiting() > 0);
        Ok(PollResult::after(pause.unwrap_or(Duration::MAX)))
    }
}
