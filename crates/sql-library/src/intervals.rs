//! Functions that build intervals and times from numbers, and that compute the time between two
//! times in months and days.

use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, IntervalMonthDayNanoArray, PrimitiveArray, TimestampMicrosecondArray,
};
use arrow::datatypes::{
    DataType, Float64Type, Int64Type, IntervalMonthDayNano, IntervalMonthDayNanoType, IntervalUnit,
    TimeUnit, TimestampMicrosecondType,
};
use chrono::{DateTime, Datelike, Months, NaiveDate, NaiveDateTime};
use datafusion::common::{Result, exec_datafusion_err, exec_err, plan_err};
use datafusion::logical_expr::{
    ColumnarValue, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility,
};

use crate::scalar_function::{self, function};

/// Nanoseconds of a day, hour, minute and second.
const DAY: i128 = 24 * HOUR;
const HOUR: i128 = 60 * MINUTE;
const MINUTE: i128 = 60 * SECOND;
const SECOND: i128 = 1_000_000_000;

const INTERVAL: DataType = DataType::Interval(IntervalUnit::MonthDayNano);
const TIMESTAMP: DataType = DataType::Timestamp(TimeUnit::Microsecond, None);

/// Returns the functions of intervals and times.
pub(crate) fn functions() -> Vec<Arc<ScalarUDF>> {
    let integers = |count| vec![DataType::Int64; count];
    let mut parts = integers(5);
    parts.push(DataType::Float64);
    let signature = Signature::user_defined(Volatility::Immutable);
    vec![
        function("age", vec![TIMESTAMP, TIMESTAMP], INTERVAL, age),
        function("make_timestamp", parts, TIMESTAMP, make_timestamp),
        function("justify_days", vec![INTERVAL], INTERVAL, |values| {
            map_intervals(values, |it| move_units(it, false, true))
        }),
        function("justify_hours", vec![INTERVAL], INTERVAL, |values| {
            map_intervals(values, |it| move_units(it, true, false))
        }),
        function("justify_interval", vec![INTERVAL], INTERVAL, |values| {
            map_intervals(values, |it| move_units(it, true, true))
        }),
        Arc::new(ScalarUDF::from(MakeInterval { signature })),
    ]
}

/// `make_interval(years, months, weeks, days, hours, minutes, seconds)`; the last arguments are
/// optional.
#[derive(Debug, PartialEq, Eq, Hash)]
struct MakeInterval {
    signature: Signature,
}

impl ScalarUDFImpl for MakeInterval {
    fn name(&self) -> &'static str {
        "make_interval"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn coerce_types(&self, arguments: &[DataType]) -> Result<Vec<DataType>> {
        if arguments.is_empty() || arguments.len() > 7 {
            return plan_err!("`make_interval` takes 1 to 7 numbers");
        }
        let given = arguments.iter().enumerate();
        given
            .map(|(place, given)| match given {
                given if place == 6 && (given.is_numeric() || given.is_null()) => {
                    Ok(DataType::Float64)
                }
                given if given.is_integer() || given.is_null() => Ok(DataType::Int64),
                given => plan_err!("`make_interval` takes whole numbers, not {given}"),
            })
            .collect()
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(INTERVAL)
    }

    fn invoke_with_args(&self, arguments: ScalarFunctionArgs) -> Result<ColumnarValue> {
        scalar_function::invoke(&arguments.args, make_interval)
    }
}

fn make_interval(values: &[ArrayRef]) -> Result<ArrayRef> {
    let rows = values[0].len();
    let interval = |row: usize| {
        if values.iter().any(|part| part.is_null(row)) {
            return Ok(None);
        }
        let part = |place: usize| match values.get(place) {
            Some(part) => i128::from(part.as_primitive::<Int64Type>().value(row)),
            None => 0,
        };
        let seconds =
            values.get(6).map_or(0.0, |part| part.as_primitive::<Float64Type>().value(row));
        if !seconds.is_finite() {
            return exec_err!("the interval is out of range");
        }
        let months = part(0) * 12 + part(1);
        let days = part(2) * 7 + part(3);
        // If the number is too large, the conversion to `i64` saturates. The nanoseconds are then
        // too large for an interval, which is an error.
        let microseconds = i128::from((seconds * 1e6).round() as i64);
        let nanoseconds = part(4) * HOUR + part(5) * MINUTE + microseconds * 1_000;
        to_interval(months, days, nanoseconds).map(Some)
    };
    let intervals: Result<IntervalMonthDayNanoArray> = (0..rows).map(interval).collect();
    Ok(Arc::new(intervals?))
}

