//! Messages between the server and the worker, and the files of the worker.
//!
//! The worker is the Python program in an instance. It maps the inputs, calls the user's function
//! and returns the output.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use headwater_model::{JobId, LogStream};
use headwater_sandbox::{Channel, LimitSource};
use headwater_shared_memory::{Extent, MemoryFile, ResultFile, WorkerFile};
use include_dir::{Dir, include_dir};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio::io::unix::AsyncFd;

use crate::lake_access::UncheckedLakeRequest;
use crate::streaming_input::InputFeed;
use crate::{ArgumentValue, Error, Invocation, Result, ResultKind, SharedTable, TracebackFrame};

/// Path of the worker's program, relative to the folder that contains the worker and the SDK.
pub(crate) const FILE: &str = "worker/headwater_worker.py";

/// Path of the zygote's program, relative to the folder that contains the worker and the SDK.
pub(crate) const ZYGOTE: &str = "worker/headwater_zygote.py";

const ZYGOTE_TEXT: &str = include_str!("../../../python/worker/headwater_zygote.py");
const WORKER: &str = include_str!("../../../python/worker/headwater_worker.py");

/// Paths of the modules for tables and for streamed rows. The worker and the zygote import them.
const TABLES: &str = "worker/headwater_tables.py";
const BATCHES: &str = "worker/headwater_batches.py";

/// Paths of the worker's other modules. The docstring of each module describes its purpose.
const CLEANUP: &str = "worker/headwater_cleanup.py";
const CONNECTION: &str = "worker/headwater_connection.py";
const CONVERSION: &str = "worker/headwater_conversion.py";
const HINTS: &str = "worker/headwater_hints.py";
const LAKE: &str = "worker/headwater_lake.py";
const PRINTER: &str = "worker/headwater_printer.py";
const ROWS: &str = "worker/headwater_rows.py";
const WARM_UP: &str = "worker/headwater_warm_up.py";

const TABLES_TEXT: &str = include_str!("../../../python/worker/headwater_tables.py");
const BATCHES_TEXT: &str = include_str!("../../../python/worker/headwater_batches.py");
const CLEANUP_TEXT: &str = include_str!("../../../python/worker/headwater_cleanup.py");
const CONNECTION_TEXT: &str = include_str!("../../../python/worker/headwater_connection.py");
const CONVERSION_TEXT: &str = include_str!("../../../python/worker/headwater_conversion.py");
const HINTS_TEXT: &str = include_str!("../../../python/worker/headwater_hints.py");
const LAKE_TEXT: &str = include_str!("../../../python/worker/headwater_lake.py");
const PRINTER_TEXT: &str = include_str!("../../../python/worker/headwater_printer.py");
const ROWS_TEXT: &str = include_str!("../../../python/worker/headwater_rows.py");
const WARM_UP_TEXT: &str = include_str!("../../../python/worker/headwater_warm_up.py");

/// The SDK, which user code imports as `headwater`.
static SDK: Dir<'_> = include_dir!("$CARGO_MANIFEST_DIR/../../python/headwater");

/// The package `bauplan`, which projects written for Bauplan import.
static BAUPLAN: Dir<'_> = include_dir!("$CARGO_MANIFEST_DIR/../../python/bauplan");

