//! Events that clients send, in the formats of CloudEvents 1.0.
//!
//! The text of each event is kept as the client sent it. Headwater reads only some attributes from
//! it.

use std::borrow::Cow;
use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::Value;
use serde_json::value::RawValue;

use crate::{ErrorCode, ToProblem};

/// Maximum number of events of one request.
pub const EVENTS_PER_REQUEST_MAX: usize = 10_000;

/// Maximum size in bytes of an event, and of the arguments of a call.
const EVENT_BYTES_MAX: usize = 1 << 20;

/// Maximum nesting depth of a JSON value. The JSON parser accepts 127 levels, and the stored
/// records that contain the value add some levels.
const DEPTH_MAX: usize = 100;

/// An event that a client sends.
#[derive(Debug, Clone)]
pub struct CloudEvent {
    /// The origin. Two events with the same source and id are the same event.
    pub source: String,
    /// The id.
    pub id: String,
    /// The extension attribute `partitionkey`: events with the same key are delivered in order.
    pub partition_key: Option<String>,
    /// The event in the JSON format of CloudEvents.
    pub json: Box<RawValue>,
}

/// A format of the events in a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CloudEventFormat {
    /// `application/cloudevents-batch+json`: an array of events.
    Batch,
    /// `application/cloudevents+json`: one event.
    Structured,
    /// `application/json`: one event, or an array of events.
    Json,
}

impl CloudEventFormat {
    /// Returns the format with a media type.
    pub fn of(media_type: &str) -> Option<Self> {
        match media_type {
            "application/cloudevents-batch+json" => Some(CloudEventFormat::Batch),
            "application/cloudevents+json" => Some(CloudEventFormat::Structured),
            "application/json" => Some(CloudEventFormat::Json),
            _ => None,
        }
    }
}

/// An error in the events of a request. One invalid event rejects the whole request.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CloudEventError {
    /// The body is not JSON of the expected form.
    #[error("the body cannot be parsed: {reason}")]
    Body {
        /// The error of the parser.
        reason: String,
    },
    /// The request has no event.
    #[error("the request has no events")]
    Empty,
    /// The request has too many events.
    #[error("the request has {count} events, more than {EVENTS_PER_REQUEST_MAX}")]
    TooMany {
        /// Number of events.
        count: usize,
    },
    /// An event is too large.
    #[error("event {index} has {bytes} bytes, more than {EVENT_BYTES_MAX}")]
    TooLarge {
        /// Position in the request, from 0.
        index: usize,
        /// Size of the event.
        bytes: usize,
    },
    /// An event is not in the JSON format of CloudEvents.
    #[error("event {index} is invalid: {reason}")]
    Invalid {
        /// Position in the request, from 0.
        index: usize,
        /// Description of the invalid value.
        reason: String,
    },
}

impl ToProblem for CloudEventError {
    fn code(&self) -> ErrorCode {
        ErrorCode::InvalidArgument
    }

    fn hint(&self) -> Option<String> {
        Some(match self {
            CloudEventError::Body { .. } => {
                "Send an array of CloudEvents, or one as `application/cloudevents+json`.".to_owned()
            }
            CloudEventError::Empty => "Send at least one event.".to_owned(),
            CloudEventError::TooMany { .. } => {
                format!("Send at most {EVENTS_PER_REQUEST_MAX} events in one request.")
            }
            CloudEventError::TooLarge { .. } => {
                "Put the data into an object of a bucket, and its key into the event.".to_owned()
            }
            CloudEventError::Invalid { .. } => "Send `specversion` `1.0`, `id`, `source` and \
                                                `type`; no event of the request was accepted."
                .to_owned(),
        })
    }
}

/// The attributes of an event that Headwater reads.
#[derive(Deserialize)]
struct EventAttributes<'a> {
    #[serde(borrow)]
    specversion: Option<Cow<'a, str>>,
    #[serde(borrow)]
    id: Option<Cow<'a, str>>,
    #[serde(borrow)]
    source: Option<Cow<'a, str>>,
    #[serde(borrow, rename = "type")]
    kind: Option<Cow<'a, str>>,
    #[serde(borrow)]
    partitionkey: Option<Cow<'a, str>>,
}

