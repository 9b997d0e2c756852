//! The lines of a text, with bounded memory.

use std::io::Read;

use memchr::memchr;

use super::read_buffer::{ROW_BYTES_MAX, ReadBuffer};

/// Result of the search for the next line of a text.
pub(crate) enum NextLine {
    /// A line, which [`LineReader::line`] returns.
    Line,
    /// A line that exceeds the maximum length. It was skipped.
    TooLong,
    /// The end of the text.
    End,
}

/// Reader of the lines of a stream, which end with LF or CRLF.
pub(crate) struct LineReader<R> {
    window: ReadBuffer<R>,
    length: usize,
    /// The number of the last line read, from 1.
    pub number: u64,
}

impl<R: Read> LineReader<R> {
    pub fn new(reader: R) -> Self {
        LineReader { window: ReadBuffer::new(reader), length: 0, number: 0 }
    }

    pub fn advance(&mut self) -> std::io::Result<NextLine> {
        let mut searched = 0;
        loop {
            let bytes = self.window.bytes();
            let length = match memchr(b'\n', &bytes[searched..]) {
                Some(at) => searched + at + 1,
                None if self.window.ended() && bytes.is_empty() => return Ok(NextLine::End),
                None if self.window.ended() => bytes.len(),
                None if self.window.is_full() => return self.skip(),
                None => {
                    searched = bytes.len();
                    self.window.fill()?;
                    continue;
                }
            };
            self.window.consume(length);
            self.length = length;
            self.number += 1;
            return Ok(NextLine::Line);
        }
    }

    /// Returns the bytes of the last line read, including its line end.
    pub fn line(&self) -> &[u8] {
        self.window.consumed(self.length)
    }

    fn skip(&mut self) -> std::io::Result<NextLine> {
        self.number += 1;
        loop {
            let bytes = self.window.bytes();
            let found = memchr(b'\n', bytes);
            let count = found.map_or(bytes.len(), |at| at + 1);
            self.window.consume(count);
            if found.is_some() || self.window.ended() {
                return Ok(NextLine::TooLong);
            }
            self.window.fill()?;
        }
    }
}

/// Returns the reason to report for a line that exceeds the maximum length.
pub(crate) fn too_long() -> String {
    format!("the line is longer than {} MiB", ROW_BYTES_MAX >> 20)
}
