//! Classes of values, detected from text alone.
//!
//! [`ValueClasses`] is the set of classes of a column's values. The column's type is chosen from
//! the set after all values are read. So the type does not depend on the order of rows and files.

use super::temporal_text::parse_date_time;

/// Class of a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u16)]
pub(crate) enum ValueClass {
    Boolean = 1,
    /// A whole number within 64 bits.
    Integer = 1 << 1,
    /// A whole number beyond 64 bits.
    BigInteger = 1 << 2,
    Real = 1 << 3,
    /// `NaN` or `inf`, which is a number in a column of numbers and text in a column of text.
    NotFinite = 1 << 4,
    Date = 1 << 5,
    /// A timestamp without a time zone.
    Timestamp = 1 << 6,
    /// A timestamp with a time zone.
    ZonedTimestamp = 1 << 7,
    /// Digits with a leading zero, such as `007`, which a number would not preserve.
    PaddedDigits = 1 << 8,
    Text = 1 << 9,
    /// A JSON object.
    Object = 1 << 10,
    /// A JSON array.
    List = 1 << 11,
}

impl ValueClass {
    pub const ALL: [ValueClass; 12] = [
        ValueClass::Boolean,
        ValueClass::Integer,
        ValueClass::BigInteger,
        ValueClass::Real,
        ValueClass::NotFinite,
        ValueClass::Date,
        ValueClass::Timestamp,
        ValueClass::ZonedTimestamp,
        ValueClass::PaddedDigits,
        ValueClass::Text,
        ValueClass::Object,
        ValueClass::List,
    ];

    /// Returns the class as a noun phrase, for messages that explain a column's type.
    pub const fn noun(self) -> &'static str {
        match self {
            ValueClass::Boolean => "a boolean",
            ValueClass::Integer => "a whole number",
            ValueClass::BigInteger => "a whole number beyond 64 bits",
            ValueClass::Real => "a number with a fraction or an exponent",
            ValueClass::NotFinite => "not a finite number",
            ValueClass::Date => "a date",
            ValueClass::Timestamp => "a timestamp without a time zone",
            ValueClass::ZonedTimestamp => "a timestamp with a time zone",
            ValueClass::PaddedDigits => "digits with a leading zero",
            ValueClass::Text => "text",
            ValueClass::Object => "an object",
            ValueClass::List => "a list",
        }
    }
}

/// A set of classes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct ValueClasses(u16);

impl ValueClasses {
    /// Adds a class; returns true if it is new.
    pub fn insert(&mut self, class: ValueClass) -> bool {
        let before = self.0;
        self.0 |= class as u16;
        self.0 != before
    }

    /// Returns the set without a class.
    #[must_use]
    pub fn without(self, class: ValueClass) -> Self {
        ValueClasses(self.0 & !(class as u16))
    }

    pub fn contains(self, class: ValueClass) -> bool {
        self.0 & class as u16 != 0
    }

    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Returns true if every class of this set is in `allowed`.
    pub fn only(self, allowed: &[ValueClass]) -> bool {
        let allowed = allowed.iter().fold(0, |set, &class| set | class as u16);
        self.0 & !allowed == 0
    }

    pub fn iter(self) -> impl Iterator<Item = ValueClass> {
        ValueClass::ALL.into_iter().filter(move |&class| self.contains(class))
    }
}

