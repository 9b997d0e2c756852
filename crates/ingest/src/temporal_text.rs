//! Dates, times and timestamps in text: ISO 8601 and the formats that databases print.
//!
//! The year must come first and have four digits, because the order of day and month is never
//! guessed: `2013-01-31` and `2013/01/31` are dates, and `1/2/2013` is not. Digits of a fractional
//! second beyond the sixth are kept only in nanosecond columns.

/// A timestamp, with or without a zone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ParsedTimestamp {
    /// Microseconds since 1970-01-01, of the UTC time if the text has a zone, otherwise of the time
    /// as written.
    pub microseconds: i64,
    /// The nanoseconds in addition to the microseconds; less than 1000.
    pub nanoseconds: i64,
    /// True if the text has a zone.
    pub zoned: bool,
    /// True if the text has a time of day.
    pub timed: bool,
}

impl ParsedTimestamp {
    /// Returns nanoseconds since 1970-01-01; `None` outside the years 1677 to 2262.
    pub fn in_nanoseconds(self) -> Option<i64> {
        self.microseconds.checked_mul(1000)?.checked_add(self.nanoseconds)
    }
}

const DAY_MICROSECONDS: i64 = 86_400_000_000;

/// Parses a date without a time into days since 1970-01-01.
pub(crate) fn parse_date(text: &str) -> Option<i32> {
    match take_date(text.as_bytes())? {
        (days, []) => Some(days),
        _ => None,
    }
}

/// Parses a date, optionally with a time and a zone.
pub(crate) fn parse_date_time(text: &str) -> Option<ParsedTimestamp> {
    let (days, rest) = take_date(text.as_bytes())?;
    let day = i64::from(days) * DAY_MICROSECONDS;
    let Some((b'T' | b't' | b' ', rest)) = rest.split_first() else {
        let date =
            ParsedTimestamp { microseconds: day, nanoseconds: 0, zoned: false, timed: false };
        return rest.is_empty().then_some(date);
    };
    let (time, nanoseconds, rest) = take_time(rest)?;
    let (zoned, offset) = match parse_zone(rest)? {
        ZoneSuffix::Unwritten => (false, 0),
        ZoneSuffix::East(minutes) => (true, minutes),
    };
    let microseconds = day + time - offset * 60_000_000;
    Some(ParsedTimestamp { microseconds, nanoseconds, zoned, timed: true })
}

/// Parses a time of day into microseconds since midnight.
pub(crate) fn parse_time(text: &str) -> Option<i64> {
    match take_time(text.as_bytes())? {
        (time, _, []) => Some(time),
        _ => None,
    }
}

/// Parses the first `digits` characters of `text` as a number. Returns the number and the rest.
fn take_number(text: &[u8], digits: usize) -> Option<(u32, &[u8])> {
    let (number, rest) = text.split_at_checked(digits)?;
    let mut value = 0;
    for &byte in number {
        if !byte.is_ascii_digit() {
            return None;
        }
        value = value * 10 + u32::from(byte - b'0');
    }
    Some((value, rest))
}

fn take_byte(text: &[u8], byte: u8) -> Option<&[u8]> {
    text.strip_prefix(&[byte])
}

fn take_date(text: &[u8]) -> Option<(i32, &[u8])> {
    let (year, rest) = take_number(text, 4)?;
    let separator = *rest.first().filter(|&&byte| byte == b'-' || byte == b'/')?;
    let (month, rest) = take_number(take_byte(rest, separator)?, 2)?;
    let (day, rest) = take_number(take_byte(rest, separator)?, 2)?;
    Some((days_of(year, month, day)?, rest))
}

/// Returns the days from 1970-01-01 to a Gregorian date; `None` if the date does not exist.
fn days_of(year: u32, month: u32, day: u32) -> Option<i32> {
    const LENGTHS: [u32; 12] = [31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];
    let leap = year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400));
    let length = *LENGTHS.get(month.checked_sub(1)? as usize)? + u32::from(leap && month == 2);
    if year == 0 || day == 0 || day > length {
        return None;
    }
    // Years start in March, so that the leap day is the last day of the year. The Gregorian
    // calendar repeats every 400 years.
    let shifted = year as i32 - i32::from(month <= 2);
    let (era, of_era) = (shifted.div_euclid(400), shifted.rem_euclid(400));
    let of_year = (153 * ((month as i32 + 9) % 12) + 2) / 5 + day as i32 - 1;
    Some(era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719_468)
}

