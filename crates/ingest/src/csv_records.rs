//! The records of a CSV text, in order, in bounded memory.
//!
//! Every record has the physical line at which it starts. A record that cannot be split is returned
//! as a fault, and reading continues at the next physical line. A misplaced quote therefore affects
//! only one line, not the rest of the file.

use std::io::Read;

use memchr::memchr2;

use super::bad_row::RowError;
use super::csv_record_scan::{FieldSpan, ScanResult, line_ends, scan};
use super::read_buffer::{ROW_BYTES_MAX, ReadBuffer};

/// The next item in a CSV text.
pub(crate) enum NextRecord {
    /// A record, which [`CsvRecordReader::record`] returns.
    Record,
    /// Bytes that are not a record.
    Fault(RowError),
    /// The end of the text.
    End,
}

/// Reader of the records of a stream.
pub(crate) struct CsvRecordReader<R> {
    window: ReadBuffer<R>,
    delimiter: u8,
    spans: Vec<FieldSpan>,
    length: usize,
    line: u64,
    next_line: u64,
    /// True if a blank line is a record of one empty field.
    blank_lines: bool,
    /// True if the next bytes are the line end of a row that was too long.
    at_rest_of_row: bool,
}

/// One record, valid until the next record is read.
#[derive(Clone, Copy)]
pub(crate) struct Record<'a> {
    bytes: &'a [u8],
    spans: &'a [FieldSpan],
    /// The physical line at which the record starts, from 1.
    pub line: u64,
}

impl<R: Read> CsvRecordReader<R> {
    pub fn new(window: ReadBuffer<R>, delimiter: u8) -> Self {
        CsvRecordReader {
            window,
            delimiter,
            spans: Vec::new(),
            length: 0,
            line: 1,
            next_line: 1,
            blank_lines: false,
            at_rest_of_row: false,
        }
    }

    /// Makes each following blank line a record of one empty field, for a file with one column.
    pub fn keep_blank_lines(&mut self) {
        self.blank_lines = true;
    }

    /// Advances to the next record; blank lines are skipped by default.
    pub fn advance(&mut self) -> std::io::Result<NextRecord> {
        loop {
            self.line = self.next_line;
            match scan(self.window.bytes(), self.window.ended(), self.delimiter, &mut self.spans) {
                ScanResult::Record { length: 0 } => return Ok(NextRecord::End),
                ScanResult::Record { length } => {
                    if self.take(length) {
                        return Ok(NextRecord::Record);
                    }
                }
                ScanResult::Incomplete if self.window.is_full() => return self.skip_long_row(),
                ScanResult::Incomplete => self.window.fill()?,
                ScanResult::Unclosed => {
                    return Ok(self.skip_line("a quoted field begins here and is not closed"));
                }
                ScanResult::TextAfterQuote => {
                    return Ok(self.skip_line(
                        "a quoted field is followed by text; quotes inside a quoted field must be \
                         doubled",
                    ));
                }
            }
        }
    }

    /// Consumes a record; returns false for a blank line that is skipped.
    fn take(&mut self, length: usize) -> bool {
        let bytes = &self.window.bytes()[..length];
        let content = self.spans.last().map_or(0, |span| span.end);
        let quoted = self.spans.iter().any(|span| span.quoted);
        self.next_line += if quoted { line_ends(bytes) } else { 1 };
        self.window.consume(length);
        self.length = length;
        let keeps_blank = !std::mem::take(&mut self.at_rest_of_row) && self.blank_lines;
        content > 0 || quoted || self.spans.len() > 1 || keeps_blank
    }

