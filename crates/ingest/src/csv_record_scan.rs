//! Finds one CSV record in a byte slice. This module does no I/O and is the innermost loop of an
//! import.
//!
//! The format is RFC 4180 with common extensions. Any ASCII delimiter is allowed, and rows end with
//! LF, CRLF or CR. A quote opens a quoted field only as its first character, and is text elsewhere.
//! To lose no rows, the scanner is stricter than the `csv` crate: a quoted field must have a
//! closing quote, which only blanks may follow. A misplaced quote is therefore an error with a
//! line, and the following text does not become part of the field.

use memchr::{memchr, memchr3};

/// Position of a field in its record, without quotes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct FieldSpan {
    pub start: usize,
    pub end: usize,
    pub quoted: bool,
    /// True if the text contains doubled quotes.
    pub escaped: bool,
}

/// Result of a scan.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ScanResult {
    /// A record; `length` is its size in bytes, including its line end.
    Record { length: usize },
    /// The bytes end before the end of the record.
    Incomplete,
    /// The input ends inside a quoted field.
    Unclosed,
    /// Text follows the closing quote of a field.
    TextAfterQuote,
}

/// Number of bytes to compare one by one before the vectorized search, which is faster only for
/// long fields.
const SHORT_FIELD_BYTES: usize = 24;

/// Finds the record at the start of `bytes`, and its fields. `ended` is true if no input follows
/// `bytes`.
pub(crate) fn scan(
    bytes: &[u8],
    ended: bool,
    delimiter: u8,
    fields: &mut Vec<FieldSpan>,
) -> ScanResult {
    fields.clear();
    let mut at = 0;
    loop {
        let quoted = bytes.get(at) == Some(&b'"');
        let (span, next) = if quoted {
            match scan_quoted(bytes, at, ended, delimiter) {
                Ok(found) => found,
                Err(scan) => return scan,
            }
        } else {
            let end = field_end(bytes, at, delimiter);
            (FieldSpan { start: at, end, quoted: false, escaped: false }, end)
        };
        fields.push(span);
        match bytes.get(next) {
            Some(&byte) if byte == delimiter => at = next + 1,
            Some(b'\n') => return ScanResult::Record { length: next + 1 },
            Some(_) => match bytes.get(next + 1) {
                Some(b'\n') => return ScanResult::Record { length: next + 2 },
                Some(_) => return ScanResult::Record { length: next + 1 },
                None if ended => return ScanResult::Record { length: next + 1 },
                None => return ScanResult::Incomplete,
            },
            None if ended => return ScanResult::Record { length: next },
            None => return ScanResult::Incomplete,
        }
    }
}

/// Returns the end of an unquoted field that starts at `at`: the next delimiter or line end, or the
/// end of the input.
fn field_end(bytes: &[u8], at: usize, delimiter: u8) -> usize {
    let is_end = |byte: u8| byte == delimiter || byte == b'\n' || byte == b'\r';
    let near = bytes.len().min(at + SHORT_FIELD_BYTES);
    if let Some(offset) = bytes[at..near].iter().position(|&byte| is_end(byte)) {
        return at + offset;
    }
    memchr3(delimiter, b'\n', b'\r', &bytes[near..]).map_or(bytes.len(), |offset| near + offset)
}

/// Returns the quoted field that starts at `at`, and the position of the delimiter or line end
/// after it.
fn scan_quoted(
    bytes: &[u8],
    at: usize,
    ended: bool,
    delimiter: u8,
) -> Result<(FieldSpan, usize), ScanResult> {
    let start = at + 1;
    let mut escaped = false;
    let mut from = start;
    let end = loop {
        let Some(offset) = memchr(b'"', &bytes[from..]) else {
            return Err(if ended { ScanResult::Unclosed } else { ScanResult::Incomplete });
        };
        let quote = from + offset;
        match bytes.get(quote + 1) {
            Some(b'"') => {
                escaped = true;
                from = quote + 2;
            }
            None if !ended => return Err(ScanResult::Incomplete),
            _ => break quote,
        }
    };
    let mut next = end + 1;
    let is_blank = |byte: u8| (byte == b' ' || byte == b'\t') && byte != delimiter;
    while bytes.get(next).is_some_and(|&byte| is_blank(byte)) {
        next += 1;
    }
    match bytes.get(next) {
        Some(&byte) if byte == delimiter || byte == b'\n' || byte == b'\r' => {}
        None if ended => {}
        None => return Err(ScanResult::Incomplete),
        Some(_) => return Err(ScanResult::TextAfterQuote),
    }
    Ok((FieldSpan { start, end, quoted: true, escaped }, next))
}

