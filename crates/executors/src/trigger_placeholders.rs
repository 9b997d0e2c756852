//! Placeholders in the parameters of a run that a trigger starts: `{file}`, `{files}`, `{bucket}`,
//! `{key}`, `{tables}`, `{branch}`, `{source}`, `{commit}`, `{job}`, `{status}`, `{payload}`,
//! `{payload.FIELD}`, `{payloads}`, `{time}`, `{date}` and `{event}`. Each is replaced by a value
//! of the event.

use std::collections::BTreeMap;

use chrono::SecondsFormat;
use chrono_tz::Tz;
use headwater_model::{Event, EventData, Trigger};
use serde_json::Value;

/// Returns the trigger's parameters with the values of an event.
///
/// `{file}` is the first file that arrived, or the URL of the object, and `{files}` are all files
/// as a JSON array. `{bucket}` and `{key}` identify the object. `{tables}` are the tables that
/// changed, as a JSON array, on `{branch}`, and `{commit}` is the last commit that changed them.
/// `{source}` is the ref that was merged. `{job}` and `{status}` are the id and the status of the
/// job that ended. `{payload}` is the first notification, row or message, and `{payload.FIELD}` is
/// one of its fields (with `.` between nested names). `{payloads}` are all payloads as a JSON
/// array. `{time}` is the event's time as RFC 3339, and `{date}` its day, in the schedule's time
/// zone. Other text in braces is unchanged.
pub fn parameters(trigger: &Trigger, event: &Event) -> BTreeMap<String, String> {
    let values = values(trigger, event);
    let payloads = event.payloads();
    let fill = |text: &str| fill(text, &values, payloads.first().copied());
    trigger.parameters.iter().map(|(name, text)| (name.clone(), fill(text))).collect()
}

fn values(trigger: &Trigger, event: &Event) -> [(&'static str, String); 15] {
    let zone = trigger.schedule.as_ref().and_then(|schedule| schedule.timezone.as_deref());
    let zone = zone.and_then(|zone| zone.parse().ok()).unwrap_or(Tz::UTC);
    let moment = event.time.with_timezone(&zone);
    let object = event.object();
    let paths = event.files().iter().map(|file| file.path.as_str());
    let files: Vec<&str> = paths.chain(object.map(|object| object.uri.as_str())).collect();
    let payloads = event.payloads();
    let source = match &event.data {
        EventData::BranchMerged { source, .. } => source.clone(),
        _ => String::new(),
    };
    [
        ("file", files.first().map_or_else(String::new, |file| (*file).to_owned())),
        ("files", serde_json::json!(files).to_string()),
        ("bucket", object.map_or_else(String::new, |object| object.bucket.clone())),
        ("key", object.map_or_else(String::new, |object| object.key.clone())),
        ("tables", serde_json::json!(event.tables()).to_string()),
        ("branch", event.branch().unwrap_or_default().to_owned()),
        ("source", source),
        ("job", event.job().map_or_else(String::new, |job| job.id.to_string())),
        ("status", event.job().map_or_else(String::new, |job| job.status.as_str().to_owned())),
        ("commit", event.commit().map_or_else(String::new, |commit| commit.to_string())),
        ("payload", payloads.first().map_or_else(String::new, |payload| value_text(payload))),
        ("payloads", serde_json::json!(payloads).to_string()),
        ("time", moment.to_rfc3339_opts(SecondsFormat::AutoSi, true)),
        ("date", moment.format("%Y-%m-%d").to_string()),
        ("event", event.id.clone()),
    ]
}

/// Replaces all placeholders in one pass, so that braces in inserted values are unchanged.
fn fill(text: &str, values: &[(&str, String)], payload: Option<&Value>) -> String {
    let mut filled = String::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('{') {
        filled.push_str(before);
        let value = values.iter().find_map(|(name, value)| {
            let after = after.strip_prefix(name)?.strip_prefix('}')?;
            Some((value.clone(), after))
        });
        let value = value.or_else(|| {
            let (path, after) = after.strip_prefix("payload.")?.split_once('}')?;
            let field = payload.and_then(|payload| field(payload, path));
            Some((field.map_or_else(String::new, value_text), after))
        });
        let (value, after) = value.unwrap_or(("{".to_owned(), after));
        filled.push_str(&value);
        rest = after;
    }
    filled + rest
}

/// Returns a nested field of a payload.
fn field<'a>(payload: &'a Value, path: &str) -> Option<&'a Value> {
    path.split('.').try_fold(payload, |value, name| match value {
        Value::Array(items) => items.get(name.parse::<usize>().ok()?),
        value => value.get(name),
    })
}

