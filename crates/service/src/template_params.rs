//! Parameters of a run that a trigger starts: `{file}`, `{files}`, `{tables}`, `{commit}`, `{time}`, `{date}`
//! and `{event}` in their values are filled in from the event.

use std::collections::BTreeMap;

use chrono::SecondsFormat;
use chrono_tz::Tz;
use headwater_model::{Trigger, TriggerEvent};

/// The trigger's parameters for this event.
///
/// `{file}` is the first file that landed, `{files}` all of them as a JSON array. `{tables}` are the tables
/// that changed, as a JSON array, and `{commit}` the last commit that changed them. `{time}` is the
/// strike, or else the moment the event was recorded, as RFC 3339, and `{date}` its day, both in
/// the schedule's zone. Anything else in braces stays as it is.
pub fn parameters(trigger: &Trigger, event: &TriggerEvent) -> BTreeMap<String, String> {
    let values = values(trigger, event);
    let fill = |text: &str| fill(text, &values);
    trigger.parameters.iter().map(|(name, text)| (name.clone(), fill(text))).collect()
}

fn values(trigger: &Trigger, event: &TriggerEvent) -> [(&'static str, String); 7] {
    let zone = trigger.schedule.as_ref().and_then(|schedule| schedule.timezone.as_deref());
    let zone = zone.and_then(|zone| zone.parse().ok()).unwrap_or(Tz::UTC);
    let moment = event.scheduled.unwrap_or(event.created).with_timezone(&zone);
    [
        ("file", event.files.first().cloned().unwrap_or_default()),
        ("files", serde_json::json!(event.files).to_string()),
        ("tables", serde_json::json!(event.tables).to_string()),
        ("commit", event.commit.map_or_else(String::new, |commit| commit.to_string())),
        ("time", moment.to_rfc3339_opts(SecondsFormat::AutoSi, true)),
        ("date", moment.format("%Y-%m-%d").to_string()),
        ("event", event.id.clone()),
    ]
}

/// In one pass, so that what is filled in is never read for braces itself.
fn fill(text: &str, values: &[(&str, String)]) -> String {
    let mut filled = String::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('{') {
        filled.push_str(before);
        let value = values.iter().find_map(|(name, value)| {
            let after = after.strip_prefix(name)?.strip_prefix('}')?;
            Some((value.as_str(), after))
        });
        let (value, after) = value.unwrap_or(("{", after));
        filled.push_str(value);
        rest = after;
    }
    filled + rest
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn check(text: &str, expected: &str) {
        let trigger = serde_json::from_value(json!({
            "name": "t", "run": true, "parameters": {"p": text},
            "schedule": {"cron": "15 0 * * *", "timezone": "Europe/Oslo"},
        }));
        let event = serde_json::from_value(json!({
            "id": "e1", "trigger": "t", "status": "running", "attempts": 0,
            "created": "2026-01-31T12:00:00Z", "due": "2026-01-31T12:00:00Z",
            "scheduled": "2026-01-30T23:15:00Z", "files": ["/in/{time}.csv", "/in/b.csv"],
            "tables": ["public.t"], "commit": "ab".repeat(32),
        }));
        let filled = parameters(&trigger.expect("a trigger"), &event.expect("an event"));
        assert_eq!(filled["p"], expected);
    }

    #[test]
    fn events_fill_parameters_in() {
        check("{file}", "/in/{time}.csv");
        check("{files}", r#"["/in/{time}.csv","/in/b.csv"]"#);
        check("{tables}", r#"["public.t"]"#);
        check("{commit}", &"ab".repeat(32));
        check("day={date}!", "day=2026-01-31!");
        check("{time}", "2026-01-31T00:15:00+01:00");
        check("{event} {other} {{date}}", "e1 {other} {2026-01-31}");
    }
}
