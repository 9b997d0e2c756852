//! Filters of events: a pattern in EventBridge's language on the fields of the event.
//!
//! A trigger is rejected if no event of its source can match the pattern.

use std::sync::Arc;

use headwater_event_pattern::Pattern;
use headwater_event_values::event_schema;
use headwater_model::{Event, Trigger};

use crate::Result;
use crate::definition::invalid;
use crate::kafka::WatchedTopic;
use crate::nats_source::WatchedStream;
use crate::postgres_server::PostgresServer;

/// The events that a trigger records.
#[derive(Debug, Clone)]
pub(crate) struct EventFilter(Arc<Pattern>);

impl EventFilter {
    /// Parses the filter of a trigger. Error: `invalid_project`.
    pub(crate) fn new(trigger: &Trigger) -> Result<Option<Self>> {
        let Some(filter) = &trigger.filter else { return Ok(None) };
        let parsed = Pattern::parse(filter).and_then(|pattern| {
            pattern.check(&event_schema(trigger, server_uri(trigger)))?;
            Ok(pattern)
        });
        match parsed {
            Ok(pattern) => Ok(Some(EventFilter(Arc::new(pattern)))),
            Err(error) => {
                Err(invalid(trigger, format!("the filter is invalid: {error}"), &error.hint))
            }
        }
    }

    /// Returns true if an event matches.
    pub(crate) fn admits(&self, event: &Event) -> bool {
        serde_json::to_value(event).is_ok_and(|event| self.0.matches(&event))
    }
}

/// Returns the source of the events of a database, stream or topic; `None` for other triggers.
fn server_uri(trigger: &Trigger) -> Option<String> {
    if let Some(postgres) = &trigger.postgres {
        return PostgresServer::new(trigger, postgres).ok().map(|server| server.uri());
    }
    if let Some(nats) = &trigger.nats {
        return WatchedStream::new(trigger, nats).ok().map(|events| events.uri().to_owned());
    }
    let kafka = trigger.kafka.as_ref()?;
    WatchedTopic::new(trigger, kafka).ok().map(|events| events.uri())
}

#[cfg(test)]
mod tests {
    use headwater_model::Timestamp;
    use serde_json::{Value, json};

    use super::*;

    fn parse(source: &Value, filter: &Value) -> Result<Option<EventFilter>> {
        let mut trigger = json!({"name": "t", "function": "f", "filter": filter});
        for (key, value) in source.as_object().expect("a source") {
            trigger[key] = value.clone();
        }
        EventFilter::new(&serde_json::from_value(trigger).expect("a trigger"))
    }

    #[test]
    fn a_filter_selects_events_by_their_fields() {
        let object = json!({"bucket": "landing", "key": "in/a.csv", "size": 3,
            "uri": "s3://landing/in/a.csv", "operation": "put", "etag": "e", "sequencer": "1"});
        let event = json!({"id": "e", "source": "s3://landing", "subject": "in/a.csv",
            "time": Timestamp::UNIX_EPOCH, "type": "headwater.object.created",
            "data": {"object": object}});
        let event: Event = serde_json::from_value(event).expect("an event");
        let bucket = json!({"bucket": {"name": "landing"}});
        for (filter, expected) in [
            (json!({"subject": [{"wildcard": "in/*.csv"}]}), true),
            (json!({"subject": [{"prefix": "out/"}]}), false),
            (json!({"data": {"object": {"size": [{"numeric": [">", 2]}]}}}), true),
            (json!({"data": {"object": {"size": [{"numeric": [">", 3]}]}}}), false),
            (json!({"caused_by": [{"exists": false}]}), true),
            (json!({"data": {"object": {"operation": [{"anything-but": "put"}]}}}), false),
        ] {
            let parsed = parse(&bucket, &filter).expect("a filter").expect("a filter");
            assert_eq!(parsed.admits(&event), expected, "{filter}");
        }
    }
}