    /// Returns the current record.
    pub fn record(&self) -> Record<'_> {
        let bytes = self.window.consumed(self.length);
        Record { bytes, spans: &self.spans, line: self.line }
    }

    /// Consumes one physical line of a record that cannot be split.
    fn skip_line(&mut self, reason: &str) -> NextRecord {
        let bytes = self.window.bytes();
        let length = match memchr2(b'\n', b'\r', bytes) {
            Some(at) if bytes[at] == b'\r' && bytes.get(at + 1) == Some(&b'\n') => at + 2,
            Some(at) => at + 1,
            None => bytes.len(),
        };
        let fault = RowError::new(self.line, reason, &bytes[..length]);
        self.window.consume(length);
        self.next_line += 1;
        NextRecord::Fault(fault)
    }

    /// Consumes a physical line or a record that exceeds the maximum length.
    fn skip_long_row(&mut self) -> std::io::Result<NextRecord> {
        let reason = format!("the row is longer than {} MiB", ROW_BYTES_MAX >> 20);
        if memchr2(b'\n', b'\r', self.window.bytes()).is_some() {
            // A very long quoted field with line ends probably lacks its closing quote.
            let reason = format!("{reason}; a quoted field may not have been closed");
            return Ok(self.skip_line(&reason));
        }
        let fault = RowError::new(self.line, reason, self.window.bytes());
        loop {
            let bytes = self.window.bytes();
            let found = memchr2(b'\n', b'\r', bytes);
            let count = found.unwrap_or(bytes.len());
            self.window.consume(count);
            if found.is_some() || self.window.ended() {
                break;
            }
            self.window.fill()?;
        }
        // Do not consume the line end here: the line end is later read as a blank line and skipped.
        self.at_rest_of_row = true;
        Ok(NextRecord::Fault(fault))
    }
}

impl<'a> Record<'a> {
    /// Returns the number of fields.
    pub fn len(&self) -> usize {
        self.spans.len()
    }

    /// Returns the bytes of the record, line end included.
    pub fn bytes(&self) -> &'a [u8] {
        self.bytes
    }

    /// Returns the record as text; an error if its bytes are not valid in the file's encoding.
    pub fn text(&self) -> Result<&'a str, std::str::Utf8Error> {
        std::str::from_utf8(self.bytes)
    }

    /// Returns the position of a field in the record's text. Doubled quotes are not unescaped.
    pub fn span(&self, index: usize) -> Option<FieldSpan> {
        self.spans.get(index).copied()
    }

    /// Returns the physical line at which a field starts.
    pub fn line_of(&self, index: usize) -> u64 {
        let start = self.spans.get(index).map_or(0, |span| span.start);
        self.line + line_ends(&self.bytes[..start])
    }
}