fn to_interval(months: i128, days: i128, nanoseconds: i128) -> Result<IntervalMonthDayNano> {
    let whole = (i32::try_from(months), i32::try_from(days), i64::try_from(nanoseconds));
    if let (Ok(months), Ok(days), Ok(rest)) = whole {
        Ok(IntervalMonthDayNano::new(months, days, rest))
    } else {
        exec_err!("the interval is out of range")
    }
}

fn make_timestamp(values: &[ArrayRef]) -> Result<ArrayRef> {
    let parts: Vec<&PrimitiveArray<Int64Type>> =
        values[..5].iter().map(AsArray::as_primitive::<Int64Type>).collect();
    let seconds = values[5].as_primitive::<Float64Type>();
    let time = |row: usize| {
        if values.iter().any(|part| part.is_null(row)) {
            return Ok(None);
        }
        let small = |place: usize| u32::try_from(parts[place].value(row)).ok();
        let found = || {
            let year = i32::try_from(parts[0].value(row)).ok()?;
            let date = NaiveDate::from_ymd_opt(year, small(1)?, small(2)?)?;
            let minute = date.and_hms_opt(small(3)?, small(4)?, 0)?;
            let second = seconds.value(row);
            (0.0..=60.0)
                .contains(&second)
                .then(|| minute.and_utc().timestamp_micros() + (second * 1e6).round() as i64)
        };
        let found = found().ok_or_else(|| {
            exec_datafusion_err!("the parts of `make_timestamp` are not a valid date and time")
        });
        found.map(Some)
    };
    let times: Result<TimestampMicrosecondArray> = (0..seconds.len()).map(time).collect();
    Ok(Arc::new(times?))
}

/// Returns the time from the second to the first argument in months, days and nanoseconds, like
/// PostgreSQL's `age`.
fn age(values: &[ArrayRef]) -> Result<ArrayRef> {
    let later = values[0].as_primitive::<TimestampMicrosecondType>();
    let earlier = values[1].as_primitive::<TimestampMicrosecondType>();
    let between = |(later, earlier): (Option<i64>, Option<i64>)| match (later, earlier) {
        (Some(later), Some(earlier)) => {
            let time = |micros| DateTime::from_timestamp_micros(micros).map(|it| it.naive_utc());
            if let (Some(later), Some(earlier)) = (time(later), time(earlier)) {
                difference(later, earlier).map(Some)
            } else {
                exec_err!("the time is out of range")
            }
        }
        _ => Ok(None),
    };
    let ages: Result<IntervalMonthDayNanoArray> = later.iter().zip(earlier).map(between).collect();
    Ok(Arc::new(ages?))
}

fn difference(later: NaiveDateTime, earlier: NaiveDateTime) -> Result<IntervalMonthDayNano> {
    if later < earlier {
        let IntervalMonthDayNano { months, days, nanoseconds } = difference(earlier, later)?;
        return Ok(IntervalMonthDayNano::new(-months, -days, -nanoseconds));
    }
    let of_year = |time: NaiveDateTime| i128::from(time.year()) * 12 + i128::from(time.month0());
    let mut months = of_year(later) - of_year(earlier);
    let mut days = i128::from(later.day()) - i128::from(earlier.day());
    let of_day = |time: NaiveDateTime| time - time.date().and_time(chrono::NaiveTime::MIN);
    let rest = of_day(later) - of_day(earlier);
    let mut nanoseconds = i128::from(rest.num_nanoseconds().unwrap_or_default());
    if nanoseconds < 0 {
        nanoseconds += DAY;
        days -= 1;
    }
    if days < 0 {
        // The difference has an incomplete month, which counts as many days as the month of the
        // earlier time has.
        days += i128::from(days_of_month(earlier.date()));
        months -= 1;
    }
    to_interval(months, days, nanoseconds)
}

