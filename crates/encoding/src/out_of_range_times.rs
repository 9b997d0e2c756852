//! Formats dates and times that are out of the range that Arrow can format.
//!
//! A date counts days in 32 bits, a timestamp counts its unit in 64 bits. Arrow's encoders do not
//! support this whole range. This module formats values outside of the supported range in the same
//! way, with a sign and all digits of the year (`+5881580-07-11`). Times with a zone are in UTC. A
//! time of day may have more than 24 hours, or a sign.

use arrow::array::{Array, AsArray, Int64Array};
use arrow::compute::{cast, max, min};
use arrow::datatypes::{DataType, Int64Type, TimeUnit};

const DAY_SECONDS: i128 = 86_400;

/// Maximum distance from 1970, in days, at which this module relies on Arrow's encoders. Their
/// limit is a little higher.
const DAYS_MAX: i128 = 90_000_000;

/// Days from March 1 of year 0 to January 1, 1970.
const DAYS_BEFORE_1970: i128 = 719_468;

/// Days in 400 years, after which the calendar repeats.
const CYCLE_DAYS: i128 = 146_097;

/// Returns the number of these units in one second.
fn parts(unit: TimeUnit) -> i128 {
    match unit {
        TimeUnit::Second => 1,
        TimeUnit::Millisecond => 1_000,
        TimeUnit::Microsecond => 1_000_000,
        TimeUnit::Nanosecond => 1_000_000_000,
    }
}

/// Returns the unit in which values of a date or time type can be converted to seconds; `None` for
/// other types.
fn unit(data_type: &DataType) -> Option<TimeUnit> {
    match data_type {
        DataType::Date32 => Some(TimeUnit::Second),
        DataType::Date64 => Some(TimeUnit::Millisecond),
        DataType::Timestamp(unit, _) | DataType::Time32(unit) | DataType::Time64(unit) => {
            Some(*unit)
        }
        _ => None,
    }
}

/// Returns true if an array has a date or time that Arrow's encoders do not support.
pub fn has_out_of_range_times(array: &dyn Array) -> bool {
    if unit(array.data_type()).is_none() || !may_be_out_of_range(array.data_type()) {
        return false;
    }
    let Some(second) = unit(array.data_type()).map(parts) else { return false };
    let Some(values) = numbers(array) else { return false };
    let exceeds = |value: Option<i64>| {
        value.is_some_and(|value| is_out_of_range(array.data_type(), i128::from(value), second))
    };
    exceeds(min(&values)) || exceeds(max(&values))
}

/// Returns true if a type can have values outside of the range that Arrow's encoders support. All
/// nanosecond timestamps are within this range.
fn may_be_out_of_range(data_type: &DataType) -> bool {
    !matches!(data_type, DataType::Timestamp(TimeUnit::Nanosecond, _))
}

/// Returns the date or time of a row as a number, if Arrow's encoders do not support this value.
fn out_of_range_value(array: &dyn Array, row: usize) -> Option<i128> {
    if array.is_null(row) {
        return None;
    }
    let value = value(array, row)?;
    let second = parts(unit(array.data_type())?);
    is_out_of_range(array.data_type(), value, second).then_some(value)
}

fn is_out_of_range(data_type: &DataType, value: i128, second: i128) -> bool {
    match data_type {
        DataType::Date32 => value.abs() > DAYS_MAX,
        DataType::Time32(_) | DataType::Time64(_) => value < 0 || value >= DAY_SECONDS * second,
        _ => value.abs() > DAYS_MAX * DAY_SECONDS * second,
    }
}

fn value(array: &dyn Array, row: usize) -> Option<i128> {
    Some(i128::from(numbers(array.slice(row, 1).as_ref())?.value(0)))
}

