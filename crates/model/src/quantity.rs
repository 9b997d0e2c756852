//! Sizes and durations in text: `512MiB`, `1.5GiB`, `90s`, `1h30m`. This module has the only Rust
//! parser for them. The Python SDK implements the same rules in `headwater/quantity.py`.

use std::time::Duration;

/// Maximum size in bytes. A larger value is rejected, because it is probably a typo.
const BYTES_MAX: f64 = 1e18;

/// Minimum memory limit of a new function, in bytes. A function that only imports a few modules of
/// the standard library uses half of this.
pub const FUNCTION_MEMORY_BYTES_MIN: u64 = 16 << 20;

/// Maximum duration: a hundred years.
const SECONDS_MAX: f64 = 100.0 * 365.0 * 86_400.0;

/// Units of time with their length in seconds, longest first.
const TIME_UNITS: [(&str, f64); 7] = [
    ("w", 604_800.0),
    ("d", 86_400.0),
    ("h", 3_600.0),
    ("min", 60.0),
    ("m", 60.0),
    ("s", 1.0),
    ("ms", 1e-3),
];

/// Parses a size in bytes: a number and a unit, ignoring case. `KiB` and `k` are 1024 bytes, `kB`
/// is 1000 bytes, and so on up to `TiB`. Without a unit, the number is in bytes. On failure,
/// returns the reason.
pub fn parse_size(text: &str) -> Result<u64, &'static str> {
    let (number, unit, rest) = part(text.trim())?;
    if !rest.is_empty() {
        return Err("a size has one number and one unit");
    }
    let scale: u64 = match unit.to_ascii_lowercase().as_str() {
        "" | "b" => 1,
        "k" | "kib" => 1 << 10,
        "m" | "mib" => 1 << 20,
        "g" | "gib" => 1 << 30,
        "t" | "tib" => 1 << 40,
        "kb" => 1_000,
        "mb" => 1_000_000,
        "gb" => 1_000_000_000,
        "tb" => 1_000_000_000_000,
        _ => return Err("the unit must be B, KiB, MiB, GiB, TiB, kB, MB, GB or TB"),
    };
    let bytes = number * scale as f64;
    match bytes {
        ..1.0 => Err("the size is less than a byte"),
        BYTES_MAX.. => Err("the size is 10^18 bytes or more"),
        _ => Ok(bytes as u64),
    }
}

/// Parses a duration: numbers with units, longest first, such as `90s` or `1h30m`. Units are `ms`,
/// `s`, `m` or `min`, `h`, `d` and `w`. On failure, returns the reason.
pub fn parse_duration(text: &str) -> Result<Duration, &'static str> {
    let mut rest = text.trim();
    let mut seconds = 0.0;
    let mut shortest = f64::INFINITY;
    loop {
        let (number, unit, after) = part(rest)?;
        let scale = TIME_UNITS.iter().find(|(name, _)| *name == unit).map(|(_, scale)| *scale);
        let scale = scale.ok_or("the unit must be ms, s, m, h, d or w")?;
        if scale >= shortest {
            return Err("the units are not in descending order");
        }
        shortest = scale;
        seconds += number * scale;
        if seconds > SECONDS_MAX {
            return Err("the duration is longer than a hundred years");
        }
        if after.is_empty() {
            return Ok(Duration::from_secs_f64(seconds));
        }
        rest = after;
    }
}

/// Splits off the first number and its unit. Returns the number, the unit and the rest of the text.
fn part(text: &str) -> Result<(f64, &str, &str), &'static str> {
    if text.is_empty() {
        return Err("the text is empty");
    }
    let is_digit = |c: char| c.is_ascii_digit() || c == '.';
    let end = text.find(|c| !is_digit(c)).unwrap_or(text.len());
    let number = text[..end].parse().map_err(|_| "the text does not begin with a number")?;
    let rest = text[end..].trim_start();
    let end = rest.find(|c: char| is_digit(c) || c.is_whitespace()).unwrap_or(rest.len());
    Ok((number, &rest[..end], rest[end..].trim_start()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_have_one_number_and_one_unit() {
        for (text, bytes) in [
            ("512MiB", 512 << 20),
            ("1.5GiB", 3 << 29),
            ("1.5g", 3 << 29),
            ("2 kB", 2_000),
            ("1TB", 1_000_000_000_000),
            (" 12 ", 12),
            ("7b", 7),
        ] {
            assert_eq!(parse_size(text), Ok(bytes), "{text}");
        }
        for text in [
            "",
            "MiB",
            "-1GiB",
            "1 potato",
            "0",
            "0.5",
            "1..5GiB",
            "1GiB 2MiB",
            "9999999TiB",
            "3é",
            ".",
        ] {
            assert!(parse_size(text).is_err(), "{text}");
        }
    }

    #[test]
    fn durations_have_units_from_long_to_short() {
        for (text, milliseconds) in [
            ("90s", 90_000),
            ("250ms", 250),
            (" 15 m", 900_000),
            ("10min", 600_000),
            ("1h30m", 5_400_000),
            ("1h 30min 5s", 5_405_000),
            ("1.5h", 5_400_000),
            ("2d", 172_800_000),
            ("2w", 1_209_600_000),
            ("0s", 0),
        ] {
            let expected = Ok(Duration::from_millis(milliseconds));
            assert_eq!(parse_duration(text), expected, "{text}");
        }
        for text in [
            "",
            "d",
            "3",
            "3y",
            "-1d",
            "30m1h",
            "1h1h",
            "1m1min",
            "1h30",
            "9999999999w",
            "3é",
            "1H",
        ] {
            assert!(parse_duration(text).is_err(), "{text}");
        }
    }
}