impl CloudEvent {
    /// Parses the events in the body of a request. The error is about the first invalid event.
    pub fn parse(body: &[u8], format: CloudEventFormat) -> Result<Vec<Self>, CloudEventError> {
        let invalid = |error: serde_json::Error| {
            let reason = error.to_string();
            CloudEventError::Body { reason }
        };
        let is_array = || body.trim_ascii_start().first() == Some(&b'[');
        let events: Vec<Box<RawValue>> = match format {
            CloudEventFormat::Batch => serde_json::from_slice(body).map_err(invalid)?,
            CloudEventFormat::Json if is_array() => {
                serde_json::from_slice(body).map_err(invalid)?
            }
            CloudEventFormat::Structured | CloudEventFormat::Json => {
                vec![serde_json::from_slice(body).map_err(invalid)?]
            }
        };
        match events.len() {
            0 => return Err(CloudEventError::Empty),
            count if count > EVENTS_PER_REQUEST_MAX => {
                return Err(CloudEventError::TooMany { count });
            }
            _ => {}
        }
        events.into_iter().enumerate().map(|(index, json)| Self::new(index, json)).collect()
    }

    /// Creates the event of a request in the binary format, which has the attributes in headers and
    /// the data as the body. If the media type is not JSON, the data becomes text, or base64 if it
    /// is not UTF-8.
    pub fn binary(
        attributes: BTreeMap<String, String>,
        media_type: Option<&str>,
        body: &[u8],
    ) -> Result<Self, CloudEventError> {
        use base64::Engine;
        let mut event: serde_json::Map<String, Value> =
            attributes.into_iter().map(|(name, value)| (name, Value::String(value))).collect();
        if let Some(media_type) = media_type {
            event.insert("datacontenttype".to_owned(), media_type.into());
        }
        let is_json = media_type.is_none_or(|media_type| {
            let essence = media_type.split(';').next().unwrap_or_default().trim();
            essence == "application/json" || essence.ends_with("+json")
        });
        match std::str::from_utf8(body) {
            Ok("") => {}
            Ok(text) if is_json => {
                let data = serde_json::from_str(text).map_err(|error| CloudEventError::Body {
                    reason: format!("the data is not JSON: {error}"),
                })?;
                event.insert("data".to_owned(), data);
            }
            Ok(text) => {
                event.insert("data".to_owned(), text.into());
            }
            Err(_) => {
                let data = base64::engine::general_purpose::STANDARD.encode(body);
                event.insert("data_base64".to_owned(), data.into());
            }
        }
        let invalid =
            |error: serde_json::Error| CloudEventError::Body { reason: error.to_string() };
        Self::new(0, serde_json::value::to_raw_value(&event).map_err(invalid)?)
    }

    /// Parses a JSON text. Rejects a text that is nested too deeply to be stored in other records.
    pub fn parse_value(text: &str) -> Result<Value, serde_json::Error> {
        let value: Value = serde_json::from_str(text)?;
        if depth(&value) > DEPTH_MAX {
            let message = format!("it is nested deeper than {DEPTH_MAX} levels");
            return Err(<serde_json::Error as serde::de::Error>::custom(message));
        }
        Ok(value)
    }

    fn new(index: usize, json: Box<RawValue>) -> Result<Self, CloudEventError> {
        let text = json.get();
        if text.len() > EVENT_BYTES_MAX {
            return Err(CloudEventError::TooLarge { index, bytes: text.len() });
        }
        let invalid = |reason: String| CloudEventError::Invalid { index, reason };
        if !text.starts_with('{') {
            return Err(invalid("it is not an object".to_owned()));
        }
        let read: EventAttributes<'_> =
            serde_json::from_str(text).map_err(|error| invalid(error.to_string()))?;
        let given = |name: &str, value: Option<Cow<'_, str>>| match value {
            Some(value) if !value.is_empty() => Ok(value.into_owned()),
            _ => Err(invalid(format!("it has no `{name}`"))),
        };
        let version = given("specversion", read.specversion)?;
        if version != "1.0" {
            return Err(invalid(format!("its `specversion` `{version}` is not supported")));
        }
        let (id, source) = (given("id", read.id)?, given("source", read.source)?);
        given("type", read.kind)?;
        // Parse the whole text. The deserialization above also accepts texts that this parser
        // rejects.
        Self::parse_value(text).map_err(|error| invalid(error.to_string()))?;
        let partition_key = read.partitionkey.map(Cow::into_owned).filter(|key| !key.is_empty());
        Ok(CloudEvent { source, id, partition_key, json })
    }
}

