//! I/O of an instance: the messages of its worker, and standard output and error of native code.
//!
//! Lines are not buffered: each line is sent to the sink immediately, and reading stops while the
//! sink is full. So a function that prints endlessly is blocked, and cannot exhaust the server's
//! memory.
//!
//! Reading ends when all processes have closed their ends of the connection, or shortly after the
//! instance's process has ended. Without a sandbox, a child process may keep the connection open.

use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use headwater_model::LogStream;
use headwater_sandbox::{Channel, EgressPolicy, Messages, ProxySockets, Received, serve_proxy};
use tokio::io::AsyncReadExt;
use tokio::io::unix::AsyncFd;
use tokio::net::unix::pipe::Receiver;
use tokio::sync::{mpsc, oneshot};
use tokio::task::AbortHandle;
use tokio_util::sync::CancellationToken;

use crate::lake_access::{self, LakeAccess};
use crate::memory::{HugePageFs, MultipartTable, ResultFile};
use crate::worker::{FinalMessage, Message, WorkerMessages};
use crate::{Error, FunctionEvent, Result, TableQuota};

/// Maximum length of a line in bytes; a longer one is split.
const LINE_BYTES_MAX: usize = 16 << 10;

/// Maximum output of an instance in bytes. The remaining output is discarded, and a note is added.
const PRINTED_BYTES_MAX: u64 = 64 << 20;

/// Maximum time between two messages after the process has ended.
const SILENCE: Duration = Duration::from_secs(1);

/// The destination of lines.
#[derive(Debug, Clone)]
pub(crate) struct LineSink {
    sink: mpsc::Sender<FunctionEvent>,
    printed: Arc<AtomicU64>,
}

impl LineSink {
    pub(crate) fn new(sink: mpsc::Sender<FunctionEvent>) -> Self {
        LineSink { sink, printed: Arc::new(AtomicU64::new(0)) }
    }

    /// Sends a line, and waits while the sink is full.
    async fn send(&self, stream: LogStream, file: Option<String>, line: Option<u32>, text: String) {
        let bytes = text.len() as u64 + 1;
        let before = self.printed.fetch_add(bytes, Ordering::Relaxed);
        let event = if before + bytes <= PRINTED_BYTES_MAX {
            FunctionEvent::Line { stream, file, line, text }
        } else if before <= PRINTED_BYTES_MAX {
            let text =
                format!("more than {} MiB of output: the rest is dropped", PRINTED_BYTES_MAX >> 20);
            FunctionEvent::Line { stream: LogStream::System, file: None, line: None, text }
        } else {
            return;
        };
        // An error means that the receiver was dropped; the function continues.
        let _ = self.sink.send(event).await;
    }
}

/// All readers of an instance in one task, so that a short call wakes few threads.
pub(crate) struct Readers {
    pub(crate) said: oneshot::Receiver<WorkerMessages>,
    pub(crate) printed: [oneshot::Receiver<Option<Receiver>>; 2],
    /// Aborts the readers immediately.
    pub(crate) end: AbortHandle,
}

