//! The worker: the Python program inside an instance that maps the inputs, calls the user's
//! function and hands the output back. Here is what it is sent and what it may answer.

use std::collections::BTreeMap;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::path::Path;

use headwater_model::LogStream;
use include_dir::{Dir, include_dir};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio::io::unix::AsyncFd;

use crate::feed::Feed;
use crate::memory::{Extent, GivenFile, Made, MemoryFile};
use crate::spawner::Channel;
use crate::{ArgumentValue, Error, Frame, Invocation, Result, Returns, SharedTable};

/// The worker's file, below the folder that holds it and the SDK.
pub(crate) const FILE: &str = "worker/headwater_worker.py";

/// The zygote's, beside it.
pub(crate) const ZYGOTE: &str = "worker/headwater_zygote.py";

const ZYGOTE_TEXT: &str = include_str!("../../../python/worker/headwater_zygote.py");
const WORKER: &str = include_str!("../../../python/worker/headwater_worker.py");

/// Tables between functions, and rows that come batch by batch, for both.
const TABLES: &str = "worker/headwater_tables.py";
const BATCHES: &str = "worker/headwater_batches.py";

/// What a process does between two calls, and a zygote before all.
const BETWEEN: &str = "worker/headwater_between.py";
const REHEARSAL: &str = "worker/headwater_rehearsal.py";

const TABLES_TEXT: &str = include_str!("../../../python/worker/headwater_tables.py");
const BATCHES_TEXT: &str = include_str!("../../../python/worker/headwater_batches.py");
const BETWEEN_TEXT: &str = include_str!("../../../python/worker/headwater_between.py");
const REHEARSAL_TEXT: &str = include_str!("../../../python/worker/headwater_rehearsal.py");

/// The SDK, which user code imports as `headwater`.
static SDK: Dir<'_> = include_dir!("$CARGO_MANIFEST_DIR/../../python/headwater");

/// The files that every instance gets, by path below the worker's folder.
pub(crate) fn files() -> impl Iterator<Item = (String, &'static str)> {
    let sdk = SDK.files().filter(|file| file.path().extension().is_some_and(|e| e == "py"));
    let sdk = sdk.filter_map(|file| {
        Some((format!("headwater/{}", file.path().to_str()?), file.contents_utf8()?))
    });
    let own = [
        (FILE, WORKER),
        (ZYGOTE, ZYGOTE_TEXT),
        (TABLES, TABLES_TEXT),
        (BATCHES, BATCHES_TEXT),
        (BETWEEN, BETWEEN_TEXT),
        (REHEARSAL, REHEARSAL_TEXT),
    ];
    sdk.chain(own.map(|(path, text)| (path.to_owned(), text)))
}

/// The most bytes of a task that is sent as it is; the worker knows it, too.
const SHORT_BYTES_MAX: usize = 8 << 10;

/// The most descriptors in one message to the worker.
const DESCRIPTORS_AT_ONCE: usize = 100;

/// The most bytes of a table that is sent in parts which lie in memory as one.
const PART_BYTES_MAX: u64 = 64 << 20;

/// What a worker is to do.
#[derive(Serialize)]
struct Task<'a> {
    project: &'a Path,
    module: &'a str,
    function: &'a str,
    returns: &'static str,
    arguments: Vec<Given<'a>>,
    /// The files that tables lie in, and whether what is returned may refer to them.
    files: Vec<bool>,
    /// The feeds that come behind them: of each a socket, and a file that says what columns it has.
    feeds: usize,
    huge_pages: bool,
    /// How many bytes of addresses its large allocations have in a file of the server's; none where they
    /// are nowhere special.
    arena_bytes: u64,
    network: bool,
    reuse: bool,
    part_bytes: u64,
    variables: &'a BTreeMap<String, String>,
}

/// An argument as a worker is given it: a value, or where in which of the files a table lies.
#[derive(Serialize)]
#[serde(untagged)]
enum Given<'a> {
    Value {
        name: &'a str,
        value: &'a Value,
    },
    /// `look`: whether it is to be looked at whole before the function is.
    Table {
        name: &'a str,
        bytes: u64,
        extents: Vec<Extent>,
        batches: bool,
        look: bool,
    },
    Feed {
        name: &'a str,
        feed: usize,
    },
}

/// What a worker was sent.
pub(crate) struct Sent {
    /// The files, by the numbers that it knows them by.
    pub(crate) files: Vec<GivenFile>,
    /// What it is to be fed.
    pub(crate) feeds: Vec<Feed>,
}

/// How a call runs: whether another may follow it in its process, whether it writes to huge pages, and
/// whether it has an arena.
#[derive(Debug, Clone, Copy)]
pub(crate) struct How {
    pub(crate) reuse: bool,
    pub(crate) huge_pages: bool,
    pub(crate) arena: bool,
}

