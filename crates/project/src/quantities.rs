//! Sizes and durations in project files, parsed by `headwater_model`. A number without a unit is in
//! bytes or seconds.

use std::time::Duration;

use headwater_model::{parse_duration, parse_size};

/// Maximum duration, in seconds.
const SECONDS_MAX: f64 = 1e9;

/// Parses bytes from `512MiB`, `2GB` or a number of bytes.
pub(crate) fn bytes(text: &str) -> Option<u64> {
    parse_size(text).ok()
}

/// Parses a positive duration from `500ms`, `30s`, `1h30m` or a number of seconds.
pub(crate) fn duration(text: &str) -> Option<Duration> {
    let text = text.trim();
    let is_number = text.chars().all(|c| c.is_ascii_digit() || c == '.');
    let duration = if is_number {
        let seconds: f64 = text.parse().ok()?;
        (seconds < SECONDS_MAX).then(|| Duration::from_secs_f64(seconds))?
    } else {
        parse_duration(text).ok()?
    };
    (!duration.is_zero()).then_some(duration)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_without_a_unit_is_in_bytes_or_seconds() {
        assert_eq!(bytes("12"), Some(12));
        assert_eq!(bytes("12 parsecs"), None);
        assert_eq!(duration("90"), Some(Duration::from_secs(90)));
        assert_eq!(duration("1h30m"), Some(Duration::from_secs(5_400)));
        for text in ["0", "0s", "soon", "", "1e3", "99999999999"] {
            assert_eq!(duration(text), None, "{text}");
        }
    }
}
