//! A call of a function: its input, its result, and its events.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use headwater_model::{JobId, LogStream, Priority, ProjectFiles, Usage};
use serde_json::Value;
use tokio_util::sync::CancellationToken;

use crate::{Environment, LakeAccess, Network, Result, SharedTable, Streamed, TableQuota};

/// A call of a function.
#[derive(Debug, Clone)]
pub struct Invocation {
    /// Its packages.
    pub environment: Arc<Environment>,
    /// The project's files by relative path, mounted read-only at `/project`.
    pub files: Arc<ProjectFiles>,
    /// The module that defines the function: a path such as `models/clean.py`, or `models.clean`.
    pub module: String,
    /// The function's name in that module.
    pub function: String,
    /// Its arguments, by name.
    pub arguments: Vec<Argument>,
    /// The expected kind of result.
    pub kind: Returns,
    /// Its limits and permissions.
    pub limits: Limits,
    /// Its label: the model's name.
    pub label: String,
    /// Memory and disk quota for the rows of a generator function; by default memory without a
    /// limit.
    pub room: Option<TableQuota>,
    /// True if later calls of this function may reuse its process. They need the same files,
    /// packages and limits, no network, and find an empty `/tmp`. Modules and globals keep their
    /// state.
    pub reuse: bool,
    /// Its owner and priority.
    pub share: Share,
    /// Cancels the call unless it has started.
    pub begins_until: CancellationToken,
    /// Its access to the lake, for `headwater.lake`.
    pub lake: Option<Arc<dyn LakeAccess>>,
}

/// The owner of a call, which determines its position in the queue.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Share {
    /// A run or a caller, as shown to users. Owners share the queue fairly.
    pub owner: Arc<str>,
    /// Its job.
    pub job: Option<JobId>,
    /// Its priority, which precedes the fairness between owners.
    pub priority: Priority,
}

impl Default for Share {
    /// Creates an owner without a job.
    fn default() -> Self {
        Share { owner: "nobody".into(), job: None, priority: Priority::Normal }
    }
}

impl Invocation {
    /// Returns the size of its arguments in bytes: of tables, and of values as text. Streamed rows
    /// count when they arrive.
    pub(crate) fn bytes(&self) -> u64 {
        let bytes = |argument: &Argument| match &argument.value {
            ArgumentValue::Table(table) | ArgumentValue::Batches(table) => table.bytes(),
            ArgumentValue::Streamed(_) => 0,
            ArgumentValue::Json(value) => value.to_string().len() as u64,
        };
        self.arguments.iter().map(bytes).sum()
    }

    /// Returns a copy without the arguments, which may be large.
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
            lake: self.lake.clone(),
        }
    }
}

/// An argument.
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
    /// A `pyarrow.Table` over shared memory, without a copy.
    Table(SharedTable),
    /// The same rows as record batches, which can be iterated repeatedly.
    Batches(SharedTable),
    /// Record batches that are computed while the function reads them.
    Streamed(Streamed),
    /// A plain value.
    Json(Value),
}

/// The expected kind of result.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Returns {
    /// A table: of pyarrow, pandas or polars, a record batch reader, or a list of dicts.
    Table,
    /// True or false.
    Bool,
    /// A table, or a value that JSON can represent.
    Any,
}

/// The limits and permissions of an instance.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// Memory limit in bytes, including `/tmp` and the output, without the inputs.
    pub memory_bytes: u64,
    /// Time limit.
    pub timeout: Duration,
    /// Network access.
    pub network: Network,
    /// Size of its private `/tmp`, in bytes.
    pub temp_bytes: u64,
    /// CPU limit in thousandths of a processor; none for no limit.
    pub cpu_millis: Option<u32>,
    /// Environment variables.
    pub variables: Variables,
}

/// Environment variables by name. Values may be secrets, and are never logged.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Variables(BTreeMap<String, String>);

impl Variables {
    /// Returns the names, in order.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.0.keys().map(String::as_str)
    }

    /// Sets a variable.
    pub fn set(&mut self, name: String, value: String) {
        self.0.insert(name, value);
    }

    /// Returns names and values, for the process of the function.
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
    /// Returns true if a sandbox for other limits suits these. The time limit and the variables do
    /// not depend on the sandbox.
    pub(crate) fn as_made_for(&self, others: &Limits) -> bool {
        let of = |limits: &Limits| {
            let network = limits.network.is_off();
            (limits.memory_bytes, network, limits.temp_bytes, limits.cpu_millis)
        };
        of(self) == of(others)
    }
}

impl Default for Limits {
    /// Returns 4 GiB of memory, an hour, no network, 1 GiB of `/tmp`, and no CPU limit.
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

/// An event while a function runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FunctionEvent {
    /// A line was printed.
    Line {
        /// The output stream.
        stream: LogStream,
        /// The user's file that printed it, relative to the project; none for native code.
        file: Option<String>,
        /// The line in that file.
        line: Option<u32>,
        /// The text, without the line end.
        text: String,
    },
}

/// The end of a call. Usage is included for failed calls.
#[derive(Debug)]
pub struct Outcome {
    /// The result, or the error.
    pub returned: Result<Returned>,
    /// The usage, including waiting times.
    pub usage: Usage,
}

impl Outcome {
    /// Returns true if the call was cold: there was no zygote.
    pub fn is_cold(&self) -> bool {
        self.usage.cold_starts > 0
    }

    /// Sets whether the call was cold.
    pub(crate) fn begun(mut self, cold: bool) -> Self {
        self.usage.cold_starts = u64::from(cold);
        self
    }
}

impl Returned {
    /// Returns the size of the result in bytes.
    pub(crate) fn bytes(&self) -> u64 {
        match self {
            Returned::Table(table) => table.bytes(),
            Returned::Bool(_) => 1,
            Returned::Json(text) => text.len() as u64,
        }
    }
}

/// The result of a function.
#[derive(Debug, Clone)]
pub enum Returned {
    /// A table in shared memory.
    Table(SharedTable),
    /// True or false.
    Bool(bool),
    /// JSON from user code, not validated yet.
    Json(Bytes),
}
