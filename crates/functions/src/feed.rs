//! Rows that a function is given batch by batch while somebody makes them.
//!
//! The function asks for each batch on a socket of its own; a task answers with the file that it lies
//! in, and is a few batches ahead meanwhile. What the function has dropped is written again. What it
//! keeps stays as long as it does, in the call's room or beyond that on disk, so that a function which
//! keeps everything has it, and one which does not holds a few batches however many there are.
//!
//! Every time that it begins from the first row on, the rows are made anew. The process is trusted with
//! nothing: what it says of its own batches can only change what it sees itself.

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
use futures::StreamExt;
use futures::stream::{BoxStream, Fuse};
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use tokio::io::unix::AsyncFd;
use tokio::sync::mpsc;
use tokio::task::{AbortHandle, JoinHandle};
use tokio_util::sync::CancellationToken;

use crate::listen::receive;
use crate::memory::{Chunk, Gathered, MemoryFile, Taken, aside, bytes_of, suits};
use crate::spawner::{Channel, watch};
use crate::{Error, Result, Room};

/// Bytes and rows of a batch at most, as far as its rows let themselves be cut.
const BATCH_BYTES_MAX: usize = 8 << 20;
const BATCH_ROWS_MAX: usize = 1 << 17;

/// Batches that may wait for the function.
const AHEAD: usize = 1;

/// Files that are kept to be written again, of those that the function has never seen.
const FREE_MAX: usize = 4;

/// The most files that it may have rows in at once: each takes the server a descriptor.
const GIVEN_MAX: usize = 1024;

/// Messages that are heard after a call's end.
const LATE_MAX: usize = 1_000;

/// Numbers of files in one answer that the function need not remember any more.
const GONE_AT_ONCE: usize = 1_000;

/// Rows of one schema, one batch after the other.
pub type Rows = BoxStream<'static, Result<RecordBatch, ArrowError>>;

/// Rows that a function is given batch by batch while they are made.
#[derive(Clone)]
pub struct Streamed {
    schema: SchemaRef,
    begin: Arc<dyn Fn() -> Rows + Send + Sync>,
}

impl Streamed {
    /// Rows of these columns. `begin` makes them from the first on, each time that the function begins
    /// there; what it gave before is dropped then. None where the columns are of types that only a
    /// whole table can hand over.
    pub fn new(
        schema: SchemaRef,
        begin: impl Fn() -> Rows + Send + Sync + 'static,
    ) -> Option<Streamed> {
        suits(&schema).then(|| Streamed { schema, begin: Arc::new(begin) })
    }
}

impl fmt::Debug for Streamed {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Streamed").field("schema", &self.schema).finish_non_exhaustive()
    }
}

/// The end of a feed that a worker is given, and the server's until that is fed.
pub(crate) struct Feed {
    theirs: Channel,
    /// The columns, as a stream without rows.
    columns: MemoryFile,
    ours: Channel,
    streamed: Streamed,
}

/// What a call was fed so far.
#[derive(Debug, Default)]
pub(crate) struct Fed {
    bytes: AtomicU64,
    failure: Mutex<Option<Error>>,
}

impl Fed {
    /// Bytes of all batches that it asked for.
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    /// Why rows did not come.
    pub(crate) fn take_failure(&self) -> Option<Error> {
        self.failure.lock().take()
    }
}

impl Feed {
    pub(crate) fn new(streamed: &Streamed) -> Result<Feed> {
        let (ours, theirs) = Channel::pair().map_err(Error::io("make a socket"))?;
        let columns = MemoryFile::with("headwater-columns", &columns(&streamed.schema)?)?;
        Ok(Feed { theirs, columns, ours, streamed: streamed.clone() })
    }

    /// What a worker is given: its end, and the columns.
    pub(crate) fn descriptors(&self) -> [BorrowedFd<'_>; 2] {
        [self.theirs.as_fd(), self.columns.descriptor()]
    }

