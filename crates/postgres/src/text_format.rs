//! Values in text format, as PostgreSQL writes them with `DateStyle` ISO.

use std::fmt::{Display, Result, Write};

use arrow::datatypes::IntervalMonthDayNano;
use bytes::{BufMut, BytesMut};

const SECOND_MICROS: i64 = 1_000_000;
const DAY_MICROS: i64 = 86_400 * SECOND_MICROS;

/// The number of days from March 1 of the year 0 to 1970-01-01.
const DAYS_BEFORE_1970: i64 = 719_468;

/// Writes a floating-point number.
pub fn put_float<T: Display + Into<f64> + Copy>(value: T, out: &mut BytesMut) -> Result {
    let double: f64 = value.into();
    match double {
        _ if double.is_nan() => out.write_str("NaN"),
        _ if double.is_infinite() => {
            out.write_str(if double > 0.0 { "Infinity" } else { "-Infinity" })
        }
        _ => write!(out, "{value}"),
    }
}

/// Writes a date, given in days since 1970.
pub fn put_date(days: i64, out: &mut BytesMut) -> Result {
    let (year, month, day) = civil_from_days(days);
    put_year(year, month, day, out)?;
    put_era(year, out)
}

/// Writes a time of day.
pub fn put_time(micros: i64, out: &mut BytesMut) -> Result {
    let (seconds, fraction) = (micros.div_euclid(SECOND_MICROS), micros.rem_euclid(SECOND_MICROS));
    write!(out, "{:02}:{:02}:{:02}", seconds / 3600, seconds / 60 % 60, seconds % 60)?;
    put_fraction(fraction, out)
}

/// Writes a date and time, given in microseconds since 1970; with the zone UTC if `has_zone` is
/// set.
pub fn put_timestamp(micros: i64, has_zone: bool, out: &mut BytesMut) -> Result {
    let (year, month, day) = civil_from_days(micros.div_euclid(DAY_MICROS));
    put_year(year, month, day, out)?;
    out.write_char(' ')?;
    put_time(micros.rem_euclid(DAY_MICROS), out)?;
    if has_zone {
        out.write_str("+00")?;
    }
    put_era(year, out)
}

/// The form of an interval in text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum IntervalStyle {
    /// `1 year 2 mons 3 days 04:05:06`
    Postgres,
    /// `P1Y2M3DT4H5M6S`
    Iso8601,
}

/// Writes an interval.
pub fn put_interval(
    value: IntervalMonthDayNano,
    style: IntervalStyle,
    out: &mut BytesMut,
) -> Result {
    match style {
        IntervalStyle::Postgres => put_named_units(value, out),
        IntervalStyle::Iso8601 => put_iso_interval(value, out),
    }
}

fn put_named_units(value: IntervalMonthDayNano, out: &mut BytesMut) -> Result {
    let start = out.len();
    for (number, unit) in
        [(value.months / 12, "year"), (value.months % 12, "mon"), (value.days, "day")]
    {
        if number != 0 {
            let space = if out.len() > start { " " } else { "" };
            let plural = if number == 1 { "" } else { "s" };
            write!(out, "{space}{number} {unit}{plural}")?;
        }
    }
    let micros = value.nanoseconds / 1_000;
    if micros != 0 || out.len() == start {
        let space = if out.len() > start { " " } else { "" };
        let sign = if micros < 0 { "-" } else { "" };
        write!(out, "{space}{sign}")?;
        put_time(micros.saturating_abs(), out)?;
    }
    Ok(())
}

fn put_iso_interval(value: IntervalMonthDayNano, out: &mut BytesMut) -> Result {
    let micros = value.nanoseconds / 1_000;
    let (seconds, fraction) = (micros / SECOND_MICROS, (micros % SECOND_MICROS).abs());
    let months = i64::from(value.months);
    let days = [(months / 12, 'Y'), (months % 12, 'M'), (i64::from(value.days), 'D')];
    let times = [(seconds / 3600, 'H'), (seconds / 60 % 60, 'M')];
    let is_zero = micros == 0 && days.iter().all(|(number, _)| *number == 0);
    if is_zero {
        return out.write_str("PT0S");
    }
    out.write_char('P')?;
    put_units(&days, out)?;
    if micros == 0 {
        return Ok(());
    }
    out.write_char('T')?;
    put_units(&times, out)?;
    if seconds % 60 == 0 && fraction == 0 {
        return Ok(());
    }
    let sign = if micros < 0 { "-" } else { "" };
    write!(out, "{sign}{}", (seconds % 60).abs())?;
    put_fraction(fraction, out)?;
    out.write_char('S')
}

