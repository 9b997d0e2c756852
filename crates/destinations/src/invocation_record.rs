//! The record of an ended call, and the values that destinations read from it.

use serde_json::Value;

/// A record, in the format of AWS Lambda.
#[derive(Debug, Clone, Copy)]
pub(crate) struct InvocationRecord<'a> {
    pub json: &'a Value,
}

impl<'a> InvocationRecord<'a> {
    fn context(self, key: &str) -> &'a str {
        self.json["requestContext"][key].as_str().unwrap_or_default()
    }

    /// Returns the id of the event that caused the call.
    pub fn call(self) -> &'a str {
        self.context("requestId")
    }

    /// Returns the called function, with its version or alias if the call named one.
    pub fn function(self) -> &'a str {
        let arn = self.context("functionArn");
        let name = arn.split_once(":function:").map_or(arn, |(_, name)| name);
        name.strip_suffix(":$LATEST").unwrap_or(name)
    }

    /// Returns `Success`, `RetriesExhausted` or `EventAgeExceeded`.
    pub fn status(self) -> &'a str {
        self.context("condition")
    }

    /// Returns the time of the record in RFC 3339 format.
    pub fn time(self) -> &'a str {
        self.json["timestamp"].as_str().unwrap_or_default()
    }

    /// Returns the message of the error of a failed call.
    pub fn error(self) -> Option<&'a str> {
        let is_failed = self.json["responseContext"]["functionError"].is_string();
        let message = self.json["responsePayload"]["errorMessage"].as_str();
        is_failed.then(|| message.unwrap_or_default())
    }

    /// Returns the payload of the call: its arguments.
    pub fn request(self) -> &'a Value {
        &self.json["requestPayload"]
    }

    /// Returns the result of a successful call.
    pub fn response(self) -> Option<&'a Value> {
        self.error().is_none().then(|| &self.json["responsePayload"])
    }
}
