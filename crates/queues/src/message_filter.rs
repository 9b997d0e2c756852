//! Filters of messages: patterns that select the messages for which a function is called.

use headwater_event_pattern::Pattern;
use headwater_model::{ErrorCode, Problem};

/// A filter of messages.
#[derive(Debug)]
pub struct MessageFilter {
    pattern: Pattern,
    /// True if the pattern has conditions on fields of the body, so the body must be parsed as
    /// JSON.
    parses_body: bool,
}

impl MessageFilter {
    /// Returns true if the record of a message matches.
    pub fn admits(&self, record: &serde_json::Value) -> bool {
        if !self.parses_body {
            return self.pattern.matches(record);
        }
        let body = record["body"].as_str().and_then(|text| serde_json::from_str(text).ok());
        let Some(body) = body else { return false };
        let mut record = record.clone();
        record["body"] = body;
        self.pattern.matches(&record)
    }
}

/// Parses the filters of a mapping.
///
/// Errors: `invalid_argument`.
pub fn parse_filters(filters: &[String]) -> Result<Vec<MessageFilter>, Problem> {
    let parse = |text: &String| {
        let invalid = |reason: &dyn std::fmt::Display| {
            let message = format!("the filter `{text}` is invalid: {reason}");
            Problem::new(ErrorCode::InvalidArgument, message)
        };
        let value: serde_json::Value =
            serde_json::from_str(text).map_err(|error| invalid(&error))?;
        let pattern = Pattern::parse(&value).map_err(|error| invalid(&error))?;
        Ok(MessageFilter { pattern, parses_body: value["body"].is_object() })
    };
    filters.iter().map(parse).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn filters_select_messages_by_their_body_and_attributes() {
        let admits = |filter: &str, body: &str| {
            let record = json!({"body": body, "messageAttributes": {"k": {"stringValue": "v"}}});
            parse_filters(&[filter.to_owned()]).expect("a filter")[0].admits(&record)
        };
        let price = r#"{"body": {"price": [{"numeric": [">", 5]}]}}"#;
        assert!(admits(price, r#"{"price": 6}"#));
        assert!(!admits(price, r#"{"price": 5}"#));
        assert!(!admits(price, "no JSON"));
        assert!(admits(r#"{"body": ["tea"]}"#, "tea"));
        assert!(!admits(r#"{"body": ["tea"]}"#, "\"tea\""));
        assert!(admits(r#"{"messageAttributes": {"k": {"stringValue": ["v"]}}}"#, "x"));
        for wrong in ["", "[]", r#"{"body": 1}"#] {
            assert!(parse_filters(&[wrong.to_owned()]).is_err(), "{wrong}");
        }
    }
}