/// Returns a text without quotes, other values as JSON, and null as an empty text.
fn value_text(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Null => String::new(),
        value => value.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn check(text: &str, event: &str, expected: &str) {
        let trigger = serde_json::from_value(json!({
            "name": "t", "run": true, "parameters": {"p": text},
            "schedule": {"cron": "15 0 * * *", "timezone": "Europe/Oslo"},
        }));
        let file = |path: &str| json!({"path": path, "uri": path, "etag": "1", "size": 1});
        let data = match event {
            "headwater.file.arrived" => {
                json!({"files": [file("/in/{time}.csv"), file("/in/b.csv")]})
            }
            "headwater.object.created" => {
                json!({"object": {"bucket": "landing", "key": "in/a.csv", "size": 1, "etag": "e",
                    "uri": "s3://landing/in/a.csv", "operation": "put", "sequencer": "0"}})
            }
            "headwater.postgres.notified" => {
                json!({"channel": "c", "payloads": [{"id": 7, "to": {"name": "{date}"}}, "x"]})
            }
            "headwater.schedule.fired" => json!({"scheduled": "2026-01-30T23:15:00Z"}),
            "headwater.branch.merged" => {
                let id = "ab".repeat(32);
                json!({"branch": "main", "source": "dev", "before": id, "commit": id,
                    "source_commit": id, "tables": ["public.t"], "author": "ada"})
            }
            "headwater.job.ended" => {
                let time = "2026-01-30T23:15:00Z";
                json!({"job": {"id": "019ae000-0000-7000-8000-000000000001", "kind": "run",
                    "status": "failed", "summary": "shop", "author": "ada", "created": time,
                    "ended": time, "usage": headwater_model::Usage::default(), "cost": 0.0}})
            }
            _ => json!({"branch": "main", "tables": ["public.t"], "commit": "ab".repeat(32)}),
        };
        let event = serde_json::from_value(json!({
            "id": "e1", "source": "/triggers/t", "time": "2026-01-30T23:15:00Z", "type": event,
            "data": data,
        }));
        let filled = parameters(&trigger.expect("a trigger"), &event.expect("an event"));
        assert_eq!(filled["p"], expected);
    }

    #[test]
    fn events_fill_parameters_in() {
        let (files, schedule) = ("headwater.file.arrived", "headwater.schedule.fired");
        check("{file}", files, "/in/{time}.csv");
        check("{files}", files, r#"["/in/{time}.csv","/in/b.csv"]"#);
        check("{tables}", "headwater.table.changed", r#"["public.t"]"#);
        check("{commit}", "headwater.table.changed", &"ab".repeat(32));
        check("{tables}{commit}{file}", schedule, "[]");
        let merged = "headwater.branch.merged";
        check("{source} into {branch}: {tables}", merged, r#"dev into main: ["public.t"]"#);
        check("{commit}", merged, &"ab".repeat(32));
        let ended = "headwater.job.ended";
        check("{job} {status}{branch}", ended, "019ae000-0000-7000-8000-000000000001 failed");
        let object = "headwater.object.created";
        check("{bucket}|{key}|{file}", object, "landing|in/a.csv|s3://landing/in/a.csv");
        check("day={date}!", schedule, "day=2026-01-31!");
        check("{time}", schedule, "2026-01-31T00:15:00+01:00");
        let notified = "headwater.postgres.notified";
        check("{payload.id}|{payload.to.name}|{payload.none}", notified, "7|{date}|");
        check("{payload}", notified, r#"{"id":7,"to":{"name":"{date}"}}"#);
        check("{payloads}", notified, r#"[{"id":7,"to":{"name":"{date}"}},"x"]"#);
        check("{payload}{payload.id}{payloads}", schedule, "[]");
        check("{event} {other} {{date}}", schedule, "e1 {other} {2026-01-31}");
    }
}
