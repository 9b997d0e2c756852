//! Destinations of calls by clients and triggers. A destination is a function or an address that
//! receives a record of each call that ended.
//!
//! One batch stores the end of a call and the record for its destination. So after a crash, both
//! are stored or neither.

use headwater_event_values::{CallRecord, call_event};
use headwater_model::{Event, Problem, Timestamp, Trigger, TriggerEventStatus};
use serde_json::Value;

use crate::async_calls::{is_address, queue_name};
use crate::delivery_log::Delivery;
use crate::target::{CallDestination, CallPolicy};

/// An ended call, from which the record for its destination is made.
pub(crate) struct EndedCall<'a> {
    pub event: &'a Event,
    pub trigger: &'a Trigger,
    pub delivery: &'a Delivery,
    pub result: &'a Result<Value, Problem>,
    /// True if the identity of the trigger may not see the event. The record then contains neither
    /// the event nor the message of the error, which can name a file or a table.
    pub is_hidden: bool,
}

/// The destination of a call.
#[derive(Debug, PartialEq)]
pub(crate) enum ResolvedDestination {
    /// The call has no destination.
    None,
    /// An earlier record for this destination caused the call, directly or indirectly. No record is
    /// sent, because it would cause the call again, in an endless loop.
    Loop(String),
    Target(CallDestination),
}

impl EndedCall<'_> {
    /// Returns the destination of the call.
    pub fn destination(&self, policy: &CallPolicy) -> ResolvedDestination {
        let destination = match self.delivery.status {
            TriggerEventStatus::Done => &policy.on_success,
            TriggerEventStatus::Failed => &policy.on_failure,
            TriggerEventStatus::Pending | TriggerEventStatus::Running => &None,
        };
        let Some(destination) = destination.clone() else { return ResolvedDestination::None };
        let queue = queue_name(&destination.target);
        let mut lineage = self.event.caused_by.iter().chain([&self.delivery.trigger]);
        if lineage.any(|name| *name == queue) {
            return ResolvedDestination::Loop(destination.target);
        }
        ResolvedDestination::Target(destination)
    }

    /// Returns the event for a destination, and its delivery.
    pub fn forward(&self, to: CallDestination, id: String, now: Timestamp) -> (Event, Delivery) {
        let CallDestination { target: function, actor: by } = to;
        let (queue, sends) = (queue_name(&function), is_address(&function));
        let lineage = self.event.caused_by.iter().chain([&self.delivery.trigger]);
        let event = Event {
            caused_by: lineage.cloned().collect(),
            ..call_event(id.clone(), &queue, now, &function, self.record(now))
        };
        let Delivery { mut author, mut user, mut actor, .. } = self.delivery.clone();
        if sends {
            // Send with the rights of the identity that set the destination, because the calling
            // user may lack the right to send to the address.
            let principal = by.principal();
            author = Some(principal.author().to_owned());
            user = principal.user_name().map(str::to_owned);
            actor = Some(by);
        } else if author.is_none() {
            // A source detected the event, without a user, so name the trigger as the author.
            author = Some(format!("trigger {}", self.delivery.trigger));
        }
        // The record is sent even if the chain of triggers is too long, because the record may be
        // about this chain. Each destination in a chain receives only one record.
        let delivery = Delivery { author, user, actor, ..Delivery::new(id, &queue, now) };
        (event, delivery)
    }

    fn record(&self, now: Timestamp) -> Value {
        let (event, trigger) = (self.event, self.trigger);
        let attempts = self.delivery.attempts;
        let outcome = match (self.result, &self.delivery.error) {
            (_, Some(error)) => Err(error),
            (Ok(result), None) => Ok(result.get("function").cloned().unwrap_or_default()),
            (Err(_), None) => Ok(Value::Null),
        };
        let mut record = CallRecord { event, trigger, attempts, outcome, now }.to_json();
        if self.is_hidden {
            record["requestPayload"] = Value::Null;
            let (id, name) = (&event.id, &trigger.name);
            let message = format!(
                "the user of trigger `{name}` lost a right that event `{id}` needs; \
                 `headwater event show {id}` names the right"
            );
            record["responsePayload"]["errorMessage"] = message.into();
        }
        record
    }
}
