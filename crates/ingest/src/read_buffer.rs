//! A sliding buffer over a stream. It holds the bytes of at least one row contiguously, in bounded
//! memory.

use std::io::{Read, Result};

use super::compression::read_up_to;

/// Maximum length of a row, in bytes, and maximum size of the buffer. A longer row is a bad row.
pub(crate) const ROW_BYTES_MAX: usize = 64 * 1024 * 1024;

const FIRST_BYTES: usize = 256 * 1024;

/// The part of a stream that is in memory.
pub(crate) struct ReadBuffer<R> {
    reader: R,
    buffer: Vec<u8>,
    start: usize,
    end: usize,
    ended: bool,
}

impl<R: Read> ReadBuffer<R> {
    pub fn new(reader: R) -> Self {
        ReadBuffer { reader, buffer: vec![0; FIRST_BYTES], start: 0, end: 0, ended: false }
    }

    /// Returns the bytes that were read but not yet consumed.
    pub fn bytes(&self) -> &[u8] {
        &self.buffer[self.start..self.end]
    }

    /// Returns the last `length` consumed bytes, which stay valid until the next read.
    pub fn consumed(&self, length: usize) -> &[u8] {
        &self.buffer[self.start - length..self.start]
    }

    /// Returns true if the stream ends after [`ReadBuffer::bytes`].
    pub fn ended(&self) -> bool {
        self.ended
    }

    /// Returns true if the buffer has its maximum size.
    pub fn is_full(&self) -> bool {
        self.end - self.start >= ROW_BYTES_MAX
    }

    pub fn consume(&mut self, count: usize) {
        self.start += count;
    }

    /// Reads more bytes, unless the stream has ended.
    pub fn fill(&mut self) -> Result<()> {
        if self.start > 0 {
            self.buffer.copy_within(self.start..self.end, 0);
            self.end -= self.start;
            self.start = 0;
        }
        if self.end == self.buffer.len() {
            self.buffer.resize(self.buffer.len() * 2, 0);
        }
        // Read as much as possible: after each read, the scan of an incomplete row starts again.
        let count = read_up_to(&mut self.reader, &mut self.buffer[self.end..])?;
        self.end += count;
        self.ended = self.end < self.buffer.len();
        Ok(())
    }
}
