//! Compiled formats and the values to format.

use std::sync::Arc;

use chrono::format::{Item, StrftimeItems};
use chrono::{FixedOffset, NaiveDate, NaiveTime, TimeZone};
use datafusion::logical_expr::ScalarUDF;

use super::field::{FormatField, LetterCase};

/// Returns the functions `to_char` and `date_format`.
pub(crate) fn functions() -> [Arc<ScalarUDF>; 2] {
    [
        super::function::FormatTime::new(FormatStyle::Postgres),
        super::function::FormatTime::new(FormatStyle::Spark),
    ]
    .map(|function| Arc::new(ScalarUDF::from(function)))
}

/// The pattern syntax of a format that contains no `%`: PostgreSQL's for `to_char`, Spark's for
/// `date_format`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum FormatStyle {
    Postgres,
    Spark,
}

/// The value to format: a date, a time of day, or both.
#[derive(Debug, Clone, Copy)]
pub(super) struct DateTimeValue {
    pub(super) date: Option<NaiveDate>,
    pub(super) time: NaiveTime,
    /// The UTC offset of a `TIMESTAMPTZ`.
    pub(super) offset: Option<FixedOffset>,
}

/// One part of a format.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum FormatPart {
    Text(String),
    Field(FormatField),
}

/// A compiled format.
#[derive(Debug)]
pub(super) enum DateTimeFormat {
    Chrono(Vec<Item<'static>>),
    Parts(Vec<FormatPart>),
}

impl DateTimeFormat {
    /// Compiles a format; the error is the reason why it is invalid.
    pub(super) fn parse(text: &str, style: FormatStyle) -> Result<DateTimeFormat, String> {
        if text.contains('%') {
            let items = StrftimeItems::new(text).parse_to_owned();
            return items
                .map(DateTimeFormat::Chrono)
                .map_err(|_| "the letter after `%` is not a `strftime` specifier".to_owned());
        }
        match style {
            FormatStyle::Postgres => super::postgres::parse(text),
            FormatStyle::Spark => super::spark::parse(text),
        }
        .map(DateTimeFormat::Parts)
    }

    /// Appends a formatted date and time. Fails with the name of a field that the value does not
    /// have.
    pub(super) fn write(&self, moment: &DateTimeValue, to: &mut String) -> Result<(), String> {
        match self {
            DateTimeFormat::Chrono(items) => write_chrono(items, moment, to),
            DateTimeFormat::Parts(parts) => parts.iter().try_for_each(|part| match part {
                FormatPart::Text(text) => {
                    to.push_str(text);
                    Ok(())
                }
                FormatPart::Field(field) => field.write(moment, to),
            }),
        }
    }
}

fn write_chrono(
    items: &[Item<'static>],
    moment: &DateTimeValue,
    to: &mut String,
) -> Result<(), String> {
    use std::fmt::Write as _;
    let DateTimeValue { date, time, offset } = moment;
    let written = match (date, offset) {
        (Some(date), Some(offset)) => {
            let local = date.and_time(*time);
            let zoned = offset.from_local_datetime(&local).single();
            let zoned = zoned.ok_or("the time is out of range")?;
            write!(to, "{}", zoned.format_with_items(items.iter()))
        }
        (Some(date), None) => {
            write!(to, "{}", date.and_time(*time).format_with_items(items.iter()))
        }
        (None, _) => write!(to, "{}", time.format_with_items(items.iter())),
    };
    written
        .map_err(|_| "the format has a date or time zone field, but the value has none".to_owned())
}

/// Applies the case of the pattern to the letters of a name.
pub(super) fn cased(text: &str, case: LetterCase) -> String {
    match case {
        LetterCase::Upper => text.to_uppercase(),
        LetterCase::Lower => text.to_lowercase(),
        LetterCase::Title => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn moment() -> DateTimeValue {
        DateTimeValue {
            date: NaiveDate::from_ymd_opt(2026, 3, 7),
            time: NaiveTime::from_hms_micro_opt(15, 4, 5, 60_700).unwrap(),
            offset: FixedOffset::east_opt(-9_000),
        }
    }

    fn check(style: FormatStyle, format: &str, expected: &str) {
        let mut text = String::new();
        let written =
            DateTimeFormat::parse(format, style).and_then(|f| f.write(&moment(), &mut text));
        let shown = written.map_or_else(|error| format!("error: {error}"), |()| text);
        assert_eq!(shown, expected, "`{format}`");
    }

    #[test]
    fn to_char_takes_the_template_patterns_of_postgresql() {
        let check = |format, expected| check(FormatStyle::Postgres, format, expected);
        check("YYYY-MM-DD HH24:MI:SS.US", "2026-03-07 15:04:05.060700");
        check("yyyy-mm-dd", "2026-03-07");
        check("YYY YY Y IYYY IW", "026 26 6 2026 10");
        check("Mon Month| MON MONTH| mon month|", "Mar March    | MAR MARCH    | mar march    |");
        check("FMMonth FMDD, FMHH12:MI AM p.m.", "March 7, 3:04 PM p.m.");
        check("Day|Dy|D|ID|FMDay", "Saturday |Sat|7|6|Saturday");
        check("DDD Q WW W CC J", "066 1 10 1 21 2461107");
        check("HH12 HH MS FF3 SSSS", "03 03 060 060 54245");
        check("TZ TZH:TZM OF", "-02:30 -02:30 -02:30");
        check("\"Week of\" FMDDth Mon \\\"", "Week of 7th Mar \"");
        check("FMRM RM", "III III ");
        check("%Y/%m", "2026/03");
        check("YYYY-XX", "error: `X` is not a pattern letter of `to_char`");
        check("\"open", "error: a double quote is not closed");
        check("%Y-%!", "error: the letter after `%` is not a `strftime` specifier");
    }

    #[test]
    fn date_format_takes_the_pattern_letters_of_spark() {
        let check = |format, expected| check(FormatStyle::Spark, format, expected);
        check("yyyy-MM-dd'T'HH:mm:ss.SSSSSS", "2026-03-07T15:04:05.060700");
        check("y yy M MMM MMMM d D DDD", "2026 26 3 Mar March 7 66 066");
        check("E EEEE h:mm a", "Sat Saturday 3:04 PM");
        check("K k Q QQQ S SSS", "3 15 1 Q1 0 060");
        check("xxx X Z XXX", "-02:30 -0230 -0230 -02:30");
        check("''yyyy''", "'2026'");
        check("yyyy-JJ", "error: `J` is not a pattern letter of `date_format`");
        check(
            "YYYY",
            "error: `Y` is not a pattern letter of `date_format`; write `yyyy` for the year",
        );
        check("'open", "error: a single quote is not closed");
        check("%Y/%m", "2026/03");
    }

    #[test]
    fn a_part_that_a_value_does_not_have_is_an_error() {
        let time = DateTimeValue { date: None, offset: None, ..moment() };
        for (format, style) in [
            ("YYYY", FormatStyle::Postgres),
            ("TZ", FormatStyle::Postgres),
            ("M", FormatStyle::Spark),
            ("%Y", FormatStyle::Spark),
        ] {
            let format = DateTimeFormat::parse(format, style).unwrap();
            assert!(format.write(&time, &mut String::new()).is_err(), "{format:?}");
        }
    }
}