/// Parses a time into microseconds and remaining nanoseconds.
fn take_time(text: &[u8]) -> Option<(i64, i64, &[u8])> {
    let (hour, rest) = take_number(text, 2)?;
    let (minute, rest) = take_number(take_byte(rest, b':')?, 2)?;
    if hour > 23 || minute > 59 {
        return None;
    }
    let minutes = i64::from(hour * 60 + minute) * 60_000_000;
    let Some(rest) = take_byte(rest, b':') else { return Some((minutes, 0, rest)) };
    let (second, rest) = take_number(rest, 2)?;
    if second > 59 {
        return None;
    }
    let (fraction, rest) = take_fraction(rest)?;
    let (micros, nanos) = (fraction / 1000, fraction % 1000);
    Some((minutes + i64::from(second) * 1_000_000 + micros, nanos, rest))
}

/// Parses a fraction such as `.123` into nanoseconds; zero if there is no point.
fn take_fraction(text: &[u8]) -> Option<(i64, &[u8])> {
    let Some(rest) = text.strip_prefix(b".").or_else(|| text.strip_prefix(b",")) else {
        return Some((0, text));
    };
    let digits = rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
    if digits == 0 || digits > 9 {
        return None;
    }
    let mut value = 0;
    for place in 0..9 {
        value = value * 10 + rest[..digits].get(place).map_or(0, |byte| i64::from(byte - b'0'));
    }
    Some((value, &rest[digits..]))
}

/// The zone after a time of day.
enum ZoneSuffix {
    /// The text has no zone.
    Unwritten,
    /// A zone, in minutes east of UTC.
    East(i64),
}

fn parse_zone(text: &[u8]) -> Option<ZoneSuffix> {
    let zone = text.strip_prefix(b" ").unwrap_or(text);
    let (sign, rest) = match zone {
        [] => return text.is_empty().then_some(ZoneSuffix::Unwritten),
        [b'Z' | b'z'] | b"UTC" | b"GMT" => return Some(ZoneSuffix::East(0)),
        [b'+', rest @ ..] => (1, rest),
        [b'-', rest @ ..] => (-1, rest),
        _ => return None,
    };
    let (hours, rest) = take_number(rest, 2)?;
    let minutes = match rest {
        [] => 0,
        [b':', rest @ ..] | rest => match take_number(rest, 2)? {
            (minutes, []) => minutes,
            _ => return None,
        },
    };
    (hours <= 18 && minutes <= 59).then(|| ZoneSuffix::East(sign * i64::from(hours * 60 + minutes)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_days_of_the_calendar() {
        let cases = [
            ("1970-01-01", Some(0)),
            ("2013-01-31", Some(15_736)),
            ("2013/01/31", Some(15_736)),
            ("2000-02-29", Some(11_016)),
            ("1969-12-31", Some(-1)),
            ("0001-01-01", Some(-719_162)),
            ("1900-02-29", None),
            ("2013-13-01", None),
            ("2013-04-31", None),
            ("2013-1-1", None),
            ("2013-01/01", None),
            ("01-02-2013", None),
            ("2013-01-01x", None),
            ("", None),
        ];
        for (text, days) in cases {
            assert_eq!(parse_date(text), days, "{text}");
        }
    }

    #[test]
    fn moments_have_a_zone_or_none() {
        let at = |text: &str| parse_date_time(text).map(|m| (m.microseconds, m.zoned));
        assert_eq!(at("1970-01-01T00:00:01Z"), Some((1_000_000, true)));
        assert_eq!(at("1970-01-01 00:00:01.5"), Some((1_500_000, false)));
        assert_eq!(at("1970-01-01 00:01"), Some((60_000_000, false)));
        assert_eq!(at("1970-01-01T01:00:00+01:00"), Some((0, true)));
        assert_eq!(at("1970-01-01T01:00:00+01"), Some((0, true)));
        assert_eq!(at("1969-12-31T19:00:00-0500"), Some((0, true)));
        assert_eq!(at("1970-01-01 00:00:00.123456789 UTC"), Some((123_456, true)));
        assert_eq!(at("1970-01-02"), Some((DAY_MICROSECONDS, false)));
        let nanos = |text: &str| parse_date_time(text).map(|m| m.nanoseconds);
        assert_eq!(nanos("1970-01-01 00:00:00.123456789 UTC"), Some(789));
        assert_eq!(nanos("1970-01-01 00:00:00.12345678"), Some(780));
        for wrong in ["1970-01-01T24:00:00", "1970-01-01T00:00:61", "1970-01-01T", "1970-01-01 "] {
            assert_eq!(parse_date_time(wrong), None, "{wrong}");
        }
        for wrong in ["1970-01-01T00:00:00.", "1970-01-01 00:00 PM", "1970-01-01T00:00+5"] {
            assert_eq!(parse_date_time(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn times_of_day_are_read() {
        assert_eq!(parse_time("00:00:01.000002"), Some(1_000_002));
        assert_eq!(parse_time("23:59"), Some(86_340_000_000));
        assert_eq!(parse_time("24:00"), None);
    }
}
