//! A row that cannot be read: where it stands, what is wrong with it, and what it says.
//!
//! [`BadRow`] is the error of an import that stops, and a row of `<table>__rejected` of one that
//! goes on. Its line is the physical line in the decompressed file, counted from 1; for Parquet,
//! which has no lines, it is the row.

use std::collections::BTreeMap;

use serde_json::{Value, json};

/// The longest value that a message quotes, in characters.
const QUOTED_CHARACTERS_MAX: usize = 80;

/// The longest value or row that is kept, in bytes.
const KEPT_BYTES_MAX: usize = 64 * 1024;

/// A row that cannot be read as the table's types.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BadRow {
    /// The file.
    pub file: String,
    /// The physical line, from 1; for Parquet the row.
    pub line: u64,
    /// The column; none where the row as a whole is wrong.
    pub column: Option<String>,
    /// The value; none where the row as a whole is wrong.
    pub value: Option<String>,
    /// What is wrong, as a fragment that can follow a colon.
    pub reason: String,
    /// The row as it stands in the file, cut at 64 KiB.
    pub row: String,
    /// Whether the bytes are not in the encoding they were read as.
    pub encoding: bool,
}

/// What is wrong with a row, before it is known which file it stands in.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct RowFault {
    pub line: u64,
    pub column: Option<String>,
    pub value: Option<String>,
    pub reason: String,
    pub row: String,
    pub encoding: bool,
}

impl RowFault {
    /// A row that is wrong as a whole.
    pub fn new(line: u64, reason: impl Into<String>, row: &[u8]) -> Self {
        RowFault { line, reason: reason.into(), row: text_of(row), ..RowFault::default() }
    }

    /// The same fault, found in one value of one column.
    pub fn in_column(mut self, column: &str, value: &str) -> Self {
        self.column = Some(column.to_owned());
        self.value = Some(cut(value, KEPT_BYTES_MAX).to_owned());
        self
    }

    /// The fault with its file.
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

/// Why a value does not fit: `` `12x` is not a long ``.
pub(crate) fn not_a(value: &str, type_name: &str) -> String {
    format!("`{}` is not {} {type_name}", quoted(value), article(type_name))
}

fn article(noun: &str) -> &'static str {
    if noun.starts_with(['a', 'e', 'i', 'o']) { "an" } else { "a" }
}

/// A value as a message quotes it: on one line, and not too long.
pub(crate) fn quoted(value: &str) -> String {
    let mut characters = value.chars();
    let mut text: String = characters.by_ref().take(QUOTED_CHARACTERS_MAX).collect();
    if characters.next().is_some() {
        text.push('…');
    }
    text.replace('\r', "\\r").replace('\n', "\\n").replace('`', "'")
}

/// The text of a row's bytes, cut at 64 KiB, without its line end.
fn text_of(row: &[u8]) -> String {
    let kept = &row[..row.len().min(KEPT_BYTES_MAX)];
    let text = String::from_utf8_lossy(kept);
    text.trim_end_matches(['\r', '\n']).to_owned()
}

/// The beginning of a text, of at most so many bytes, cut between characters.
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
    /// What to do about it.
    pub fn hint(&self) -> String {
        if self.encoding {
            return "Name the file's encoding, for example `windows-1252`, or correct the line."
                .to_owned();
        }
        let null = self.value.as_deref().map(str::trim).filter(|value| looks_null(value));
        match (null, &self.column) {
            (Some(value), _) => {
                format!("If `{value}` means null, say so with `--null {value}`.")
            }
            (None, Some(column)) => format!(
                "Correct the value, or put such rows aside with `--on-error reject`; a new column is \
                 text with `--type {column}=string`."
            ),
            (None, None) => "Correct the line, or import with `--on-error reject`.".to_owned(),
        }
    }

    /// File, line, column, value, reason and row, for programs.
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

/// Whether a text is one of those that programs write for null.
pub(crate) fn looks_null(text: &str) -> bool {
    const WRITTEN: [&str; 9] = ["NA", "N/A", "#N/A", "NULL", "\\N", "None", "nil", "-", "?"];
    WRITTEN.iter().any(|null| text.eq_ignore_ascii_case(null))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_names_file_line_column_and_value() {
        let fault = RowFault::new(7, not_a("12x", "long"), b"a,12x\r\n").in_column("n", "12x");
        let row = fault.in_file("/d/a.csv");
        assert_eq!(
            row.to_string(),
            "bad row in `/d/a.csv` line 7, column `n`: `12x` is not a long"
        );
        assert_eq!(row.row, "a,12x");
        assert_eq!(row.context()["line"], 7);
    }

    #[test]
    fn a_null_that_was_not_named_is_hinted_at() {
        let fault = RowFault::new(1, not_a("NA", "long"), b"NA").in_column("n", "NA");
        assert!(fault.in_file("f").hint().contains("--null NA"));
    }

    #[test]
    fn long_and_many_line_values_are_quoted_in_short() {
        let text = quoted(&format!("a\nb`{}", "x".repeat(200)));
        assert!(text.starts_with("a\\nb'") && text.ends_with('…') && text.len() < 100);
    }
}
