//! Conversion of durations in settings to and from text: `500ms`, `2s`, `5m`.

use std::borrow::Cow;
use std::time::Duration;

use serde::{Deserialize, Deserializer, Serializer};

pub(crate) fn serialize<S: Serializer>(
    duration: &Duration,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    let milliseconds = duration.as_millis();
    if milliseconds.is_multiple_of(1000) {
        serializer.collect_str(&format_args!("{}s", milliseconds / 1000))
    } else {
        serializer.collect_str(&format_args!("{milliseconds}ms"))
    }
}

pub(crate) fn deserialize<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Duration, D::Error> {
    let text = Cow::<'de, str>::deserialize(deserializer)?;
    parse(&text).ok_or_else(|| {
        let message = format!("`{text}` is not a duration such as `500ms` or `2s`");
        serde::de::Error::custom(message)
    })
}

fn parse(text: &str) -> Option<Duration> {
    match text.trim().strip_suffix("ms") {
        Some(number) => number.trim().parse().ok().map(Duration::from_millis),
        None => crate::parse_duration(text).ok(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read_and_written_as_text() {
        for (text, milliseconds) in [("500ms", 500), ("0s", 0), ("2s", 2_000)] {
            let duration = parse(text).expect("a duration");
            assert_eq!(duration, Duration::from_millis(milliseconds));
            let written = serialize(&duration, serde_json::value::Serializer);
            assert_eq!(written.expect("text"), text);
        }
        assert_eq!(parse("5m"), Some(Duration::from_secs(300)));
        for wrong in ["", "ms", "1000", "soon", "-1s"] {
            assert_eq!(parse(wrong), None, "{wrong}");
        }
    }
}
