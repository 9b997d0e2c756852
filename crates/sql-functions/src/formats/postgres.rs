//! The template patterns of PostgreSQL's `to_char`.

use super::FormatPart;
use super::field::{FieldKind, FormatField, LetterCase};

/// Case-insensitive patterns. A longer pattern is listed before its prefixes.
const PATTERNS: [(&str, FieldKind, usize); 41] = [
    ("HH24", FieldKind::Hour24, 2),
    ("HH12", FieldKind::Hour12, 2),
    ("HH", FieldKind::Hour12, 2),
    ("MI", FieldKind::Minute, 2),
    ("SSSSS", FieldKind::SecondOfDay, 0),
    ("SSSS", FieldKind::SecondOfDay, 0),
    ("SS", FieldKind::Second, 2),
    ("MS", FieldKind::Fraction(3), 3),
    ("US", FieldKind::Fraction(6), 6),
    ("FF1", FieldKind::Fraction(1), 1),
    ("FF2", FieldKind::Fraction(2), 2),
    ("FF3", FieldKind::Fraction(3), 3),
    ("FF4", FieldKind::Fraction(4), 4),
    ("FF5", FieldKind::Fraction(5), 5),
    ("FF6", FieldKind::Fraction(6), 6),
    ("IYYY", FieldKind::IsoYear(None), 4),
    ("IYY", FieldKind::IsoYear(Some(3)), 3),
    ("IY", FieldKind::IsoYear(Some(2)), 2),
    ("IDDD", FieldKind::IsoDayOfYear, 3),
    ("ID", FieldKind::IsoDayOfWeek, 1),
    ("IW", FieldKind::IsoWeek, 2),
    ("I", FieldKind::IsoYear(Some(1)), 1),
    ("YYYY", FieldKind::Year(None), 4),
    ("YYY", FieldKind::Year(Some(3)), 3),
    ("YY", FieldKind::Year(Some(2)), 2),
    ("Y", FieldKind::Year(Some(1)), 1),
    ("DDD", FieldKind::DayOfYear, 3),
    ("DD", FieldKind::Day, 2),
    ("D", FieldKind::DayOfWeek, 1),
    ("WW", FieldKind::Week, 2),
    ("W", FieldKind::WeekOfMonth, 1),
    ("CC", FieldKind::Century, 2),
    ("J", FieldKind::JulianDay, 0),
    ("Q", FieldKind::Quarter, 1),
    ("MM", FieldKind::Month, 2),
    ("TZH", FieldKind::OffsetHours, 0),
    ("TZM", FieldKind::OffsetMinutes, 0),
    ("TZ", FieldKind::Zone, 0),
    ("OF", FieldKind::Offset { colon: true, zulu: false }, 0),
    ("RM", FieldKind::MonthRoman, 4),
    ("AD", FieldKind::Era, 0),
];

/// Patterns for names. The case of the pattern determines the case of the name.
const NAMES: [(&str, FieldKind, usize); 10] = [
    ("MONTH", FieldKind::MonthName, 9),
    ("MON", FieldKind::MonthShort, 0),
    ("DAY", FieldKind::DayName, 9),
    ("DY", FieldKind::DayShort, 0),
    ("A.M.", FieldKind::Half { dots: true }, 0),
    ("P.M.", FieldKind::Half { dots: true }, 0),
    ("AM", FieldKind::Half { dots: false }, 0),
    ("PM", FieldKind::Half { dots: false }, 0),
    ("BC", FieldKind::Era, 0),
    ("AD", FieldKind::Era, 0),
];

/// Returns the parts of a template; fails with an unknown letter.
pub(super) fn parse(template: &str) -> Result<Vec<FormatPart>, String> {
    let mut parts = Vec::new();
    let mut rest = template;
    while let Some(letter) = rest.chars().next() {
        if let Some((field, after)) = field(rest) {
            parts.push(FormatPart::Field(field));
            rest = after;
            continue;
        }
        let after = &rest[letter.len_utf8()..];
        let (text, after) = match letter {
            '"' => quoted(after)?,
            '\\' if after.starts_with('"') => ("\"".to_owned(), &after[1..]),
            letter if letter.is_ascii_alphabetic() => {
                return Err(format!("`{letter}` is not a pattern letter of `to_char`"));
            }
            letter => (letter.to_string(), after),
        };
        parts.push(FormatPart::Text(text));
        rest = after;
    }
    Ok(parts)
}

/// Reads a text in double quotes. Returns it with the rest of the template.
fn quoted(rest: &str) -> Result<(String, &str), String> {
    let mut text = String::new();
    let mut letters = rest.char_indices();
    while let Some((at, letter)) = letters.next() {
        match letter {
            '"' => return Ok((text, &rest[at + 1..])),
            '\\' => text.extend(letters.next().map(|(_, letter)| letter)),
            letter => text.push(letter),
        }
    }
    Err("a double quote is not closed".to_owned())
}

/// Returns the field of the pattern at the start of a text, and the rest of the text.
fn field(text: &str) -> Option<(FormatField, &str)> {
    let (padded, text) = match strip(text, "FM") {
        Some(rest) => (false, rest),
        None => (true, text),
    };
    let all = NAMES.iter().chain(&PATTERNS);
    let (pattern, kind, width) =
        all.into_iter().find(|(pattern, ..)| strip(text, pattern).is_some())?;
    let (written, mut rest) = text.split_at(pattern.len());
    let mut field = FormatField::new(*kind, if padded || is_fraction(*kind) { *width } else { 0 });
    field.case = case_of(written);
    if !field.shows_name()
        && let Some(after) = strip(rest, "TH")
    {
        field.ordinal =
            Some(if rest.starts_with("TH") { LetterCase::Upper } else { LetterCase::Lower });
        rest = after;
    }
    Some((field, rest))
}

impl FormatField {
    fn shows_name(&self) -> bool {
        NAMES.iter().any(|(_, kind, _)| *kind == self.kind)
    }
}

fn is_fraction(kind: FieldKind) -> bool {
    matches!(kind, FieldKind::Fraction(_))
}

fn strip<'a>(text: &'a str, pattern: &str) -> Option<&'a str> {
    let begin = text.get(..pattern.len())?;
    begin.eq_ignore_ascii_case(pattern).then(|| &text[pattern.len()..])
}

fn case_of(written: &str) -> LetterCase {
    let mut letters = written.chars().filter(char::is_ascii_alphabetic);
    match (letters.next().is_some_and(char::is_uppercase), letters.next()) {
        (false, _) => LetterCase::Lower,
        (true, Some(second)) if second.is_lowercase() => LetterCase::Title,
        _ => LetterCase::Upper,
    }
}
