//! I/O of an instance: the messages of its worker, and standard output and error of native code.
//!
//! Lines are not buffered: each line is sent to the sink immediately, and reading stops while the
//! sink is full. So a function that prints endlessly is blocked, and cannot exhaust the server's
//! memory.
//!
//! Reading ends when all processes have closed their ends of the connection, or shortly after the
//! instance's process has ended. Without a sandbox, a child process may keep the connection open.

use std::future::poll_fn;
use std::os::fd::{AsFd, OwnedFd};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use futures::FutureExt;
use futures::future::{BoxFuture, MaybeDone, maybe_done};
use headwater_model::LogStream;
use headwater_sandbox::{Channel, EgressPolicy, Messages, ProxySockets, Received, serve_proxy};
use tokio::io::AsyncReadExt;
use tokio::io::unix::AsyncFd;
use tokio::net::unix::pipe::Receiver;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::lake_access::{self, LakeAccess};
use crate::memory::{ChunkedTable, HugePageFs, ResultFile};
use crate::start_clock::StartClock;
use crate::worker::{FinalMessage, Message, WorkerMessages};
use crate::{AnswerPart, AnswerSink, Error, FunctionEvent, Result, TableQuota};

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

type Reader<T> = Pin<Box<MaybeDone<BoxFuture<'static, T>>>>;

/// The readers of a worker's socket and of two pipes. They run in the task of the call, so that a
/// short call wakes few threads: something must await one of the methods.
pub(crate) struct Readers {
    worker: Reader<WorkerMessages>,
    pipes: [Reader<Option<Receiver>>; 2],
}

