//! A channel that an asynchronous task can wait on.
#![expect(unsafe_code, reason = "tokio asks for a promise about the descriptor")]

use tokio::io::unix::AsyncFd;

use super::Channel;

/// A non-blocking channel, registered with the runtime that this is called in.
pub(crate) fn watch(channel: Channel) -> std::io::Result<AsyncFd<Channel>> {
    channel.set_nonblocking()?;
    // SAFETY: a channel owns its descriptor, never replaces it, and closes it only when it is
    // dropped, which `AsyncFd` does after it has taken it out of the runtime.
    unsafe { AsyncFd::register(channel) }.map_err(Into::into)
}