/// Returns the class of a text; `None` if it is empty or blank. Surrounding blanks are ignored.
pub(crate) fn classify(text: &str) -> Option<ValueClass> {
    let text = trim(text);
    let first = *text.as_bytes().first()?;
    Some(match first {
        b'0'..=b'9' | b'+' | b'-' | b'.' => classify_number_or_date(text),
        b't' | b'T' | b'f' | b'F' if parse_boolean(text).is_some() => ValueClass::Boolean,
        b'n' | b'N' | b'i' | b'I' if is_not_finite(text) => ValueClass::NotFinite,
        _ => ValueClass::Text,
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

fn classify_number_or_date(text: &str) -> ValueClass {
    let bytes = text.as_bytes();
    let signed = matches!(bytes[0], b'+' | b'-');
    let digits = &bytes[usize::from(signed)..];
    let whole = digits.iter().take_while(|byte| byte.is_ascii_digit()).count();
    if whole > 0 && whole == digits.len() {
        return classify_whole(text, digits, bytes[0] == b'+');
    }
    // Four digits before a separator can begin a date such as `2013-01-31`, but not a number.
    if whole == 4 && !signed && matches!(digits[4], b'-' | b'/') {
        return match parse_date_time(text) {
            Some(moment) if moment.zoned => ValueClass::ZonedTimestamp,
            Some(moment) if moment.timed => ValueClass::Timestamp,
            Some(_) => ValueClass::Date,
            None => ValueClass::Text,
        };
    }
    if whole > 1 && digits[0] == b'0' {
        return ValueClass::Text;
    }
    match digits.get(whole) {
        Some(b'.' | b'e' | b'E') if bytes[0] != b'+' && text.parse::<f64>().is_ok() => {
            ValueClass::Real
        }
        _ if signed && is_not_finite(text) => ValueClass::NotFinite,
        _ => ValueClass::Text,
    }
}

fn classify_whole(text: &str, digits: &[u8], plus: bool) -> ValueClass {
    if plus {
        // The value is probably a telephone number. A number type would lose its plus sign.
        return ValueClass::Text;
    }
    if digits.len() > 1 && digits[0] == b'0' {
        return ValueClass::PaddedDigits;
    }
    if digits.len() < 19 || text.parse::<i64>().is_ok() {
        ValueClass::Integer
    } else {
        ValueClass::BigInteger
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_classified_by_their_text() {
        let cases: [(&str, Option<ValueClass>); 40] = [
            ("", None),
            ("  ", None),
            ("0", Some(ValueClass::Integer)),
            ("-12", Some(ValueClass::Integer)),
            (" 12 ", Some(ValueClass::Integer)),
            ("9223372036854775807", Some(ValueClass::Integer)),
            ("-9223372036854775808", Some(ValueClass::Integer)),
            ("9223372036854775808", Some(ValueClass::BigInteger)),
            ("007", Some(ValueClass::PaddedDigits)),
            ("00", Some(ValueClass::PaddedDigits)),
            ("-01", Some(ValueClass::PaddedDigits)),
            ("+49123", Some(ValueClass::Text)),
            ("1.5", Some(ValueClass::Real)),
            ("-.5", Some(ValueClass::Real)),
            ("1.", Some(ValueClass::Real)),
            ("1e5", Some(ValueClass::Real)),
            ("0.1", Some(ValueClass::Real)),
            ("00.1", Some(ValueClass::Text)),
            (".", Some(ValueClass::Text)),
            ("-", Some(ValueClass::Text)),
            ("1_000", Some(ValueClass::Text)),
            ("1,5", Some(ValueClass::Text)),
            ("12x", Some(ValueClass::Text)),
            ("0x1f", Some(ValueClass::Text)),
            ("NaN", Some(ValueClass::NotFinite)),
            ("-inf", Some(ValueClass::NotFinite)),
            ("Infinity", Some(ValueClass::NotFinite)),
            ("NA", Some(ValueClass::Text)),
            ("nantes", Some(ValueClass::Text)),
            ("true", Some(ValueClass::Boolean)),
            ("FALSE", Some(ValueClass::Boolean)),
            ("t", Some(ValueClass::Text)),
            ("yes", Some(ValueClass::Text)),
            ("2013-01-31", Some(ValueClass::Date)),
            ("2013-02-31", Some(ValueClass::Text)),
            ("2013-01-31 10:00:00", Some(ValueClass::Timestamp)),
            ("2013-01-31T10:00:00Z", Some(ValueClass::ZonedTimestamp)),
            ("2013-01-31 10:00:00+02", Some(ValueClass::ZonedTimestamp)),
            ("31/01/2013", Some(ValueClass::Text)),
            ("é", Some(ValueClass::Text)),
        ];
        for (text, class) in cases {
            assert_eq!(classify(text), class, "{text:?}");
        }
    }
}
