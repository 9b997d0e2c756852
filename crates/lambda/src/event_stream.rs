//! Messages of `application/vnd.amazon.eventstream`, in which AWS sends streamed responses.
//!
//! The parts of a message are its length, the length of its headers, the CRC-32 of both lengths,
//! the headers, the payload, and a CRC-32. The last CRC-32 covers the whole message. Lengths are
//! big-endian.

use bytes::{BufMut, Bytes, BytesMut};
use crc32fast::hash;

/// The media type of a stream of messages.
pub(crate) const MEDIA_TYPE: &str = "application/vnd.amazon.eventstream";

/// The type of a header whose value is text.
const TEXT: u8 = 7;

/// Maximum payload of a message in bytes.
const PAYLOAD_BYTES_MAX: usize = 1 << 20;

/// Encodes a part of a response; a long part becomes several messages.
pub(crate) fn payload_chunks(mut content: Bytes) -> Bytes {
    let mut messages = BytesMut::with_capacity(content.len() + 128);
    while !content.is_empty() {
        let part = content.split_to(content.len().min(PAYLOAD_BYTES_MAX));
        messages.extend(message("PayloadChunk", "application/octet-stream", &part));
    }
    messages.freeze()
}

/// Encodes an event whose payload is JSON.
pub(crate) fn event(kind: &str, content: &serde_json::Value) -> Bytes {
    message(kind, "application/json", content.to_string().as_bytes())
}

fn message(kind: &str, media_type: &str, payload: &[u8]) -> Bytes {
    let mut headers = BytesMut::new();
    for (name, value) in
        [(":message-type", "event"), (":event-type", kind), (":content-type", media_type)]
    {
        headers.put_u8(name.len() as u8);
        headers.put_slice(name.as_bytes());
        headers.put_u8(TEXT);
        headers.put_u16(value.len() as u16);
        headers.put_slice(value.as_bytes());
    }
    let length = 16 + headers.len() + payload.len();
    let mut message = BytesMut::with_capacity(length);
    message.put_u32(length as u32);
    message.put_u32(headers.len() as u32);
    message.put_u32(hash(&message));
    message.put_slice(&headers);
    message.put_slice(payload);
    message.put_u32(hash(&message));
    message.freeze()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_has_lengths_and_checksums() {
        let bytes = payload_chunks(Bytes::from_static(b"abc"));
        let number = |at: usize| u32::from_be_bytes(bytes[at..at + 4].try_into().expect("bytes"));
        assert_eq!(number(0) as usize, bytes.len());
        let headers = number(4) as usize;
        assert_eq!(number(8), hash(&bytes[..8]));
        assert_eq!(&bytes[12..26], b"\x0d:message-type");
        assert_eq!(&bytes[12 + headers..bytes.len() - 4], b"abc");
        assert_eq!(number(bytes.len() - 4), hash(&bytes[..bytes.len() - 4]));
    }

    #[test]
    fn a_long_part_is_split() {
        let content = Bytes::from(vec![7; PAYLOAD_BYTES_MAX + 1]);
        let (first, both) = (message("PayloadChunk", "application/octet-stream", &content[1..]), 2);
        let bytes = payload_chunks(content);
        assert_eq!(bytes.len(), first.len() * both - PAYLOAD_BYTES_MAX + 1);
        assert!(payload_chunks(Bytes::new()).is_empty());
    }
}
