//! The times of a schedule in its time zone.
//!
//! If the clocks go forward and skip a scheduled time of day, the schedule fires right after the
//! gap. If the clocks go back and a scheduled time of day occurs twice, the schedule fires only the
//! first time. Cron patterns that fire more than once a day follow local time. Rates follow UTC:
//! they fire at the multiples of their interval since 1970, so that a restart does not shift them.

use chrono::{LocalResult, NaiveDateTime, TimeDelta, TimeZone};
use chrono_tz::Tz;
use headwater_model::{ScheduleTrigger, Timestamp};

use crate::expression::{CRON_HINT, InvalidExpression, ScheduleExpression};

/// Maximum length of a gap in local time.
const GAP_MAX: TimeDelta = TimeDelta::hours(48);

/// The times of a schedule.
#[derive(Debug, Clone)]
pub struct Schedule {
    expression: ScheduleExpression,
    zone: Tz,
    definition: ScheduleTrigger,
}

impl Schedule {
    /// Parses a schedule. The error contains the reason and a hint.
    pub fn new(definition: &ScheduleTrigger) -> Result<Self, InvalidExpression> {
        let name = definition.timezone.as_deref().unwrap_or("UTC");
        let zone: Tz = name.parse().map_err(|_| {
            let reason = format!("`{name}` is not a time zone");
            (reason, "Name an IANA time zone such as `Europe/Berlin`.")
        })?;
        let text = definition.cron.trim();
        let expression = ScheduleExpression::parse(text)?;
        let schedule = Schedule { expression, zone, definition: definition.clone() };
        let start = Timestamp::UNIX_EPOCH + TimeDelta::days(365 * 50);
        let is_cron = matches!(schedule.expression, ScheduleExpression::Cron(_));
        if is_cron && schedule.next_after(start).is_none() {
            return Err((format!("`{text}` never fires"), CRON_HINT));
        }
        Ok(schedule)
    }

    /// Returns the definition.
    pub fn definition(&self) -> &ScheduleTrigger {
        &self.definition
    }

    /// Returns the expression and time zone as text. Callers store it with their position, to
    /// ignore the position after a change of the schedule.
    pub fn identity(&self) -> String {
        format!("{} {}", self.definition.cron.trim(), self.zone.name())
    }

    /// Returns the first scheduled time after a time; `None` if there is none.
    pub fn next_after(&self, time: Timestamp) -> Option<Timestamp> {
        let found = match &self.expression {
            ScheduleExpression::Cron(cron) => {
                let local = time.with_timezone(&self.zone);
                cron.find_next_occurrence(&local, false).ok()?.to_utc()
            }
            ScheduleExpression::Rate(every) => {
                multiple_until(time, *every)?.checked_add_signed(*every)?
            }
            ScheduleExpression::At(at) => self.utc_time(*at)?,
        };
        (found > time).then_some(found)
    }

    /// Returns the last scheduled time at or before a time; `None` if there is none.
    pub fn last_until(&self, time: Timestamp) -> Option<Timestamp> {
        match &self.expression {
            ScheduleExpression::Cron(cron) => {
                let local = time.with_timezone(&self.zone);
                cron.find_previous_occurrence(&local, true).ok().map(|found| found.to_utc())
            }
            ScheduleExpression::Rate(every) => multiple_until(time, *every),
            ScheduleExpression::At(at) => self.utc_time(*at).filter(|at| *at <= time),
        }
    }

    /// Returns the UTC time of a local time in the time zone. If clocks show the local time twice,
    /// returns the earlier time. If clocks skip the local time, returns the end of the gap.
    fn utc_time(&self, local: NaiveDateTime) -> Option<Timestamp> {
        match self.zone.from_local_datetime(&local) {
            LocalResult::Single(moment) | LocalResult::Ambiguous(moment, _) => {
                Some(moment.to_utc())
            }
            LocalResult::None => self.end_of_gap(local),
        }
    }

    /// Returns the end of the gap that contains a local time. A gap is skipped when clocks go
    /// forward.
    fn end_of_gap(&self, local: NaiveDateTime) -> Option<Timestamp> {
        let before = local.checked_sub_signed(GAP_MAX)?;
        let (mut start, mut end) = (before.and_utc(), local.checked_add_signed(GAP_MAX)?.and_utc());
        // Search the first second whose local time is after the skipped time: the end of the gap.
        while end - start > TimeDelta::seconds(1) {
            let middle = start + TimeDelta::seconds((end - start).num_seconds() / 2);
            if middle.with_timezone(&self.zone).naive_local() > local {
                end = middle;
            } else {
                start = middle;
            }
        }
        Some(end)
    }
}

