//! Cron patterns in a time zone.
//!
//! If the clocks go forward and skip a scheduled time of day, it fires right after the gap. If the
//! clocks go back and a time of day occurs twice, it fires only the first time. Patterns that fire
//! more than once a day follow local time.

use chrono::TimeDelta;
use chrono_tz::Tz;
use croner::Cron;
use croner::parser::{CronParser, Seconds, Year};
use headwater_model::{ScheduleTrigger, Timestamp};

/// A cron pattern in a time zone.
#[derive(Debug, Clone)]
pub(crate) struct Schedule {
    cron: Cron,
    zone: Tz,
    definition: ScheduleTrigger,
}

impl Schedule {
    /// Parses a schedule. The error contains the reason and a hint.
    pub(crate) fn new(definition: &ScheduleTrigger) -> Result<Self, (String, &'static str)> {
        let name = definition.timezone.as_deref().unwrap_or("UTC");
        let zone: Tz = name.parse().map_err(|_| {
            let reason = format!("`{name}` is not a time zone");
            (reason, "Name an IANA time zone such as `Europe/Berlin`.")
        })?;
        let text = definition.cron.trim();
        let hint = "Write minute, hour, day, month and weekday, for example `30 2 * * *`.";
        let fields = text.split_whitespace().count();
        if !text.starts_with('@') && !matches!(fields, 5 | 6) {
            return Err((format!("`{text}` has {fields} fields instead of five or six"), hint));
        }
        let parser = CronParser::builder().seconds(Seconds::Optional).year(Year::Disallowed);
        let cron = parser.build().parse(text);
        let cron =
            cron.map_err(|error| (format!("`{text}` is not a cron pattern: {error}"), hint))?;
        let schedule = Schedule { cron, zone, definition: definition.clone() };
        let start = Timestamp::UNIX_EPOCH + TimeDelta::days(365 * 50);
        if schedule.next_after(start).is_none() {
            return Err((format!("`{text}` never fires"), hint));
        }
        Ok(schedule)
    }

    pub(crate) fn definition(&self) -> &ScheduleTrigger {
        &self.definition
    }

    /// Returns the pattern and time zone as text. A stored position with another identity is
    /// ignored.
    pub(crate) fn identity(&self) -> String {
        format!("{} {}", self.definition.cron.trim(), self.zone.name())
    }

    /// Returns the first scheduled time after a time.
    pub(crate) fn next_after(&self, time: Timestamp) -> Option<Timestamp> {
        let found = self.cron.find_next_occurrence(&time.with_timezone(&self.zone), false).ok()?;
        Some(found.to_utc()).filter(|found| *found > time)
    }

    /// Returns the last scheduled time at or before a time.
    pub(crate) fn last_until(&self, time: Timestamp) -> Option<Timestamp> {
        let time = time.with_timezone(&self.zone);
        self.cron.find_previous_occurrence(&time, true).ok().map(|found| found.to_utc())
    }
}

#[cfg(test)]
mod tests {
    use headwater_model::{CatchupPolicy, EventFormat};

    use super::*;

    fn schedule(cron: &str, zone: &str) -> Schedule {
        let definition = ScheduleTrigger {
            cron: cron.into(),
            timezone: Some(zone.into()),
            catchup: CatchupPolicy::Once,
            format: EventFormat::Aws,
        };
        Schedule::new(&definition).expect("a schedule")
    }

    fn time(text: &str) -> Timestamp {
        text.parse().expect("a time")
    }

    /// Checks all scheduled times in a range, and that searching backwards yields the same times.
    #[track_caller]
    fn check(cron: &str, zone: &str, from: &str, until: &str, expected: &[&str]) {
        let schedule = schedule(cron, zone);
        let (from, until) = (time(from), time(until));
        let mut forwards = Vec::new();
        let mut at = from;
        while let Some(next) = schedule.next_after(at).filter(|next| *next < until) {
            forwards.push(next);
            at = next;
        }
        let expected: Vec<Timestamp> = expected.iter().map(|text| time(text)).collect();
        assert_eq!(forwards, expected);
        let just_before = until - TimeDelta::nanoseconds(1);
        assert_eq!(schedule.last_until(just_before), forwards.last().copied());
    }

    #[test]
    fn a_daily_schedule_keeps_its_time_of_day_across_the_change_of_clocks() {
        let expected = ["2026-03-28T08:00:00Z", "2026-03-29T07:00:00Z", "2026-03-30T07:00:00Z"];
        check(
            "0 9 * * *",
            "Europe/Berlin",
            "2026-03-28T00:00:00Z",
            "2026-03-31T00:00:00Z",
            &expected,
        );
    }

    #[test]
    fn a_skipped_local_time_fires_just_after_the_gap() {
        let expected = ["2026-03-28T01:30:00Z", "2026-03-29T01:00:00Z", "2026-03-30T00:30:00Z"];
        check(
            "30 2 * * *",
            "Europe/Berlin",
            "2026-03-28T00:00:00Z",
            "2026-03-31T00:00:00Z",
            &expected,
        );
    }

    #[test]
    fn a_local_time_that_occurs_twice_fires_once() {
        let expected = ["2026-10-24T00:30:00Z", "2026-10-25T00:30:00Z", "2026-10-26T01:30:00Z"];
        check(
            "30 2 * * *",
            "Europe/Berlin",
            "2026-10-24T00:00:00Z",
            "2026-10-27T00:00:00Z",
            &expected,
        );
    }

    #[test]
    fn a_half_hourly_schedule_is_unaffected_by_clock_changes() {
        let expected = [
            "2026-11-01T05:30:00Z",
            "2026-11-01T06:00:00Z",
            "2026-11-01T06:30:00Z",
            "2026-11-01T07:00:00Z",
        ];
        check(
            "*/30 * * * *",
            "America/New_York",
            "2026-11-01T05:00:00Z",
            "2026-11-01T07:30:00Z",
            &expected,
        );
    }

    #[test]
    fn six_fields_begin_with_seconds() {
        let expected = ["2026-01-01T00:00:20Z", "2026-01-01T00:00:40Z", "2026-01-01T00:01:00Z"];
        check("*/20 * * * * *", "UTC", "2026-01-01T00:00:00Z", "2026-01-01T00:01:20Z", &expected);
    }
}