/// Puts the task into the worker's socket, where it waits for the worker to start.
pub(crate) fn send_task(
    channel: &Channel,
    invocation: &Invocation,
    project: &Path,
    How { reuse, huge_pages, arena }: How,
) -> Result<Sent> {
    let mut files: Vec<GivenFile> = Vec::new();
    let mut feeds: Vec<Feed> = Vec::new();
    let mut arguments = Vec::new();
    // What another function wrote may point anywhere. One that has nothing which the other lacks can only
    // hurt itself; one that has must not be led to give it away.
    let limits = &invocation.limits;
    let has_secrets = !limits.network.is_off() || !limits.variables.values().is_empty();
    for argument in &invocation.arguments {
        let name = &*argument.name;
        arguments.push(match &argument.value {
            ArgumentValue::Json(value) => Given::Value { name, value },
            ArgumentValue::Table(table) | ArgumentValue::Batches(table) => {
                let (bytes, extents) = table.give(&mut files);
                let batches = matches!(argument.value, ArgumentValue::Batches(_));
                let look = has_secrets && !table.is_read();
                Given::Table { name, bytes, extents, batches, look }
            }
            ArgumentValue::Streamed(streamed) => {
                feeds.push(Feed::new(streamed)?);
                Given::Feed { name, feed: feeds.len() - 1 }
            }
        });
    }
    let task = Task {
        project,
        module: &invocation.module,
        function: &invocation.function,
        returns: match invocation.kind {
            Returns::Table => "table",
            Returns::Bool => "bool",
            Returns::Any => "any",
        },
        arguments,
        files: files.iter().map(GivenFile::is_memory).collect(),
        feeds: feeds.len(),
        huge_pages,
        arena_bytes: if arena { invocation.limits.memory_bytes.saturating_mul(4) } else { 0 },
        network: !invocation.limits.network.is_off(),
        reuse,
        part_bytes: (invocation.limits.memory_bytes / 8).clamp(1 << 20, PART_BYTES_MAX),
        variables: invocation.limits.variables.values(),
    };
    let task =
        serde_json::to_vec(&task).map_err(|error| Error::io("write a task")(error.into()))?;
    let long = task.len() > SHORT_BYTES_MAX;
    let file = long.then(|| MemoryFile::with("headwater-task", &task)).transpose()?;
    let mut message: &[u8] = if long { b"task" } else { &task };
    let mut descriptors: Vec<BorrowedFd<'_>> = file.iter().map(MemoryFile::descriptor).collect();
    descriptors.extend(files.iter().map(GivenFile::descriptor));
    descriptors.extend(feeds.iter().flat_map(Feed::descriptors));
    let mut rest = descriptors.as_slice();
    loop {
        let some = rest.split_off(..rest.len().min(DESCRIPTORS_AT_ONCE)).unwrap_or_default();
        channel.send(message, some).map_err(Error::io("send a task"))?;
        message = b"task";
        if rest.is_empty() {
            break;
        }
    }
    drop(descriptors);
    Ok(Sent { files, feeds })
}

/// A message of the worker. It comes from a process that runs user code, and may be anything.
#[derive(Debug, Deserialize)]
#[serde(tag = "said", rename_all = "snake_case")]
pub(crate) enum Message {
    /// The sandbox's network is there; its sockets come with the message.
    Network,
    /// The worker is there, and about to run the user's code.
    Begun,
    /// The call has ended, and the process waits for another.
    Kept,
    /// The process has given back what it need not hold while it waits.
    Rested,
    /// The user's code printed a line.
    Line {
        stream: LogStream,
        #[serde(default)]
        file: Option<String>,
        #[serde(default)]
        line: Option<u32>,
        text: String,
    },
    /// A part of the table that the function returns, in a memory file that comes with the message.
    Part,
    /// The worker wants a file of the server's to write a table to, or to have its large allocations in.
    File {
        #[serde(default)]
        arena: bool,
    },
    /// The function returned a table: with the message come a memory file that says where its bytes are,
    /// and the memory file that it wrote, unless it was given one.
    Laid,
    /// The function returned a table; its memory file, or that of its last part, comes with the message.
    Table,
    /// The function returned true or false.
    Bool { value: bool },
    /// The function returned something else that JSON can say: here, or in a memory file that comes with
    /// the message.
    Value {
        #[serde(default)]
        text: Option<String>,
    },
    /// The user's code raised.
    Raised {
        exception: String,
        message: String,
        #[serde(default)]
        frames: Vec<Frame>,
        #[serde(default)]
        hint: Option<String>,
        /// Whether a host could not be reached.
        #[serde(default)]
        unreachable: bool,
        /// The bytes in `/tmp`, where the user's code was told that there is no room for more.
        #[serde(default)]
        full: Option<u64>,
    },
    /// The function returned something else, or what cannot become a table for a reason.
    Unfit {
        returned: String,
        #[serde(default)]
        reason: Option<String>,
        #[serde(default)]
        hint: Option<String>,
    },
}

/// What was heard of a worker.
#[derive(Debug, Default)]
pub(crate) struct Heard {
    /// Whether it ever was there.
    pub(crate) begun: bool,
    pub(crate) said: Said,
    /// The files that it was given to write a table to.
    pub(crate) given: Made,
    /// The socket, where the worker waits on it for another call.
    pub(crate) kept: Option<AsyncFd<Channel>>,
}

/// What a worker said in the end.
#[derive(Debug, Default)]
pub(crate) enum Said {
    /// Nothing that ends a call.
    #[default]
    Nothing,
    /// The function returned a table, in this memory file.
    Table(OwnedFd),
    /// It returned a table; this memory file says where its bytes are, of which some may be in the other.
    Laid(OwnedFd, Option<OwnedFd>),
    /// It returned a table in parts, which were put together.
    Parts(Result<SharedTable>),
    /// It returned true or false.
    Bool(bool),
    /// It returned what this memory file says in JSON.
    Value(OwnedFd),
    /// It returned what this says in JSON.
    Text(String),
    /// The user's code raised.
    Raised {
        exception: String,
        message: String,
        frames: Vec<Frame>,
        hint: Option<String>,
        unreachable: bool,
        full: Option<u64>,
    },
    /// It returned something else.
    Unfit { returned: String, reason: Option<String>, hint: Option<String> },
}
