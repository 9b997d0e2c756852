//! The text and CSV formats of COPY: writes rows as lines, and splits lines into rows.

use headwater_model::{ErrorCode, Problem};

/// Maximum length of a row, in bytes.
pub const ROW_BYTES_MAX: usize = 16 << 20;

/// The values of a row; `None` for null.
pub type CopyRow = Vec<Option<String>>;

/// The format of the rows of a COPY.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CopyFormat {
    /// True for the binary format, which has no other properties.
    pub is_binary: bool,
    /// True for CSV, false for text.
    pub is_csv: bool,
    /// The byte between values.
    pub delimiter: u8,
    /// The text that represents null.
    pub null: String,
    /// The quote character of CSV.
    pub quote: u8,
    /// True if the first line has the names of the columns.
    pub has_header: bool,
}

impl CopyFormat {
    /// Returns the defaults of the text format.
    pub fn text() -> Self {
        let null = "\\N".to_owned();
        CopyFormat {
            is_binary: false,
            is_csv: false,
            delimiter: b'\t',
            null,
            quote: b'"',
            has_header: false,
        }
    }

    /// Returns the defaults of the CSV format.
    pub fn csv() -> Self {
        let format = CopyFormat::text();
        CopyFormat { is_csv: true, delimiter: b',', null: String::new(), ..format }
    }

    /// Writes a row with its end of line.
    pub fn put<'a>(&self, values: impl Iterator<Item = Option<&'a [u8]>>, out: &mut Vec<u8>) {
        for (index, value) in values.enumerate() {
            if index > 0 {
                out.push(self.delimiter);
            }
            match value {
                None => out.extend_from_slice(self.null.as_bytes()),
                Some(value) if self.is_csv => self.put_csv(value, out),
                Some(value) => self.put_text(value, out),
            }
        }
        out.push(b'\n');
    }

    fn put_csv(&self, value: &[u8], out: &mut Vec<u8>) {
        let is_special = |byte: &u8| [self.delimiter, self.quote, b'\n', b'\r'].contains(byte);
        if !value.iter().any(is_special) && value != self.null.as_bytes() && value != b"\\." {
            out.extend_from_slice(value);
            return;
        }
        out.push(self.quote);
        for byte in value {
            if *byte == self.quote {
                out.push(self.quote);
            }
            out.push(*byte);
        }
        out.push(self.quote);
    }

    fn put_text(&self, value: &[u8], out: &mut Vec<u8>) {
        for byte in value {
            let escaped = match byte {
                b'\\' => b'\\',
                b'\n' => b'n',
                b'\r' => b'r',
                b'\t' => b't',
                byte if *byte == self.delimiter => *byte,
                byte => {
                    out.push(*byte);
                    continue;
                }
            };
            out.extend_from_slice(&[b'\\', escaped]);
        }
    }
}

/// Decoder of rows, whose bytes arrive in parts.
#[derive(Debug)]
pub struct TextDecoder {
    format: CopyFormat,
    /// The bytes after the last complete row.
    input: Vec<u8>,
    scan: RowEndFinder,
    /// True after the line `\.`, which marks the end of the rows.
    is_ended: bool,
    skips_header: bool,
    /// The number of values that each row must have, if it is known.
    width: Option<usize>,
    line: u64,
}

/// The search for the end of a row whose bytes arrive in parts. Each byte is searched once, so the
/// time is linear in the length of the row.
#[derive(Debug, Default)]
struct RowEndFinder {
    /// The number of bytes of the row that were searched.
    length: usize,
    is_quoted: bool,
    is_escaped: bool,
}

impl TextDecoder {
    /// Creates a decoder before the first line.
    pub fn new(format: CopyFormat) -> Self {
        let skips_header = format.has_header;
        TextDecoder {
            format,
            input: Vec::new(),
            scan: RowEndFinder::default(),
            is_ended: false,
            skips_header,
            width: None,
            line: 0,
        }
    }

    /// Makes the decoder reject rows with another number of values.
    #[must_use]
    pub fn with_width(self, width: Option<usize>) -> Self {
        TextDecoder { width, ..self }
    }

    /// Adds bytes. Returns the rows that the bytes complete.
    pub fn add(&mut self, bytes: &[u8]) -> Result<Vec<CopyRow>, Problem> {
        self.input.extend_from_slice(bytes);
        self.rows()
    }

    /// Returns the row of a last line that has no line end.
    pub fn finish(&mut self) -> Result<Vec<CopyRow>, Problem> {
        if !self.input.is_empty() {
            self.input.push(b'\n');
        }
        let rows = self.rows()?;
        if self.input.is_empty() || self.is_ended {
            return Ok(rows);
        }
        Err(self.wrong("a quote is not closed"))
    }

