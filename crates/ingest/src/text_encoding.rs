//! Text in any encoding, decoded to UTF-8.
//!
//! The encoding is determined by the byte order mark, or else by the request, or else it is UTF-8.
//! Bytes that are not valid in the encoding become the byte [`INVALID`], which no UTF-8 text
//! contains. The parser can then report the line of the row that contains the invalid bytes.

use std::io::{Read, Result};

use encoding_rs::{Decoder, DecoderResult, Encoding, UTF_8, UTF_16BE, UTF_16LE};

use super::compression::read_up_to;
use crate::error::Error;

/// The byte that replaces bytes which are not valid in the file's encoding.
pub(crate) const INVALID: u8 = 0xff;

const BUFFER_BYTES: usize = 64 * 1024;

/// Returns the encoding of a WHATWG label.
pub(crate) fn encoding_of(label: &str) -> crate::Result<&'static Encoding> {
    Encoding::for_label_no_replacement(label.trim().as_bytes())
        .ok_or_else(|| Error::UnknownEncoding { label: label.to_owned() })
}

/// A text and its detected encoding.
pub(crate) struct DecodedText<'a> {
    pub reader: Box<dyn Read + Send + 'a>,
    pub encoding: &'static str,
}

/// Decodes bytes to UTF-8, without a byte order mark.
pub(crate) fn decode<'a>(
    mut reader: Box<dyn Read + Send + 'a>,
    declared: Option<&'static Encoding>,
) -> Result<DecodedText<'a>> {
    let mut first = [0; 4];
    let count = read_up_to(&mut reader, &mut first)?;
    let (encoding, skipped) = detect(&first[..count], declared);
    let start = std::io::Cursor::new(first[skipped..count].to_vec());
    let bytes = start.chain(reader);
    let reader: Box<dyn Read + Send + 'a> = if encoding == UTF_8 {
        Box::new(bytes)
    } else {
        Box::new(Utf8Reader::new(bytes, encoding))
    };
    Ok(DecodedText { reader, encoding: encoding.name() })
}

/// Returns the encoding and the length of the byte order mark.
fn detect(first: &[u8], declared: Option<&'static Encoding>) -> (&'static Encoding, usize) {
    if let Some((encoding, length)) = Encoding::for_bom(first) {
        return (encoding, length);
    }
    match (declared, first) {
        (Some(encoding), _) => (encoding, 0),
        // A text file contains no NUL characters, so these bytes are UTF-16 without a byte order
        // mark.
        (None, [1..=255, 0, 1..=255, 0]) => (UTF_16LE, 0),
        (None, [0, 1..=255, 0, 1..=255]) => (UTF_16BE, 0),
        (None, _) => (UTF_8, 0),
    }
}

struct Utf8Reader<R> {
    reader: R,
    decoder: Decoder,
    input: Vec<u8>,
    input_at: usize,
    input_end: usize,
    output: Vec<u8>,
    output_at: usize,
    output_end: usize,
    ended: bool,
}

impl<R: Read> Utf8Reader<R> {
    fn new(reader: R, encoding: &'static Encoding) -> Self {
        Utf8Reader {
            reader,
            decoder: encoding.new_decoder_without_bom_handling(),
            input: vec![0; BUFFER_BYTES],
            input_at: 0,
            input_end: 0,
            // Decoding produces up to three bytes of UTF-8 per byte of input, and possibly a byte
            // order mark.
            output: vec![0; 3 * BUFFER_BYTES + 64],
            output_at: 0,
            output_end: 0,
            ended: false,
        }
    }

    /// Decodes more input into the empty output buffer. At the end of the input, the buffer stays
    /// empty.
    fn refill(&mut self) -> Result<()> {
        self.output_at = 0;
        self.output_end = 0;
        while self.output_end == 0 && !self.ended {
            let mut last = false;
            if self.input_at == self.input_end {
                self.input_at = 0;
                self.input_end = read_up_to(&mut self.reader, &mut self.input)?;
                last = self.input_end == 0;
            }
            let from = &self.input[self.input_at..self.input_end];
            let into = &mut self.output[..3 * BUFFER_BYTES + 60];
            let (result, read, written) =
                self.decoder.decode_to_utf8_without_replacement(from, into, last);
            self.input_at += read;
            self.output_end = written;
            match result {
                DecoderResult::Malformed(..) => {
                    self.output[self.output_end] = INVALID;
                    self.output_end += 1;
                }
                DecoderResult::InputEmpty => self.ended = last,
                DecoderResult::OutputFull => {}
            }
        }
        Ok(())
    }
}

impl<R: Read> Read for Utf8Reader<R> {
    fn read(&mut self, buffer: &mut [u8]) -> Result<usize> {
        if self.output_at == self.output_end {
            self.refill()?;
        }
        let count = buffer.len().min(self.output_end - self.output_at);
        let end = self.output_at + count;
        buffer[..count].copy_from_slice(&self.output[self.output_at..end]);
        self.output_at = end;
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(bytes: &[u8], declared: Option<&str>, encoding: &str, text: &[u8]) {
        let declared = declared.map(|label| encoding_of(label).unwrap());
        let mut decoded = decode(Box::new(std::io::Cursor::new(bytes.to_vec())), declared).unwrap();
        let mut found = Vec::new();
        decoded.reader.read_to_end(&mut found).unwrap();
        assert_eq!(decoded.encoding, encoding);
        assert_eq!(found, text, "{}", String::from_utf8_lossy(&found));
    }

    #[test]
    fn the_byte_order_mark_precedes_the_request_and_utf8() {
        let utf16 =
            |text: &str| text.encode_utf16().flat_map(u16::to_le_bytes).collect::<Vec<u8>>();
        let utf16_be =
            |text: &str| text.encode_utf16().flat_map(u16::to_be_bytes).collect::<Vec<u8>>();
        check(b"a,\xc3\xa9", None, "UTF-8", "a,é".as_bytes());
        check(b"\xef\xbb\xbfa,b", Some("windows-1252"), "UTF-8", b"a,b");
        check(b"a,\xe9", Some("latin1"), "windows-1252", "a,é".as_bytes());
        check(&[&b"\xff\xfe"[..], &utf16("a,é😀")].concat(), None, "UTF-16LE", "a,é😀".as_bytes());
        check(&[&b"\xfe\xff"[..], &utf16_be("é")].concat(), None, "UTF-16BE", "é".as_bytes());
        check(&utf16("id,x"), None, "UTF-16LE", b"id,x");
        check(&utf16_be("id,x"), None, "UTF-16BE", b"id,x");
        check(b"", None, "UTF-8", b"");
        check(b"a", None, "UTF-8", b"a");
    }

    #[test]
    fn invalid_bytes_are_marked_at_their_position() {
        check(
            b"\x82\xa0\x81\x0ab",
            Some("shift_jis"),
            "Shift_JIS",
            "あ\u{0}\nb"
                .replace('\u{0}', "\u{1}")
                .as_bytes()
                .iter()
                .map(|&b| if b == 1 { INVALID } else { b })
                .collect::<Vec<u8>>()
                .as_slice(),
        );
    }

    #[test]
    fn long_texts_are_decoded_completely() {
        let text = "naïve façade — ".repeat(50_000);
        let (bytes, _, _) = encoding_rs::WINDOWS_1252.encode(&text);
        check(&bytes, Some("windows-1252"), "windows-1252", text.as_bytes());
    }

    #[test]
    fn an_unknown_label_is_an_error() {
        assert!(encoding_of("klingon").is_err());
    }
}
