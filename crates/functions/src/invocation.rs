//! One call of one function: what goes in, what comes out, and what happens in between.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use headwater_model::{JobId, LogStream, Priority, Usage};
use serde_json::Value;
use tokio_util::sync::CancellationToken;

use crate::{Environment, Network, Result, Room, SharedTable, Streamed};

/// One call of one function.
#[derive(Debug, Clone)]
pub struct Invocation {
    /// The packages it sees.
    pub environment: Arc<Environment>,
    /// The project's files by relative path; they lie read-only at `/project`.
    pub files: Arc<BTreeMap<String, String>>,
    /// The module that defines the function: a path such as `models/clean.py`, or `models.clean`.
    pub module: String,
    /// The function's name in that module.
    pub function: String,
    /// Its arguments, passed by name.
    pub arguments: Vec<Argument>,
    /// What it is to return.
    pub kind: Returns,
    /// What it may use.
    pub limits: Limits,
    /// What people call it: the model's name.
    pub label: String,
    /// Where the rows of a function that yields them piece by piece are kept; memory alone, without a
    /// limit, where nothing is said.
    pub room: Option<Room>,
    /// Whether its process may be used again by the next call of this function that says so too: with
    /// the same files, packages and limits, no network, and an empty `/tmp`. Its modules and globals
    /// stay as the last call left them.
    pub reuse: bool,
    /// Whether its large allocations lie in the file that its table is handed over in, where
    /// [`FunctionsOptions::arena`](crate::FunctionsOptions::arena) lets them.
    pub arena: bool,
    /// For whom it is made.
    pub share: Share,
    /// Once this is cancelled, the call does not begin any more; where it has begun, it goes on.
    pub begins_until: CancellationToken,
}

/// For whom a call is made: what says whose turn it is where more wait than can run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Share {
    /// A run or a caller, as people are told of it; owners have turns one after the other.
    pub owner: Arc<str>,
    /// The job that it belongs to.
    pub job: Option<JobId>,
    /// Goes before the owners' turns.
    pub priority: Priority,
}

impl Default for Share {
    /// Nobody's in particular.
    fn default() -> Self {
        Share { owner: "nobody".into(), job: None, priority: Priority::Normal }
    }
}

impl Invocation {
    /// Bytes of its arguments: of tables what they hold, of values their text. What is made while it
    /// runs counts as it comes.
    pub(crate) fn bytes(&self) -> u64 {
        let bytes = |argument: &Argument| match &argument.value {
            ArgumentValue::Table(table) | ArgumentValue::Batches(table) => table.bytes(),
            ArgumentValue::Streamed(_) => 0,
            ArgumentValue::Json(value) => value.to_string().len() as u64,
        };
        self.arguments.iter().map(bytes).sum()
    }

    /// The same without its arguments, which may be large.
    pub(crate) fn bare(&self) -> Invocation {
        Invocation {
            environment: self.environment.clone(),
            files: self.files.clone(),
            module: self.module.clone(),
            function: self.function.clone(),
            arguments: Vec::new(),
            kind: self.kind,
            limits: self.limits.clone(),
            label: self.label.clone(),
            room: self.room.clone(),
            reuse: crate::instance::reusable(self),
            share: self.share.clone(),
            begins_until: self.begins_until.clone(),
            arena: self.arena,
        }
    }
}

/// An argument, passed by name.
#[derive(Debug, Clone)]
pub struct Argument {
    /// The parameter's name.
    pub name: String,
    /// Its value.
    pub value: ArgumentValue,
}

/// The value of an argument.
#[derive(Debug, Clone)]
pub enum ArgumentValue {
    /// A `pyarrow.Table` over shared memory; nothing is copied.
    Table(SharedTable),
    /// The same as its record batches, one after the other, as often as the function likes.
    Batches(SharedTable),
    /// Record batches that are made while the function reads them; it sees them as it does the above.
    Streamed(Streamed),
    /// A plain value.
    Json(Value),
}

/// What a function is to return.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Returns {
    /// A table: of pyarrow, pandas or polars, a record batch reader, or a list of dicts.
    Table,
    /// True or false.
    Bool,
    /// A table where it is one, and else what JSON can say.
    Any,
}

/// What an instance may use.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// Memory, its `/tmp` and output included, its inputs not, in bytes.
    pub memory_bytes: u64,
    /// Elapsed time.
    pub timeout: Duration,
    /// What it may reach.
    pub network: Network,
    /// The size of its private `/tmp`, in bytes.
    pub temp_bytes: u64,
    /// Thousandths of a processor that it may use at most; none for what others leave.
    pub cpu_millis: Option<u32>,
    /// Environment variables that it finds.
    pub variables: Variables,
}

/// Environment variables by name. Their values may be secrets, and are never shown.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Variables(BTreeMap<String, String>);

impl Variables {
    /// The names, in order.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.0.keys().map(String::as_str)
    }

    /// Names and values, for the process they are meant for.
    pub(crate) fn values(&self) -> &BTreeMap<String, String> {
        &self.0
    }
}

impl From<BTreeMap<String, String>> for Variables {
    fn from(values: BTreeMap<String, String>) -> Self {
        Variables(values)
    }
}

impl std::fmt::Debug for Variables {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_set().entries(self.names()).finish()
    }
}

impl Limits {
    /// Whether a sandbox that was made for others holds these. The time limit is kept outside it,
    /// and the variables come with the call.
    pub(crate) fn as_made_for(&self, others: &Limits) -> bool {
        let of = |limits: &Limits| {
            let network = limits.network.is_off();
            (limits.memory_bytes, network, limits.temp_bytes, limits.cpu_millis)
        };
        of(self) == of(others)
    }
}

impl Default for Limits {
    /// 4 GiB of memory, an hour, no network, 1 GiB of `/tmp`, what processors there are.
    fn default() -> Self {
        Limits {
            memory_bytes: 4 << 30,
            timeout: Duration::from_secs(3600),
            network: Network::Off,
            temp_bytes: 1 << 30,
            cpu_millis: None,
            variables: Variables::default(),
        }
    }
}

/// What happens while a function runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FunctionEvent {
    /// A line was printed.
    Line {
        /// Where to.
        stream: LogStream,
        /// The user's file that printed it, relative to the project; none for native code.
        file: Option<String>,
        /// The line in that file.
        line: Option<u32>,
        /// The text, without its line end.
        text: String,
    },
}

/// How a call ended. What it took is told whether it went well or not.
#[derive(Debug)]
pub struct Outcome {
    /// What the function returned, or why it did not.
    pub returned: Result<Returned>,
    /// What it took, and what it waited for; of the first nothing where it never began.
    pub usage: Usage,
}

impl Outcome {
    /// Whether its packages were imported for it: no process held them imported.
    pub fn is_cold(&self) -> bool {
        self.usage.cold_starts > 0
    }

    /// The same of a call that was cold, or was not.
    pub(crate) fn begun(mut self, cold: bool) -> Self {
        self.usage.cold_starts = u64::from(cold);
        self
    }
}

impl Returned {
    /// Bytes of what was returned.
    pub(crate) fn bytes(&self) -> u64 {
        match self {
            Returned::Table(table) => table.bytes(),
            Returned::Bool(_) => 1,
            Returned::Json(text) => text.len() as u64,
        }
    }
}

/// What a function returned.
#[derive(Debug, Clone)]
pub enum Returned {
    /// A table in shared memory.
    Table(SharedTable),
    /// True or false.
    Bool(bool),
    /// What the function says in JSON. It comes from user code, and nobody has looked at it yet.
    Json(Bytes),
}