/// Writes the numbers that are not zero, each with its unit.
fn put_units(units: &[(i64, char)], out: &mut BytesMut) -> Result {
    let mut written = units.iter().filter(|(number, _)| *number != 0);
    written.try_for_each(|(number, unit)| write!(out, "{number}{unit}"))
}

/// Writes an array item, quoted if it would be ambiguous without quotes.
pub fn put_item(item: &[u8], out: &mut BytesMut) {
    let is_plain = |byte: &u8| !b"{},\"\\".contains(byte) && !byte.is_ascii_whitespace();
    if !item.is_empty() && !item.eq_ignore_ascii_case(b"null") && item.iter().all(is_plain) {
        out.extend_from_slice(item);
        return;
    }
    out.put_u8(b'"');
    for byte in item {
        if matches!(byte, b'"' | b'\\') {
            out.put_u8(b'\\');
        }
        out.put_u8(*byte);
    }
    out.put_u8(b'"');
}

fn put_fraction(micros: i64, out: &mut BytesMut) -> Result {
    if micros == 0 {
        return Ok(());
    }
    write!(out, ".{}", format!("{micros:06}").trim_end_matches('0'))
}

fn put_year(year: i64, month: i64, day: i64, out: &mut BytesMut) -> Result {
    let year = if year > 0 { year } else { 1 - year };
    write!(out, "{year:04}-{month:02}-{day:02}")
}

/// Writes ` BC` after a date before year 1. In the computed years, year 0 is 1 BC.
fn put_era(year: i64, out: &mut BytesMut) -> Result {
    if year > 0 { Ok(()) } else { out.write_str(" BC") }
}

/// Returns the year, month and day of a day since 1970, in the proleptic Gregorian calendar. In
/// contrast to `chrono`, it supports every 64-bit number of days. The computation uses years that
/// start in March, so that a leap day is the last day of its year.
fn civil_from_days(days: i64) -> (i64, i64, i64) {
    let days = days + DAYS_BEFORE_1970;
    let (cycle, day) = (days.div_euclid(146_097), days.rem_euclid(146_097));
    let year = (day - day / 1460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let day = day - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    (year + cycle * 400 + i64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(write: impl FnOnce(&mut BytesMut) -> Result) -> String {
        let mut out = BytesMut::new();
        write(&mut out).expect("text");
        String::from_utf8(out.to_vec()).expect("UTF-8")
    }

    #[test]
    fn dates_and_times_are_written_as_iso() {
        for (days, expected) in [
            (0, "1970-01-01"),
            (11_016, "2000-02-29"),
            (-719_528, "0001-01-01 BC"),
            (2_932_897, "10000-01-01"),
        ] {
            assert_eq!(text(|out| put_date(days, out)), expected);
        }
        assert_eq!(text(|out| put_timestamp(-1, true, out)), "1969-12-31 23:59:59.999999+00");
        assert_eq!(text(|out| put_timestamp(1_500_000, false, out)), "1970-01-01 00:00:01.5");
        assert_eq!(text(|out| put_time(86_399_000_001, out)), "23:59:59.000001");
    }

    #[test]
    fn intervals_name_their_units() {
        let interval = |months, days, nanoseconds| {
            let value = IntervalMonthDayNano { months, days, nanoseconds };
            let style = |style| text(|out| put_interval(value, style, out));
            [style(IntervalStyle::Postgres), style(IntervalStyle::Iso8601)]
        };
        assert_eq!(
            interval(14, 3, 14_706_000_000_000),
            ["1 year 2 mons 3 days 04:05:06", "P1Y2M3DT4H5M6S"]
        );
        assert_eq!(interval(0, 0, 0), ["00:00:00", "PT0S"]);
        assert_eq!(interval(0, 1, -1_000_000), ["1 day -00:00:00.001", "P1DT-0.001S"]);
        assert_eq!(interval(-1, 0, 7_200_000_000_000)[1], "P-1MT2H");
    }

    #[test]
    fn items_of_arrays_are_quoted_where_they_must() {
        for (item, expected) in
            [("a", "a"), ("", "\"\""), ("null", "\"null\""), ("a b", "\"a b\""), ("\"", "\"\\\"\"")]
        {
            assert_eq!(
                text(|out| {
                    put_item(item.as_bytes(), out);
                    Ok(())
                }),
                expected
            );
        }
    }
}
