//! The fields that a format can contain, such as the year, and their conversion to text.

use std::fmt::Write as _;

use chrono::{Datelike, FixedOffset, NaiveDate, Timelike};

use super::{DateTimeValue, cased};

/// The letter case of a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum LetterCase {
    Upper,
    Lower,
    Title,
}

/// A field of a date or time. The number in `Year` and `Fraction` is a count of digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum FieldKind {
    /// The year: this many of its last digits, or the whole year if `None`.
    Year(Option<u32>),
    IsoYear(Option<u32>),
    Era,
    Century,
    Quarter,
    Month,
    MonthName,
    MonthShort,
    MonthRoman,
    WeekOfMonth,
    Week,
    IsoWeek,
    Day,
    DayOfYear,
    IsoDayOfYear,
    DayName,
    DayShort,
    /// The day of the week, from 1 for Sunday.
    DayOfWeek,
    IsoDayOfWeek,
    JulianDay,
    Hour24,
    Hour12,
    /// The hour, from 1 to 24.
    HourFrom1,
    /// The hour of the half day, from 0 to 11.
    HourOfHalf,
    Minute,
    Second,
    SecondOfDay,
    /// The fractional second: this many of its first digits.
    Fraction(u32),
    /// `AM`, or `A.M.` with dots.
    Half {
        dots: bool,
    },
    /// The UTC offset: `-0230`, or `-02:30` with a colon.
    Offset {
        colon: bool,
        zulu: bool,
    },
    OffsetHours,
    OffsetMinutes,
    /// The zone: `UTC`, or the offset.
    Zone,
}

/// A field with the options for its text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct FormatField {
    pub kind: FieldKind,
    /// Minimum width: numbers are padded with zeros on the left, names with spaces on the right.
    pub width: usize,
    pub case: LetterCase,
    /// The letter case of the ordinal suffix after a number, such as `th`; `None` without a suffix.
    pub ordinal: Option<LetterCase>,
}

impl FormatField {
    pub(super) fn new(kind: FieldKind, width: usize) -> Self {
        FormatField { kind, width, case: LetterCase::Title, ordinal: None }
    }

    /// Appends this field of a date and time. Fails with the field's name if the value does not
    /// have this field.
    pub(super) fn write(&self, moment: &DateTimeValue, to: &mut String) -> Result<(), String> {
        if let Some(number) = self.number(moment)? {
            let sign = if number < 0 { "-" } else { "" };
            let digits = number.unsigned_abs();
            let _ = write!(to, "{sign}{digits:0width$}", width = self.width);
            if let Some(case) = self.ordinal {
                to.push_str(&cased(ordinal(digits), case));
            }
            return Ok(());
        }
        let text = cased(&self.text(moment)?, self.case);
        let _ = write!(to, "{text:<width$}", width = self.width);
        Ok(())
    }

    /// Returns the value of a numeric field; `None` for other fields.
    fn number(&self, moment: &DateTimeValue) -> Result<Option<i64>, String> {
        let time = moment.time;
        let number = match self.kind {
            FieldKind::Hour24 => time.hour().into(),
            FieldKind::Hour12 => time.hour12().1.into(),
            FieldKind::HourFrom1 => i64::from((time.hour() + 23) % 24 + 1),
            FieldKind::HourOfHalf => i64::from(time.hour() % 12),
            FieldKind::Minute => time.minute().into(),
            FieldKind::Second => time.second().into(),
            FieldKind::SecondOfDay => time.num_seconds_from_midnight().into(),
            FieldKind::Fraction(digits) => {
                i64::from(time.nanosecond() % 1_000_000_000 / 10_u32.pow(9 - digits.min(9)))
            }
            _ => return self.number_of_date(moment),
        };
        Ok(Some(number))
    }

