//! Results on standard output, and the formats of numbers, times and sizes.

use std::io::Write;
use std::sync::atomic::{AtomicBool, Ordering};

use chrono::Datelike;
use headwater_model::{Problem, Usage};
use serde::Serialize;

pub use crate::cell::Cell;
pub use crate::grid::Grid;
use crate::terminal::OutputStyle;

static BEGAN: AtomicBool = AtomicBool::new(false);

/// Returns true if something was written to standard output. The caller then writes no second JSON
/// document.
pub fn began() -> bool {
    BEGAN.load(Ordering::Relaxed)
}

/// Writes bytes to standard output; exits without an error message if the reader closed it.
pub fn write(bytes: &[u8]) {
    BEGAN.store(true, Ordering::Relaxed);
    let mut out = std::io::stdout().lock();
    if out.write_all(bytes).and_then(|()| out.flush()).is_err() {
        std::process::exit(0);
    }
}

/// Writes a line to standard output.
pub fn line(text: impl std::fmt::Display) {
    write(format!("{text}\n").as_bytes());
}

/// Writes an error with its causes and hint, for commands whose result is an error.
pub fn problem(style: OutputStyle, problem: &Problem) {
    for text in style.problem_lines(problem) {
        line(text);
    }
}

/// Writes one JSON document.
pub fn print_json(value: &impl Serialize) {
    if let Ok(text) = serde_json::to_string_pretty(value) {
        line(text);
    }
}

/// Formats a count: `336,776`.
pub fn count(value: u64) -> String {
    let digits = value.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// Formats a size in binary units: `12.4 MiB`.
pub fn bytes(value: u64) -> String {
    const UNITS: [&str; 5] = ["B", "KiB", "MiB", "GiB", "TiB"];
    let mut size = value as f64;
    let mut unit = 0;
    while size >= 1024.0 && unit < UNITS.len() - 1 {
        size /= 1024.0;
        unit += 1;
    }
    if unit == 0 { format!("{value} B") } else { format!("{size:.1} {}", UNITS[unit]) }
}

/// Formats a duration: `312 ms`, `4.1 s`, `3 min 20 s`.
pub fn milliseconds(value: u64) -> String {
    match value {
        0..=999 => format!("{value} ms"),
        1_000..=59_999 => format!("{:.1} s", value as f64 / 1000.0),
        _ => format!("{} min {} s", value / 60_000, value % 60_000 / 1000),
    }
}

/// Formats elapsed time in whole seconds: `12 s`, `3 min 20 s`.
pub fn elapsed(time: std::time::Duration) -> String {
    match time.as_secs() {
        seconds @ 0..=59 => format!("{seconds} s"),
        seconds => format!("{} min {} s", seconds / 60, seconds % 60),
    }
}

/// The default decimal places of a cost.
const MONEY_DIGITS: usize = 6;

/// Formats a cost, with more decimal places for tiny amounts: `0.000012 USD`.
pub fn money(value: f64, currency: &str) -> String {
    let mut digits = MONEY_DIGITS;
    let shown = |digits: usize| format!("{:.digits$}", value.max(0.0));
    while value > 0.0
        && digits < 2 * MONEY_DIGITS
        && !shown(digits).contains(|c| ('1'..='9').contains(&c))
    {
        digits += 1;
    }
    // The sum of an empty list of costs is `-0.0`.
    let text = if value == 0.0 { format!("{:.digits$}", 0.0) } else { shown(digits) };
    format!("{text} {currency}")
}

/// Formats usage in one line.
pub fn usage(usage: &Usage) -> String {
    let cached = match usage.bytes_cached {
        0 => String::new(),
        cached => format!(" ({} cached)", bytes(cached)),
    };
    format!(
        "{} wall, {} cpu, {} peak, {} read{cached}, {} written",
        milliseconds(usage.wall_ms),
        milliseconds(usage.cpu_us.div_ceil(1000)),
        bytes(usage.memory_bytes_peak),
        bytes(usage.bytes_read),
        bytes(usage.bytes_written),
    )
}

/// Formats the starts of functions: `cold`, `warm` or `2 of 5 cold`; empty if none ran.
pub fn starts(usage: &Usage) -> String {
    let Usage { calls, cold_starts, .. } = *usage;
    match (calls, cold_starts) {
        (0, _) => String::new(),
        (_, 0) => "warm".to_owned(),
        (1, _) => "cold".to_owned(),
        _ => format!("{cold_starts} of {calls} cold"),
    }
}

/// Formats the waiting times: `12 ms queue, 3.1 s environment, 0 ms start`.
pub fn waits(usage: &Usage) -> String {
    let waits = [
        (usage.queue_ms, "queue"),
        (usage.environment_ms, "environment"),
        (usage.start_ms, "start"),
    ];
    waits.map(|(time, name)| format!("{} {name}", milliseconds(time))).join(", ")
}

/// Formats a time in UTC.
pub fn format_time(time: chrono::DateTime<chrono::Utc>) -> String {
    time.format("%Y-%m-%d %H:%M:%S").to_string()
}

/// Formats a time in UTC, or `never`.
pub fn format_time_or_never(time: Option<chrono::DateTime<chrono::Utc>>) -> String {
    time.map_or_else(|| "never".to_owned(), format_time)
}

/// Formats a time in UTC, without the current year.
pub fn recent(time: chrono::DateTime<chrono::Utc>, now: chrono::DateTime<chrono::Utc>) -> String {
    let format = if time.year() == now.year() { "%m-%d %H:%M:%S" } else { "%Y-%m-%d %H:%M" };
    time.format(format).to_string()
}

/// Formats a number with its noun: `1 file`, `3 files`.
pub fn plural(number: u64, noun: &str) -> String {
    let ending = if number == 1 { "" } else { "s" };
    format!("{} {noun}{ending}", count(number))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_formatted() {
        assert_eq!(count(336_776), "336,776");
        assert_eq!(count(12), "12");
        assert_eq!(bytes(1536), "1.5 KiB");
        assert_eq!(milliseconds(61_500), "1 min 1 s");
        assert_eq!(money(0.000_012_3, "USD"), "0.000012 USD");
        assert_eq!(money(0.000_000_040_9, "USD"), "0.00000004 USD");
        assert_eq!(money(-0.0, "USD"), "0.000000 USD");
        assert_eq!(money(12.5, "EUR"), "12.500000 EUR");
        assert_eq!(plural(1, "row"), "1 row");
    }

    #[test]
    fn starts_and_waits_are_formatted() {
        let began = |calls, cold_starts| starts(&Usage { calls, cold_starts, ..Usage::default() });
        let all = [(0, 0), (1, 1), (1, 0), (5, 2), (5, 0)].map(|(all, cold)| began(all, cold));
        assert_eq!(all, ["", "cold", "warm", "2 of 5 cold", "warm"]);
        let usage = Usage { queue_ms: 12, environment_ms: 3_100, ..Usage::default() };
        assert_eq!(waits(&usage), "12 ms queue, 3.1 s environment, 0 ms start");
    }
}