    fn rows(&mut self) -> Result<Vec<CopyRow>, Problem> {
        let mut rows = Vec::new();
        let mut input = std::mem::take(&mut self.input);
        let mut rest = input.as_slice();
        while !self.is_ended
            && let Some(end) = self.end_of_row(rest)
        {
            self.line += 1;
            let line = rest[..end].strip_suffix(b"\r").unwrap_or(&rest[..end]);
            rest = &rest[end + 1..];
            if line == b"\\." {
                self.is_ended = true;
            } else if !std::mem::take(&mut self.skips_header) {
                rows.push(self.row(line)?);
            }
        }
        let length = input.len() - rest.len();
        input.drain(..length);
        self.input = input;
        if self.input.len() > ROW_BYTES_MAX {
            return Err(self.wrong(&format!("a row is longer than {ROW_BYTES_MAX} bytes")));
        }
        Ok(rows)
    }

    /// Returns the position of the line end after the first row; `None` if the line end has not
    /// arrived yet.
    fn end_of_row(&mut self, bytes: &[u8]) -> Option<usize> {
        let RowEndFinder { length, mut is_quoted, mut is_escaped } = std::mem::take(&mut self.scan);
        let end = bytes[length..].iter().position(|byte| {
            if self.format.is_csv {
                is_quoted ^= *byte == self.format.quote;
                *byte == b'\n' && !is_quoted
            } else {
                let ends = *byte == b'\n' && !is_escaped;
                is_escaped = *byte == b'\\' && !is_escaped;
                ends
            }
        });
        if end.is_none() {
            self.scan = RowEndFinder { length: bytes.len(), is_quoted, is_escaped };
        }
        end.map(|end| length + end)
    }

    fn row(&self, line: &[u8]) -> Result<CopyRow, Problem> {
        let values = if self.format.is_csv { self.csv(line) } else { self.text(line) };
        let values = values.map_err(|column| {
            self.wrong(&format!("the value in column {column} is not valid UTF-8"))
        })?;
        match self.width {
            Some(width) if values.len() != width => {
                let values = values.len();
                let values = format!("{values} {}", if values == 1 { "value" } else { "values" });
                Err(self.wrong(&format!("{values}, but {width} columns are expected")).with_hint(
                    "Check the delimiter, or list the columns that the data has: `COPY t (a, b) \
                     FROM STDIN`.",
                ))
            }
            _ => Ok(values),
        }
    }

    /// Splits a line in text format. The error is the number of the column that is not UTF-8.
    fn text(&self, line: &[u8]) -> Result<CopyRow, usize> {
        let mut values = Vec::new();
        let mut start = 0;
        let mut is_escaped = false;
        for (index, byte) in line.iter().chain([&self.format.delimiter]).enumerate() {
            if *byte == self.format.delimiter && (!is_escaped || index == line.len()) {
                let value = self.text_value(&line[start..index]);
                values.push(value.ok_or(values.len() + 1)?);
                start = index + 1;
            }
            is_escaped = *byte == b'\\' && !is_escaped;
        }
        Ok(values)
    }

    #[expect(clippy::option_option, reason = "not UTF-8, null, or a value")]
    fn text_value(&self, value: &[u8]) -> Option<Option<String>> {
        if value == self.format.null.as_bytes() {
            return Some(None);
        }
        let mut text = Vec::with_capacity(value.len());
        let mut bytes = value.iter();
        while let Some(byte) = bytes.next() {
            text.push(match byte {
                b'\\' => match bytes.next() {
                    Some(b'n') => b'\n',
                    Some(b'r') => b'\r',
                    Some(b't') => b'\t',
                    Some(other) => *other,
                    None => b'\\',
                },
                byte => *byte,
            });
        }
        String::from_utf8(text).ok().map(Some)
    }

    /// Splits a line in CSV format. The error is the number of the column that is not UTF-8.
    fn csv(&self, line: &[u8]) -> Result<CopyRow, usize> {
        let mut values = Vec::new();
        let (mut value, mut has_quote, mut is_quoted) = (Vec::new(), false, false);
        let mut bytes = line.iter().peekable();
        loop {
            match bytes.next() {
                Some(byte) if *byte == self.format.quote => {
                    if is_quoted && bytes.next_if(|next| **next == self.format.quote).is_some() {
                        value.push(*byte);
                    } else {
                        is_quoted = !is_quoted;
                        has_quote = true;
                    }
                }
                Some(byte) if *byte != self.format.delimiter || is_quoted => value.push(*byte),
                end => {
                    let text = String::from_utf8(std::mem::take(&mut value));
                    let text = text.map_err(|_| values.len() + 1)?;
                    let is_null = !std::mem::take(&mut has_quote) && text == self.format.null;
                    values.push((!is_null).then_some(text));
                    if end.is_none() {
                        return Ok(values);
                    }
                }
            }
        }
    }