/// Returns a field's text without quotes. `scratch` holds the text if it differs from the record's
/// bytes.
pub(crate) fn field<'a>(text: &'a str, span: FieldSpan, scratch: &'a mut String) -> &'a str {
    let raw = text.get(span.start..span.end).unwrap_or_default();
    if !span.escaped {
        return raw;
    }
    scratch.clear();
    let mut rest = raw;
    while let Some(at) = memchr::memchr(b'"', rest.as_bytes()) {
        scratch.push_str(&rest[..=at]);
        rest = rest.get(at + 2..).unwrap_or_default();
    }
    scratch.push_str(rest);
    scratch
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A reader that returns one byte per read, so that a record is split between reads at every
    /// position.
    struct OneByteReader<'a>(&'a [u8]);

    impl Read for OneByteReader<'_> {
        fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
            let count = self.0.len().min(1);
            buffer[..count].copy_from_slice(&self.0[..count]);
            self.0 = &self.0[count..];
            Ok(count)
        }
    }

    fn all(text: &str) -> Vec<(u64, Vec<String>)> {
        let mut records =
            CsvRecordReader::new(ReadBuffer::new(OneByteReader(text.as_bytes())), b',');
        let mut found = Vec::new();
        loop {
            match records.advance().unwrap() {
                NextRecord::End => return found,
                NextRecord::Fault(fault) => {
                    found.push((fault.line, vec!["!".to_owned(), fault.row]));
                }
                NextRecord::Record => {
                    let record = records.record();
                    let text = record.text().unwrap();
                    let mut scratch = String::new();
                    let values = (0..record.len())
                        .map(|i| field(text, record.span(i).unwrap(), &mut scratch).to_owned());
                    found.push((record.line, values.collect()));
                }
            }
        }
    }

    fn check(text: &str, expected: &[(u64, &[&str])]) {
        let expected: Vec<(u64, Vec<String>)> = expected
            .iter()
            .map(|(line, values)| (*line, values.iter().map(ToString::to_string).collect()))
            .collect();
        assert_eq!(all(text), expected, "{text:?}");
    }

    #[test]
    fn every_record_has_its_physical_line() {
        check("a,b\n1,2\n", &[(1, &["a", "b"]), (2, &["1", "2"])]);
        check("\n\na\r\n\r\nb", &[(3, &["a"]), (5, &["b"])]);
        check("\"x\ny\r\nz\",1\nb,2\n", &[(1, &["x\ny\r\nz", "1"]), (4, &["b", "2"])]);
        check("a\rb\r\"c\rd\"\re", &[(1, &["a"]), (2, &["b"]), (3, &["c\rd"]), (5, &["e"])]);
        check("\"\"\na\n", &[(1, &[""]), (2, &["a"])]);
        check("", &[]);
        check("\n", &[]);
    }

    #[test]
    fn a_misplaced_quote_affects_one_line() {
        let torn = "a,b\n1,\"x\n2,y\n3,z\n";
        check(torn, &[(1, &["a", "b"]), (2, &["!", "1,\"x"]), (3, &["2", "y"]), (4, &["3", "z"])]);
        let swallowed = "1,\"x\n2,\"y\"\n3,z\n";
        check(swallowed, &[(1, &["!", "1,\"x"]), (2, &["2", "y"]), (3, &["3", "z"])]);
    }

    #[test]
    fn doubled_quotes_in_a_field_become_single() {
        check("\"a \"\"b\"\" c\",\"\"\"\"\n", &[(1, &["a \"b\" c", "\""])]);
    }

    #[test]
    fn a_row_over_the_maximum_length_is_a_fault_and_the_next_one_is_read() {
        let long = std::io::repeat(b'x').take(ROW_BYTES_MAX as u64 + 5);
        let mut records =
            CsvRecordReader::new(ReadBuffer::new(long.chain(&b"\nnext,row\n"[..])), b',');
        let NextRecord::Fault(fault) = records.advance().unwrap() else { panic!("no fault") };
        assert!(fault.reason.contains("64 MiB") && fault.row.len() <= 64 * 1024);
        assert!(matches!(records.advance().unwrap(), NextRecord::Record));
        assert_eq!((records.record().line, records.record().len()), (2, 2));
        assert!(matches!(records.advance().unwrap(), NextRecord::End));
    }

    proptest::proptest! {
        /// Texts that the `csv` crate writes, in any style, are read back unchanged, and the line
        /// of every record is correct.
        #[test]
        fn written_records_are_read_back(
            rows in proptest::collection::vec(
                proptest::collection::vec("[ab,;\"\r\n é]{0,6}", 3),
                0..8,
            ),
            always in proptest::bool::ANY,
            crlf in proptest::bool::ANY,
        ) {
            let style = if always { csv::QuoteStyle::Always } else { csv::QuoteStyle::Necessary };
            let end = if crlf { csv::Terminator::CRLF } else { csv::Terminator::Any(b'\n') };
            let mut builder = csv::WriterBuilder::new();
            let mut writer =
                builder.quote_style(style).terminator(end).has_headers(false).from_writer(Vec::new());
            for row in &rows {
                writer.write_record(row).unwrap();
            }
            let text = String::from_utf8(writer.into_inner().unwrap()).unwrap();
            let found = all(&text);
            let values: Vec<_> = found.iter().map(|(_, values)| values.clone()).collect();
            proptest::prop_assert_eq!(&values, &rows);
            for (index, (line, _)) in found.iter().enumerate() {
                let before: u64 = rows[..index]
                    .iter()
                    .map(|row| 1 + row.iter().map(|value| line_ends_within(value)).sum::<u64>())
                    .sum();
                proptest::prop_assert_eq!(*line, before + 1);
            }
        }

        /// The reader reads any input to its end, without a panic.
        #[test]
        fn any_bytes_terminate(bytes in proptest::collection::vec(0_u8..=255, 0..200)) {
            let mut records = CsvRecordReader::new(ReadBuffer::new(bytes.as_slice()), b',');
            let mut steps = 0;
            while !matches!(records.advance().unwrap(), NextRecord::End) {
                steps += 1;
                proptest::prop_assert!(steps <= bytes.len());
            }
        }
    }

    fn line_ends_within(value: &str) -> u64 {
        line_ends(value.as_bytes())
    }
}