/// Returns the nesting depth of a value. The recursion is bounded, because the parser has already
/// bounded the depth.
fn depth(value: &Value) -> usize {
    match value {
        Value::Array(items) => 1 + items.iter().map(depth).max().unwrap_or_default(),
        Value::Object(fields) => 1 + fields.values().map(depth).max().unwrap_or_default(),
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn event(id: &str) -> Value {
        json!({"specversion": "1.0", "id": id, "source": "/shop", "type": "order", "data": {"n": 1}})
    }

    fn parse(body: &Value, format: CloudEventFormat) -> Result<Vec<CloudEvent>, CloudEventError> {
        CloudEvent::parse(body.to_string().as_bytes(), format)
    }

    #[test]
    fn events_are_parsed_in_each_format() {
        let mut second = event("b\n");
        second["partitionkey"] = "k".into();
        let batch = json!([event("a"), second]);
        for format in [CloudEventFormat::Batch, CloudEventFormat::Json] {
            let events = parse(&batch, format).expect("events");
            let ids: Vec<&str> = events.iter().map(|event| event.id.as_str()).collect();
            assert_eq!(ids, ["a", "b\n"]);
            assert_eq!(events[1].partition_key.as_deref(), Some("k"));
            assert_eq!(events[0].json.get(), event("a").to_string());
        }
        for format in [CloudEventFormat::Structured, CloudEventFormat::Json] {
            assert_eq!(parse(&event("a"), format).expect("an event").len(), 1);
        }
        let attributes = || {
            let all = event("a");
            let all = all.as_object().expect("an object").iter();
            let all =
                all.filter_map(|(name, value)| Some((name.clone(), value.as_str()?.to_owned())));
            all.collect::<BTreeMap<_, _>>()
        };
        for (media_type, body, key, expected) in [
            (Some("application/json"), &b"{\"n\":1}"[..], "data", json!({"n": 1})),
            (None, b"[1]", "data", json!([1])),
            (Some("text/csv"), b"a,b", "data", json!("a,b")),
            (Some("image/png"), b"\xff\x00", "data_base64", json!("/wA=")),
        ] {
            let event = CloudEvent::binary(attributes(), media_type, body).expect("an event");
            let sent: Value = serde_json::from_str(event.json.get()).expect("JSON");
            assert_eq!(sent[key], expected, "{media_type:?}");
        }
        assert!(CloudEvent::binary(attributes(), None, b"{").is_err());
    }

    #[test]
    fn one_wrong_event_rejects_the_request_and_is_named() {
        let mut old = event("a");
        old["specversion"] = "0.3".into();
        let mut number = event("a");
        number["id"] = 1.into();
        let large = json!({"specversion": "1.0", "data": "x".repeat(EVENT_BYTES_MAX)});
        for (body, expected) in [
            (json!([]), "no events"),
            (json!([event("a"), 5]), "event 1 is invalid: it is not an object"),
            (json!([event("a"), event("")]), "event 1 is invalid: it has no `id`"),
            (json!([{"id": "a"}]), "event 0 is invalid: it has no `specversion`"),
            (json!([old]), "`0.3` is not supported"),
            (json!([event("a"), number]), "event 1 is invalid: invalid type"),
            (json!([large]), "event 0 has 1048"),
            (json!(vec![1; EVENTS_PER_REQUEST_MAX + 1]), "10001 events"),
            (json!({"id": 1}), "cannot be parsed"),
        ] {
            let error = parse(&body, CloudEventFormat::Batch).expect_err(expected);
            assert!(error.to_string().contains(expected), "{error}");
            assert!(error.hint().is_some());
        }
    }

    #[test]
    fn an_event_that_cannot_be_parsed_or_stored_is_rejected_and_named() {
        let parse = |data: &str| {
            let event = r#"{"specversion": "1.0", "id": "a", "source": "/shop", "type": "order""#;
            let body = format!(r#"[{event}}}, {event}, "data": {data}}}]"#);
            CloudEvent::parse(body.as_bytes(), CloudEventFormat::Batch)
        };
        let nested = |levels: usize| "[".repeat(levels) + &"]".repeat(levels);
        for (data, expected) in [
            (r#""\ud800""#, "hex escape"),
            ("1e999", "number out of range"),
            (nested(100).as_str(), "it is nested deeper than 100 levels"),
            (nested(200).as_str(), "recursion limit exceeded"),
        ] {
            let error = parse(data).expect_err(expected).to_string();
            assert!(error.starts_with("event 1 is invalid: "), "{error}");
            assert!(error.contains(expected), "{error}");
        }
        // 99 is one less than the maximum depth, because the event itself adds one level.
        assert_eq!(parse(&nested(99)).expect("events").len(), 2);
    }
}