/// Returns the last multiple of an interval since 1970 at or before a time.
fn multiple_until(time: Timestamp, every: TimeDelta) -> Option<Timestamp> {
    let every = every.num_seconds();
    let seconds = time.timestamp().checked_div_euclid(every)?.checked_mul(every)?;
    Timestamp::from_timestamp(seconds, 0)
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
    fn a_rate_fires_at_multiples_of_its_interval() {
        let expected = ["2026-03-29T00:35:00Z", "2026-03-29T00:40:00Z", "2026-03-29T00:45:00Z"];
        let (from, until) = ("2026-03-29T00:30:00Z", "2026-03-29T00:45:01Z");
        for rate in ["rate(5 minutes)", "rate( 300 seconds )"] {
            check(rate, "Europe/Berlin", from, until, &expected);
        }
        let expected = ["2026-01-02T00:00:00Z", "2026-01-03T00:00:00Z"];
        let (from, until) = ("2026-01-01T00:00:01Z", "2026-01-03T12:00:00Z");
        check("rate(1 day)", "America/New_York", from, until, &expected);
    }

    #[test]
    fn a_one_off_time_fires_once_at_its_local_time() {
        let (from, until) = ("2026-01-01T00:00:00Z", "2028-01-01T00:00:00Z");
        for (at, zone, expected) in [
            ("at(2026-12-01T08:00:00)", "Europe/Oslo", "2026-12-01T07:00:00Z"),
            ("at(2026-07-01T08:00)", "Europe/Oslo", "2026-07-01T06:00:00Z"),
            ("at(2026-12-01T08:00:00)", "UTC", "2026-12-01T08:00:00Z"),
            // Clocks go forward over the first of these times, and show the second one twice.
            ("at(2026-03-29T02:30:00)", "Europe/Berlin", "2026-03-29T01:00:00Z"),
            ("at(2026-10-25T02:30:00)", "Europe/Berlin", "2026-10-25T00:30:00Z"),
        ] {
            check(at, zone, from, until, &[expected]);
        }
        let past = schedule("at(2020-01-01T00:00:00)", "UTC");
        assert_eq!(past.next_after(time(from)), None);
        assert_eq!(past.last_until(time(from)), Some(time("2020-01-01T00:00:00Z")));
    }

    #[test]
    fn invalid_expressions_are_errors_with_a_hint() {
        for (text, expected) in [
            ("rate(0 minutes)", "is not a rate"),
            ("rate(5)", "is not a rate"),
            ("rate(5 weeks)", "is not a rate"),
            ("rate(-5 minutes)", "is not a rate"),
            ("at(tomorrow)", "is not a time"),
            ("at(2026-13-01T00:00:00)", "is not a time"),
            ("at(2026-12-01T08:00:00Z)", "is not a time"),
            ("at(2026-12-01T08:00:00+01:00)", "is not a time"),
            ("cron(61 * * * *)", "is not a cron pattern"),
            ("cron(0 12 * * ? *)", "a cron pattern of AWS"),
            ("rate 5 minutes", "has 3 fields instead of five or six"),
        ] {
            let definition = ScheduleTrigger { cron: text.into(), ..ScheduleTrigger::default() };
            let (reason, hint) = Schedule::new(&definition).expect_err(text);
            assert!(reason.contains(expected) && hint.contains('`'), "{text}: {reason} {hint}");
        }
    }

    #[test]
    fn a_cron_pattern_may_have_the_form_of_eventbridge() {
        let expected = ["2026-01-01T02:15:00Z"];
        let (from, until) = ("2026-01-01T00:00:00Z", "2026-01-02T00:00:00Z");
        check("cron(15 2 * * *)", "UTC", from, until, &expected);
    }

    #[test]
    fn six_fields_begin_with_seconds() {
        let expected = ["2026-01-01T00:00:20Z", "2026-01-01T00:00:40Z", "2026-01-01T00:01:00Z"];
        check("*/20 * * * * *", "UTC", "2026-01-01T00:00:00Z", "2026-01-01T00:01:20Z", &expected);
    }
}
