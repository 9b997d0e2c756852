//! Destinations of asynchronous calls: a function that receives a record of each call that ended.
//!
//! One batch stores both the end of a call and the record for its destination, so after a crash
//! either both are stored or neither is.

use std::collections::BTreeMap;

use chrono::SecondsFormat;
use headwater_event_values::function_arn;
use headwater_model::{
    ErrorCode, Event, EventData, Problem, SpecVersion, Timestamp, TriggerEventStatus,
};
use serde_json::{Value, json};

use crate::calls::CALLS;
use crate::delivery_log::Delivery;
use crate::target::CallPolicy;

/// The argument of a function that receives the event.
const EVENT: &str = "event";

/// An ended call, from which the record for its destination is made.
pub(crate) struct EndedCall<'a> {
    pub event: &'a Event,
    pub delivery: &'a Delivery,
    pub result: &'a Result<Value, Problem>,
}

/// The destination of a call.
#[derive(Debug, PartialEq)]
pub(crate) enum Destination {
    /// No function receives a record.
    None,
    /// This function is the destination, but the call was caused by an earlier call of the same
    /// function, directly or indirectly. Another call would create a loop.
    Loop(String),
    Function(String),
}

impl EndedCall<'_> {
    /// Returns the destination of the call.
    pub fn destination(&self, policy: &CallPolicy) -> Destination {
        let function = match self.delivery.status {
            TriggerEventStatus::Done => &policy.on_success,
            TriggerEventStatus::Failed => &policy.on_failure,
            TriggerEventStatus::Pending | TriggerEventStatus::Running => &None,
        };
        let Some(function) = function.clone() else { return Destination::None };
        let queue = format!("{CALLS}{function}");
        let mut lineage = self.event.caused_by.iter().chain([&self.delivery.trigger]);
        if lineage.any(|name| *name == queue) {
            return Destination::Loop(function);
        }
        Destination::Function(function)
    }

    /// Returns the event and the delivery of the destination's call.
    pub fn call(&self, function: String, id: String, now: Timestamp) -> (Event, Delivery) {
        let queue = format!("{CALLS}{function}");
        let arguments = BTreeMap::from([(EVENT.to_owned(), self.record(now))]);
        let event = Event {
            specversion: SpecVersion::default(),
            id: id.clone(),
            source: queue.clone(),
            subject: None,
            time: now,
            data: EventData::FunctionInvoked { function, arguments },
            caused_by: self
                .event
                .caused_by
                .iter()
                .chain([&self.delivery.trigger])
                .cloned()
                .collect(),
        };
        let Delivery { author, user, actor, .. } = self.delivery.clone();
        let delivery = Delivery { author, user, actor, ..Delivery::new(id, &queue, now) };
        (event, delivery)
    }

    /// Returns the invocation record in the format of AWS Lambda.
    fn record(&self, now: Timestamp) -> Value {
        let (function, payload) = match &self.event.data {
            EventData::FunctionInvoked { function, arguments } => {
                let event = arguments.get(EVENT).cloned();
                (function.as_str(), event.unwrap_or_else(|| json!(arguments)))
            }
            data => ("", json!(data)),
        };
        let (name, version) = function.split_once(':').unwrap_or((function, "$LATEST"));
        let error = self.delivery.error.as_ref();
        let condition = match error.map(|error| error.code) {
            None => "Success",
            Some(ErrorCode::EventExpired) => "EventAgeExceeded",
            Some(_) => "RetriesExhausted",
        };
        let mut context = json!({"statusCode": 200, "executedVersion": version});
        let response = match (self.result, error) {
            (Ok(result), None) => result.get("function").cloned().unwrap_or_default(),
            (_, Some(error)) => {
                context["functionError"] = "Unhandled".into();
                json!({"errorType": error.code, "errorMessage": error.message})
            }
            (Err(_), None) => Value::Null,
        };
        json!({
            "version": "1.0",
            "timestamp": now.to_rfc3339_opts(SecondsFormat::Millis, true),
            "requestContext": {
                "requestId": self.event.id,
                "functionArn": function_arn(name, version),
                "condition": condition,
                "approximateInvokeCount": self.delivery.attempts,
            },
            "requestPayload": payload,
            "responseContext": context,
            "responsePayload": response,
        })
    }
}
