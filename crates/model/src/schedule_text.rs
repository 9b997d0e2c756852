//! Short form of a schedule in a project file, as text: `schedule = "rate(5 minutes)"`.

use std::fmt;

use serde::de::value::MapAccessDeserializer;
use serde::de::{Deserializer, MapAccess, Visitor};
use serde::{Deserialize, de};

use crate::ScheduleTrigger;

/// Deserializes a schedule from the short form, or from an object with all fields.
pub(crate) fn deserialize<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<ScheduleTrigger>, D::Error> {
    deserializer.deserialize_any(ScheduleVisitor)
}

struct ScheduleVisitor;

impl<'de> Visitor<'de> for ScheduleVisitor {
    type Value = Option<ScheduleTrigger>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a schedule such as `rate(5 minutes)`, or a table with the key `cron`")
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Self::Value, E> {
        Ok(Some(ScheduleTrigger { cron: text.to_owned(), ..ScheduleTrigger::default() }))
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Self::Value, A::Error> {
        ScheduleTrigger::deserialize(MapAccessDeserializer::new(map)).map(Some)
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_any(self)
    }

    fn visit_unit<E: de::Error>(self) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_none<E: de::Error>(self) -> Result<Self::Value, E> {
        Ok(None)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use crate::{CatchupPolicy, Trigger};

    fn trigger(schedule: &Value) -> Result<Trigger, serde_json::Error> {
        serde_json::from_value(json!({"name": "t", "run": true, "schedule": schedule}))
    }

    #[test]
    fn a_schedule_is_a_text_or_an_object() {
        let short = trigger(&json!("rate(5 minutes)")).expect("a trigger");
        let long = trigger(&json!({"cron": "rate(5 minutes)", "catchup": "once"}));
        assert_eq!(short, long.expect("a trigger"));
        let schedule = short.schedule.clone().expect("a schedule");
        assert_eq!((schedule.timezone, schedule.catchup), (None, CatchupPolicy::Once));
        assert_eq!(trigger(&Value::Null).expect("a trigger").schedule, None);
        let stored = serde_json::to_value(&short).expect("JSON");
        assert_eq!(serde_json::from_value::<Trigger>(stored).expect("a trigger"), short);
        for (wrong, expected) in [(json!(5), "a schedule such as"), (json!({"cro": ""}), "`cro`")] {
            let error = trigger(&wrong).expect_err("an error").to_string();
            assert!(error.contains(expected), "{error}");
        }
    }
}
