//! Payloads of messages as JSON values. This module does no I/O.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use headwater_model::CloudEvent;
use serde_json::Value;

/// Returns a payload as a JSON value. A JSON object or array is parsed; any other payload becomes a
/// JSON string. A payload such as `123` also becomes a string, so that plain text always has the
/// same type. An object or array that is nested more deeply than a stored event may be becomes a
/// string, too.
pub fn of_text(text: &str) -> Value {
    let is_container = text.trim_start().starts_with(['{', '[']);
    let parsed = is_container.then(|| CloudEvent::parse_value(text).ok()).flatten();
    parsed.unwrap_or_else(|| Value::String(text.to_owned()))
}

/// Returns bytes as a JSON value. If the bytes are not UTF-8, the value is a base64 string and the
/// returned flag is true.
pub fn of_bytes(bytes: &[u8]) -> (Value, bool) {
    match std::str::from_utf8(bytes) {
        Ok(text) => (of_text(text), false),
        Err(_) => (Value::String(STANDARD.encode(bytes)), true),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn only_objects_and_arrays_are_parsed() {
        for (text, expected) in [
            (r#" {"a": 1}"#, json!({"a": 1})),
            ("[1, 2]", json!([1, 2])),
            ("123", json!("123")),
            ("null", json!("null")),
            ("{broken", json!("{broken")),
            ("", json!("")),
        ] {
            assert_eq!(of_text(text), expected, "{text}");
        }
        let nested = |levels: usize| "[".repeat(levels) + &"]".repeat(levels);
        assert!(of_text(&nested(100)).is_array());
        assert_eq!(of_text(&nested(101)), json!(nested(101)));
        assert_eq!(of_bytes(b"[1]"), (json!([1]), false));
        assert_eq!(of_bytes(b"\xff\x00"), (json!("/wA="), true));
    }
}
