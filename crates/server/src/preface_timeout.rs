//! Timeout for the first bytes of a new connection.
//!
//! The first bytes determine the version of HTTP. The timeouts of HTTP/1 and HTTP/2 apply only when
//! the version is known.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Sleep;

/// The HTTP/2 connection preface, which every HTTP/2 client sends first.
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// A connection with a timeout for the detection of the HTTP version.
pub struct PrefaceTimeout<Io> {
    stream: Io,
    /// Time at which the connection fails; `None` after the HTTP version was detected.
    deadline: Option<Pin<Box<Sleep>>>,
    /// Number of preface bytes received so far.
    matched: usize,
}

impl<Io> PrefaceTimeout<Io> {
    /// Wraps a connection and starts its timeout.
    pub fn new(stream: Io, timeout: Duration) -> Self {
        let deadline = Some(Box::pin(tokio::time::sleep(timeout)));
        PrefaceTimeout { stream, deadline, matched: 0 }
    }

    /// Compares received bytes with the preface.
    fn compare(&mut self, bytes: &[u8]) {
        let rest = &PREFACE[self.matched..];
        self.matched += bytes.len().min(rest.len());
        if self.matched == PREFACE.len() || !rest.starts_with(bytes) {
            self.deadline = None;
        }
    }
}

impl<Io: AsyncRead + Unpin> AsyncRead for PrefaceTimeout<Io> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let read = Pin::new(&mut self.stream).poll_read(context, buffer);
        let Some(deadline) = &mut self.deadline else { return read };
        match read {
            Poll::Ready(Ok(())) => self.compare(&buffer.filled()[before..]),
            Poll::Pending if deadline.as_mut().poll(context).is_ready() => {
                let error = io::Error::new(io::ErrorKind::TimedOut, "the client sent no request");
                return Poll::Ready(Err(error));
            }
            Poll::Pending | Poll::Ready(Err(_)) => {}
        }
        read
    }
}

impl<Io: AsyncWrite + Unpin> AsyncWrite for PrefaceTimeout<Io> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(context, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}