    fn number_of_date(&self, moment: &DateTimeValue) -> Result<Option<i64>, String> {
        if self.is_text() {
            return Ok(None);
        }
        let date = date(moment)?;
        let year = |year: i32, digits: Option<u32>| match digits {
            Some(digits) => i64::from(year).rem_euclid(10_i64.pow(digits)),
            None => i64::from(year),
        };
        let number = match self.kind {
            FieldKind::Year(digits) => year(date.year(), digits),
            FieldKind::IsoYear(digits) => year(date.iso_week().year(), digits),
            FieldKind::Century => i64::from((date.year() - 1).div_euclid(100) + 1),
            FieldKind::Quarter => i64::from(date.month0() / 3 + 1),
            FieldKind::Month => date.month().into(),
            FieldKind::WeekOfMonth => i64::from(date.day0() / 7 + 1),
            FieldKind::Week => i64::from(date.ordinal0() / 7 + 1),
            FieldKind::IsoWeek => date.iso_week().week().into(),
            FieldKind::Day => date.day().into(),
            FieldKind::DayOfYear => date.ordinal().into(),
            FieldKind::IsoDayOfYear => {
                let week = i64::from(date.iso_week().week0());
                week * 7 + i64::from(date.weekday().number_from_monday())
            }
            FieldKind::DayOfWeek => date.weekday().number_from_sunday().into(),
            FieldKind::IsoDayOfWeek => date.weekday().number_from_monday().into(),
            // Day 1 of the common era has the Julian day number 1721426.
            FieldKind::JulianDay => i64::from(date.num_days_from_ce()) + 1_721_425,
            _ => return Ok(None),
        };
        Ok(Some(number))
    }

    fn is_text(&self) -> bool {
        matches!(
            self.kind,
            FieldKind::Half { .. }
                | FieldKind::Offset { .. }
                | FieldKind::OffsetHours
                | FieldKind::OffsetMinutes
                | FieldKind::Zone
        )
    }

    /// Returns the field as text.
    fn text(&self, moment: &DateTimeValue) -> Result<String, String> {
        const ROMAN: [&str; 12] =
            ["I", "II", "III", "IV", "V", "VI", "VII", "VIII", "IX", "X", "XI", "XII"];
        Ok(match self.kind {
            FieldKind::Half { dots } => match (moment.time.hour() < 12, dots) {
                (true, false) => "AM".to_owned(),
                (false, false) => "PM".to_owned(),
                (true, true) => "A.M.".to_owned(),
                (false, true) => "P.M.".to_owned(),
            },
            FieldKind::Offset { colon, zulu } => match offset(moment)?.local_minus_utc() {
                0 if zulu => "Z".to_owned(),
                seconds => signed_offset(seconds, colon),
            },
            FieldKind::OffsetHours => {
                signed_offset(offset(moment)?.local_minus_utc(), false)[..3].to_owned()
            }
            FieldKind::OffsetMinutes => {
                format!("{:02}", offset(moment)?.local_minus_utc().abs() / 60 % 60)
            }
            FieldKind::Zone => match offset(moment)?.local_minus_utc() {
                0 => "UTC".to_owned(),
                seconds => signed_offset(seconds, true),
            },
            FieldKind::Era => if date(moment)?.year() > 0 { "AD" } else { "BC" }.to_owned(),
            FieldKind::MonthName => date(moment)?.format("%B").to_string(),
            FieldKind::MonthShort => date(moment)?.format("%b").to_string(),
            FieldKind::DayName => date(moment)?.format("%A").to_string(),
            FieldKind::DayShort => date(moment)?.format("%a").to_string(),
            FieldKind::MonthRoman => {
                ROMAN.get(date(moment)?.month0() as usize).copied().unwrap_or_default().to_owned()
            }
            _ => String::new(),
        })
    }
}

fn signed_offset(seconds: i32, colon: bool) -> String {
    let sign = if seconds < 0 { '-' } else { '+' };
    let minutes = seconds.abs() / 60;
    let colon = if colon { ":" } else { "" };
    format!("{sign}{:02}{colon}{:02}", minutes / 60, minutes % 60)
}

fn ordinal(number: u64) -> &'static str {
    match (number % 100, number % 10) {
        (11..=13, _) => "th",
        (_, 1) => "st",
        (_, 2) => "nd",
        (_, 3) => "rd",
        _ => "th",
    }
}

fn date(moment: &DateTimeValue) -> Result<NaiveDate, String> {
    moment
        .date
        .ok_or_else(|| "the format has a date field, but the value is a time of day".to_owned())
}

fn offset(moment: &DateTimeValue) -> Result<FixedOffset, String> {
    moment.offset.ok_or_else(|| {
        "the format has a time zone field, but the value has no time zone".to_owned()
    })
}
