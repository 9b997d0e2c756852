//! Parsing of schedule expressions: a cron pattern, or `cron(…)`, `rate(…)` and `at(…)` in the
//! syntax of EventBridge Scheduler.

use chrono::{NaiveDateTime, TimeDelta};
use croner::Cron;
use croner::parser::{CronParser, Seconds, Year};

/// Hint for a wrong cron pattern.
pub(crate) const CRON_HINT: &str =
    "Write minute, hour, day, month and weekday, for example `30 2 * * *`.";
const RATE_HINT: &str = "Write a number and a unit, for example `rate(5 minutes)`.";
const AT_HINT: &str = "Write a date and a time without an offset, for example \
                       `at(2030-12-01T08:00:00)`, and set `timezone` if it is not UTC.";
/// The hint for a pattern with `?`.
const AWS_HINT: &str = "Write `*` for `?`, and leave out the last field, the year: \
                        `cron(0 12 * * ? *)` is `0 12 * * *`.";

/// The reason why an expression is invalid, and a hint.
pub(crate) type InvalidExpression = (String, &'static str);

/// A parsed expression, without its time zone.
#[derive(Debug, Clone)]
pub(crate) enum ScheduleExpression {
    /// A cron pattern.
    Cron(Box<Cron>),
    /// An interval, which is at least one second.
    Rate(TimeDelta),
    /// A local time at which the schedule fires once.
    At(NaiveDateTime),
}

impl ScheduleExpression {
    pub(crate) fn parse(text: &str) -> Result<Self, InvalidExpression> {
        if let Some(rate) = argument(text, "rate") {
            return interval(rate).map(ScheduleExpression::Rate).ok_or_else(|| {
                (format!("`{text}` is not a rate of seconds, minutes, hours or days"), RATE_HINT)
            });
        }
        if let Some(at) = argument(text, "at") {
            return local_time(at)
                .map(ScheduleExpression::At)
                .ok_or_else(|| (format!("`{text}` is not a time"), AT_HINT));
        }
        cron(argument(text, "cron").unwrap_or(text))
    }
}

/// Returns the text between the parentheses of `name(…)`.
fn argument<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    text.strip_prefix(name)?.trim_start().strip_prefix('(')?.strip_suffix(')').map(str::trim)
}

fn cron(text: &str) -> Result<ScheduleExpression, InvalidExpression> {
    if text.contains('?') {
        return Err((format!("`{text}` has the fields of a cron pattern of AWS"), AWS_HINT));
    }
    let fields = text.split_whitespace().count();
    if !text.starts_with('@') && !matches!(fields, 5 | 6) {
        return Err((format!("`{text}` has {fields} fields instead of five or six"), CRON_HINT));
    }
    let parser = CronParser::builder().seconds(Seconds::Optional).year(Year::Disallowed);
    let cron = parser.build().parse(text);
    let cron =
        cron.map_err(|error| (format!("`{text}` is not a cron pattern: {error}"), CRON_HINT))?;
    Ok(ScheduleExpression::Cron(Box::new(cron)))
}

/// Parses a rate such as `5 minutes`.
fn interval(text: &str) -> Option<TimeDelta> {
    let (count, unit) = text.split_once(char::is_whitespace)?;
    let count: u32 = count.parse().ok().filter(|count| *count > 0)?;
    let seconds: i64 = match unit.trim() {
        "second" | "seconds" => 1,
        "minute" | "minutes" => 60,
        "hour" | "hours" => 60 * 60,
        "day" | "days" => 24 * 60 * 60,
        _ => return None,
    };
    TimeDelta::try_seconds(i64::from(count) * seconds)
}

/// Parses a time such as `2026-12-01T08:00:00`; seconds may be omitted.
fn local_time(text: &str) -> Option<NaiveDateTime> {
    let formats = ["%Y-%m-%dT%H:%M:%S", "%Y-%m-%dT%H:%M"];
    formats.iter().find_map(|format| NaiveDateTime::parse_from_str(text, format).ok())
}
