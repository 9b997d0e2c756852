//! A Unix socket for messages with file descriptors.
#![expect(unsafe_code, reason = "tokio requires a guarantee about the descriptor")]

use std::cell::RefCell;
use std::io::{IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags,
    SendAncillaryBuffer, SendAncillaryMessage, SendFlags, Shutdown, SocketFlags, SocketType,
};
use tokio::io::unix::AsyncFd;

/// The maximum size of a message, in bytes.
pub(crate) const MESSAGE_BYTES_MAX: usize = 128 << 10;

/// The maximum number of descriptors in a message; the kernel's limit is 253.
pub(crate) const DESCRIPTORS_MAX: usize = 128;

thread_local! {
    /// Receive buffer of this thread. It is reused, because allocating a buffer takes longer than
    /// most receive calls.
    static BUFFER: RefCell<Vec<u8>> = RefCell::new(vec![0; MESSAGE_BYTES_MAX]);
}

/// One end of a pair of connected Unix sockets.
#[derive(Debug)]
pub struct Channel(OwnedFd);

/// A received message with its file descriptors.
#[derive(Debug)]
pub struct ChannelMessage {
    /// The message.
    pub bytes: Vec<u8>,
    /// The file descriptors, in the order in which they were sent.
    pub descriptors: Vec<OwnedFd>,
    /// True if the kernel lost descriptors of the message because this process has too many open
    /// files. `descriptors` is then empty.
    pub(crate) cut: bool,
}

impl Channel {
    /// Creates a pair of connected sockets, which are closed on exec.
    pub fn pair() -> std::io::Result<(Channel, Channel)> {
        let (one, other) = rustix::net::socketpair(
            AddressFamily::UNIX,
            SocketType::SEQPACKET,
            SocketFlags::CLOEXEC,
            None,
        )?;
        for end in [&one, &other] {
            rustix::net::sockopt::set_socket_send_buffer_size(end, 4 * MESSAGE_BYTES_MAX)?;
        }
        Ok((Channel(one), Channel(other)))
    }

    /// Sends a message. If the socket is in blocking mode, waits while its send buffer is full.
    pub fn send(&self, bytes: &[u8], descriptors: &[BorrowedFd<'_>]) -> std::io::Result<()> {
        if bytes.len() > MESSAGE_BYTES_MAX || descriptors.len() > DESCRIPTORS_MAX {
            return Err(std::io::ErrorKind::InvalidInput.into());
        }
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(DESCRIPTORS_MAX))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        if !descriptors.is_empty() {
            control.push(SendAncillaryMessage::ScmRights(descriptors));
        }
        let flags = SendFlags::NOSIGNAL;
        let message = [IoSlice::new(bytes)];
        rustix::io::retry_on_intr(|| rustix::net::sendmsg(&self.0, &message, &mut control, flags))?;
        Ok(())
    }

    /// Receives a message; `None` if the other end is closed.
    pub fn receive(&self) -> std::io::Result<Option<ChannelMessage>> {
        BUFFER.with_borrow_mut(|buffer| self.receive_into(buffer))
    }

    fn receive_into(&self, buffer: &mut [u8]) -> std::io::Result<Option<ChannelMessage>> {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(DESCRIPTORS_MAX))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let flags = RecvFlags::CMSG_CLOEXEC;
        let received = rustix::io::retry_on_intr(|| {
            let mut parts = [IoSliceMut::new(buffer)];
            rustix::net::recvmsg(&self.0, &mut parts, &mut control, flags)
        })?;
        let mut descriptors = Vec::new();
        for message in control.drain() {
            if let RecvAncillaryMessage::ScmRights(rights) = message {
                descriptors.extend(rights);
            }
        }
        if received.bytes == 0 && descriptors.is_empty() {
            return Ok(None);
        }
        if received.flags.contains(ReturnFlags::TRUNC) {
            return Err(std::io::Error::other("a message exceeds the maximum size"));
        }
        let cut = received.flags.contains(ReturnFlags::CTRUNC);
        if cut {
            // Drop all descriptors, because it is unknown which of them are missing.
            descriptors.clear();
        }
        Ok(Some(ChannelMessage { bytes: buffer[..received.bytes].to_vec(), descriptors, cut }))
    }

    /// Makes the socket non-blocking and registers it with the current tokio runtime.
    pub fn into_async(self) -> std::io::Result<AsyncFd<Channel>> {
        rustix::io::ioctl_fionbio(&self.0, true)?;
        // SAFETY: a channel owns its descriptor, never replaces it, and closes it only on drop.
        // `AsyncFd` removes the descriptor from the runtime before dropping the channel.
        unsafe { AsyncFd::register(self) }.map_err(Into::into)
    }

    /// Shuts down both directions of the socket. This affects all duplicates of this end.
    pub(crate) fn shutdown(&self) {
        let _ = rustix::net::shutdown(&self.0, Shutdown::Both);
    }
}

impl AsFd for Channel {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl std::os::fd::AsRawFd for Channel {
    fn as_raw_fd(&self) -> std::os::fd::RawFd {
        std::os::fd::AsRawFd::as_raw_fd(&self.0)
    }
}

impl From<OwnedFd> for Channel {
    fn from(descriptor: OwnedFd) -> Self {
        Channel(descriptor)
    }
}

impl From<Channel> for OwnedFd {
    fn from(channel: Channel) -> Self {
        channel.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_keep_their_borders_and_their_descriptors() {
        let (one, other) = Channel::pair().unwrap();
        one.send(b"first", &[one.as_fd(), other.as_fd()]).unwrap();
        one.send(b"second", &[]).unwrap();
        let first = other.receive().unwrap().unwrap();
        assert_eq!((first.bytes.as_slice(), first.descriptors.len()), (&b"first"[..], 2));
        assert_eq!(other.receive().unwrap().unwrap().bytes, b"second");
        drop(first);
        drop(one);
        assert!(other.receive().unwrap().is_none());
    }
}
