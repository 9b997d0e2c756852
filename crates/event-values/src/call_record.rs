//! Records of ended calls by clients and triggers, in the format of AWS Lambda.

use std::collections::BTreeMap;

use chrono::SecondsFormat;
use headwater_model::{ErrorCode, Event, EventData, Problem, SpecVersion, Timestamp, Trigger};
use serde_json::{Value, json};

use crate::{function_argument, function_arn};

/// The name of the argument in which a function receives an event or a record.
pub const CALL_EVENT: &str = "event";

/// Returns the event of a call of `function` whose argument [`CALL_EVENT`] is `content`.
pub fn call_event(
    id: String,
    queue: &str,
    time: Timestamp,
    function: &str,
    content: Value,
) -> Event {
    let arguments = BTreeMap::from([(CALL_EVENT.to_owned(), content)]);
    Event {
        specversion: SpecVersion::default(),
        id,
        source: queue.to_owned(),
        subject: None,
        time,
        data: EventData::FunctionInvoked { function: function.to_owned(), arguments },
        caused_by: Vec::new(),
    }
}

/// An ended call, from which the record for its destination is created.
#[derive(Debug)]
pub struct CallRecord<'a> {
    /// The event that caused the call.
    pub event: &'a Event,
    /// The trigger that caused the call, or the queue of the function's asynchronous calls.
    pub trigger: &'a Trigger,
    /// Number of attempts to make the call.
    pub attempts: u32,
    /// The result of the function, or the error of the last attempt.
    pub outcome: Result<Value, &'a Problem>,
    /// Time at which the record is created.
    pub now: Timestamp,
}

impl CallRecord<'_> {
    /// Returns the record as JSON.
    pub fn to_json(&self) -> Value {
        let called = if let EventData::FunctionInvoked { function, arguments } = &self.event.data {
            let event = arguments.get(CALL_EVENT).cloned();
            (function.as_str(), event.unwrap_or_else(|| json!(arguments)))
        } else {
            let function = self.trigger.function.as_deref().unwrap_or_default();
            (function, function_argument(self.trigger, self.event))
        };
        let (function, payload) = called;
        let (name, version) = function.split_once(':').unwrap_or((function, "$LATEST"));
        let condition = match self.outcome.as_ref().err().map(|error| error.code) {
            None => "Success",
            Some(ErrorCode::EventExpired) => "EventAgeExceeded",
            Some(_) => "RetriesExhausted",
        };
        let mut context = json!({"statusCode": 200, "executedVersion": version});
        let response = match &self.outcome {
            Ok(result) => result.clone(),
            Err(error) => {
                context["functionError"] = "Unhandled".into();
                json!({"errorType": error.code, "errorMessage": error.message})
            }
        };
        json!({
            "version": "1.0",
            "timestamp": self.now.to_rfc3339_opts(SecondsFormat::Millis, true),
            "requestContext": {
                "requestId": self.event.id,
                "functionArn": function_arn(name, version),
                "condition": condition,
                "approximateInvokeCount": self.attempts,
            },
            "requestPayload": payload,
            "responseContext": context,
            "responsePayload": response,
        })
    }
}
