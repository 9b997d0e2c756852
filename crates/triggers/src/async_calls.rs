//! Asynchronous calls of functions, which become events.
//!
//! The calls of a function wait in the queue `/functions/NAME`. Records for the address of a
//! destination, such as `queue://orders`, wait in the queue `/destinations/ADDRESS`. The event is
//! durable when [`Triggers::accept`] returns. The journal `trigger_call_keys` maps the idempotency
//! keys of each queue to events. A unique key in the store ensures that only the first request with
//! a key is recorded.

use std::collections::BTreeMap;

use headwater_model::{AcceptedEvent, Actor, Event, EventData, JobId, SpecVersion};
use headwater_store::{Error as StoreError, JournalAppend, UniqueKey, WriteBatch};
use headwater_telemetry::with_current;
use serde_json::Value;

use crate::delivery_log::Delivery;
use crate::event_ingestion::{BATCHES, EVENTS_MAX, EventCall, NewEntry, WaitingEvent, entry_key};
use crate::event_operations::to_end;
use crate::event_source::SourceContext;
use crate::journal_codec::{encode, read};
use crate::waiting_events::ListedEntry;
use crate::{Error, Result, Triggers};

/// Prefixes of queue names: for asynchronous calls, and for records that are sent to an address.
const CALLS: &str = "/functions/";
const DESTINATIONS: &str = "/destinations/";

const KEYS: &str = "trigger_call_keys";

/// Maximum number of pending and running calls of one function.
const CALLS_MAX: usize = 100_000;
/// Maximum length of an idempotency key or order key, in characters.
const KEY_CHARACTERS_MAX: usize = 200;

/// Returns true if a target is the address of a destination, not the name of a function.
pub(crate) fn is_address(target: &str) -> bool {
    target.contains("://")
}

/// Returns the name of a target's queue. The target is a function, or the address of a destination.
pub(crate) fn queue_name(target: &str) -> String {
    format!("{}{target}", if is_address(target) { DESTINATIONS } else { CALLS })
}

/// Returns the function or the address whose queue has this name.
pub(crate) fn target_of(queue: &str) -> Option<&str> {
    queue.strip_prefix(CALLS).or_else(|| queue.strip_prefix(DESTINATIONS))
}

/// An asynchronous call.
#[derive(Debug, Clone, PartialEq)]
pub struct NewCall {
    /// Name of the function to call.
    pub function: String,
    /// Values of the arguments, by name.
    pub arguments: BTreeMap<String, Value>,
    /// The idempotency key, if the client sent one.
    pub key: Option<String>,
    /// The calling user, whose limits apply; `None` for the lake's owner. Different users may use
    /// the same key.
    pub user: Option<String>,
    /// The order key: calls of a user with the same key are executed one after the other. The order
    /// key of a `CloudEvent` is its `partitionkey`.
    pub order_key: Option<String>,
    /// The author of the call's commits and job.
    pub author: String,
    /// The calling identity. The function runs with the rights of this identity.
    pub actor: Actor,
}

impl Triggers {
    /// Accepts an asynchronous call. The event is durable on return.
    ///
    /// If an earlier call of the same function and user had the same idempotency key, the call is
    /// not executed. The response then contains the event of the earlier call. Errors: `too_busy`
    /// if the function's queue is full; `invalid_argument` for an invalid key.
    pub async fn accept(&self, call: NewCall) -> Result<AcceptedEvent> {
        for key in [&call.key, &call.order_key].into_iter().flatten() {
            check_key(key)?;
        }
        let worker = self.call_worker(&call.function).await?;
        to_end(with_current(async move { accept(&worker.context, call).await })).await
    }
}

