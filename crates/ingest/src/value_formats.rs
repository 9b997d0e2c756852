//! Formats of dates and numbers in a CSV file that differ from ISO 8601 and SQL.
//!
//! Formats are never guessed: `01.02.2026` is text unless an option defines which number is the
//! month. Detected formats are used only in hints, which suggest the option.

use crate::error::{Error, Result};

/// Formats of dates and numbers.
#[derive(Debug, Clone, Default)]
pub(crate) struct ValueFormats {
    /// Order of day, month and year in dates; `None` for only `YYYY-MM-DD`.
    pub dates: Option<DateFormat>,
    /// True if `1.234,5` is a number.
    pub decimal_comma: bool,
}

impl ValueFormats {
    /// Rewrites a date as `YYYY-MM-DD`, or a number with a decimal point; `None` if the value needs
    /// no change.
    #[inline]
    pub fn normalize_value(&self, value: &str) -> Option<String> {
        if self.dates.is_none() && !self.decimal_comma {
            return None;
        }
        let value = value.trim_matches([' ', '\t']);
        let date = self.dates.as_ref().and_then(|format| format.normalize_value(value));
        date.or_else(|| self.decimal_comma.then(|| with_point(value)).flatten())
    }
}

/// A part of a date.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum DatePart {
    Year,
    Month,
    Day,
}

/// Order of a date's parts, and their separator.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct DateFormat {
    parts: [DatePart; 3],
    separator: u8,
}

impl DateFormat {
    /// Parses `DD.MM.YYYY`, `MM/DD/YYYY` and similar; also `%d.%m.%Y`.
    pub fn parse(text: &str) -> Result<Self> {
        let plain = text.replace("%d", "DD").replace("%m", "MM").replace("%Y", "YYYY");
        let invalid = || Error::InvalidRequest {
            message: format!("`{text}` is not a date format"),
            hint: "Write `DD`, `MM` and `YYYY` with `.`, `/` or `-` between, such as `DD.MM.YYYY`.",
        };
        let separator =
            *plain.as_bytes().iter().find(|byte| b"./-".contains(*byte)).ok_or_else(invalid)?;
        let part = |text: &str| match text.to_ascii_uppercase().as_str() {
            "YYYY" => Some(DatePart::Year),
            "MM" => Some(DatePart::Month),
            "DD" => Some(DatePart::Day),
            _ => None,
        };
        let parts: Option<Vec<DatePart>> = plain.split(char::from(separator)).map(part).collect();
        let parts: [DatePart; 3] =
            parts.and_then(|parts| parts.try_into().ok()).ok_or_else(invalid)?;
        let all = [DatePart::Year, DatePart::Month, DatePart::Day]
            .iter()
            .all(|part| parts.contains(part));
        if all { Ok(DateFormat { parts, separator }) } else { Err(invalid()) }
    }

    /// Rewrites a date as ISO 8601, with the time that follows it; `None` for other texts.
    fn normalize_value(&self, value: &str) -> Option<String> {
        let (numbers, separator, rest) = take_parts(value)?;
        if separator != self.separator {
            return None;
        }
        let mut date = [0; 3];
        for (part, digits) in self.parts.iter().zip(numbers) {
            let (place, lengths) = match part {
                DatePart::Year => (0, 4..=4),
                DatePart::Month => (1, 1..=2),
                DatePart::Day => (2, 1..=2),
            };
            if !lengths.contains(&digits.len()) {
                return None;
            }
            date[place] = digits.parse().ok()?;
        }
        let [year, month, day]: [u32; 3] = date;
        Some(format!("{year:04}-{month:02}-{day:02}{rest}"))
    }
}

/// Splits a date into its three numbers, their separator and the rest of the text.
fn take_parts(value: &str) -> Option<([&str; 3], u8, &str)> {
    let digits = |text: &str| text.bytes().take_while(u8::is_ascii_digit).count();
    let (first, rest) = value.split_at(digits(value));
    let separator = *rest.as_bytes().first().filter(|byte| b"./-".contains(*byte))?;
    let rest = rest.get(1..)?;
    let (second, rest) = rest.split_at(digits(rest));
    let rest = rest.strip_prefix(char::from(separator))?;
    let (third, rest) = rest.split_at(digits(rest));
    let ends = rest.is_empty() || rest.starts_with([' ', 'T']);
    let full = !first.is_empty() && !second.is_empty() && !third.is_empty();
    (ends && full).then_some(([first, second, third], separator, rest))
}

/// Rewrites a number with a decimal comma as a number with a decimal point. Points in it are
/// thousands separators and are removed.
fn with_point(value: &str) -> Option<String> {
    let (whole, fraction) = match value.split_once(',') {
        Some((whole, fraction)) => (whole, Some(fraction)),
        None => (value, None),
    };
    let digits = whole.strip_prefix(['-', '+']).unwrap_or(whole);
    let mut groups = digits.split('.');
    let first = groups.next()?;
    let mut grouped = false;
    for group in groups {
        grouped = true;
        if group.len() != 3 || !group.bytes().all(|byte| byte.is_ascii_digit()) {
            return None;
        }
    }
    let is_number = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let first_fits = is_number(first) && (!grouped || first.len() <= 3);
    if !first_fits || fraction.is_some_and(|fraction| !is_number(fraction)) {
        return None;
    }
    let whole = whole.replace('.', "");
    Some(match fraction {
        Some(fraction) => format!("{whole}.{fraction}"),
        None => whole,
    })
}

