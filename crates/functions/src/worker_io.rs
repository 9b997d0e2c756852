//! I/O of an instance: the messages of its worker, and the standard output and error of native
//! code.
//!
//! Each line is sent to the sink immediately, and reading stops while the sink is full. So a
//! function that prints endlessly is blocked, and cannot exhaust the server's memory.
//!
//! Reading ends when all processes of the instance have closed their ends of the socket and the
//! pipes. Without a sandbox, a child process may keep these ends open, so reading also ends shortly
//! after the instance's main process has ended.

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
use headwater_sandbox::{
    Channel, ChannelMessage, EgressPolicy, MessageCallback, ProxySockets, serve_proxy,
};
use headwater_shared_memory::{HugePageFs, ResultFile, TableReceiver};
use tokio::io::AsyncReadExt;
use tokio::io::unix::AsyncFd;
use tokio::net::unix::pipe::Receiver;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::lake_access::{self, LakeAccess};
use crate::runtime_start_clock::RuntimeStartClock;
use crate::worker_protocol::{FinalMessage, WorkerCallState, WorkerMessage};
use crate::{Error, FunctionEvent, ResponsePart, ResponseSender, Result, TableQuota};

/// Maximum length of a line in bytes; a longer line is split.
const LINE_BYTES_MAX: usize = 16 << 10;

/// Maximum output of an instance in bytes. Further output is discarded, and a last line reports
/// this.
const PRINTED_BYTES_MAX: u64 = 64 << 20;

/// Maximum time to wait for another message after the process has ended.
const SILENCE: Duration = Duration::from_secs(1);

/// The destination of the lines that a function prints.
#[derive(Debug, Clone)]
pub(crate) struct LineSink {
    sink: mpsc::Sender<FunctionEvent>,
    printed: Arc<AtomicU64>,
}

impl LineSink {
    pub(crate) fn new(sink: mpsc::Sender<FunctionEvent>) -> Self {
        LineSink { sink, printed: Arc::new(AtomicU64::new(0)) }
    }

    /// Sends a line. Waits while the sink is full.
    async fn send(&self, stream: LogStream, file: Option<String>, line: Option<u32>, text: String) {
        let bytes = text.len() as u64 + 1;
        let before = self.printed.fetch_add(bytes, Ordering::Relaxed);
        let event = if before + bytes <= PRINTED_BYTES_MAX {
            FunctionEvent::Line { stream, file, line, text }
        } else if before <= PRINTED_BYTES_MAX {
            let text = format!(
                "the output exceeds {} MiB: further lines are dropped",
                PRINTED_BYTES_MAX >> 20
            );
            FunctionEvent::Line { stream: LogStream::System, file: None, line: None, text }
        } else {
            return;
        };
        // Ignore an error: if the receiver was dropped, the function continues.
        let _ = self.sink.send(event).await;
    }
}

type Reader<T> = Pin<Box<MaybeDone<BoxFuture<'static, T>>>>;

/// The readers of a worker's socket and of the two output pipes. The readers are not separate
/// tasks, so that a short call wakes few threads: they read only while the task of the call awaits
/// a method of this type.
pub(crate) struct WorkerReaders {
    worker: Reader<WorkerCallState>,
    pipes: [Reader<Option<Receiver>>; 2],
}