/// Returns an array's dates or times as integers in their unit.
fn numbers(array: &dyn Array) -> Option<Int64Array> {
    let plain = match array.data_type() {
        DataType::Date32 | DataType::Time32(_) => {
            cast(&cast(array, &DataType::Int32).ok()?, &DataType::Int64).ok()?
        }
        _ => cast(array, &DataType::Int64).ok()?,
    };
    plain.as_primitive_opt::<Int64Type>().cloned()
}

/// Returns the text of a row's date or time if Arrow's encoders do not support it.
pub fn out_of_range_time(array: &dyn Array, row: usize) -> Option<String> {
    let value = out_of_range_value(array, row)?;
    let second = parts(unit(array.data_type())?);
    Some(match array.data_type() {
        DataType::Date32 => date(value),
        DataType::Time32(_) | DataType::Time64(_) => {
            let sign = if value < 0 { "-" } else { "" };
            format!("{sign}{}", clock(value.abs(), second))
        }
        other => {
            let day = value.div_euclid(DAY_SECONDS * second);
            let rest = value.rem_euclid(DAY_SECONDS * second);
            let zone = if matches!(other, DataType::Timestamp(_, Some(_))) { "Z" } else { "" };
            format!("{}T{}{zone}", date(day), clock(rest, second))
        }
    })
}

fn clock(value: i128, second: i128) -> String {
    let (seconds, part) = (value / second, value % second);
    let (hours, minutes) = (seconds / 3600, seconds / 60 % 60);
    let text = format!("{hours:02}:{minutes:02}:{:02}", seconds % 60);
    match second {
        _ if part == 0 => text,
        1_000 => format!("{text}.{part:03}"),
        1_000_000 => format!("{text}.{part:06}"),
        _ => format!("{text}.{part:09}"),
    }
}

/// Formats a day, given in days from 1970, as a date of the proleptic Gregorian calendar. The
/// computation starts years in March, so that a leap day is the last day of its year.
fn date(days: i128) -> String {
    let days = days + DAYS_BEFORE_1970;
    let (cycle, day) = (days.div_euclid(CYCLE_DAYS), days.rem_euclid(CYCLE_DAYS));
    let year = (day - day / 1460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let day = day - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    let year = year + cycle * 400 + i128::from(month <= 2);
    if (0..=9999).contains(&year) {
        format!("{year:04}-{month:02}-{day:02}")
    } else {
        format!("{year:+05}-{month:02}-{day:02}")
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{ArrayRef, Date32Array, Time64MicrosecondArray, TimestampSecondArray};

    use super::*;

    fn check(array: ArrayRef, expected: &[Option<&str>]) {
        let texts: Vec<_> = (0..array.len()).map(|row| out_of_range_time(&array, row)).collect();
        let texts: Vec<_> = texts.iter().map(Option::as_deref).collect();
        assert_eq!(texts, expected);
    }

    #[test]
    fn days_are_counted_as_the_calendar_does() {
        for (days, text) in [
            (0, "1970-01-01"),
            (-1, "1969-12-31"),
            (11_016, "2000-02-29"),
            (-719_528, "0000-01-01"),
            (-719_529, "-0001-12-31"),
            (2_932_896, "9999-12-31"),
            (2_932_897, "+10000-01-01"),
        ] {
            assert_eq!(date(days), text);
        }
    }

    #[test]
    fn far_times_have_a_text() {
        let dates = Date32Array::from(vec![Some(i32::MAX), Some(0), None, Some(i32::MIN)]);
        let expected = [Some("+5881580-07-11"), None, None, Some("-5877641-06-23")];
        check(Arc::new(dates), &expected);
        let times = TimestampSecondArray::from(vec![i64::MAX, 0]).with_timezone("UTC");
        check(Arc::new(times), &[Some("+292277026596-12-04T15:30:07Z"), None]);
        let times = Time64MicrosecondArray::from(vec![90_000_000_001, -1, 0]);
        check(Arc::new(times), &[Some("25:00:00.000001"), Some("-00:00:00.000001"), None]);
    }
}