async fn accept(context: &SourceContext, call: NewCall) -> Result<AcceptedEvent> {
    // A call must not overtake waiting events with the same order key.
    let intake = &context.queue.intake;
    let waits = call.order_key.is_some() && intake.waiting() > 0;
    let (pending, pending_max) = if waits {
        (intake.waiting_of(call.user.as_deref()), EVENTS_MAX)
    } else {
        (context.queue.open_count(), CALLS_MAX)
    };
    if pending >= pending_max {
        return Err(Error::QueueFull { function: call.function, pending });
    }
    let id = context.options.jobs.new_id();
    let owner = call.user.as_ref().map(|owner| format!("{owner}\n")).unwrap_or_default();
    let stored_key = call.key.as_ref().map(|key| format!("{}\n{owner}{key}", context.trigger));
    let (entry, queued) = if waits {
        let (entry, listed) = waiting(context, call, id)?;
        (vec![entry], StoredCall::Waiting(listed))
    } else {
        let (event, delivery) = delivered(context, call, id);
        (delivery.new_entries(&event)?, StoredCall::Delivery(Box::new(delivery)))
    };
    let mut batch = WriteBatch { entries: entry, ..WriteBatch::default() };
    if let Some(key) = &stored_key {
        batch.entries.push(JournalAppend::put(KEYS, key, encode(&id.to_string())?));
        batch.unique.push(UniqueKey { scope: KEYS.to_owned(), key: key.clone() });
    }
    match (context.store().apply(batch).await, stored_key) {
        (Ok(_), _) => {
            context.queue.counts.accepted(1);
            context.options.jobs.monitor().telemetry().link_event(id);
            match queued {
                StoredCall::Delivery(delivery) => context.queue.push(*delivery),
                StoredCall::Waiting(listed) => {
                    context.queue.intake.list([(id, listed)]);
                    context.wake.notify_one();
                }
            }
            Ok(AcceptedEvent { event: id.to_string(), duplicate: false })
        }
        (Err(StoreError::NotUnique { .. }), Some(key)) => {
            let first = read::<String>(context.store(), KEYS, &key).await?;
            Ok(AcceptedEvent { event: first.unwrap_or_default(), duplicate: true })
        }
        (Err(error), _) => {
            // The store may have applied the batch despite the error, so let the queue read it
            // again.
            context.queue.set_uncertain();
            context.queue.intake.set_uncertain();
            context.wake.notify_one();
            Err(error.into())
        }
    }
}

/// The form in which an accepted call is stored.
enum StoredCall {
    Delivery(Box<Delivery>),
    /// The call is stored as a waiting event, because earlier events with its order key wait.
    Waiting(ListedEntry),
}

/// Returns the event and the delivery of a call.
fn delivered(context: &SourceContext, call: NewCall, id: JobId) -> (Event, Delivery) {
    let now = context.now();
    let event = Event {
        specversion: SpecVersion::default(),
        id: id.to_string(),
        source: context.trigger.clone(),
        subject: None,
        time: now,
        data: EventData::FunctionInvoked { function: call.function, arguments: call.arguments },
        caused_by: Vec::new(),
    };
    let delivery = Delivery {
        key: call.order_key,
        author: Some(call.author),
        user: call.user,
        actor: Some(call.actor),
        ..Delivery::new(event.id.clone(), &context.trigger, now)
    };
    (event, delivery)
}

/// Returns the journal entry of a call that waits, and the entry as it is listed in memory.
fn waiting(
    context: &SourceContext,
    call: NewCall,
    id: JobId,
) -> Result<(JournalAppend, ListedEntry)> {
    let NewCall { function, arguments, user, order_key, author, actor, .. } = call;
    let event = serde_json::value::to_raw_value(&arguments)
        .map_err(|error| Error::Encode { reason: error.to_string() })?;
    let call = EventCall { function, argument: None, user, author, actor };
    let events = [WaitingEvent { id, key: order_key, event }];
    let entry = NewEntry { call: &call, time: context.now(), events: &events };
    let key = entry_key(&context.trigger, id, events.len());
    Ok((JournalAppend::put(BATCHES, key, encode(&entry)?), entry.listed()))
}

pub(crate) fn check_key(key: &str) -> Result<()> {
    let is_valid = !key.is_empty()
        && key.chars().count() <= KEY_CHARACTERS_MAX
        && !key.contains(char::is_control);
    let shortened = || key.chars().take(50).filter(|c| !c.is_control()).collect();
    if is_valid { Ok(()) } else { Err(Error::InvalidEventId { key: shortened() }) }
}
