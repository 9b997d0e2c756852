//! Streams rows to a function: the function reads one batch after the other while the rows are
//! computed.
//!
//! The function requests each batch over a separate socket. A task of the server replies with a
//! file that contains the batch, and prepares the next batches. A file is reused for another batch
//! after the function has released the rows in it. Rows that the function keeps are charged to the
//! memory quota of the call; rows beyond the quota are on disk. Each iteration over the rows
//! computes them again. User code can send false messages, but they affect only its own process.

use std::collections::BTreeMap;
use std::fmt;
use std::io::ErrorKind;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use arrow::array::RecordBatch;
use arrow::datatypes::{Schema, SchemaRef};
use arrow::error::ArrowError;
use arrow::ipc::writer::StreamWriter;
use futures::stream::BoxStream;
use headwater_sandbox::Channel;
use headwater_shared_memory::{
    IpcMessage, MemoryFile, QuotaReservation, ReusableFile, is_encodable, run_blocking,
};
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use tokio::io::unix::AsyncFd;
use tokio::sync::mpsc;
use tokio::task::{AbortHandle, JoinHandle};
use tokio_util::sync::CancellationToken;

use crate::pending_rows::PendingRows;
use crate::worker_io::receive;
use crate::{Error, Result, TableQuota};

/// Number of batches that are computed in advance, before the function requests them.
const AHEAD: usize = 1;

/// Maximum number of reusable files that are kept although the function has never received them.
const FREE_MAX: usize = 4;

/// Maximum number of files whose rows the function is using. Each file needs a descriptor.
const GIVEN_MAX: usize = 1024;

/// Maximum number of the worker's messages that are still read after the end of a call.
const LATE_MAX: usize = 1_000;

/// Maximum number of discarded files that one reply lists.
const GONE_AT_ONCE: usize = 1_000;

/// Record batches with the same schema.
pub type RowStream = BoxStream<'static, Result<RecordBatch, ArrowError>>;

/// An argument of a function: rows that are computed while the function reads them.
#[derive(Clone)]
pub struct StreamedInput {
    schema: SchemaRef,
    begin: Arc<dyn Fn() -> RowStream + Send + Sync>,
}

impl StreamedInput {
    /// Creates a streamed input. Each time the function iterates over the rows, `begin` computes
    /// them again, and the previous iteration is dropped. Returns `None` if a column has a type
    /// that cannot be streamed, only be passed in a whole table.
    pub fn new(
        schema: SchemaRef,
        begin: impl Fn() -> RowStream + Send + Sync + 'static,
    ) -> Option<StreamedInput> {
        is_encodable(&schema).then(|| StreamedInput { schema, begin: Arc::new(begin) })
    }
}

impl fmt::Debug for StreamedInput {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Streamed").field("schema", &self.schema).finish_non_exhaustive()
    }
}

/// The connection over which one input is streamed: the worker's end, and the server's end until
/// the feed is started.
pub(crate) struct InputFeed {
    theirs: Channel,
    /// The schema of the rows, as an Arrow IPC stream without rows.
    columns: MemoryFile,
    ours: Channel,
    streamed: StreamedInput,
}

/// The number of bytes that the feeds of a call have sent, and their error.
#[derive(Debug, Default)]
pub(crate) struct InputFeedUsage {
    bytes: AtomicU64,
    failure: Mutex<Option<Error>>,
}

impl InputFeedUsage {
    /// Returns the total size of the batches that the function has requested, in bytes.
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    /// Returns the error that ended a stream of rows, if there is one, and clears it.
    pub(crate) fn take_failure(&self) -> Option<Error> {
        self.failure.lock().take()
    }
}

impl InputFeed {
    pub(crate) fn new(streamed: &StreamedInput) -> Result<InputFeed> {
        let (ours, theirs) = Channel::pair().map_err(Error::io("create a socket"))?;
        let columns = MemoryFile::with("headwater-columns", &columns(&streamed.schema)?)?;
        Ok(InputFeed { theirs, columns, ours, streamed: streamed.clone() })
    }

    /// Returns the descriptors to send to the worker: its end of the connection, and the file with
    /// the schema.
    pub(crate) fn descriptors(&self) -> [BorrowedFd<'_>; 2] {
        [self.theirs.as_fd(), self.columns.descriptor()]
    }