impl Readers {
    pub(crate) fn new(
        worker: impl Future<Output = WorkerMessages> + Send + 'static,
        pipes: [impl Future<Output = Option<Receiver>> + Send + 'static; 2],
    ) -> Self {
        let pipes = pipes.map(|pipe| Box::pin(maybe_done(pipe.boxed())));
        Readers { worker: Box::pin(maybe_done(worker.boxed())), pipes }
    }

    /// Continues to read the pipes. Returns true when both have ended.
    fn poll_pipes(&mut self, context: &mut Context<'_>) -> bool {
        let ended = self.pipes.each_mut().map(|pipe| {
            matches!(**pipe, MaybeDone::Done(_)) || pipe.as_mut().poll(context).is_ready()
        });
        ended == [true, true]
    }

    /// Returns the messages of the worker when the call has ended. The next time, it only reads.
    pub(crate) async fn messages(&mut self) -> WorkerMessages {
        poll_fn(|context| {
            self.poll_pipes(context);
            if !matches!(*self.worker, MaybeDone::Gone)
                && self.worker.as_mut().poll(context).is_ready()
                && let Some(messages) = self.worker.as_mut().take_output()
            {
                return Poll::Ready(messages);
            }
            Poll::Pending
        })
        .await
    }

    /// Waits until nothing more is read from the pipes.
    pub(crate) async fn output(&mut self) {
        poll_fn(|context| if self.poll_pipes(context) { Poll::Ready(()) } else { Poll::Pending })
            .await;
    }

    /// Returns the pipes that are still open.
    pub(crate) fn into_pipes(self) -> [Option<Receiver>; 2] {
        self.pipes.map(|mut pipe| pipe.as_mut().take_output().flatten())
    }
}

/// Resources that the server provides to a call while it runs.
pub(crate) struct CallContext {
    /// The quota for the call's result.
    pub(crate) quota: Option<TableQuota>,
    /// The file system with huge pages, if there is one.
    pub(crate) pages: Option<Arc<HugePageFs>>,
    /// The call's access to the lake.
    pub(crate) lake: Option<Arc<dyn LakeAccess>>,
    /// The receiver of a streamed answer.
    pub(crate) answer: Option<AnswerSink>,
    /// The clock of the start of the call's runtime.
    pub(crate) start: StartClock,
    /// True if the process has executed other calls before.
    pub(crate) is_warm: bool,
}

/// Starts the network proxy of a function. A failure leaves the function without a network.
fn start_proxy(
    descriptors: Vec<OwnedFd>,
    policy: EgressPolicy,
    sink: mpsc::Sender<FunctionEvent>,
    over: &CancellationToken,
) {
    match ProxySockets::open(descriptors) {
        Ok(sockets) => serve_proxy(sockets, policy, system_lines(sink), over.clone()),
        Err(error) => tracing::warn!(%error, "the network proxy of a function cannot be started"),
    }
}

/// Reads the messages of a worker until the call ends.
pub(crate) async fn listen(
    channel: AsyncFd<Channel>,
    lines: LineSink,
    network: Option<(EgressPolicy, mpsc::Sender<FunctionEvent>)>,
    supplies: CallContext,
    over: CancellationToken,
) -> WorkerMessages {
    let CallContext { quota, pages, lake, answer, start, is_warm } = supplies;
    let (mut begun, mut network, mut given) = (false, network, ResultFile::default());
    let (mut said, mut parts) = (FinalMessage::Nothing, ChunkedTable::new(quota.clone()));
    loop {
        let received = match unless_over(receive_or_fail(&channel), &over).await {
            Some(Ok(Some(received))) => received,
            ended => {
                // A warm process does not report the start of a call.
                begun |= is_warm && has_read_task(ended.as_ref());
                break;
            }
        };
        let Received { bytes, descriptors, .. } = received;
        let message = serde_json::from_slice(&bytes);
        let mut kept = false;
        // The sandbox sends this message before the function can send any.
        if let (Ok(Message::Network), Some((policy, sink))) = (&message, network.take()) {
            start_proxy(descriptors, policy, sink, &over);
            continue;
        }
        let mut descriptors = descriptors.into_iter();
        let file = descriptors.next();
        match message {
            Ok(Message::Line { stream, file, line, text }) => {
                lines.send(stream, file, line, text).await;
            }
            Ok(Message::Begun) => begun = true,
            Ok(Message::Starting) => start.begin(),
            Ok(Message::Started) => start.end(),
            Ok(Message::Kept) => kept = true,
            Ok(Message::Lake { request }) => {
                let answer = lake_access::answer(channel.get_ref(), lake.as_ref(), request, file);
                if unless_over(answer, &over).await.is_none() {
                    break;
                }
            }
            Ok(message @ (Message::Answer { .. } | Message::Bytes { .. })) => {
                if unless_over(send_part(answer.as_ref(), message), &over).await.is_none() {
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
                // The same limit applies to all remaining messages together.
                let whole = std::mem::replace(&mut parts, ChunkedTable::new(quota.clone()));
                said = FinalMessage::ChunkedTable(whole.finish().await);
            }
            Ok(Message::Table) => said = file.map_or(FinalMessage::Nothing, FinalMessage::Table),
            Ok(message) => (said, kept) = result_of(message, file),
            // User code wrote an invalid message to the worker's socket, which affects only its own
            // call.
            Err(error) => tracing::debug!(%error, "an instance sent an unreadable message"),
        }
        if kept {
            return WorkerMessages { begun: true, said, given, kept: Some(channel) };
        }
    }
    if let (FinalMessage::Nothing, Some(error)) = (&said, parts.failure()) {
        said = FinalMessage::ChunkedTable(Err(error));
    }
    WorkerMessages { begun, said, given, kept: None }
}

/// Returns true unless the process ended before it read its task: then the connection is reset.
fn has_read_task(ended: Option<&std::io::Result<Option<Received>>>) -> bool {
    match ended {
        Some(Err(error)) => error.kind() != std::io::ErrorKind::ConnectionReset,
        Some(Ok(_)) => true,
        None => false,
    }
}

/// Returns the result in a message, and whether the process waits for another call.
fn result_of(message: Message, file: Option<OwnedFd>) -> (FinalMessage, bool) {
    match message {
        Message::Value { text: Some(text), kept } => (FinalMessage::Text(text), kept),
        Message::Value { text: None, .. } => {
            (file.map_or(FinalMessage::Nothing, FinalMessage::Value), false)
        }
        Message::Bool { value, kept } => (FinalMessage::Bool(value), kept),
        Message::Raised { exception, message, frames, hint, unreachable, full, kept } => {
            (FinalMessage::Raised { exception, message, frames, hint, unreachable, full }, kept)
        }
        Message::Unfit { returned, reason, hint } => {
            (FinalMessage::Unfit { returned, reason, hint }, false)
        }
        _ => (FinalMessage::Nothing, false),
    }
}

/// Sends a part of a streamed answer, and waits while the client reads slowly.
async fn send_part(answer: Option<&AnswerSink>, message: Message) {
    let part = match message {
        Message::Answer { media_type } => AnswerPart::Begin { media_type },
        Message::Bytes { bytes } => {
            AnswerPart::Bytes(STANDARD.decode(bytes).unwrap_or_default().into())
        }
        _ => return,
    };
    if let Some(answer) = answer {
        answer.send(part).await;
    }
}

/// Returns a channel whose messages become system lines of the function's output.
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
        written
            .inspect_err(
                |error| tracing::warn!(%error, "the result file of a function cannot be created"),
            )
            .ok()?
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
    receive_or_fail(channel).await.ok().flatten()
}

/// Returns the next message; `None` when the other end is closed. Fails if the other end was closed
/// with unread messages.
async fn receive_or_fail(channel: &AsyncFd<Channel>) -> std::io::Result<Option<Received>> {
    // Yield regularly, because a continuous stream of messages would otherwise block this thread
    // and delay time limits.
    tokio::task::coop::consume_budget().await;
    loop {
        let mut ready = channel.readable().await?;
        if let Ok(received) = ready.try_io(|channel| channel.get_ref().receive()) {
            return received;
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