impl Readers {
    /// Starts the readers of a worker's socket and of two pipes.
    pub(crate) fn start(
        worker: impl Future<Output = WorkerMessages> + Send + 'static,
        [stdout, stderr]: [impl Future<Output = Option<Receiver>> + Send + 'static; 2],
    ) -> Self {
        let (worker, said) = told(worker);
        let ((stdout, out), (stderr, err)) = (told(stdout), told(stderr));
        let task = tokio::spawn(async move {
            tokio::join!(worker, stdout, stderr);
        });
        Readers { said, printed: [out, err], end: task.abort_handle() }
    }
}

/// Splits a future into a future that completes it, and a receiver for its value.
fn told<T>(coming: impl Future<Output = T>) -> (impl Future<Output = ()>, oneshot::Receiver<T>) {
    let (sender, told) = oneshot::channel();
    let tell = async {
        // An error means that the receiver was dropped.
        let _ = sender.send(coming.await);
    };
    (tell, told)
}

/// Resources that the server provides to a call while it runs.
pub(crate) struct CallResources {
    /// The quota for the call's result.
    pub(crate) quota: Option<TableQuota>,
    /// The file system with huge pages, if there is one.
    pub(crate) pages: Option<Arc<HugePageFs>>,
    /// The call's access to the lake.
    pub(crate) lake: Option<Arc<dyn LakeAccess>>,
}

/// Reads the messages of a worker until the call ends.
pub(crate) async fn listen(
    channel: AsyncFd<Channel>,
    lines: LineSink,
    network: Option<(EgressPolicy, mpsc::Sender<FunctionEvent>)>,
    supplies: CallResources,
    over: CancellationToken,
) -> WorkerMessages {
    let CallResources { quota, pages, lake } = supplies;
    let (mut begun, mut network, mut given) = (false, network, ResultFile::default());
    let (mut said, mut parts) = (FinalMessage::Nothing, MultipartTable::new(quota.clone()));
    while let Some(Some(received)) = unless_over(receive(&channel), &over).await {
        let Received { bytes, descriptors, .. } = received;
        let message = serde_json::from_slice(&bytes);
        // The sandbox sends this message before any message of the function.
        if let (Ok(Message::Network), Some((policy, sink))) = (&message, network.take()) {
            match ProxySockets::open(descriptors) {
                Ok(sockets) => serve_proxy(sockets, policy, system_lines(sink), over.clone()),
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
            Ok(Message::Kept) => {
                return WorkerMessages { begun, said, given, kept: Some(channel) };
            }
            Ok(Message::Lake { request }) => {
                let answer = lake_access::answer(channel.get_ref(), lake.as_ref(), request, file);
                if unless_over(answer, &over).await.is_none() {
                    break;
                }
            }
            Ok(Message::File) => give(&channel, pages.as_deref(), &mut given),
            Ok(Message::Laid) => {
                said = file.map_or(FinalMessage::Nothing, |file| {
                    FinalMessage::Laid(file, descriptors.next())
                });
            }
            Ok(message @ (Message::Network | Message::Rested)) => {
                tracing::debug!(?message, "an instance sent an unexpected message");
            }
            Ok(Message::Part) => {
                let answer: &[u8] = if parts.add(file).await { b"next" } else { b"stop" };
                // Ignore a failure: the socket's buffer has space for all replies that a correct
                // worker has not read.
                let _ = channel.get_ref().send(answer, &[]);
            }
            Ok(Message::Table) if parts.any() => {
                parts.add(file).await;
                // One limit applies to all remaining messages together.
                let whole = std::mem::replace(&mut parts, MultipartTable::new(quota.clone()));
                said = FinalMessage::MultipartTable(whole.finish().await);
            }
            Ok(Message::Table) => said = file.map_or(FinalMessage::Nothing, FinalMessage::Table),
            Ok(Message::Value { text: Some(text) }) => said = FinalMessage::Text(text),
            Ok(Message::Value { text: None }) => {
                said = file.map_or(FinalMessage::Nothing, FinalMessage::Value);
            }
            Ok(Message::Bool { value }) => said = FinalMessage::Bool(value),
            Ok(Message::Raised { exception, message, frames, hint, unreachable, full }) => {
                said = FinalMessage::Raised { exception, message, frames, hint, unreachable, full };
            }
            Ok(Message::Unfit { returned, reason, hint }) => {
                said = FinalMessage::Unfit { returned, reason, hint };
            }
            // User code wrote an invalid message to the worker's socket. This affects only its own
            // call.
            Err(error) => tracing::debug!(%error, "an instance sent an unreadable message"),
        }
    }
    if let (FinalMessage::Nothing, Some(error)) = (&said, parts.failure()) {
        said = FinalMessage::MultipartTable(Err(error));
    }
    WorkerMessages { begun, said, given, kept: None }
}

/// Returns a channel that turns messages into system lines of the function's output.
fn system_lines(sink: mpsc::Sender<FunctionEvent>) -> Messages {
    Box::new(move |text| {
        let sink = sink.clone();
        Box::pin(async move {
            let (stream, file, line) = (LogStream::System, None, None);
            let _ = sink.send(FunctionEvent::Line { stream, file, line, text }).await;
        })
    })
}

/// Sends a file for the result table to a worker. Each call receives at most one.
fn give(channel: &AsyncFd<Channel>, pages: Option<&HugePageFs>, made: &mut ResultFile) {
    let written = pages.and_then(|pages| {
        let written = made.file(pages);
        written.inspect_err(|error| tracing::warn!(%error, "no file for a function")).ok()?
    });
    let written: Vec<_> = written.iter().map(AsFd::as_fd).collect();
    // Ignore a failure: the socket's buffer has space for all replies that a correct worker has not
    // read.
    let _ = channel.get_ref().send(b"file", &written);
}

/// Returns the next message; `None` if the process has ended and no more messages arrive.
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

/// Returns the next message; `None` when the other end is closed.
pub(crate) async fn receive(channel: &AsyncFd<Channel>) -> Option<Received> {
    // Yield regularly. Otherwise a continuous stream of messages would block this thread and delay
    // time limits.
    tokio::task::coop::consume_budget().await;
    loop {
        let mut ready = channel.readable().await.ok()?;
        if let Ok(received) = ready.try_io(|channel| channel.get_ref().receive()) {
            return received.ok().flatten();
        }
    }
}

/// Opens the server's end of a pipe.
pub(crate) fn receiver(pipe: OwnedFd) -> Result<Receiver> {
    rustix::io::ioctl_fionbio(&pipe, true)
        .map_err(|errno| Error::io("read a pipe")(errno.into()))?;
    Receiver::from_owned_fd(pipe).map_err(Error::io("read a pipe"))
}

/// Reads a pipe until all writers have closed it. After `pause` is cancelled, reads until the pipe
/// is empty, and returns the pipe.
pub(crate) async fn listen_to_pipe(
    mut pipe: Receiver,
    stream: LogStream,
    lines: LineSink,
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

/// Takes the complete lines from the buffer. Splits a line that is too long.
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

/// Returns a line as a terminal shows it: the text after the last carriage return.
fn shown(line: &[u8]) -> String {
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    let last = line.rsplit(|byte| *byte == b'\r').next().unwrap_or(line);
    String::from_utf8_lossy(last).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_not_split() {
        let mut pending = b"one\ntwo\r\n10%\r20%\nrest".to_vec();
        assert_eq!(take_lines(&mut pending), ["one", "two", "20%"]);
        assert_eq!(pending, b"rest");
        let mut endless = vec![b'x'; LINE_BYTES_MAX];
        assert_eq!(take_lines(&mut endless).len(), 1);
        assert!(endless.is_empty());
    }
}
