//! Events with several items: messages, records, notifications, rows or files. A function can
//! report the failed items, and an event can be divided into parts. This module does no I/O.

use std::collections::{BTreeMap, BTreeSet};

use headwater_model::{ArrivedFile, ErrorCode, Event, EventData, Problem, Trigger};
use serde_json::Value;

/// Maximum length of a result with failed items, in bytes. The parsed result needs many times as
/// much memory.
const REPORT_BYTES_MAX: usize = 4 << 20;

/// Maximum number of characters of an unknown id in an error message.
const SHOWN_MAX: usize = 100;

/// Returns the ids by which a function reports failed items, in the order of the items; empty for
/// an event that cannot be divided.
pub fn item_ids(trigger: &Trigger, event: &Event) -> Vec<String> {
    match &event.data {
        EventData::FileArrived { files } => files.iter().map(|file| file.path.clone()).collect(),
        EventData::QueueReceived { messages, .. } => {
            messages.iter().map(|message| message.id.clone()).collect()
        }
        EventData::NatsReceived { messages, .. } => {
            messages.iter().map(|message| message.sequence.to_string()).collect()
        }
        EventData::KafkaReceived { records, .. } => {
            records.iter().map(|record| record.offset.to_string()).collect()
        }
        EventData::PostgresRowsAdded { rows, .. } => {
            let key = trigger.postgres.as_ref().map_or("id", |postgres| postgres.key.as_str());
            rows.iter().map(|row| row.get(key).map_or_else(String::new, text)).collect()
        }
        EventData::PostgresNotified { payloads, .. } => {
            (0..payloads.len()).map(|position| position.to_string()).collect()
        }
        EventData::ObjectCreated { .. }
        | EventData::ObjectRemoved { .. }
        | EventData::ScheduleFired { .. }
        | EventData::TableChanged { .. }
        | EventData::BranchMerged { .. }
        | EventData::JobEnded { .. }
        | EventData::FunctionInvoked { .. } => Vec::new(),
    }
}

fn text(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        value => value.to_string(),
    }
}

/// Returns the positions of the items that the result of a function reports as failed, in ascending
/// order. A result without `batchItemFailures` reports none.
///
/// Error: `function_failed` if the result is malformed, has more than 4 MiB, or names an unknown
/// item.
pub fn failed_items(answer: &[u8], ids: &[String]) -> Result<Vec<usize>, Problem> {
    if answer.len() > REPORT_BYTES_MAX {
        return Err(invalid("the result has more than 4 MiB"));
    }
    let answer: Value =
        serde_json::from_slice(answer).map_err(|error| invalid(&error.to_string()))?;
    let fields = match &answer {
        Value::Null => return Ok(Vec::new()),
        Value::Object(fields) => fields,
        _ => return Err(invalid("the result is not an object")),
    };
    let failures = match fields.get("batchItemFailures") {
        None | Some(Value::Null) => return Ok(Vec::new()),
        Some(Value::Array(failures)) => failures,
        Some(_) => return Err(invalid("they are not a list")),
    };
    let mut named: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
    for (position, id) in ids.iter().enumerate() {
        named.entry(id.as_str()).or_default().push(position);
    }
    let mut failed = BTreeSet::new();
    for failure in failures {
        let id = identifier(failure);
        let id = id.ok_or_else(|| invalid("an item has no `itemIdentifier`"))?;
        let Some(positions) = named.get(id.as_str()) else {
            let shown: String = id.chars().take(SHOWN_MAX).collect();
            return Err(invalid(&format!("the event has no item `{shown}`")));
        };
        failed.extend(positions.iter().copied());
    }
    Ok(failed.into_iter().collect())
}

/// Returns the id of a failed item. For Kafka, AWS also accepts an object with an `offset`.
fn identifier(failure: &Value) -> Option<String> {
    match failure.get("itemIdentifier")? {
        Value::String(id) if !id.is_empty() => Some(id.clone()),
        Value::Number(id) => Some(id.to_string()),
        Value::Object(record) => Some(record.get("offset")?.as_i64()?.to_string()),
        _ => None,
    }
}

