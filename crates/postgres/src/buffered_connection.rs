//! Input and output of a connection: splits received bytes into messages, and sends replies.

use std::io;

use bytes::{Buf, Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

/// Maximum length of a startup or password message, in bytes.
pub const STARTUP_BYTES_MAX: usize = 10_000;

/// Maximum length of any other message, in bytes.
pub const MESSAGE_BYTES_MAX: usize = 16 << 20;

/// Number of bytes of buffered output at which the output is sent.
const OUTPUT_BYTES: usize = 64 << 10;

/// The maximum number of bytes that are read ahead while a statement is running.
const READ_AHEAD_BYTES: usize = 64 << 10;

/// The stream of a connection.
pub trait ClientStream: AsyncRead + AsyncWrite + Unpin + Send {}

impl<S: AsyncRead + AsyncWrite + Unpin + Send> ClientStream for S {}

/// A connection with its buffers.
pub struct BufferedConnection {
    stream: Box<dyn ClientStream>,
    input: BytesMut,
    /// Replies that are not sent yet.
    pub output: BytesMut,
}

impl BufferedConnection {
    /// Creates a connection with empty buffers.
    pub fn new(stream: Box<dyn ClientStream>) -> Self {
        BufferedConnection { stream, input: BytesMut::new(), output: BytesMut::new() }
    }

    /// Returns the underlying stream for a TLS handshake. Fails if input has already arrived,
    /// because this input was not encrypted.
    pub fn into_stream(self) -> io::Result<Box<dyn ClientStream>> {
        if self.input.is_empty() {
            return Ok(self.stream);
        }
        let message = "the client sent unencrypted data after its request for TLS";
        Err(io::Error::new(io::ErrorKind::InvalidData, message))
    }

    /// Reads a message without a type, which is the format of a connection's first messages.
    /// Returns `None` at the end of the stream.
    pub async fn startup_message(&mut self) -> io::Result<Option<Bytes>> {
        if !self.fill(4).await? {
            return Ok(None);
        }
        let length = length_of(&self.input, 0, STARTUP_BYTES_MAX)?;
        if !self.fill(length).await? {
            return Ok(None);
        }
        let mut message = self.input.split_to(length);
        message.advance(4);
        Ok(Some(message.freeze()))
    }

    /// Reads a message: its type and its content. Returns `None` at the end of the stream, even in
    /// the middle of a message.
    ///
    /// Errors: `InvalidData` for an invalid length.
    pub async fn message(&mut self, bytes_max: usize) -> io::Result<Option<(u8, Bytes)>> {
        if !self.fill(5).await? {
            return Ok(None);
        }
        let length = length_of(&self.input, 1, bytes_max)?;
        if !self.fill(1 + length).await? {
            return Ok(None);
        }
        let mut message = self.input.split_to(1 + length);
        let kind = message.get_u8();
        message.advance(4);
        Ok(Some((kind, message.freeze())))
    }

    /// Reads until the input has a number of bytes; returns false if the stream ends earlier.
    async fn fill(&mut self, bytes: usize) -> io::Result<bool> {
        while self.input.len() < bytes {
            if self.stream.read_buf(&mut self.input).await? == 0 {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Waits until the client closes the connection. If unread messages fill the buffer, the close
    /// cannot be detected, and the wait never ends.
    pub async fn closed(&mut self) {
        while self.input.len() < READ_AHEAD_BYTES {
            match self.stream.read_buf(&mut self.input).await {
                Ok(0) | Err(_) => return,
                Ok(_) => {}
            }
        }
        std::future::pending::<()>().await;
    }

    /// Sends the output if it exceeds `OUTPUT_BYTES`.
    pub async fn send_if_full(&mut self) -> io::Result<()> {
        if self.output.len() >= OUTPUT_BYTES { self.send().await } else { Ok(()) }
    }

    /// Sends the output.
    pub async fn send(&mut self) -> io::Result<()> {
        self.stream.write_all_buf(&mut self.output).await?;
        self.stream.flush().await
    }
}

/// Returns the length of a message, which includes its own four bytes.
fn length_of(input: &[u8], at: usize, max: usize) -> io::Result<usize> {
    let word = input.get(at..at + 4).and_then(|word| word.try_into().ok()).unwrap_or_default();
    let length = u32::from_be_bytes(word) as usize;
    if (4..=max).contains(&length) {
        return Ok(length);
    }
    let message = format!("a message is {length} bytes long, which is not between 4 and {max}");
    Err(io::Error::new(io::ErrorKind::InvalidData, message))
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn check(sent: &'static [u8], expected: Result<Option<(u8, &[u8])>, io::ErrorKind>) {
        let (mut client, server) = tokio::io::duplex(64);
        let mut wire = BufferedConnection::new(Box::new(server));
        client.write_all(sent).await.expect("a write");
        drop(client);
        let read = wire.message(100).await.map_err(|error| error.kind());
        let read = read.map(|found| found.map(|(kind, content)| (kind, content.to_vec())));
        assert_eq!(read, expected.map(|it| it.map(|(kind, content)| (kind, content.to_vec()))));
    }

    #[tokio::test]
    async fn a_message_is_read_completely_or_not_at_all() {
        check(b"Q\0\0\0\x06a\0", Ok(Some((b'Q', b"a\0")))).await;
        check(b"S\0\0\0\x04S", Ok(Some((b'S', b"")))).await;
        check(b"", Ok(None)).await;
        check(b"Q\0\0", Ok(None)).await;
        check(b"Q\0\0\0\x06a", Ok(None)).await;
        for length in [b"Q\0\0\0\x03", b"Q\0\0\0\0", b"Q\xff\xff\xff\xff", b"Q\0\0\0\x65"] {
            check(length, Err(io::ErrorKind::InvalidData)).await;
        }
    }
}
