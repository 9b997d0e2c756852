//! Texts of intervals with a time, as PostgreSQL writes them: `1 month 2 days 03:04:05`. The
//! planner accepts only numbers with units.

/// Rewrites the text of an interval with a unit after each number: `1 month 2 days 03 hours 04
/// minutes 05 seconds`. Returns `None` for a text without a time.
pub(crate) fn with_units(text: &str) -> Option<String> {
    let words: Vec<&str> = text.split([' ', ',']).filter(|word| !word.is_empty()).collect();
    let place = words.iter().position(|word| word.contains(':'))?;
    let time = time(words[place])?;
    let mut words: Vec<&str> = words;
    words[place] = &time;
    // In `2 03:04:05`, the first number is the number of days.
    if place > 0 && words[place - 1].parse::<i64>().is_ok() {
        words.insert(place, "days");
    }
    Some(words.join(" "))
}

fn time(text: &str) -> Option<String> {
    let (sign, digits) = match text.strip_prefix('-') {
        Some(digits) => ("-", digits),
        None => ("", text.strip_prefix('+').unwrap_or(text)),
    };
    let mut parts = digits.split(':');
    let (hours, minutes) = (parts.next()?, parts.next()?);
    let seconds = parts.next().unwrap_or("0");
    let is_whole = |part: &str| !part.is_empty() && part.bytes().all(|one| one.is_ascii_digit());
    let (whole, fraction) = seconds.split_once('.').unwrap_or((seconds, "0"));
    let is_time =
        parts.next().is_none() && [hours, minutes, whole, fraction].map(is_whole) == [true; 4];
    is_time.then(|| format!("{sign}{hours} hours {sign}{minutes} minutes {sign}{seconds} seconds"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_get_units() {
        for (text, expected) in [
            ("03:04:05", Some("03 hours 04 minutes 05 seconds")),
            ("1 month 2 days 03:04", Some("1 month 2 days 03 hours 04 minutes 0 seconds")),
            ("1 day, -0:00:05.5", Some("1 day -0 hours -00 minutes -05.5 seconds")),
            ("2 03:04:05", Some("2 days 03 hours 04 minutes 05 seconds")),
            ("1 month 2 days", None),
            ("1:2:3:4", None),
            ("a:b", None),
        ] {
            assert_eq!(with_units(text).as_deref(), expected, "{text}");
        }
    }
}