fn invalid(reason: &str) -> Problem {
    let message = format!("the function's `batchItemFailures` are invalid: {reason}");
    let hint = "Return `{\"batchItemFailures\": [{\"itemIdentifier\": ID}]}` with ids of the \
                event's items, or an empty list.";
    Problem::new(ErrorCode::FunctionFailed, message).with_hint(hint)
}

/// Returns the part of an event that contains the items at these positions, which must be in
/// ascending order.
pub fn part_of(event: &Event, id: String, positions: &[usize]) -> Event {
    let mut part = Event { id, ..event.clone() };
    let Event { source, subject, time, data, .. } = &mut part;
    match data {
        EventData::FileArrived { files } => {
            select(files, positions);
            *subject = match files.as_slice() {
                [file] => relative_path(source, file),
                _ => None,
            };
        }
        EventData::QueueReceived { messages, .. } => {
            select(messages, positions);
            *time = messages.first().map_or(*time, |first| first.sent);
            *subject = match messages.as_slice() {
                [only] => Some(only.id.clone()),
                _ => None,
            };
        }
        EventData::NatsReceived { messages, .. } => {
            select(messages, positions);
            *time = messages.first().map_or(*time, |first| first.time);
            *subject = match messages.as_slice() {
                [only] => Some(only.subject.clone()),
                _ => None,
            };
        }
        EventData::KafkaReceived { records, .. } => {
            select(records, positions);
            *time = records.first().map_or(*time, |first| first.time);
        }
        EventData::PostgresRowsAdded { rows, .. } => select(rows, positions),
        EventData::PostgresNotified { payloads, .. } => select(payloads, positions),
        EventData::ObjectCreated { .. }
        | EventData::ObjectRemoved { .. }
        | EventData::ScheduleFired { .. }
        | EventData::TableChanged { .. }
        | EventData::BranchMerged { .. }
        | EventData::JobEnded { .. }
        | EventData::FunctionInvoked { .. } => {}
    }
    part
}

fn select<T>(items: &mut Vec<T>, positions: &[usize]) {
    let mut position = 0;
    items.retain(|_| {
        let is_selected = positions.binary_search(&position).is_ok();
        position += 1;
        is_selected
    });
}

/// Returns the path of a file relative to the watched folder, whose URI is `folder`.
fn relative_path(folder: &str, file: &ArrivedFile) -> Option<String> {
    let relative = file.uri.strip_prefix(folder)?.strip_prefix('/')?;
    // The URI is percent-encoded, but the result must not be. So take the names from the end of the
    // path, as many as the relative URI has.
    let depth = relative.matches('/').count() + 1;
    let names: Vec<&str> = file.path.rsplit('/').take(depth).collect();
    Some(names.into_iter().rev().collect::<Vec<_>>().join("/"))
}

#[cfg(test)]
mod tests {
    use headwater_model::Timestamp;
    use serde_json::json;

    use super::*;

    fn trigger(source: &Value) -> Trigger {
        let mut definition = source.clone();
        definition["name"] = json!("t");
        definition["function"] = json!("f");
        serde_json::from_value(definition).expect("a trigger")
    }

    fn event(kind: &str, source: &str, data: &Value) -> Event {
        let event = json!({"id": "e", "source": source, "time": Timestamp::UNIX_EPOCH,
            "type": format!("headwater.{kind}"), "data": data});
        serde_json::from_value(event).expect("an event")
    }

    fn files() -> Event {
        let file =
            |path: &str, uri: &str| json!({"path": path, "uri": uri, "etag": "e", "size": 1});
        let files = [
            file("/in/a.csv", "file:///in/a.csv"),
            file("/in/b c/d.csv", "file:///in/b%20c/d.csv"),
            file("/in/e.csv", "file:///in/e.csv"),
        ];
        event("file.arrived", "file:///in", &json!({"files": files}))
    }