fn days_of_month(date: NaiveDate) -> i64 {
    let first = date.with_day(1).unwrap_or(date);
    first.checked_add_months(Months::new(1)).map_or(31, |next| (next - first).num_days())
}

fn map_intervals(
    values: &[ArrayRef],
    of: fn(IntervalMonthDayNano) -> Result<IntervalMonthDayNano>,
) -> Result<ArrayRef> {
    let values = values[0].as_primitive::<IntervalMonthDayNanoType>();
    let intervals: Result<IntervalMonthDayNanoArray> =
        values.iter().map(|value| value.map(of).transpose()).collect();
    Ok(Arc::new(intervals?))
}

/// Converts every 24 hours to a day if `hours` is true, and every 30 days to a month if
/// `days_to_months` is true. The converted parts of the result have the same sign.
fn move_units(
    interval: IntervalMonthDayNano,
    hours: bool,
    days_to_months: bool,
) -> Result<IntervalMonthDayNano> {
    let mut months = i128::from(interval.months);
    let mut days = i128::from(interval.days);
    let mut nanoseconds = i128::from(interval.nanoseconds);
    if hours {
        days += nanoseconds / DAY;
        nanoseconds %= DAY;
    }
    if days_to_months {
        months += days / 30;
        days %= 30;
        // The part that determines the sign of the rest: the days or, if there are none and hours
        // are converted, the time.
        let rest = if days == 0 && hours { nanoseconds } else { days };
        if months > 0 && rest < 0 {
            (days, months) = (days + 30, months - 1);
        } else if months < 0 && rest > 0 {
            (days, months) = (days - 30, months + 1);
        }
    }
    if hours && nanoseconds < 0 && days > 0 {
        (nanoseconds, days) = (nanoseconds + DAY, days - 1);
    } else if hours && nanoseconds > 0 && days < 0 {
        (nanoseconds, days) = (nanoseconds - DAY, days + 1);
    }
    to_interval(months, days, nanoseconds)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ages_are_those_of_postgresql() {
        let check = |later: &str, earlier: &str, months, days, seconds: i64| {
            let time = |text: &str| text.parse::<NaiveDateTime>().expect("a time");
            let expected = IntervalMonthDayNano::new(months, days, seconds * 1_000_000_000);
            assert_eq!(difference(time(later), time(earlier)).expect("an age"), expected);
        };
        check("2024-03-31T00:00:00", "2024-02-29T00:00:00", 1, 2, 0);
        check("2024-03-01T00:00:00", "2024-01-31T00:00:00", 1, 1, 0);
        check("2024-03-31T00:00:00", "2023-02-28T00:00:00", 13, 3, 0);
        check("2024-01-02T01:00:00", "2024-01-01T02:00:00", 0, 0, 23 * 3600);
        check("2024-02-29T00:00:00", "2024-03-31T00:00:00", -1, -2, 0);
    }

    #[test]
    fn justified_intervals_are_those_of_postgresql() {
        let check = |given: (i32, i32, i64), hours, days, expected: (i32, i32, i64)| {
            let interval = |(months, days, hours): (i32, i32, i64)| {
                IntervalMonthDayNano::new(months, days, hours * 3_600_000_000_000)
            };
            let moved = move_units(interval(given), hours, days).expect("an interval");
            assert_eq!(moved, interval(expected), "{given:?}");
        };
        check((1, 0, -1), true, true, (0, 29, 23));
        check((0, 35, 25), true, true, (1, 6, 1));
        check((-1, 0, 1), true, true, (0, -29, -23));
        check((0, 1, -1), true, false, (0, 0, 23));
        check((1, -1, 0), false, true, (0, 29, 0));
        check((0, 65, 30), false, true, (2, 5, 30));
    }
}
