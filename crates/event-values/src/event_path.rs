//! Paths of values in events, such as `subject` and `data.tables`. This module does no I/O.

use headwater_model::Event;
use serde_json::Value;

/// Names of the top-level values of an event.
const NAMES: [&str; 7] = ["id", "source", "type", "subject", "time", "caused_by", "data"];

/// The path of a value in an event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EventPath(Vec<String>);

impl EventPath {
    /// Parses names separated by periods; `None` if the first name is not a top-level value of
    /// events.
    pub fn parse(text: &str) -> Option<Self> {
        let names: Vec<String> = text.split('.').map(|name| name.trim().to_owned()).collect();
        let is_known = NAMES.contains(&names.first()?.as_str());
        let is_nested = names.len() == 1 || names[0] == "data";
        (is_known && is_nested && names.iter().all(|name| !name.is_empty()))
            .then_some(EventPath(names))
    }

    /// Returns the value as text; `None` if the event has no such value.
    pub fn key(&self, event: &Event) -> Option<String> {
        let event = serde_json::to_value(event).ok()?;
        let found = self.0.iter().try_fold(&event, |value, name| match value {
            Value::Array(items) => items.get(name.parse::<usize>().ok()?),
            value => value.get(name),
        });
        match found? {
            Value::Null => None,
            Value::String(text) => Some(text.clone()),
            value => Some(value.to_string()),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_path_selects_a_value_of_an_event() {
        let event = json!({"id": "e", "source": "/branches/main", "time": "1970-01-01T00:00:00Z",
            "type": "headwater.table.changed", "data": {"branch": "main",
            "tables": ["public.a", "public.b"], "commit": "ab".repeat(32)}});
        let event: Event = serde_json::from_value(event).expect("an event");
        let key = |path: &str| EventPath::parse(path).expect("a path").key(&event);
        assert_eq!(key("source").as_deref(), Some("/branches/main"));
        assert_eq!(key("type").as_deref(), Some("headwater.table.changed"));
        assert_eq!(key("data.branch").as_deref(), Some("main"));
        assert_eq!(key("data.tables.1").as_deref(), Some("public.b"));
        assert_eq!(key("data.tables").as_deref(), Some(r#"["public.a","public.b"]"#));
        assert_eq!((key("subject"), key("data.none")), (None, None));
        for wrong in ["", "subjekt", "subject.x", "data.", "data..x"] {
            assert_eq!(EventPath::parse(wrong), None, "{wrong}");
        }
    }
}
