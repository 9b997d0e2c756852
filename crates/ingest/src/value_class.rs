//! Classes of values, detected from text alone.
//!
//! [`Classes`] is the set of classes of a column's values. The type that holds all values is chosen
//! once, at the end, from the set. So the order of rows and files does not matter.

use super::temporal::parse_moment;

/// Class of a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u16)]
pub(crate) enum Class {
    Boolean = 1,
    /// A whole number within 64 bits.
    Integer = 1 << 1,
    /// A whole number beyond 64 bits.
    BigInteger = 1 << 2,
    Real = 1 << 3,
    /// `NaN` or `inf`: a number in a column of numbers, text in a column of text.
    NotFinite = 1 << 4,
    Date = 1 << 5,
    /// A timestamp without a zone.
    Timestamp = 1 << 6,
    /// A timestamp with a zone.
    ZonedTimestamp = 1 << 7,
    /// Digits with a leading zero, which a number would lose: `007`.
    PaddedDigits = 1 << 8,
    Text = 1 << 9,
    /// A JSON object.
    Object = 1 << 10,
    /// A JSON array.
    List = 1 << 11,
}

impl Class {
    pub const ALL: [Class; 12] = [
        Class::Boolean,
        Class::Integer,
        Class::BigInteger,
        Class::Real,
        Class::NotFinite,
        Class::Date,
        Class::Timestamp,
        Class::ZonedTimestamp,
        Class::PaddedDigits,
        Class::Text,
        Class::Object,
        Class::List,
    ];

    /// Returns the class as a noun phrase, for the reason of a column's type.
    pub const fn noun(self) -> &'static str {
        match self {
            Class::Boolean => "a boolean",
            Class::Integer => "a whole number",
            Class::BigInteger => "a whole number beyond 64 bits",
            Class::Real => "a number with a fraction or an exponent",
            Class::NotFinite => "not a finite number",
            Class::Date => "a date",
            Class::Timestamp => "a timestamp without a zone",
            Class::ZonedTimestamp => "a timestamp with a zone",
            Class::PaddedDigits => "digits with a zero in front",
            Class::Text => "text",
            Class::Object => "an object",
            Class::List => "a list",
        }
    }
}

/// A set of classes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Classes(u16);

impl Classes {
    /// Adds a class; returns true if it is new.
    pub fn insert(&mut self, class: Class) -> bool {
        let before = self.0;
        self.0 |= class as u16;
        self.0 != before
    }

    /// Returns the set without a class.
    #[must_use]
    pub fn without(self, class: Class) -> Self {
        Classes(self.0 & !(class as u16))
    }

    pub fn contains(self, class: Class) -> bool {
        self.0 & class as u16 != 0
    }

    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Returns true if every class of this set is in `allowed`.
    pub fn only(self, allowed: &[Class]) -> bool {
        let allowed = allowed.iter().fold(0, |set, &class| set | class as u16);
        self.0 & !allowed == 0
    }

    pub fn iter(self) -> impl Iterator<Item = Class> {
        Class::ALL.into_iter().filter(move |&class| self.contains(class))
    }
}

/// Returns the class of a text; none if it is empty or blank. Surrounding blanks are ignored.
pub(crate) fn classify(text: &str) -> Option<Class> {
    let text = trim(text);
    let first = *text.as_bytes().first()?;
    Some(match first {
        b'0'..=b'9' | b'+' | b'-' | b'.' => classify_number_or_date(text),
        b't' | b'T' | b'f' | b'F' if parse_boolean(text).is_some() => Class::Boolean,
        b'n' | b'N' | b'i' | b'I' if is_not_finite(text) => Class::NotFinite,
        _ => Class::Text,
    })
}

/// Removes blanks around a text.
pub(crate) fn trim(text: &str) -> &str {
    let bytes = text.as_bytes();
    match (bytes.first(), bytes.last()) {
        (Some(b' ' | b'\t'), _) | (_, Some(b' ' | b'\t')) => text.trim_matches([' ', '\t']),
        _ => text,
    }
}