    /// Starts a task that handles the worker's messages until the call ends, including the messages
    /// sent just before the end.
    pub(crate) fn start(
        self,
        table_quota: Option<TableQuota>,
        fed: Arc<InputFeedUsage>,
        over: CancellationToken,
    ) -> Result<JoinHandle<()>> {
        let channel =
            self.ours.into_async().map_err(Error::io("listen to a function's process"))?;
        let files = Arc::new(InputFeedFiles { table_quota, known: Mutex::default() });
        let mut feeding =
            InputFeedTask { channel, streamed: self.streamed, files, fed, scan: None };
        Ok(tokio::spawn(async move {
            tokio::select! {
                biased;
                () = over.cancelled() => feeding.read_remaining_messages(),
                () = feeding.serve() => {}
            }
        }))
    }
}

fn columns(schema: &Schema) -> Result<Vec<u8>, ArrowError> {
    let mut stream = StreamWriter::try_new(Vec::new(), schema)?;
    stream.finish()?;
    stream.into_inner()
}

/// A message from the worker's process about a stream. User code in that process can send any
/// content.
#[derive(Debug, Deserialize)]
struct InputFeedMessage {
    /// The number of the iteration whose next batch is requested. A new number starts a new
    /// iteration, and ends the previous one.
    #[serde(default)]
    next: Option<u64>,
    /// True if the function has ended its iteration.
    #[serde(default)]
    end: bool,
    /// Numbers of the files whose rows the worker has released, so that the files can be reused.
    #[serde(default)]
    free: Vec<u64>,
    /// Numbers of files whose rows the worker has released, but a child process may still read. The
    /// files cannot be reused.
    #[serde(default)]
    lost: Vec<u64>,
    /// True if the worker lost a batch, but the function continued its iteration.
    #[serde(default)]
    broken: bool,
}

/// A reply to the worker: the description of a batch.
#[derive(Debug, Default, Serialize)]
struct BatchReply {
    scan: u64,
    /// The number of the file that contains the batch; `None` after the last batch.
    #[serde(skip_serializing_if = "Option::is_none")]
    file: Option<u64>,
    /// The size of the file in bytes; set only in the first reply that uses this file.
    size: usize,
    /// Size of the batch in bytes.
    bytes: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    failed: Option<String>,
    /// Numbers of files that the server will not use again, so that the worker can unmap them.
    gone: Vec<u64>,
}

/// The task of the server that answers the requests for batches of one input.
struct InputFeedTask {
    channel: AsyncFd<Channel>,
    streamed: StreamedInput,
    files: Arc<InputFeedFiles>,
    fed: Arc<InputFeedUsage>,
    scan: Option<InputIteration>,
}

impl InputFeedTask {
    async fn serve(&mut self) {
        while let Some(received) = receive(&self.channel).await {
            let Ok(asked) = serde_json::from_slice::<InputFeedMessage>(&received.bytes) else {
                return;
            };
            self.files.returned(&asked);
            self.report_lost_batch(&asked);
            if asked.end {
                self.scan = None;
                self.files.clear();
            }
            // Ignore an error: a correct worker leaves so few replies unread that the socket's
            // buffer has space for all of them.
            if let Some(number) = asked.next
                && !self.answer(number).await
            {
                return;
            }
        }
    }

    /// Reads the messages that the worker sent just before the end of the call. Reads at most
    /// [`LATE_MAX`] messages, because a running process could send messages endlessly.
    fn read_remaining_messages(&self) {
        for _ in 0..LATE_MAX {
            let Ok(Some(received)) = self.channel.get_ref().receive() else { return };
            let Ok(asked) = serde_json::from_slice(&received.bytes) else { return };
            self.report_lost_batch(&asked);
        }
    }

    fn report_lost_batch(&self, asked: &InputFeedMessage) {
        if asked.broken {
            self.record_failure("the function lost a batch: an exception interrupted the read");
        }
    }