    #[test]
    fn items_have_the_ids_of_their_source() {
        let check = |source: Value, event: &Event, expected: &[&str]| {
            assert_eq!(item_ids(&trigger(&source), event), expected);
        };
        check(
            json!({"files": {"folder": "in"}}),
            &files(),
            &["/in/a.csv", "/in/b c/d.csv", "/in/e.csv"],
        );
        let rows = json!({"table": "t", "rows": [{"key": 7}, {"key": "x"}, "1e400"]});
        let outbox = json!({"postgres": {"url": "postgres://h/d", "outbox": "t", "key": "key"}});
        check(outbox, &event("postgres.rows_added", "postgres://h/d", &rows), &["7", "x", ""]);
        let payloads = json!({"channel": "c", "payloads": ["a", "a"]});
        let channel = json!({"postgres": {"url": "postgres://h/d", "channel": "c"}});
        check(channel, &event("postgres.notified", "postgres://h/d", &payloads), &["0", "1"]);
        let time = Timestamp::UNIX_EPOCH;
        let record =
            |offset: i64| json!({"offset": offset, "time": time, "payload": 1, "record": {}});
        let records = json!({"topic": "t", "partition": 0, "records": [record(8), record(9)]});
        let topic = json!({"kafka": {"servers": "a:1", "topic": "t"}});
        check(topic, &event("kafka.received", "kafka://a:1", &records), &["8", "9"]);
        let fired = json!({"scheduled": Timestamp::UNIX_EPOCH});
        let schedule = json!({"schedule": "* * * * *"});
        check(schedule, &event("schedule.fired", "/triggers/t", &fired), &[]);
    }

    #[test]
    fn an_answer_names_the_failed_items() {
        let ids = ["7", "x", "8"].map(str::to_owned);
        let check = |answer: &str, expected: &[usize]| {
            assert_eq!(failed_items(answer.as_bytes(), &ids).expect("positions"), expected);
        };
        for none in ["null", "{}", r#"{"batchItemFailures": null}"#, r#"{"batchItemFailures": []}"#]
        {
            check(none, &[]);
        }
        check(
            r#"{"batchItemFailures":
                [{"itemIdentifier": "8"}, {"itemIdentifier": 7}, {"itemIdentifier": "8"}]}"#,
            &[0, 2],
        );
        let kafka =
            r#"{"batchItemFailures": [{"itemIdentifier": {"partition": "t-0", "offset": 8}}]}"#;
        check(kafka, &[2]);
        for (wrong, reason) in [
            ("", "EOF"),
            ("true", "not an object"),
            (r#"{"batchItemFailures": {}}"#, "not a list"),
            (r#"{"batchItemFailures": [{"itemIdentifier": ""}]}"#, "no `itemIdentifier`"),
            (r#"{"batchItemFailures": [{"itemIdentifier": null}]}"#, "no `itemIdentifier`"),
            (r#"{"batchItemFailures": [{"id": "x"}]}"#, "no `itemIdentifier`"),
            (r#"{"batchItemFailures": [{"itemIdentifier": "y"}]}"#, "no item `y`"),
        ] {
            let problem = failed_items(wrong.as_bytes(), &ids).expect_err(wrong);
            assert_eq!(problem.code, ErrorCode::FunctionFailed);
            assert!(problem.message.contains(reason), "{}", problem.message);
        }
    }

    #[test]
    fn a_part_has_the_selected_items() {
        let event = files();
        let part = part_of(&event, "p".to_owned(), &[0, 2]);
        let paths: Vec<&str> = part.files().iter().map(|file| file.path.as_str()).collect();
        assert_eq!((part.id.as_str(), paths), ("p", vec!["/in/a.csv", "/in/e.csv"]));
        assert_eq!(part.subject, None);
        let part = part_of(&event, "p".to_owned(), &[1]);
        assert_eq!(part.subject.as_deref(), Some("b c/d.csv"));
    }
}
