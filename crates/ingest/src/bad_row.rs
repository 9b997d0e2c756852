//! Rows that cannot be read: their position, the reason and the raw text.
//!
//! An import that stops at the first bad row returns a [`BadRow`] as its error. An import with
//! `--on-error reject` writes each bad row to `<table>__rejected`. The line is the physical line in
//! the decompressed file, counted from 1. Parquet has no lines, so the line is the row number.

use std::collections::BTreeMap;

use serde_json::{Value, json};

/// Maximum length of a value that a message quotes, in characters.
const QUOTED_CHARACTERS_MAX: usize = 80;

/// Maximum length of a value or row that a [`BadRow`] keeps, in bytes.
const KEPT_BYTES_MAX: usize = 64 * 1024;

/// A row that cannot be read as the table's types.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BadRow {
    /// The name of the file.
    pub file: String,
    /// The physical line, from 1; for Parquet the row number.
    pub line: u64,
    /// The column; `None` if the whole row is invalid.
    pub column: Option<String>,
    /// The value; `None` if the whole row is invalid.
    pub value: Option<String>,
    /// The reason, as a fragment that can follow a colon.
    pub reason: String,
    /// The row as written in the file, truncated to 64 KiB.
    pub row: String,
    /// True if the row has bytes that are not valid in the file's encoding.
    pub encoding: bool,
}

/// A fault in a row, without the name of its file.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct RowError {
    pub line: u64,
    pub column: Option<String>,
    pub value: Option<String>,
    pub reason: String,
    pub row: String,
    pub encoding: bool,
}

impl RowError {
    /// Creates a fault that concerns the whole row.
    pub fn new(line: u64, reason: impl Into<String>, row: &[u8]) -> Self {
        RowError { line, reason: reason.into(), row: text_of(row), ..RowError::default() }
    }

    /// Attaches the column and the value to a fault.
    pub fn in_column(mut self, column: &str, value: &str) -> Self {
        self.column = Some(column.to_owned());
        self.value = Some(cut(value, KEPT_BYTES_MAX).to_owned());
        self
    }

    /// Converts the fault to a [`BadRow`] of a file.
    pub fn in_file(self, file: &str) -> BadRow {
        BadRow {
            file: file.to_owned(),
            line: self.line,
            column: self.column,
            value: self.value,
            reason: self.reason,
            row: self.row,
            encoding: self.encoding,
        }
    }
}

/// Returns the message for a type mismatch, such as `` `12x` is not a long ``.
pub(crate) fn not_a(value: &str, type_name: &str) -> String {
    format!("`{}` is not {} {type_name}", quoted(value), article(type_name))
}

fn article(noun: &str) -> &'static str {
    if noun.starts_with(['a', 'e', 'i', 'o']) { "an" } else { "a" }
}

/// Formats a value for a message: writes it on one line, and truncates a long value.
pub(crate) fn quoted(value: &str) -> String {
    let mut characters = value.chars();
    let mut text: String = characters.by_ref().take(QUOTED_CHARACTERS_MAX).collect();
    if characters.next().is_some() {
        text.push('…');
    }
    text.replace('\r', "\\r").replace('\n', "\\n").replace('`', "'")
}

/// Returns a row's bytes as text, truncated to 64 KiB, without its line end.
fn text_of(row: &[u8]) -> String {
    let kept = &row[..row.len().min(KEPT_BYTES_MAX)];
    let text = String::from_utf8_lossy(kept);
    text.trim_end_matches(['\r', '\n']).to_owned()
}

/// Returns a prefix of at most `bytes_max` bytes, cut at a character boundary.
fn cut(text: &str, bytes_max: usize) -> &str {
    let mut end = text.len().min(bytes_max);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}

impl std::fmt::Display for BadRow {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "bad row in `{}` line {}", self.file, self.line)?;
        if let Some(column) = &self.column {
            write!(f, ", column `{column}`")?;
        }
        write!(f, ": {}", self.reason)
    }
}

impl BadRow {
    /// Returns a hint: how to correct the row, or which option to set.
    pub fn hint(&self) -> String {
        if self.encoding {
            return "Name the file's encoding, for example `--encoding windows-1252`, or correct \
                    the line."
                .to_owned();
        }
        let null = self.value.as_deref().map(str::trim).filter(|value| looks_null(value));
        match (null, &self.column) {
            (Some(value), _) => {
                format!("If `{value}` means null, import with `--null {value}`.")
            }
            (None, Some(column)) => format!(
                "Correct the value, or move such rows to the table of rejected rows with \
                 `--on-error reject`. In a new column, `--type {column}=string` keeps the value as \
                 text."
            ),
            (None, None) => "Correct the line, or import with `--on-error reject`.".to_owned(),
        }
    }

    /// Returns file, line, column, value, reason and row, as structured context.
    pub fn context(&self) -> BTreeMap<String, Value> {
        let entries = [
            ("file", json!(self.file)),
            ("line", json!(self.line)),
            ("column", json!(self.column)),
            ("value", json!(self.value)),
            ("reason", json!(self.reason)),
            ("row", json!(self.row)),
        ];
        entries.into_iter().map(|(key, value)| (key.to_owned(), value)).collect()
    }
}

/// Returns true if programs commonly write this text for null.
pub(crate) fn looks_null(text: &str) -> bool {
    const WRITTEN: [&str; 9] = ["NA", "N/A", "#N/A", "NULL", "\\N", "None", "nil", "-", "?"];
    WRITTEN.iter().any(|null| text.eq_ignore_ascii_case(null))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_names_file_line_column_and_value() {
        let fault = RowError::new(7, not_a("12x", "long"), b"a,12x\r\n").in_column("n", "12x");
        let row = fault.in_file("/d/a.csv");
        assert_eq!(
            row.to_string(),
            "bad row in `/d/a.csv` line 7, column `n`: `12x` is not a long"
        );
        assert_eq!(row.row, "a,12x");
        assert_eq!(row.context()["line"], 7);
    }

    #[test]
    fn an_unrecognised_null_gets_a_hint() {
        let fault = RowError::new(1, not_a("NA", "long"), b"NA").in_column("n", "NA");
        assert!(fault.in_file("f").hint().contains("--null NA"));
    }

    #[test]
    fn long_and_many_line_values_are_quoted_in_short() {
        let text = quoted(&format!("a\nb`{}", "x".repeat(200)));
        assert!(text.starts_with("a\\nb'") && text.ends_with('…') && text.len() < 100);
    }
}
