//! A JSON array of objects, read as one object per line.
//!
//! The array is never held in memory: each element becomes a line as its bytes are read. In errors,
//! line numbers are element numbers, from 1.

use std::fmt;
use std::io::{Cursor, Error, ErrorKind, Read, Result};

use super::compression::read_up_to;

/// Maximum number of blanks before the first character of a file.
const BLANKS_MAX: usize = 64 * 1024;

const BUFFER_BYTES: usize = 64 * 1024;

/// The reason why a text that begins with `[` is not a valid array.
#[derive(Debug)]
pub(crate) struct JsonArrayError(&'static str);

impl fmt::Display for JsonArrayError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

impl std::error::Error for JsonArrayError {}

fn broken(reason: &'static str) -> Error {
    Error::new(ErrorKind::InvalidData, JsonArrayError(reason))
}

/// Returns the lines of a JSON text. If the text is an array, returns one line for each element.
pub(crate) fn json_lines<'a>(
    mut reader: Box<dyn Read + Send + 'a>,
) -> Result<Box<dyn Read + Send + 'a>> {
    let mut first = Vec::new();
    let mut byte = [0];
    while first.len() < BLANKS_MAX && read_up_to(&mut reader, &mut byte)? == 1 {
        if byte == *b"[" {
            return Ok(Box::new(ArrayLines::new(reader)));
        }
        first.push(byte[0]);
        if !byte[0].is_ascii_whitespace() {
            break;
        }
    }
    Ok(Box::new(Cursor::new(first).chain(reader)))
}

/// Parser state at the next byte.
#[derive(Clone, Copy, PartialEq, Eq)]
enum ArrayState {
    /// Before the first element.
    Start,
    /// After a comma.
    Next,
    /// In an element or after it, outside of strings.
    Element,
    /// In a string of an element; `escaped` is set after a backslash.
    Text { escaped: bool },
    /// After the array.
    Done,
}

/// Reader that outputs each element of an array on its own line.
struct ArrayLines<R> {
    reader: R,
    input: Vec<u8>,
    at: usize,
    state: ArrayState,
    depth: usize,
}

impl<R: Read> ArrayLines<R> {
    fn new(reader: R) -> Self {
        ArrayLines { reader, input: Vec::new(), at: 0, state: ArrayState::Start, depth: 0 }
    }

    /// Returns the byte to output; `None` if the byte is dropped.
    fn step(&mut self, byte: u8) -> Result<Option<u8>> {
        let blank = byte.is_ascii_whitespace();
        match (self.state, byte) {
            (ArrayState::Text { escaped: true }, _) => {
                self.state = ArrayState::Text { escaped: false }
            }
            (ArrayState::Text { .. }, b'"') => self.state = ArrayState::Element,
            (ArrayState::Text { .. }, b'\\') => self.state = ArrayState::Text { escaped: true },
            (ArrayState::Text { .. }, b'\n' | b'\r') => {
                return Err(broken("a string has a line break in it"));
            }
            (ArrayState::Text { .. }, _) => {}
            (ArrayState::Done | ArrayState::Start | ArrayState::Next, _) if blank => {
                return Ok(None);
            }
            (ArrayState::Done, _) => return Err(broken("text follows the end of the array")),
            (ArrayState::Start, b']') => {
                self.state = ArrayState::Done;
                return Ok(None);
            }
            (ArrayState::Start | ArrayState::Next, b',' | b']') => {
                return Err(broken("an element is missing before or after a comma"));
            }
            (ArrayState::Element, b',') if self.depth == 0 => {
                self.state = ArrayState::Next;
                return Ok(Some(b'\n'));
            }
            (ArrayState::Element, b']') if self.depth == 0 => {
                self.state = ArrayState::Done;
                return Ok(Some(b'\n'));
            }
            (ArrayState::Element, _) if blank => return Ok(Some(b' ')),
            (ArrayState::Start | ArrayState::Next | ArrayState::Element, _) => self.enter(byte),
        }
        Ok(Some(byte))
    }

    fn enter(&mut self, byte: u8) {
        self.state = ArrayState::Element;
        match byte {
            b'"' => self.state = ArrayState::Text { escaped: false },
            b'{' | b'[' => self.depth += 1,
            b'}' | b']' => self.depth = self.depth.saturating_sub(1),
            _ => {}
        }
    }
}

impl<R: Read> Read for ArrayLines<R> {
    fn read(&mut self, buffer: &mut [u8]) -> Result<usize> {
        let mut written = 0;
        while written < buffer.len() {
            if self.at == self.input.len() {
                if written > 0 {
                    break;
                }
                self.input.resize(BUFFER_BYTES, 0);
                let count = self.reader.read(&mut self.input)?;
                self.input.truncate(count);
                self.at = 0;
                if count == 0 {
                    return match self.state {
                        ArrayState::Done => Ok(0),
                        _ => Err(broken("the array is not closed")),
                    };
                }
            }
            let byte = self.input[self.at];
            self.at += 1;
            if let Some(byte) = self.step(byte)? {
                buffer[written] = byte;
                written += 1;
            }
        }
        Ok(written)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(text: &str) -> std::result::Result<String, String> {
        let read = |size: usize| {
            let mut reader = json_lines(Box::new(Cursor::new(text.as_bytes().to_vec())))?;
            let (mut lines, mut buffer) = (Vec::new(), vec![0; size]);
            loop {
                match reader.read(&mut buffer)? {
                    0 => return Ok::<_, Error>(lines),
                    count => lines.extend_from_slice(&buffer[..count]),
                }
            }
        };
        let whole = read(4096).map_err(|error| error.to_string());
        assert_eq!(read(1).map_err(|error| error.to_string()), whole, "{text}");
        whole.map(|lines| String::from_utf8(lines).unwrap())
    }

    #[test]
    fn elements_become_lines() {
        let check = |text: &str, expected: &str| {
            assert_eq!(lines(text).as_deref(), Ok(expected), "{text}");
        };
        check("[]", "");
        check(" \n[{\"a\":1},{\"a\":2}]\n", "{\"a\":1}\n{\"a\":2}\n");
        check("[\n  {\n \"a\": [1,\n2]},{}]", "{  \"a\": [1, 2]}\n{}\n");
        check(r#"[{"a":"]},\"\\"},1]"#, "{\"a\":\"]},\\\"\\\\\"}\n1\n");
        check("{\"a\":1}\n{\"a\":2}", "{\"a\":1}\n{\"a\":2}");
        check("", "");
    }

    #[test]
    fn malformed_arrays_are_errors() {
        for text in ["[", "[{\"a\":1}", "[{\"a\":1},]", "[,1]", "[1] 2", "[\"a\nb\"]", "[{\"a"] {
            assert!(lines(text).is_err(), "{text}");
        }
    }
}
