//! Payloads of messages as JSON values. This module does no I/O.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;

/// Returns a text as a JSON value: an object or array if it is one, otherwise the text itself. A
/// text such as `123` stays text, so that the type does not depend on the content of plain texts.
pub(crate) fn of_text(text: &str) -> Value {
    let is_container = text.trim_start().starts_with(['{', '[']);
    let parsed = is_container.then(|| serde_json::from_str(text).ok()).flatten();
    parsed.unwrap_or_else(|| Value::String(text.to_owned()))
}

/// Returns bytes as a JSON value, and true if it is base64 because the bytes are not UTF-8.
pub(crate) fn of_bytes(bytes: &[u8]) -> (Value, bool) {
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
        assert_eq!(of_bytes(b"[1]"), (json!([1]), false));
        assert_eq!(of_bytes(b"\xff\x00"), (json!("/wA="), true));
    }
}