/// Returns the files of the worker and the SDK, which every instance needs, with their paths below
/// the worker's folder.
pub(crate) fn files() -> impl Iterator<Item = (String, &'static str)> {
    let packages = [("headwater", &SDK), ("bauplan", &BAUPLAN)];
    let modules = packages.into_iter().flat_map(|(package, folder)| {
        let is_code = |path: &Path| path.extension().is_some_and(|end| end == "py" || end == "mjs");
        let files = folder.files().filter(move |file| is_code(file.path()));
        files.filter_map(move |file| {
            Some((format!("{package}/{}", file.path().to_str()?), file.contents_utf8()?))
        })
    });
    let own = [
        (FILE, WORKER),
        (ZYGOTE, ZYGOTE_TEXT),
        (TABLES, TABLES_TEXT),
        (BATCHES, BATCHES_TEXT),
        (CLEANUP, CLEANUP_TEXT),
        (CONNECTION, CONNECTION_TEXT),
        (CONVERSION, CONVERSION_TEXT),
        (HINTS, HINTS_TEXT),
        (LAKE, LAKE_TEXT),
        (PRINTER, PRINTER_TEXT),
        (ROWS, ROWS_TEXT),
        (WARM_UP, WARM_UP_TEXT),
    ];
    modules.chain(own.map(|(path, text)| (path.to_owned(), text)))
}

/// Maximum size in bytes of a task that is sent in the message itself. A larger task is sent in a
/// file. The worker has the same limit.
const SHORT_BYTES_MAX: usize = 8 << 10;

/// Maximum number of descriptors in one message to the worker.
const DESCRIPTORS_AT_ONCE: usize = 100;

/// Maximum size in bytes of a table that is received in parts. The parts are then copied to
/// contiguous memory.
const PART_BYTES_MAX: u64 = 64 << 20;

/// A task: the description of a call, as it is sent to a worker.
#[derive(Serialize)]
struct WorkerTask<'a> {
    project: &'a Path,
    module: &'a str,
    function: &'a str,
    returns: &'static str,
    arguments: Vec<TaskArgument<'a>>,
    /// One value for each file that contains a table: true if the result may refer to the file.
    files: Vec<bool>,
    /// The number of streamed inputs. Their descriptors follow the descriptors of the files: for
    /// each input, a socket and a file with the schema.
    feeds: usize,
    huge_pages: bool,
    network: bool,
    /// The place where a user sets the function's limits, for hints.
    settings: LimitSource,
    reuse: bool,
    prepare: bool,
    part_bytes: u64,
    variables: Cow<'a, BTreeMap<String, String>>,
    call: LambdaContext<'a>,
}

/// Returns the environment variables of a call. For a traced call, they include the standard
/// variables that contain the span of the call.
fn variables(invocation: &Invocation) -> Cow<'_, BTreeMap<String, String>> {
    let mut variables = Cow::Borrowed(invocation.limits.variables.values());
    if let Some(trace) = invocation.client.trace {
        let own = [("TRACEPARENT", trace.to_string()), ("_X_AMZN_TRACE_ID", trace.xray())];
        variables.to_mut().extend(own.map(|(name, value)| (name.to_owned(), value)));
    }
    variables
}

/// The context of a call that functions with the signature of AWS Lambda handlers get.
#[derive(Serialize)]
struct LambdaContext<'a> {
    /// The id of the call's job.
    id: String,
    function: &'a str,
    memory_bytes: u64,
    /// The deadline of the call, in milliseconds since 1970.
    deadline_ms: u64,
    /// The context that the client sent.
    client_context: Option<&'a Value>,
    /// True if the function may send its response in parts.
    streams: bool,
}

impl<'a> LambdaContext<'a> {
    fn of(invocation: &'a Invocation) -> Self {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let deadline = now.saturating_add(invocation.limits.timeout);
        LambdaContext {
            id: invocation.share.job.unwrap_or_else(JobId::generate).to_string(),
            function: &invocation.label,
            memory_bytes: invocation.limits.memory_bytes,
            deadline_ms: u64::try_from(deadline.as_millis()).unwrap_or(u64::MAX),
            client_context: invocation.client.context.as_ref(),
            streams: invocation.client.answer.is_some(),
        }
    }
}