    fn wrong(&self, what: &str) -> Problem {
        let message = format!("line {} of the data: {what}", self.line.max(1));
        Problem::new(ErrorCode::InvalidArgument, message)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(format: &CopyFormat, bytes: &[u8], expected: &[&[Option<&str>]]) {
        for size in [1, 3, 1_000] {
            let mut decoder = TextDecoder::new(format.clone());
            let mut rows = Vec::new();
            for piece in bytes.chunks(size) {
                rows.extend(decoder.add(piece).expect("rows"));
            }
            rows.extend(decoder.finish().expect("rows"));
            let rows: Vec<Vec<Option<&str>>> =
                rows.iter().map(|row| row.iter().map(Option::as_deref).collect()).collect();
            assert_eq!(rows, expected);
        }
    }

    #[test]
    fn text_has_escapes_and_null() {
        let rows: &[&[Option<&str>]] =
            &[&[Some("1"), Some("a\tb\n\\")], &[None, Some("")], &[Some("é"), Some("\\N")]];
        let bytes = "1\ta\\tb\\n\\\\\n\\N\t\né\t\\\\N\n\\.\nmore\n".as_bytes();
        check(&CopyFormat::text(), bytes, rows);
    }

    #[test]
    fn csv_has_quotes_and_null() {
        let format = CopyFormat { has_header: true, ..CopyFormat::csv() };
        let rows: &[&[Option<&str>]] =
            &[&[Some("1"), Some("a,\"b\"\nc")], &[None, Some("")], &[Some("x"), None]];
        check(&format, b"id,name\r\n1,\"a,\"\"b\"\"\nc\"\r\n,\"\"\nx,", rows);
    }

    #[test]
    fn rows_are_written_as_they_are_read() {
        let rows = [[Some("a\tb"), None], [Some("\"q\",\n"), Some("")], [Some("\\N"), Some("\\.")]];
        for format in [CopyFormat::text(), CopyFormat::csv()] {
            let mut bytes = Vec::new();
            for row in rows {
                format.put(row.iter().map(|value| value.map(str::as_bytes)), &mut bytes);
            }
            let expected: Vec<&[Option<&str>]> = rows.iter().map(|row| &row[..]).collect();
            check(&format, &bytes, &expected);
        }
    }

    #[test]
    fn each_byte_of_a_long_row_is_searched_once() {
        let rows: [(CopyFormat, &[u8], &str); 2] = [
            (CopyFormat::csv(), b"\"a\nb\"\"\n\"\n", "a\nb\"\n"),
            (CopyFormat::text(), b"a\\\nb\\\\\n", "a\nb\\"),
        ];
        for (format, bytes, expected) in rows {
            let mut decoder = TextDecoder::new(format);
            let (last, start) = bytes.split_last().expect("bytes");
            for (index, byte) in start.iter().enumerate() {
                assert_eq!(decoder.add(&[*byte]), Ok(Vec::new()));
                assert_eq!((decoder.scan.length, decoder.input.len()), (index + 1, index + 1));
            }
            assert_eq!(decoder.add(&[*last]), Ok(vec![vec![Some(expected.to_owned())]]));
            assert_eq!((decoder.scan.length, decoder.input.len()), (0, 0));
        }
    }

    #[test]
    fn an_unclosed_quote_or_another_encoding_is_an_error() {
        let mut decoder = TextDecoder::new(CopyFormat::csv());
        assert_eq!(decoder.add(b"\"a\n"), Ok(Vec::new()));
        assert!(decoder.finish().is_err());
        let mut decoder = TextDecoder::new(CopyFormat::text());
        assert!(decoder.add(b"\xff\n").is_err());
    }

    #[test]
    fn a_row_with_another_number_of_values_is_an_error_with_its_line() {
        let mut decoder = TextDecoder::new(CopyFormat::csv()).with_width(Some(2));
        let problem = decoder.add(b"1,a\n2\n").expect_err("a value is missing");
        assert_eq!(problem.message, "line 2 of the data: 1 value, but 2 columns are expected");
    }
}