    /// Feeds the worker until the call is over. What it had said by then is known when the task has ended.
    pub(crate) fn start(
        self,
        room: Option<Room>,
        fed: Arc<Fed>,
        over: CancellationToken,
    ) -> Result<JoinHandle<()>> {
        let channel = watch(self.ours).map_err(Error::io("listen to a worker"))?;
        let files = Arc::new(Files { room, known: Mutex::default() });
        let mut feeding = Feeding { channel, streamed: self.streamed, files, fed, scan: None };
        Ok(tokio::spawn(async move {
            tokio::select! {
                biased;
                () = over.cancelled() => feeding.hear_the_rest(),
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

/// What a worker says. It comes from a process that runs user code, and may be anything.
#[derive(Debug, Deserialize)]
struct Asked {
    /// The iteration whose next batch it wants; the one before it is over.
    #[serde(default)]
    next: Option<u64>,
    /// Whether it wants no more of an iteration.
    #[serde(default)]
    end: bool,
    /// Files whose rows it has dropped.
    #[serde(default)]
    free: Vec<u64>,
    /// Files whose rows it has dropped and that somebody else may still read.
    #[serde(default)]
    lost: Vec<u64>,
    /// Whether it went on with an iteration of which it has lost a batch.
    #[serde(default)]
    broken: bool,
}

/// What it is answered.
#[derive(Debug, Default, Serialize)]
struct Answer {
    scan: u64,
    /// The file that the batch lies in; none after the last.
    #[serde(skip_serializing_if = "Option::is_none")]
    file: Option<u64>,
    /// The size of that file, which comes with the answer the first time.
    size: usize,
    /// Bytes of the batch.
    bytes: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    failed: Option<String>,
    /// Files that will not come again.
    gone: Vec<u64>,
}

/// A feed at work.
struct Feeding {
    channel: AsyncFd<Channel>,
    streamed: Streamed,
    files: Arc<Files>,
    fed: Arc<Fed>,
    scan: Option<Scan>,
}

impl Feeding {
    async fn serve(&mut self) {
        while let Some(received) = receive(&self.channel).await {
            let Ok(asked) = serde_json::from_slice::<Asked>(&received.bytes) else { return };
            self.files.returned(&asked);
            self.hear(&asked);
            if asked.end {
                self.scan = None;
                self.files.clear();
            }
            // The socket holds the few answers that an honest worker has not read yet.
            if let Some(number) = asked.next
                && !self.answer(number).await
            {
                return;
            }
        }
    }

    /// Hears what the worker said just before it ended. A process that lives on may not talk for ever.
    fn hear_the_rest(&self) {
        for _ in 0..LATE_MAX {
            let Ok(Some(received)) = self.channel.get_ref().receive() else { return };
            let Ok(asked) = serde_json::from_slice(&received.bytes) else { return };
            self.hear(&asked);
        }
    }

    fn hear(&self, asked: &Asked) {
        if asked.broken {
            self.fails("the function lost a batch to what was raised while it was read");
        }
    }

    /// Answers with the next batch; false where nobody listens.
    async fn answer(&mut self, number: u64) -> bool {
        if self.scan.as_ref().is_none_or(|scan| scan.number != number) {
            self.scan = None;
            self.scan = Some(Scan::begin(number, &self.streamed, &self.files));
        }
        let Some(scan) = &mut self.scan else { return false };
        let mut answer = Answer { scan: number, ..Answer::default() };
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
            answer.gone = self.files.gone();
            return self.send(&answer, &[]);
        };
        (answer.bytes, answer.size) = (bytes, file.chunk.as_ref().map_or(0, Chunk::bytes));
        self.fed.bytes.fetch_add(bytes as u64, Ordering::Relaxed);
        answer.gone = self.files.gone();
        self.files.give(file, |number, chunk, is_new| {
            answer.file = Some(number);
            let descriptors = [chunk.descriptor()];
            self.send(&answer, if is_new { &descriptors } else { &[] })
        })
    }

    /// Whether somebody hears it. Where nobody does though somebody may listen, the call fails: the function
    /// may make something of the rows that it has.
    fn send(&self, answer: &Answer, descriptors: &[BorrowedFd<'_>]) -> bool {
        let bytes = serde_json::to_vec(answer).unwrap_or_default();
        let sent = self.channel.get_ref().send(&bytes, descriptors);
        let gone = [ErrorKind::BrokenPipe, ErrorKind::ConnectionReset];
        if let Err(error) = &sent
            && !gone.contains(&error.kind())
        {
            self.fails(&format!("the rows stopped coming: {error}"));
        }
        sent.is_ok()
    }

    fn fails(&self, why: &str) {
        let error = Error::Arrow(ArrowError::ComputeError(why.to_owned()));
        self.fed.failure.lock().get_or_insert(error);
    }
}

fn too_many() -> Error {
    Error::Arrow(ArrowError::InvalidArgumentError(format!(
        "the function keeps {GIVEN_MAX} batches of one input; without `batches=True` it gets the input as a \
         whole"
    )))
}

/// One iteration over the rows.
struct Scan {
    number: u64,
    ready: mpsc::Receiver<Result<Option<(File, usize)>>>,
    making: AbortHandle,
    over: bool,
}

impl Scan {
    fn begin(number: u64, streamed: &Streamed, files: &Arc<Files>) -> Scan {
        let (sender, ready) = mpsc::channel(AHEAD);
        let (streamed, files) = (streamed.clone(), files.clone());
        let making = tokio::spawn(async move {
            let made = make((streamed.begin)(), &files, &sender).await;
            // Nobody listens where the iteration was broken off.
            let _ = sender.send(made.map(|()| None)).await;
        });
        Scan { number, ready, making: making.abort_handle(), over: false }
    }

    /// The next batch; none after the last.
    async fn next(&mut self) -> Result<Option<(File, usize)>> {
        if self.over {
            return Ok(None);
        }
        let stopped = || ArrowError::ComputeError("the rows stopped coming".to_owned());
        let next = self.ready.recv().await.unwrap_or_else(|| Err(stopped().into()));
        self.over = !matches!(next, Ok(Some(_)));
        next
    }
}

impl Drop for Scan {
    fn drop(&mut self) {
        self.making.abort();
    }
}

/// Writes rows into files, each while the rows of the next are made.
async fn make(
    rows: Rows,
    files: &Arc<Files>,
    sender: &mpsc::Sender<Result<Option<(File, usize)>>>,
) -> Result<()> {
    let mut coming = Coming { rows: rows.fuse(), waiting: Vec::new().into_iter() };
    let mut next = coming.next().await?;
    while let Some(batches) = next {
        let files = files.clone();
        let written = aside(move || files.write(&Gathered::new(&batches)?));
        // Where these find no room, nobody waits for the next.
        let following = async { Ok(coming.next().await) };
        let (written, following) = tokio::try_join!(written, following)?;
        if sender.send(Ok(Some(written))).await.is_err() {
            return Ok(());
        }
        next = following?;
    }
    Ok(())
}

/// Rows on their way, some of them cut and not yet taken.
struct Coming {
    rows: Fuse<Rows>,
    waiting: std::vec::IntoIter<(RecordBatch, usize)>,
}

impl Coming {
    /// As many as make a batch for the function; none where there are no more.
    async fn next(&mut self) -> Result<Option<Vec<RecordBatch>>> {
        let (mut taken, mut rows, mut bytes) = (Vec::new(), 0, 0);
        loop {
            while let Some((batch, size)) = self.waiting.as_slice().first() {
                let is_full =
                    rows + batch.num_rows() > BATCH_ROWS_MAX || bytes + size > BATCH_BYTES_MAX;
                if is_full && !taken.is_empty() {
                    return Ok(Some(taken));
                }
                (rows, bytes) = (rows + batch.num_rows(), bytes + size);
                taken.extend(self.waiting.next().map(|(batch, _)| batch));
            }
            let Some(batch) = self.rows.next().await else {
                return Ok((!taken.is_empty()).then_some(taken));
            };
            self.waiting = cut(&batch?)?.into_iter();
        }
    }
}

/// A batch in pieces that suit a function, with about their sizes.
fn cut(batch: &RecordBatch) -> Result<Vec<(RecordBatch, usize)>> {
    let (rows, bytes) = (batch.num_rows(), bytes_of(batch)?);
    let pieces = rows.div_ceil(BATCH_ROWS_MAX).max(bytes.div_ceil(BATCH_BYTES_MAX)).max(1);
    let each = rows.div_ceil(pieces).max(1);
    let piece = |start: usize| (batch.slice(start, each.min(rows - start)), bytes / pieces);
    Ok((0..rows).step_by(each).map(piece).collect())
}

/// The files of a feed.
#[derive(Debug)]
struct Files {
    room: Option<Room>,
    known: Mutex<Known>,
}

#[derive(Debug, Default)]
struct Known {
    /// Those to be written again.
    free: Vec<(Option<u64>, Chunk)>,
    /// Those that the function has rows in, by their numbers.
    given: BTreeMap<u64, Chunk>,
    /// Those that it has mapped and that will not come again.
    gone: Vec<u64>,
    /// What those take that a process may hold of which nobody hears: it is free when the call has ended.
    lost: Vec<Taken>,
    last: u64,
}

/// A file with rows that the function has not been given yet. It goes back where it is dropped.
#[derive(Debug)]
struct File {
    files: Arc<Files>,
    /// What the function knows it by, where it does.
    number: Option<u64>,
    /// None once it is given.
    chunk: Option<Chunk>,
}

impl Files {
    /// Writes rows into a file: one that the function has dropped, or else a new one.
    fn write(self: &Arc<Self>, gathered: &Gathered) -> Result<(File, usize)> {
        let file = |number, chunk| {
            (File { files: self.clone(), number, chunk: Some(chunk) }, gathered.bytes())
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
        Ok(file(None, Chunk::of(gathered, self.room.as_ref())?))
    }

    /// Gives the function a file; whether it heard so.
    fn give(&self, mut file: File, say: impl FnOnce(u64, &Chunk, bool) -> bool) -> bool {
        let Some(chunk) = file.chunk.take() else { return false };
        let mut known = self.known.lock();
        let number = file.number.unwrap_or(known.last + 1);
        known.last = known.last.max(number);
        let heard = say(number, &chunk, file.number.is_none());
        known.given.insert(number, chunk);
        heard
    }

    /// Takes back what the function says that it has dropped.
    fn returned(&self, asked: &Asked) {
        let mut known = self.known.lock();
        for number in &asked.free {
            if let Some(chunk) = known.given.remove(number) {
                known.put_by(Some(*number), chunk);
            }
        }
        for number in &asked.lost {
            if let Some(chunk) = known.given.remove(number) {
                known.gone.push(*number);
                known.lost.extend(chunk.into_taken());
            }
        }
    }

    /// Keeps no file to be written again but those that the function knows: it may still hold them, and
    /// what it may hold counts.
    fn clear(&self) {
        self.known.lock().free.retain(|(number, _)| number.is_some());
    }

    /// Whether the function has rows in so many files that it gets no more.
    fn is_full(&self) -> bool {
        self.known.lock().given.len() >= GIVEN_MAX
    }

    /// Some of those that will not come again.
    fn gone(&self) -> Vec<u64> {
        let mut known = self.known.lock();
        let some = known.gone.len().min(GONE_AT_ONCE);
        known.gone.drain(..some).collect()
    }
}

impl Known {
    fn put_by(&mut self, number: Option<u64>, chunk: Chunk) {
        if chunk.is_memory() && (number.is_some() || self.free.len() < FREE_MAX) {
            self.free.push((number, chunk));
        } else {
            self.gone.extend(number);
        }
    }
}

impl Drop for File {
    fn drop(&mut self) {
        if let Some(chunk) = self.chunk.take() {
            self.files.known.lock().put_by(self.number, chunk);
        }
    }
}