/// An argument in a task: a value, or the position of a table in the list of files.
#[derive(Serialize)]
#[serde(untagged)]
enum TaskArgument<'a> {
    Value { name: &'a str, value: &'a Value },
    Table { name: &'a str, bytes: u64, extents: Vec<Extent>, batches: bool },
    Feed { name: &'a str, feed: usize },
}

/// The files and the streamed inputs of a task, which the server keeps during the call.
pub(crate) struct TaskFiles {
    /// The files. The task refers to each file by its index in this list.
    pub(crate) files: Vec<WorkerFile>,
    /// The connections of the streamed inputs.
    pub(crate) feeds: Vec<InputFeed>,
}

/// Settings of one call.
#[derive(Debug, Clone, Copy)]
pub(crate) struct CallSettings {
    /// If true, the process waits for another call after this one.
    pub(crate) reuse: bool,
    /// If true, the worker writes its result to a file with huge pages.
    pub(crate) huge_pages: bool,
    /// If true, the process only imports the function, and then waits for a call.
    pub(crate) prepares: bool,
}

/// Sends a task on the socket of a worker. The worker may not have started yet.
pub(crate) fn send_task(
    channel: &Channel,
    invocation: &Invocation,
    project: &Path,
    CallSettings { reuse, huge_pages, prepares }: CallSettings,
) -> Result<TaskFiles> {
    let mut files: Vec<WorkerFile> = Vec::new();
    let mut feeds: Vec<InputFeed> = Vec::new();
    let mut arguments = Vec::new();
    for argument in &invocation.arguments {
        let name = &*argument.name;
        arguments.push(match &argument.value {
            ArgumentValue::Json(value) => TaskArgument::Value { name, value },
            ArgumentValue::Table(table) | ArgumentValue::Batches(table) => {
                let (bytes, extents) = table.share_with_worker(&mut files);
                let batches = matches!(argument.value, ArgumentValue::Batches(_));
                TaskArgument::Table { name, bytes, extents, batches }
            }
            ArgumentValue::Streamed(streamed) => {
                feeds.push(InputFeed::new(streamed)?);
                TaskArgument::Feed { name, feed: feeds.len() - 1 }
            }
        });
    }
    let task = WorkerTask {
        project,
        module: &invocation.module,
        function: &invocation.function,
        returns: match invocation.kind {
            ResultKind::Table => "table",
            ResultKind::Bool => "bool",
            ResultKind::Any => "any",
        },
        arguments,
        files: files.iter().map(WorkerFile::is_memory).collect(),
        feeds: feeds.len(),
        huge_pages,
        network: !invocation.limits.network.denies_all(),
        settings: invocation.limits.settings,
        reuse,
        prepare: prepares,
        part_bytes: (invocation.limits.memory_bytes / 8).clamp(1 << 20, PART_BYTES_MAX),
        variables: variables(invocation),
        call: LambdaContext::of(invocation),
    };
    let task =
        serde_json::to_vec(&task).map_err(|error| Error::io("write a task")(error.into()))?;
    let long = task.len() > SHORT_BYTES_MAX;
    let file = long.then(|| MemoryFile::with("headwater-task", &task)).transpose()?;
    let mut message: &[u8] = if long { b"task" } else { &task };
    let mut descriptors: Vec<BorrowedFd<'_>> = file.iter().map(MemoryFile::descriptor).collect();
    descriptors.extend(files.iter().map(WorkerFile::descriptor));
    descriptors.extend(feeds.iter().flat_map(InputFeed::descriptors));
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
    Ok(TaskFiles { files, feeds })
}

/// A message from the worker's process. User code in that process can send any content.
#[derive(Debug, Deserialize)]
#[serde(tag = "said", rename_all = "snake_case")]
pub(crate) enum WorkerMessage {
    /// The sandbox's network is ready. The network sockets of the sandbox are attached to the
    /// message.
    Network,
    /// The worker is about to run the user's code.
    Begun,
    /// A runtime of another language, such as Node, begins to start. The runtime receives the event
    /// of the call when it is ready.
    Starting,
    /// The runtime of the other language has started.
    Started,
    /// The call has ended, and the process waits for another call.
    Kept,
    /// The idle process has returned its unneeded memory to the kernel.
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
    /// A request to the lake. A file with its content may be attached to the message.
    Lake { request: UncheckedLakeRequest },
    /// The function begins to send its response in parts.
    Answer {
        #[serde(default)]
        media_type: String,
    },
    /// The next part of the response, in Base64.
    Bytes { bytes: String },
    /// A part of the result table, which is in a memory file attached to the message.
    Part,
    /// The worker requests a file from the server, to which it can write the result table.
    File,
    /// The result is a table. A memory file that describes the layout of the table's bytes is
    /// attached to the message. The bytes are in a second attached memory file, or in a file that
    /// the server provided.
    Laid {
        /// True if the call has ended, and the process waits for another call. False if this is the
        /// last message of the process.
        #[serde(default)]
        kept: Option<bool>,
    },
    /// The result is a table. An attached memory file contains the table, or its last part.
    Table {
        /// True if the process waits for another call, as in `Laid`.
        #[serde(default)]
        kept: Option<bool>,
    },
    /// The result is true or false.
    Bool {
        value: bool,
        /// True if the process waits for another call, as in `Laid`.
        #[serde(default)]
        kept: Option<bool>,
    },
    /// The result is another value, as JSON, in the message itself or in an attached memory file.
    Value {
        #[serde(default)]
        text: Option<String>,
        /// True if the process waits for another call, as in `Laid`.
        #[serde(default)]
        kept: Option<bool>,
    },
    /// The user's code raised an exception.
    Raised {
        exception: String,
        message: String,
        /// True if the process waits for another call, as in `Laid`.
        #[serde(default)]
        kept: Option<bool>,
        #[serde(default)]
        frames: Vec<TracebackFrame>,
        #[serde(default)]
        hint: Option<String>,
        /// True if the user's code failed because a host could not be reached.
        #[serde(default)]
        unreachable: bool,
        /// Size of `/tmp` in bytes, if the user's code failed because `/tmp` is full.
        #[serde(default)]
        full: Option<u64>,
    },
    /// The result has an unsupported type, or cannot be converted to a table.
    Unfit {
        returned: String,
        #[serde(default)]
        reason: Option<String>,
        #[serde(default)]
        hint: Option<String>,
    },
}

/// The state of a call, from the messages that its worker has sent so far.
#[derive(Debug, Default)]
pub(crate) struct WorkerCallState {
    /// True if the worker has begun to run the user's code.
    pub(crate) begun: bool,
    pub(crate) said: FinalMessage,
    /// The file that the server gave the worker for the result table.
    pub(crate) given: ResultFile,
    /// The socket of the worker, if the process waits for another call.
    pub(crate) kept: Option<AsyncFd<Channel>>,
    /// True if the worker has announced that it sends no more messages and exits.
    pub(crate) is_last: bool,
}

/// The message with which a worker ends its call.
#[derive(Debug, Default)]
pub(crate) enum FinalMessage {
    /// The worker sent no such message.
    #[default]
    Nothing,
    /// The result is a table in this memory file.
    Table(OwnedFd),
    /// The result is a table. The first file describes the layout of its bytes, some of which may
    /// be in the second file.
    Laid(OwnedFd, Option<OwnedFd>),
    /// The result is a table that the worker sent in parts. The parts are combined here.
    ChunkedTable(Result<SharedTable>),
    /// The result is true or false.
    Bool(bool),
    /// The result is the JSON in this memory file.
    Value(OwnedFd),
    /// The result is this JSON text.
    Text(String),
    /// The user's code raised an exception.
    Raised {
        exception: String,
        message: String,
        frames: Vec<TracebackFrame>,
        hint: Option<String>,
        unreachable: bool,
        full: Option<u64>,
    },
    /// The result has an unsupported type.
    Unfit { returned: String, reason: Option<String>, hint: Option<String> },
}
