//! Listening to an instance: what its worker says on the socket, and what native code writes to
//! standard output and error.
//!
//! Nothing is gathered up: a line goes to the sink as it comes, and while the sink is full nothing
//! more is read, so that a function which prints without end waits instead of filling memory.
//!
//! Listening ends when everybody has closed the other end, or a moment after the process has ended:
//! without a sandbox, somebody it started may live on and hold that end for ever.

use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use headwater_model::LogStream;
use tokio::io::AsyncReadExt;
use tokio::io::unix::AsyncFd;
use tokio::net::unix::pipe::Receiver;
use tokio::sync::{mpsc, oneshot};
use tokio::task::AbortHandle;
use tokio_util::sync::CancellationToken;

use crate::memory::{Made, Pages, Parts};
use crate::network::{Doors, Reach, relay};
use crate::spawner::{Channel, Received};
use crate::worker::{Heard, Message, Said};
use crate::{Error, FunctionEvent, Result, Room};

/// A longer line is cut into several.
const LINE_BYTES_MAX: usize = 16 << 10;

/// What an instance may print; the rest is dropped, with a remark.
const PRINTED_BYTES_MAX: u64 = 64 << 20;

/// How long it may take, after the process has ended, until the next thing it said is heard.
const SILENCE: Duration = Duration::from_secs(1);

/// Where lines go.
#[derive(Debug, Clone)]
pub(crate) struct Lines {
    sink: mpsc::Sender<FunctionEvent>,
    printed: Arc<AtomicU64>,
}

impl Lines {
    pub(crate) fn new(sink: mpsc::Sender<FunctionEvent>) -> Self {
        Lines { sink, printed: Arc::new(AtomicU64::new(0)) }
    }

    /// Hands a line on and waits while the sink is full.
    async fn send(&self, stream: LogStream, file: Option<String>, line: Option<u32>, text: String) {
        let bytes = text.len() as u64 + 1;
        let before = self.printed.fetch_add(bytes, Ordering::Relaxed);
        let event = if before + bytes <= PRINTED_BYTES_MAX {
            FunctionEvent::Line { stream, file, line, text }
        } else if before <= PRINTED_BYTES_MAX {
            let text =
                format!("more than {} MiB printed: the rest is dropped", PRINTED_BYTES_MAX >> 20);
            FunctionEvent::Line { stream: LogStream::System, file: None, line: None, text }
        } else {
            return;
        };
        // Nobody listens any more: the function goes on all the same.
        let _ = self.sink.send(event).await;
    }
}

/// What is heard of an instance, until each of its ends is: by one task, so that hardly a thread has to be
/// woken for a brief call.
pub(crate) struct Listening {
    pub(crate) said: oneshot::Receiver<Heard>,
    pub(crate) printed: [oneshot::Receiver<Option<Receiver>>; 2],
    /// Ends it, whatever may still come.
    pub(crate) end: AbortHandle,
}

