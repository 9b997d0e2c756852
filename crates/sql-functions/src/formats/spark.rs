//! The pattern letters of Spark's `date_format`.

use super::FormatPart;
use super::field::{FieldKind, FormatField};

/// The pattern letters that are accepted.
const LETTERS: &str = "yuMLdDEFqQGaHhkKmsSVzXxZ";

/// Returns the parts of a pattern; fails with an unknown letter.
pub(super) fn parse(pattern: &str) -> Result<Vec<FormatPart>, String> {
    let mut parts = Vec::new();
    let mut rest = pattern;
    while let Some(letter) = rest.chars().next() {
        if letter == '\'' {
            let (text, after) = quoted(&rest[1..])?;
            parts.push(FormatPart::Text(text));
            rest = after;
            continue;
        }
        let count = rest.chars().take_while(|next| *next == letter).count();
        let (run, after) = rest.split_at(count * letter.len_utf8());
        if letter.is_ascii_alphabetic() {
            letters(letter, count, &mut parts)?;
        } else {
            parts.push(FormatPart::Text(run.to_owned()));
        }
        rest = after;
    }
    Ok(parts)
}

/// Reads a text in single quotes, in which two single quotes mean one. Returns it with the rest of
/// the pattern.
fn quoted(rest: &str) -> Result<(String, &str), String> {
    if let Some(after) = rest.strip_prefix('\'') {
        return Ok(("'".to_owned(), after));
    }
    let mut text = String::new();
    let mut rest = rest;
    loop {
        let (before, after) =
            rest.split_once('\'').ok_or_else(|| "a single quote is not closed".to_owned())?;
        text.push_str(before);
        match after.strip_prefix('\'') {
            Some(after) => {
                text.push('\'');
                rest = after;
            }
            None => return Ok((text, after)),
        }
    }
}

/// Appends the field that a letter with this number of repetitions stands for.
fn letters(letter: char, count: usize, parts: &mut Vec<FormatPart>) -> Result<(), String> {
    let number = |kind| Ok::<_, String>(FormatField::new(kind, count));
    let field = match (letter, count) {
        ('y' | 'u', 2) => FormatField::new(FieldKind::Year(Some(2)), 2),
        ('y' | 'u', 1..=6) => number(FieldKind::Year(None))?,
        ('M' | 'L', 1 | 2) => number(FieldKind::Month)?,
        ('M' | 'L', 3) => FormatField::new(FieldKind::MonthShort, 0),
        ('M' | 'L', 4) => FormatField::new(FieldKind::MonthName, 0),
        ('d', 1 | 2) => number(FieldKind::Day)?,
        ('D', 1..=3) => number(FieldKind::DayOfYear)?,
        ('E', 1..=3) => FormatField::new(FieldKind::DayShort, 0),
        ('E', 4) => FormatField::new(FieldKind::DayName, 0),
        ('F', 1) => number(FieldKind::WeekOfMonth)?,
        ('q' | 'Q', 1 | 2) => number(FieldKind::Quarter)?,
        ('q' | 'Q', 3) => {
            parts.push(FormatPart::Text("Q".to_owned()));
            FormatField::new(FieldKind::Quarter, 1)
        }
        ('G', 1..=3) => FormatField::new(FieldKind::Era, 0),
        ('a', 1) => FormatField::new(FieldKind::Half { dots: false }, 0),
        ('H', 1 | 2) => number(FieldKind::Hour24)?,
        ('h', 1 | 2) => number(FieldKind::Hour12)?,
        ('k', 1 | 2) => number(FieldKind::HourFrom1)?,
        ('K', 1 | 2) => number(FieldKind::HourOfHalf)?,
        ('m', 1 | 2) => number(FieldKind::Minute)?,
        ('s', 1 | 2) => number(FieldKind::Second)?,
        ('S', 1..=9) => number(FieldKind::Fraction(count as u32))?,
        ('V', 2) | ('z', 1..=4) => FormatField::new(FieldKind::Zone, 0),
        ('X', 3) => FormatField::new(FieldKind::Offset { colon: true, zulu: true }, 0),
        ('X', 1 | 2) => FormatField::new(FieldKind::Offset { colon: false, zulu: true }, 0),
        ('x', 3) => FormatField::new(FieldKind::Offset { colon: true, zulu: false }, 0),
        ('x', 1 | 2) | ('Z', 1..=3) => {
            FormatField::new(FieldKind::Offset { colon: false, zulu: false }, 0)
        }
        ('Y', _) => {
            return Err("`Y` is not a pattern letter of `date_format`; write `yyyy` for the year"
                .to_owned());
        }
        (letter, _) if LETTERS.contains(letter) => {
            return Err(format!("`{letter}` is repeated {count} times, which has no meaning"));
        }
        _ => return Err(format!("`{letter}` is not a pattern letter of `date_format`")),
    };
    parts.push(FormatPart::Field(field));
    Ok(())
}