    /// Sends the next batch of the iteration `number`. Returns false if the worker has
    /// disconnected.
    async fn answer(&mut self, number: u64) -> bool {
        if self.scan.as_ref().is_none_or(|scan| scan.number != number) {
            self.scan = None;
            self.scan = Some(InputIteration::begin(number, &self.streamed, &self.files));
        }
        let Some(scan) = &mut self.scan else { return false };
        let mut answer = BatchReply { scan: number, ..BatchReply::default() };
        let next = if self.files.is_full() { Err(too_many()) } else { scan.next().await };
        let batch = match next {
            Ok(batch) => batch,
            Err(error) => {
                answer.failed = Some(match &error {
                    Error::Arrow(cause) => cause.to_string(),
                    other => other.to_string(),
                });
                self.fed.failure.lock().get_or_insert(error);
                None
            }
        };
        let Some((file, bytes)) = batch else {
            self.files.clear();
            answer.gone = self.files.take_discarded();
            return self.send(&answer, &[]);
        };
        (answer.bytes, answer.size) = (bytes, file.chunk.as_ref().map_or(0, ReusableFile::bytes));
        self.fed.bytes.fetch_add(bytes as u64, Ordering::Relaxed);
        answer.gone = self.files.take_discarded();
        self.files.send_file(file, |number, chunk, is_new| {
            answer.file = Some(number);
            let descriptors = [chunk.descriptor()];
            self.send(&answer, if is_new { &descriptors } else { &[] })
        })
    }

    /// Sends a reply. If this fails while the worker may still read, lets the whole call fail: the
    /// function would otherwise continue with incomplete rows.
    fn send(&self, answer: &BatchReply, descriptors: &[BorrowedFd<'_>]) -> bool {
        let bytes = serde_json::to_vec(answer).unwrap_or_default();
        let sent = self.channel.get_ref().send(&bytes, descriptors);
        let gone = [ErrorKind::BrokenPipe, ErrorKind::ConnectionReset];
        if let Err(error) = &sent
            && !gone.contains(&error.kind())
        {
            self.record_failure(&format!("the input stream ended early: {error}"));
        }
        sent.is_ok()
    }

    fn record_failure(&self, why: &str) {
        let error = Error::Arrow(ArrowError::ComputeError(why.to_owned()));
        self.fed.failure.lock().get_or_insert(error);
    }
}

fn too_many() -> Error {
    Error::Arrow(ArrowError::InvalidArgumentError(format!(
        "the function keeps more than {GIVEN_MAX} batches of one input; release batches, or leave \
         out `batches=True` to receive the whole table"
    )))
}

/// One iteration of the function over all rows.
struct InputIteration {
    number: u64,
    ready: mpsc::Receiver<Result<Option<(BatchFile, usize)>>>,
    making: AbortHandle,
    over: bool,
}

impl InputIteration {
    fn begin(number: u64, streamed: &StreamedInput, files: &Arc<InputFeedFiles>) -> InputIteration {
        let (sender, ready) = mpsc::channel(AHEAD);
        let (streamed, files) = (streamed.clone(), files.clone());
        let making = tokio::spawn(async move {
            let made = make((streamed.begin)(), &files, &sender).await;
            // Ignore an error: the iteration has been dropped.
            let _ = sender.send(made.map(|()| None)).await;
        });
        InputIteration { number, ready, making: making.abort_handle(), over: false }
    }