impl Listening {
    /// Listens to a worker and to two pipes.
    pub(crate) fn start(
        worker: impl Future<Output = Heard> + Send + 'static,
        [stdout, stderr]: [impl Future<Output = Option<Receiver>> + Send + 'static; 2],
    ) -> Self {
        let (worker, said) = told(worker);
        let ((stdout, out), (stderr, err)) = (told(stdout), told(stderr));
        let task = tokio::spawn(async move {
            tokio::join!(worker, stdout, stderr);
        });
        Listening { said, printed: [out, err], end: task.abort_handle() }
    }
}

/// What something comes to, told as soon as it does.
fn told<T>(coming: impl Future<Output = T>) -> (impl Future<Output = ()>, oneshot::Receiver<T>) {
    let (sender, told) = oneshot::channel();
    let tell = async {
        // Whoever waited may have gone.
        let _ = sender.send(coming.await);
    };
    (tell, told)
}

/// Listens to a worker, and tells what it said.
pub(crate) async fn listen(
    channel: AsyncFd<Channel>,
    lines: Lines,
    network: Option<(Reach, mpsc::Sender<FunctionEvent>)>,
    (room, pages): (Option<Room>, Option<Arc<Pages>>),
    over: CancellationToken,
) -> Heard {
    let (mut begun, mut network, mut given) = (false, network, Made::default());
    let (mut said, mut parts) = (Said::Nothing, Parts::new(room.clone()));
    while let Some(Some(received)) = unless_over(receive(&channel), &over).await {
        let Received { bytes, descriptors, .. } = received;
        let message = serde_json::from_slice(&bytes);
        // Said by the sandbox before anything of the function's can speak.
        if let (Ok(Message::Network), Some((reach, sink))) = (&message, network.take()) {
            match Doors::open(descriptors) {
                Ok(doors) => relay(doors, reach, sink, over.clone()),
                Err(error) => tracing::warn!(%error, "no network for a function"),
            }
            continue;
        }
        let mut descriptors = descriptors.into_iter();
        let file = descriptors.next();
        match message {
            Ok(Message::Line { stream, file, line, text }) => {
                lines.send(stream, file, line, text).await;
            }
            Ok(Message::Begun) => begun = true,
            Ok(Message::Kept) => return Heard { begun, said, given, kept: Some(channel) },
            Ok(Message::File { arena }) => {
                give(&channel, pages.as_deref(), (&mut given, arena));
            }
            Ok(Message::Laid) => {
                said = file.map_or(Said::Nothing, |file| Said::Laid(file, descriptors.next()));
            }
            Ok(message @ (Message::Network | Message::Rested)) => {
                tracing::debug!(?message, "an instance said what it was not asked");
            }
            Ok(Message::Part) => {
                let answer: &[u8] = if parts.add(file).await { b"next" } else { b"stop" };
                // The socket holds the few answers that an honest worker has not read yet.
                let _ = channel.get_ref().send(answer, &[]);
            }
            Ok(Message::Table) if parts.any() => {
                parts.add(file).await;
                // What may still come has the same room, and no more.
                let whole = std::mem::replace(&mut parts, Parts::new(room.clone()));
                said = Said::Parts(whole.finish().await);
            }
            Ok(Message::Table) => said = file.map_or(Said::Nothing, Said::Table),
            Ok(Message::Value { text: Some(text) }) => said = Said::Text(text),
            Ok(Message::Value { text: None }) => {
                said = file.map_or(Said::Nothing, Said::Value);
            }
            Ok(Message::Bool { value }) => said = Said::Bool(value),
            Ok(Message::Raised { exception, message, frames, hint, unreachable, full }) => {
                said = Said::Raised { exception, message, frames, hint, unreachable, full };
            }
            Ok(Message::Unfit { returned, reason, hint }) => {
                said = Said::Unfit { returned, reason, hint };
            }
            // User code wrote to the worker's socket; that is its own affair.
            Err(error) => tracing::debug!(%error, "an instance said what cannot be read"),
        }
    }
    if let (Said::Nothing, Some(error)) = (&said, parts.failure()) {
        said = Said::Parts(Err(error));
    }
    Heard { begun, said, given, kept: None }
}

/// Gives a worker a file to write a table to, or to have its large allocations in: one of each for a call.
fn give(channel: &AsyncFd<Channel>, pages: Option<&Pages>, (made, arena): (&mut Made, bool)) {
    let written = pages.and_then(|pages| {
        let written = if arena { made.arena(pages) } else { made.file(pages) };
        written.inspect_err(|error| tracing::warn!(%error, "no file for a function")).ok()?
    });
    let written: Vec<_> = written.iter().map(AsFd::as_fd).collect();
    // The socket holds the few answers that an honest worker has not read yet.
    let _ = channel.get_ref().send(b"file", &written);
}

/// What comes, unless the process has ended and it is silent.
async fn unless_over<T>(coming: impl Future<Output = T>, over: &CancellationToken) -> Option<T> {
    let silent = async {
        over.cancelled().await;
        tokio::time::sleep(SILENCE).await;
    };
    tokio::select! {
        biased;
        came = coming => Some(came),
        () = silent => None,
    }
}

/// The next message; none when the other end is closed.
pub(crate) async fn receive(channel: &AsyncFd<Channel>) -> Option<Received> {
    // What keeps coming would keep this thread from everybody else, and from time limits.
    tokio::task::coop::consume_budget().await;
    loop {
        let mut ready = channel.readable().await.ok()?;
        if let Ok(received) = ready.try_io(|channel| channel.get_ref().receive()) {
            return received.ok().flatten();
        }
    }
}

/// The end of a pipe that is listened to.
pub(crate) fn receiver(pipe: OwnedFd) -> Result<Receiver> {
    rustix::io::ioctl_fionbio(&pipe, true)
        .map_err(|errno| Error::io("read a pipe")(errno.into()))?;
    Receiver::from_owned_fd(pipe).map_err(Error::io("read a pipe"))
}

/// Listens to a pipe until everybody has closed it, or until `pause` and what lies in it then: then it
/// is given back.
pub(crate) async fn listen_to_pipe(
    mut pipe: Receiver,
    stream: LogStream,
    lines: Lines,
    (over, pause): (CancellationToken, CancellationToken),
) -> Option<Receiver> {
    let mut pending: Vec<u8> = Vec::new();
    let mut buffer = vec![0; 8192];
    let open = loop {
        let length = tokio::select! {
            biased;
            read = unless_over(pipe.read(&mut buffer), &over) => {
                read.and_then(Result::ok).unwrap_or_default()
            }
            () = pause.cancelled() => match rustix::io::read(&pipe, &mut buffer) {
                Err(rustix::io::Errno::AGAIN) => break true,
                read => read.unwrap_or_default(),
            }
        };
        if length == 0 {
            break false;
        }
        pending.extend_from_slice(&buffer[..length]);
        for text in take_lines(&mut pending) {
            lines.send(stream, None, None, text).await;
        }
    };
    if !pending.is_empty() {
        lines.send(stream, None, None, shown(&pending)).await;
    }
    open.then_some(pipe)
}

/// Takes the whole lines out of what was read so far, and cuts one that grows too long.
fn take_lines(pending: &mut Vec<u8>) -> Vec<String> {
    let mut lines = Vec::new();
    let mut start = 0;
    while let Some(length) = pending[start..].iter().position(|byte| *byte == b'\n') {
        lines.push(shown(&pending[start..start + length]));
        start += length + 1;
    }
    pending.drain(..start);
    if pending.len() >= LINE_BYTES_MAX {
        lines.push(shown(pending));
        pending.clear();
    }
    lines
}

/// A line as a terminal would show it: what follows the last carriage return.
fn shown(line: &[u8]) -> String {
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    let last = line.rsplit(|byte| *byte == b'\r').next().unwrap_or(line);
    String::from_utf8_lossy(last).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_taken_whole() {
        let mut pending = b"one\ntwo\r\n10%\r20%\nrest".to_vec();
        assert_eq!(take_lines(&mut pending), ["one", "two", "20%"]);
        assert_eq!(pending, b"rest");
        let mut endless = vec![b'x'; LINE_BYTES_MAX];
        assert_eq!(take_lines(&mut endless).len(), 1);
        assert!(endless.is_empty());
    }
}