/// Parses `true` and `false`, ignoring case.
pub(crate) fn parse_boolean(text: &str) -> Option<bool> {
    if text.eq_ignore_ascii_case("true") {
        Some(true)
    } else if text.eq_ignore_ascii_case("false") {
        Some(false)
    } else {
        None
    }
}

fn is_not_finite(text: &str) -> bool {
    let text = text.trim_start_matches(['+', '-']);
    ["nan", "inf", "infinity"].iter().any(|word| text.eq_ignore_ascii_case(word))
}

fn classify_number_or_date(text: &str) -> Class {
    let bytes = text.as_bytes();
    let signed = matches!(bytes[0], b'+' | b'-');
    let digits = &bytes[usize::from(signed)..];
    let whole = digits.iter().take_while(|byte| byte.is_ascii_digit()).count();
    if whole > 0 && whole == digits.len() {
        return classify_whole(text, digits, bytes[0] == b'+');
    }
    // `2013-01-31`: four digits and a separator, which no number has.
    if whole == 4 && !signed && matches!(digits[4], b'-' | b'/') {
        return match parse_moment(text) {
            Some(moment) if moment.zoned => Class::ZonedTimestamp,
            Some(moment) if moment.timed => Class::Timestamp,
            Some(_) => Class::Date,
            None => Class::Text,
        };
    }
    if whole > 1 && digits[0] == b'0' {
        return Class::Text;
    }
    match digits.get(whole) {
        Some(b'.' | b'e' | b'E') if bytes[0] != b'+' && text.parse::<f64>().is_ok() => Class::Real,
        _ if signed && is_not_finite(text) => Class::NotFinite,
        _ => Class::Text,
    }
}

fn classify_whole(text: &str, digits: &[u8], plus: bool) -> Class {
    if plus {
        // The value is probably a telephone number, whose plus sign a number type would lose.
        return Class::Text;
    }
    if digits.len() > 1 && digits[0] == b'0' {
        return Class::PaddedDigits;
    }
    if digits.len() < 19 || text.parse::<i64>().is_ok() {
        Class::Integer
    } else {
        Class::BigInteger
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_classified_by_their_text() {
        let cases: [(&str, Option<Class>); 40] = [
            ("", None),
            ("  ", None),
            ("0", Some(Class::Integer)),
            ("-12", Some(Class::Integer)),
            (" 12 ", Some(Class::Integer)),
            ("9223372036854775807", Some(Class::Integer)),
            ("-9223372036854775808", Some(Class::Integer)),
            ("9223372036854775808", Some(Class::BigInteger)),
            ("007", Some(Class::PaddedDigits)),
            ("00", Some(Class::PaddedDigits)),
            ("-01", Some(Class::PaddedDigits)),
            ("+49123", Some(Class::Text)),
            ("1.5", Some(Class::Real)),
            ("-.5", Some(Class::Real)),
            ("1.", Some(Class::Real)),
            ("1e5", Some(Class::Real)),
            ("0.1", Some(Class::Real)),
            ("00.1", Some(Class::Text)),
            (".", Some(Class::Text)),
            ("-", Some(Class::Text)),
            ("1_000", Some(Class::Text)),
            ("1,5", Some(Class::Text)),
            ("12x", Some(Class::Text)),
            ("0x1f", Some(Class::Text)),
            ("NaN", Some(Class::NotFinite)),
            ("-inf", Some(Class::NotFinite)),
            ("Infinity", Some(Class::NotFinite)),
            ("NA", Some(Class::Text)),
            ("nantes", Some(Class::Text)),
            ("true", Some(Class::Boolean)),
            ("FALSE", Some(Class::Boolean)),
            ("t", Some(Class::Text)),
            ("yes", Some(Class::Text)),
            ("2013-01-31", Some(Class::Date)),
            ("2013-02-31", Some(Class::Text)),
            ("2013-01-31 10:00:00", Some(Class::Timestamp)),
            ("2013-01-31T10:00:00Z", Some(Class::ZonedTimestamp)),
            ("2013-01-31 10:00:00+02", Some(Class::ZonedTimestamp)),
            ("31/01/2013", Some(Class::Text)),
            ("é", Some(Class::Text)),
        ];
        for (text, class) in cases {
            assert_eq!(classify(text), class, "{text:?}");
        }
    }
}