impl WorkerReaders {
    pub(crate) fn new(
        worker: impl Future<Output = WorkerCallState> + Send + 'static,
        pipes: [impl Future<Output = Option<Receiver>> + Send + 'static; 2],
    ) -> Self {
        let pipes = pipes.map(|pipe| Box::pin(maybe_done(pipe.boxed())));
        WorkerReaders { worker: Box::pin(maybe_done(worker.boxed())), pipes }
    }

    /// Reads more output from the pipes. Returns true when both pipes are finished.
    fn poll_pipes(&mut self, context: &mut Context<'_>) -> bool {
        let ended = self.pipes.each_mut().map(|pipe| {
            matches!(**pipe, MaybeDone::Done(_)) || pipe.as_mut().poll(context).is_ready()
        });
        ended == [true, true]
    }

    /// Reads until the call has ended, and returns what the worker has sent. A later call of this
    /// method only reads the pipes and never returns.
    pub(crate) async fn messages(&mut self) -> WorkerCallState {
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

    /// Reads the pipes until both are finished.
    pub(crate) async fn output(&mut self) {
        poll_fn(|context| if self.poll_pipes(context) { Poll::Ready(()) } else { Poll::Pending })
            .await;
    }

    /// Returns the pipes that are still open.
    pub(crate) fn into_pipes(self) -> [Option<Receiver>; 2] {
        self.pipes.map(|mut pipe| pipe.as_mut().take_output().flatten())
    }
}

/// The objects that the server provides to a call while it runs.
pub(crate) struct CallContext {
    /// The memory quota for the call's result.
    pub(crate) quota: Option<TableQuota>,
    /// The file system with huge pages, if there is one.
    pub(crate) pages: Option<Arc<HugePageFs>>,
    /// Handles the call's requests to the lake.
    pub(crate) lake: Option<Arc<dyn LakeAccess>>,
    /// The sender of a streamed response, if the client wants one.
    pub(crate) answer: Option<ResponseSender>,
    /// Measures the start of the call's runtime.
    pub(crate) start: RuntimeStartClock,
    /// True if the process has executed other calls before.
    pub(crate) is_warm: bool,
}

/// Starts the network proxy of a sandbox. If this fails, the function runs without network access.
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

/// Reads and handles the messages of a worker until the call ends.
pub(crate) async fn listen(
    channel: AsyncFd<Channel>,
    lines: LineSink,
    network: Option<(EgressPolicy, mpsc::Sender<FunctionEvent>)>,
    supplies: CallContext,
    over: CancellationToken,
) -> WorkerCallState {
    let CallContext { quota, pages, lake, answer, start, is_warm } = supplies;
    let (mut begun, mut network, mut given) = (false, network, ResultFile::default());
    let (mut said, mut parts) = (FinalMessage::Nothing, TableReceiver::new(quota.clone()));
    loop {
        let received = match receive_until_ended(receive_or_fail(&channel), &over).await {
            Some(Ok(Some(received))) => received,
            ended => {
                // A reused process does not send `Begun`. Its call has begun if the process has
                // read the task.
                begun |= is_warm && has_read_task(ended.as_ref());
                break;
            }
        };
        let ChannelMessage { bytes, descriptors, .. } = received;
        let message = serde_json::from_slice(&bytes);
        let mut kept = None;
        // Accept this message only once. The first one comes from the sandbox itself, before user
        // code can send any message.
        if let (Ok(WorkerMessage::Network), Some((policy, sink))) = (&message, network.take()) {
            start_proxy(descriptors, policy, sink, &over);
            continue;
        }
        let mut descriptors = descriptors.into_iter();
        let file = descriptors.next();
        match message {
            Ok(WorkerMessage::Line { stream, file, line, text }) => {
                lines.send(stream, file, line, text).await;
            }
            Ok(WorkerMessage::Begun) => begun = true,
            Ok(WorkerMessage::Starting) => start.begin(),
            Ok(WorkerMessage::Started) => start.end(),
            Ok(WorkerMessage::Kept) => kept = Some(true),
            Ok(WorkerMessage::Lake { request }) => {
                let answer = lake_access::answer(channel.get_ref(), lake.as_ref(), request, file);
                if receive_until_ended(answer, &over).await.is_none() {
                    break;
                }
            }
            Ok(message @ (WorkerMessage::Answer { .. } | WorkerMessage::Bytes { .. })) => {
                if receive_until_ended(send_part(answer.as_ref(), message), &over).await.is_none() {
                    break;
                }
            }
            Ok(WorkerMessage::File) => send_result_file(&channel, pages.as_deref(), &mut given),
            Ok(WorkerMessage::Laid { kept: is_kept }) => {
                (said, kept) = (table_result(file, descriptors.next()), is_kept);
            }
            Ok(message @ (WorkerMessage::Network | WorkerMessage::Rested)) => {
                tracing::debug!(?message, "an instance sent an unexpected message");
            }
            Ok(WorkerMessage::Part) => {
                let answer: &[u8] = if parts.add(file).await { b"next" } else { b"stop" };
                // Ignore an error: a correct worker leaves so few replies unread that the socket's
                // buffer has space for all of them.
                let _ = channel.get_ref().send(answer, &[]);
            }
            Ok(WorkerMessage::Table { kept: is_kept }) => {
                (said, kept) = (complete_table(&mut parts, file, quota.as_ref()).await, is_kept);
            }
            Ok(message) => (said, kept) = result_of(message, file),
            // User code has written an invalid message to the worker's socket. This affects only
            // its own call.
            Err(error) => tracing::debug!(%error, "an instance sent an unreadable message"),
        }
        if let Some(is_kept) = kept {
            let kept = is_kept.then_some(channel);
            return WorkerCallState { begun: true, said, given, kept, is_last: !is_kept };
        }
    }
    if let (FinalMessage::Nothing, Some(error)) = (&said, parts.failure()) {
        said = FinalMessage::ChunkedTable(Err(error.into()));
    }
    WorkerCallState { begun, said, given, kept: None, is_last: false }
}

/// Returns the message for a result table in `file`, which is the last part if the worker has sent
/// other parts.
async fn complete_table(
    parts: &mut TableReceiver,
    file: Option<OwnedFd>,
    quota: Option<&TableQuota>,
) -> FinalMessage {
    if !parts.any() {
        return file.map_or(FinalMessage::Nothing, FinalMessage::Table);
    }
    parts.add(file).await;
    // The table is complete. Parts that still follow belong to a new table, with the same quota.
    let whole = std::mem::replace(parts, TableReceiver::new(quota.cloned()));
    FinalMessage::ChunkedTable(whole.finish().await.map_err(Error::from))
}

/// Returns the message for a result table. `layout` is the file that describes the layout of the
/// table, and `bytes` the file with its bytes; `None` if the bytes are in a file that the server
/// provided.
fn table_result(layout: Option<OwnedFd>, bytes: Option<OwnedFd>) -> FinalMessage {
    layout.map_or(FinalMessage::Nothing, |layout| FinalMessage::Laid(layout, bytes))
}

/// Returns false if the process ended before it read its task: the kernel then resets the
/// connection.
fn has_read_task(ended: Option<&std::io::Result<Option<ChannelMessage>>>) -> bool {
    match ended {
        Some(Err(error)) => error.kind() != std::io::ErrorKind::ConnectionReset,
        Some(Ok(_)) => true,
        None => false,
    }
}

/// Returns the final message for a message with a result. Also returns true if the process waits
/// for another call, and false if this is the last message of the process.
fn result_of(message: WorkerMessage, file: Option<OwnedFd>) -> (FinalMessage, Option<bool>) {
    match message {
        WorkerMessage::Value { text: Some(text), kept } => (FinalMessage::Text(text), kept),
        WorkerMessage::Value { text: None, .. } => {
            (file.map_or(FinalMessage::Nothing, FinalMessage::Value), None)
        }
        WorkerMessage::Bool { value, kept } => (FinalMessage::Bool(value), kept),
        WorkerMessage::Raised { exception, message, frames, hint, unreachable, full, kept } => {
            (FinalMessage::Raised { exception, message, frames, hint, unreachable, full }, kept)
        }
        WorkerMessage::Unfit { returned, reason, hint } => {
            (FinalMessage::Unfit { returned, reason, hint }, None)
        }
        _ => (FinalMessage::Nothing, None),
    }
}

/// Sends a part of a streamed response, and waits while the client reads slowly.
async fn send_part(answer: Option<&ResponseSender>, message: WorkerMessage) {
    let part = match message {
        WorkerMessage::Answer { media_type } => ResponsePart::Begin { media_type },
        WorkerMessage::Bytes { bytes } => {
            ResponsePart::Bytes(STANDARD.decode(bytes).unwrap_or_default().into())
        }
        _ => return,
    };
    if let Some(answer) = answer {
        answer.send(part).await;
    }
}

/// Returns a callback that adds messages of Headwater to the function's output, as system lines.
fn system_lines(sink: mpsc::Sender<FunctionEvent>) -> MessageCallback {
    Box::new(move |text| {
        let sink = sink.clone();
        Box::pin(async move {
            let (stream, file, line) = (LogStream::System, None, None);
            let _ = sink.send(FunctionEvent::Line { stream, file, line, text }).await;
        })
    })
}

/// Sends a worker the file for its result table. A call gets at most one such file.
fn send_result_file(channel: &AsyncFd<Channel>, pages: Option<&HugePageFs>, made: &mut ResultFile) {
    let written = pages.and_then(|pages| {
        let written = made.file(pages);
        written
            .inspect_err(
                |error| tracing::warn!(%error, "the result file of a function cannot be created"),
            )
            .ok()?
    });
    let written: Vec<_> = written.iter().map(AsFd::as_fd).collect();
    // Ignore an error: a correct worker leaves so few replies unread that the socket's buffer has
    // space for all of them.
    let _ = channel.get_ref().send(b"file", &written);
}

/// Returns the result of the future `coming`; `None` if the process has ended and no message
/// arrives within [`SILENCE`].
async fn receive_until_ended<T>(
    coming: impl Future<Output = T>,
    over: &CancellationToken,
) -> Option<T> {
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
pub(crate) async fn receive(channel: &AsyncFd<Channel>) -> Option<ChannelMessage> {
    receive_or_fail(channel).await.ok().flatten()
}

/// Returns the next message; `None` when the other end is closed. Fails if the other end was closed
/// while messages to it were unread.
async fn receive_or_fail(channel: &AsyncFd<Channel>) -> std::io::Result<Option<ChannelMessage>> {
    // Yield regularly: otherwise, a continuous stream of messages would block this thread and delay
    // time limits.
    tokio::task::coop::consume_budget().await;
    loop {
        let mut ready = channel.readable().await?;
        if let Ok(received) = ready.try_io(|channel| channel.get_ref().receive()) {
            return received;
        }
    }
}

/// Opens the server's end of an output pipe for reading.
pub(crate) fn receiver(pipe: OwnedFd) -> Result<Receiver> {
    rustix::io::ioctl_fionbio(&pipe, true)
        .map_err(|errno| Error::io("read a pipe")(errno.into()))?;
    Receiver::from_owned_fd(pipe).map_err(Error::io("read a pipe"))
}

/// Reads an output pipe until all writers have closed it. After `pause` is cancelled, reads only
/// until the pipe is empty, and returns the pipe for the next call.
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
            read = receive_until_ended(pipe.read(&mut buffer), &over) => {
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
        lines.send(stream, None, None, visible_text(&pending)).await;
    }
    open.then_some(pipe)
}

/// Removes and returns the complete lines in the buffer. Splits a line that is too long.
fn take_lines(pending: &mut Vec<u8>) -> Vec<String> {
    let mut lines = Vec::new();
    let mut start = 0;
    while let Some(length) = pending[start..].iter().position(|byte| *byte == b'\n') {
        lines.push(visible_text(&pending[start..start + length]));
        start += length + 1;
    }
    pending.drain(..start);
    if pending.len() >= LINE_BYTES_MAX {
        lines.push(visible_text(pending));
        pending.clear();
    }
    lines
}

/// Returns the part of a line that a terminal would show: the part after the last carriage return.
fn visible_text(line: &[u8]) -> String {
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