/// Counts of a CSV column's texts that are dates or numbers in formats other than the default
/// formats. Used to suggest an option that parses them.
#[derive(Debug, Clone, Default)]
pub(crate) struct MatchedFormats {
    /// Number of texts that look like a date with the year last, such as `31.01.2026`.
    dates: u64,
    /// Number of texts that look like a number with a decimal comma, such as `1.234,5`.
    commas: u64,
    separator: Option<u8>,
    /// True if the first number of a date exceeds 12, so that it must be the day. `day_second` is
    /// the same for the second number.
    day_first: bool,
    day_second: bool,
}

impl MatchedFormats {
    /// Counts a text under each format that it matches.
    pub fn observe(&mut self, value: &str) {
        let value = value.trim_matches([' ', '\t']);
        if !value.as_bytes().first().is_some_and(|byte| byte.is_ascii_digit() || *byte == b'-') {
            return;
        }
        if value.contains(',') && with_point(value).is_some() {
            self.commas += 1;
        }
        let Some((numbers, separator, _)) = take_parts(value) else { return };
        let [first, second, year] = numbers;
        if first.len() <= 2 && second.len() <= 2 && year.len() == 4 {
            self.dates += 1;
            self.separator.get_or_insert(separator);
            let large = |text: &str| text.parse::<u8>().is_ok_and(|number| number > 12);
            self.day_first |= large(first);
            self.day_second |= large(second);
        }
    }

    /// Adds the counts of another file for the same column.
    pub fn merge(&mut self, other: &MatchedFormats) {
        self.dates += other.dates;
        self.commas += other.commas;
        self.separator = self.separator.or(other.separator);
        self.day_first |= other.day_first;
        self.day_second |= other.day_second;
    }

    /// Returns a hint with the option that parses all `texts` texts of the column; `None` if no
    /// option parses all of them.
    pub fn option(&self, texts: u64) -> Option<String> {
        if texts > 0 && self.commas == texts {
            return Some("Numbers have a decimal comma: read them with `--decimal-comma`.".into());
        }
        let separator = char::from(self.separator.filter(|_| texts > 0 && self.dates == texts)?);
        let [day, month] = ["DD", "MM"];
        let format = |one: &str, other: &str| format!("{one}{separator}{other}{separator}YYYY");
        match (self.day_first, self.day_second) {
            (true, true) => None,
            (true, false) => {
                Some(format!("Read the dates with `--date-format {}`.", format(day, month)))
            }
            (false, true) => {
                Some(format!("Read the dates with `--date-format {}`.", format(month, day)))
            }
            (false, false) => Some(format!(
                "Read the dates with `--date-format {}` or `{}`, depending on their order.",
                format(day, month),
                format(month, day)
            )),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_read_in_the_given_order() {
        let check = |format: &str, value: &str, expected: Option<&str>| {
            let dates = Some(DateFormat::parse(format).unwrap());
            let reading = ValueFormats { dates, decimal_comma: false };
            assert_eq!(reading.normalize_value(value).as_deref(), expected, "{format} {value}");
        };
        check("DD.MM.YYYY", "31.01.2026", Some("2026-01-31"));
        check("%d.%m.%Y", " 1.2.2026 ", Some("2026-02-01"));
        check("MM/DD/YYYY", "01/31/2026 10:15:00", Some("2026-01-31 10:15:00"));
        check("MM/DD/YYYY", "01.31.2026", None);
        check("DD.MM.YYYY", "31.01.26", None);
        check("DD.MM.YYYY", "31.01", None);
        check("DD.MM.YYYY", "31.01.2026x", None);
        for format in ["DD.MM", "DD.DD.YYYY", "YYYY", "DD MM YYYY", "x"] {
            assert!(DateFormat::parse(format).is_err(), "{format}");
        }
    }

    #[test]
    fn numbers_with_a_decimal_comma_are_read() {
        let check = |value: &str, expected: Option<&str>| {
            assert_eq!(with_point(value).as_deref(), expected, "{value}");
        };
        check("1,5", Some("1.5"));
        check("-1.234.567,89", Some("-1234567.89"));
        check("1.234", Some("1234"));
        check("12", Some("12"));
        for value in ["1.5", "1,2,3", "1,", ",5", "1.23,4", "1234.567", "abc", ""] {
            check(value, None);
        }
    }

    #[test]
    fn texts_that_look_like_dates_name_the_option() {
        let option = |values: &[&str]| {
            let mut looks = MatchedFormats::default();
            for value in values {
                looks.observe(value);
            }
            looks.option(values.len() as u64)
        };
        assert!(
            option(&["31.01.2026", "01.02.2026"]).unwrap().contains("`--date-format DD.MM.YYYY`")
        );
        assert!(option(&["01/31/2026"]).unwrap().contains("`--date-format MM/DD/YYYY`"));
        assert!(
            option(&["01/02/2026"]).unwrap().contains("`MM/DD/YYYY`, depending on their order")
        );
        assert!(option(&["1,5", "2,25"]).unwrap().contains("--decimal-comma"));
        assert_eq!(option(&["31.01.2026", "01.31.2026"]), None);
        assert_eq!(option(&["1,5", "x"]), None);
        assert_eq!(option(&[]), None);
    }
}