/// Counts line ends: LF, CRLF, or a CR alone.
pub(crate) fn line_ends(bytes: &[u8]) -> u64 {
    let feeds = memchr::memchr_iter(b'\n', bytes).count();
    if memchr(b'\r', bytes).is_none() {
        return feeds as u64;
    }
    let returns = memchr::memchr_iter(b'\r', bytes);
    let alone = returns.filter(|&at| bytes.get(at + 1) != Some(&b'\n')).count();
    (feeds + alone) as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Scans `text` as the complete input. Checks the fields of the first record, and the text
    /// after it.
    fn check(text: &str, fields: &[&str], rest: &str) {
        let mut spans = Vec::new();
        let found = scan(text.as_bytes(), true, b',', &mut spans);
        let ScanResult::Record { length } = found else { panic!("{text:?}: {found:?}") };
        let values: Vec<_> =
            spans.iter().map(|span| text[span.start..span.end].replace("\"\"", "\"")).collect();
        assert_eq!(values, fields, "{text:?}");
        assert_eq!(&text[length..], rest, "{text:?}");
    }

    #[test]
    fn records_are_split_into_fields() {
        check("a,b,c\nd", &["a", "b", "c"], "d");
        check("a,b\r\nd", &["a", "b"], "d");
        check("a,b\rd", &["a", "b"], "d");
        check("a,b", &["a", "b"], "");
        check("a,b\r", &["a", "b"], "");
        check("a,\n", &["a", ""], "");
        check(",", &["", ""], "");
        check("\"a,b\",c\n", &["a,b", "c"], "");
        check("\"a\nb\",c\n", &["a\nb", "c"], "");
        check("\"say \"\"hi\"\"\",c", &["say \"hi\"", "c"], "");
        check("\"\",\"\"\n", &["", ""], "");
        check("\"a\" ,b\n", &["a", "b"], "");
        check("5\" pipe,b\n", &["5\" pipe", "b"], "");
        check("a\"b\"c,d\n", &["a\"b\"c", "d"], "");
        let long = "x".repeat(100);
        check(&format!("{long},b\n"), &[long.as_str(), "b"], "");
    }

    #[test]
    fn unclosed_quotes_and_text_after_quotes_are_rejected() {
        let found = |text: &str| scan(text.as_bytes(), true, b',', &mut Vec::new());
        assert_eq!(found("\"abc"), ScanResult::Unclosed);
        assert_eq!(found("a,\"b\nc,d\n"), ScanResult::Unclosed);
        assert_eq!(found("\"a\"b,c\n"), ScanResult::TextAfterQuote);
        assert_eq!(found("\"a\\\"b\",c\n"), ScanResult::TextAfterQuote);
    }

    #[test]
    fn a_record_truncated_anywhere_is_incomplete_and_never_wrong() {
        let text = "one,\"two \"\"2\"\"\r\n\" ,three,\"\"\r\nnext,record,is,here\n";
        let mut whole = Vec::new();
        let ScanResult::Record { length } = scan(text.as_bytes(), false, b',', &mut whole) else {
            panic!("no record")
        };
        for end in 0..text.len() {
            let mut spans = Vec::new();
            match scan(&text.as_bytes()[..end], false, b',', &mut spans) {
                ScanResult::Incomplete => assert!(end < length, "{end}"),
                found => {
                    assert_eq!(found, ScanResult::Record { length }, "{end}");
                    assert_eq!(spans, whole, "{end}");
                }
            }
        }
    }

    #[test]
    fn lines_are_counted_as_an_editor_does() {
        for (text, lines) in [("", 0), ("a\nb\n", 2), ("a\r\nb\r\n", 2), ("a\rb\rc", 2)] {
            assert_eq!(line_ends(text.as_bytes()), lines, "{text:?}");
        }
    }
}
