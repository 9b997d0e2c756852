//! Detection of messages in one of the lake's queues.
//!
//! One batch removes a message from the queue and records its event. So a message is in the queue
//! or in an event, but never in both. The trigger retries the event, not the queue.

use std::time::Duration;

use async_trait::async_trait;
use headwater_event_values::message_payload;
use headwater_model::{EventData, Problem, QueueMessage, QueueTrigger, ToProblem, Trigger};
use headwater_queues::{Queues, ReceiveOptions, ReceivedMessage, is_queue_name, ordered_group};
use tokio_util::sync::DropGuard;

use crate::Result;
use crate::definition::invalid;
use crate::event_queue::OPEN_MAX;
use crate::event_source::{
    ABSENT_PAUSE, DetectedEvents, EventSource, NewEvent, PollResult, SourceContext,
};
use crate::postgres_source::check_batch;

/// Maximum number of messages that are received in one poll.
const MESSAGES_MAX: usize = 1_000;

/// Maximum size of the messages that are received in one poll, in bytes.
const MESSAGES_BYTES_MAX: usize = 6 << 20;

/// Visibility timeout of received messages, in seconds. The source removes the messages from the
/// queue long before this timeout.
const VISIBILITY: u32 = 30;

/// Pause before the next poll while the event queue is full.
const FULL_PAUSE: Duration = Duration::from_millis(100);

/// Pause of the listener while the source receives the messages that it was notified of.
const LISTEN_PAUSE: Duration = Duration::from_millis(10);

/// Maximum time that the listener waits for a message before it looks up the queue again.
const WAIT: Duration = Duration::from_secs(20);

/// Returns the URI of a queue, which is the `source` of the queue's events.
pub(crate) fn uri(queue: &str) -> String {
    format!("/queues/{queue}")
}

/// The messages of a queue that a trigger selects.
#[derive(Debug, Clone)]
pub(crate) struct WatchedQueue(QueueTrigger);

impl WatchedQueue {
    /// Parses a trigger. Error: `invalid_project`.
    pub(crate) fn new(trigger: &Trigger, queue: &QueueTrigger) -> Result<Self> {
        if !is_queue_name(&queue.name) {
            let reason = format!("`{}` is not a valid name of a queue", queue.name);
            let hint = "Name a queue of the lake, such as `queue = \"orders\"`.";
            return Err(invalid(trigger, reason, hint));
        }
        check_batch(trigger, queue.batch)?;
        Ok(WatchedQueue(queue.clone()))
    }

    fn event(&self, messages: &[ReceivedMessage]) -> Option<NewEvent> {
        let first = messages.first()?;
        let queue = &self.0.name;
        let subject = match messages {
            [only] => Some(only.message.id.clone()),
            _ => None,
        };
        let data = EventData::QueueReceived {
            queue: queue.clone(),
            messages: messages.iter().map(|one| message(queue, one)).collect(),
        };
        let (source, time) = (uri(queue), first.message.sent);
        let caused_by = first.message.caused_by.clone();
        Some(NewEvent { source, subject, time, data, caused_by, trace: None })
    }
}

fn message(queue: &str, received: &ReceivedMessage) -> QueueMessage {
    let message = &received.message;
    QueueMessage {
        id: message.id.clone(),
        sent: message.sent,
        sender: message.sender.clone(),
        group: ordered_group(received).cloned(),
        payload: message_payload::of_text(&message.body),
        record: received.record(queue),
    }
}

/// The event source for messages of a queue.
pub(crate) struct QueueSource {
    messages: WatchedQueue,
    is_caught_up: bool,
    /// Guard of the task that requests a poll when messages arrive. Dropping it ends the task.
    listener: Option<DropGuard>,
}

#[async_trait]
impl EventSource for QueueSource {
    async fn poll(&mut self, context: &SourceContext) -> Result<PollResult> {
        let Some(queues) = context.options.queues.clone() else {
            return Ok(PollResult::after(context.options.poll_interval));
        };
        if !self.is_caught_up {
            context.catch_up().await?;
            self.is_caught_up = true;
        }
        self.listen(context, &queues);
        let capacity = OPEN_MAX.saturating_sub(context.queue.open_count());
        if capacity == 0 {
            return Ok(PollResult::after(FULL_PAUSE));
        }
        let QueueTrigger { name, batch, .. } = &self.messages.0;
        let limit = capacity.saturating_mul(*batch).min(MESSAGES_MAX);
        let options = ReceiveOptions { limit, visibility: Some(VISIBILITY), wait: Some(0) };
        let received = match queues.receive_limited(name, options, MESSAGES_BYTES_MAX).await {
            Ok(received) => received,
            Err(error @ headwater_queues::Error::Store(_)) => return Err(error.into()),
            Err(error) => return Ok(PollResult::absent(fault(&error))),
        };
        let taken = queues.take(name, received)?;
        if taken.messages.is_empty() {
            return Ok(PollResult::after(context.options.poll_interval));
        }
        // The messages of one event belong to one FIFO group, because the group is the order key.
        // They also have the same causes, so that a loop fails only the messages in the loop.
        let groups = taken.messages.chunk_by(|one, other| {
            ordered_group(one) == ordered_group(other)
                && one.message.caused_by == other.message.caused_by
        });
        let parts = groups.flat_map(|part| part.chunks(*batch));
        let events = parts.filter_map(|part| self.messages.event(part));
        let (events, entries) = (events.collect(), taken.entries.clone());
        let unique = Vec::new();
        // The messages are durable: if a power failure undoes the batch, they are received again.
        context.record(DetectedEvents { events, entries, unique, is_durable: true }).await?;
        taken.end().await?;
        Ok(PollResult::after(Duration::ZERO))
    }
}

impl QueueSource {
    pub(crate) fn new(messages: WatchedQueue) -> Self {
        QueueSource { messages, is_caught_up: false, listener: None }
    }

    /// Requests a poll whenever the queue has messages that can be received.
    fn listen(&mut self, context: &SourceContext, queues: &Queues) {
        if context.options.manual || self.listener.is_some() {
            return;
        }
        let stop = context.stop.child_token();
        self.listener = Some(stop.clone().drop_guard());
        let (wake, queues, name) =
            (context.wake.clone(), queues.clone(), self.messages.0.name.clone());
        tokio::spawn(async move {
            loop {
                let pause = tokio::select! {
                    () = stop.cancelled() => return,
                    visible = queues.wait(&name, WAIT) => match visible {
                        Ok(true) => LISTEN_PAUSE,
                        Ok(false) => continue,
                        Err(_) => ABSENT_PAUSE,
                    },
                };
                wake.notify_one();
                tokio::select! {
                    () = stop.cancelled() => return,
                    () = tokio::time::sleep(pause) => {}
                }
            }
        });
    }
}

/// Returns the problem of a queue that cannot be used.
fn fault(error: &headwater_queues::Error) -> Problem {
    let hint = "Create the queue; its messages are received as soon as it exists.";
    let is_missing = matches!(error, headwater_queues::Error::QueueNotFound { .. });
    if is_missing { error.to_problem().with_hint(hint) } else { error.to_problem() }
}