    /// Returns the next batch; `None` after the last one.
    async fn next(&mut self) -> Result<Option<(BatchFile, usize)>> {
        if self.over {
            return Ok(None);
        }
        let stopped = || ArrowError::ComputeError("the input stream ended early".to_owned());
        let next = self.ready.recv().await.unwrap_or_else(|| Err(stopped().into()));
        self.over = !matches!(next, Ok(Some(_)));
        next
    }
}

impl Drop for InputIteration {
    fn drop(&mut self) {
        self.making.abort();
    }
}

/// Writes rows to files, and meanwhile computes the next rows.
async fn make(
    rows: RowStream,
    files: &Arc<InputFeedFiles>,
    sender: &mpsc::Sender<Result<Option<(BatchFile, usize)>>>,
) -> Result<()> {
    let mut coming = PendingRows::new(rows);
    let mut next = coming.next().await?;
    while let Some(batches) = next {
        let files = files.clone();
        let written = run_blocking(move || files.write(&IpcMessage::new(&batches)?));
        // If writing these rows fails, for example because of the quota, do not compute the next
        // rows.
        let following = async { Ok(coming.next().await) };
        let (written, following) = tokio::try_join!(written, following)?;
        if sender.send(Ok(Some(written))).await.is_err() {
            return Ok(());
        }
        next = following?;
    }
    Ok(())
}

/// The files in which the batches of one input are sent.
#[derive(Debug)]
struct InputFeedFiles {
    table_quota: Option<TableQuota>,
    known: Mutex<KnownFiles>,
}

/// The files that were created for an input, by their state.
#[derive(Debug, Default)]
struct KnownFiles {
    /// Files that can be reused for a new batch. A file has a number if the function has received
    /// it before.
    free: Vec<(Option<u64>, ReusableFile)>,
    /// Files whose rows the function is using, by number.
    given: BTreeMap<u64, ReusableFile>,
    /// Numbers of files that the function has received and that the server will not use again.
    gone: Vec<u64>,
    /// Quota charges for discarded files that a child process of the function may still hold. They
    /// end with the call.
    lost: Vec<QuotaReservation>,
    last: u64,
}

/// A file with a batch that has not been sent yet. If this value is dropped, the file can be
/// reused.
#[derive(Debug)]
struct BatchFile {
    files: Arc<InputFeedFiles>,
    /// The file's number, if the function has received the file before.
    number: Option<u64>,
    /// The file; `None` after it was sent.
    chunk: Option<ReusableFile>,
}

impl InputFeedFiles {
    /// Writes a batch to a file that the function has released, or to a new file. Returns the file,
    /// and the size of the batch in bytes.
    fn write(self: &Arc<Self>, gathered: &IpcMessage) -> Result<(BatchFile, usize)> {
        let file = |number, chunk| {
            (BatchFile { files: self.clone(), number, chunk: Some(chunk) }, gathered.bytes())
        };
        let free = {
            let mut known = self.known.lock();
            let fits = known.free.iter().rposition(|(_, chunk)| chunk.fits(gathered));
            fits.map(|at| known.free.swap_remove(at))
        };
        if let Some((number, mut chunk)) = free
            && chunk.write(gathered)
        {
            return Ok(file(number, chunk));
        }
        Ok(file(None, ReusableFile::of(gathered, self.table_quota.as_ref())?))
    }

    /// Sends a file to the function by calling `say` with the file's number, the file, and true if
    /// the function has not received the file before. Returns false if sending failed.
    fn send_file(
        &self,
        mut file: BatchFile,
        say: impl FnOnce(u64, &ReusableFile, bool) -> bool,
    ) -> bool {
        let Some(chunk) = file.chunk.take() else { return false };
        let mut known = self.known.lock();
        let number = file.number.unwrap_or(known.last + 1);
        known.last = known.last.max(number);
        let heard = say(number, &chunk, file.number.is_none());
        known.given.insert(number, chunk);
        heard
    }

    /// Handles the file numbers in a message: files whose rows the function has released can be
    /// reused.
    fn returned(&self, asked: &InputFeedMessage) {
        let mut known = self.known.lock();
        for number in &asked.free {
            if let Some(chunk) = known.given.remove(number) {
                known.reuse_or_discard(Some(*number), chunk);
            }
        }
        for number in &asked.lost {
            if let Some(chunk) = known.given.remove(number) {
                known.gone.push(*number);
                known.lost.extend(chunk.into_reservation());
            }
        }
    }

    /// Drops the reusable files that the function has never received. The function may still hold
    /// the other reusable files, so they remain charged to the call's quota.
    fn clear(&self) {
        self.known.lock().free.retain(|(number, _)| number.is_some());
    }

    /// Returns true if the function is using the rows of [`GIVEN_MAX`] files.
    fn is_full(&self) -> bool {
        self.known.lock().given.len() >= GIVEN_MAX
    }

    /// Removes and returns at most [`GONE_AT_ONCE`] numbers of files that the server will not use
    /// again.
    fn take_discarded(&self) -> Vec<u64> {
        let mut known = self.known.lock();
        let some = known.gone.len().min(GONE_AT_ONCE);
        known.gone.drain(..some).collect()
    }
}

impl KnownFiles {
    fn reuse_or_discard(&mut self, number: Option<u64>, chunk: ReusableFile) {
        if chunk.is_memory() && (number.is_some() || self.free.len() < FREE_MAX) {
            self.free.push((number, chunk));
        } else {
            self.gone.extend(number);
        }
    }
}

impl Drop for BatchFile {
    fn drop(&mut self) {
        if let Some(chunk) = self.chunk.take() {
            self.files.known.lock().reuse_or_discard(self.number, chunk);
        }
    }
}
