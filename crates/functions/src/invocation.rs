//! A call of a function: its input, outcome and events.

use std::sync::Arc;

use bytes::Bytes;
use headwater_model::{JobId, LogStream, Priority, ProjectFiles, Usage};
use serde_json::Value;
use tokio_util::sync::CancellationToken;

use crate::{
    EarlyResultSender, Environment, LakeAccess, Limits, OptionalCallParts, Result, SharedTable,
    StreamedInput, TableQuota,
};

/// A call of a function: the function, its arguments, and the settings of the call.
#[derive(Debug, Clone)]
pub struct Invocation {
    /// The environment with the function's packages.
    pub environment: Arc<Environment>,
    /// The project's files by relative path, mounted read-only at `/project`.
    pub files: Arc<ProjectFiles>,
    /// The module that defines the function: a path such as `models/clean.py`, or a name such as
    /// `models.clean`.
    pub module: String,
    /// The function's name in the module.
    pub function: String,
    /// The arguments.
    pub arguments: Vec<Argument>,
    /// The expected kind of result.
    pub kind: ResultKind,
    /// The limits and permissions of the call.
    pub limits: Limits,
    /// The name shown to users, such as the name of the model.
    pub label: String,
    /// The memory quota for the rows that a generator function returns; rows beyond it are written
    /// to disk. `None` means that memory is unlimited and no rows are written to disk.
    pub quota: Option<TableQuota>,
    /// The later calls that may reuse the process of this call.
    pub reuse: ReuseScope,
    /// True if the process starts another runtime for the function, such as Node.
    pub starts_runtime: bool,
    /// The owner and priority of the call.
    pub share: CallOwner,
    /// A token that cancels the call if it has not started to run yet.
    pub begins_until: CancellationToken,
    /// Handles the call's requests to the lake, which user code makes with `headwater.lake`.
    pub lake: Option<Arc<dyn LakeAccess>>,
    /// The client context, and the sender of a streamed response.
    pub client: OptionalCallParts,
    /// A sender that also gets the result, before the process has exited.
    pub early_result: Option<EarlyResultSender>,
}

/// The later calls that may reuse the process of a call. Reuse requires the same files, packages
/// and limits, and no network access. `/tmp` is emptied between calls; modules and globals keep
/// their state.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReuseScope {
    /// No calls: the process ends with the call.
    Never,
    /// Calls of the same function, including calls in other jobs.
    SameFunction,
    /// Calls of the same job, including calls of other functions with files in the same folder.
    SameJob,
    /// Calls of the SQL statement with this id, including calls of other functions with files in
    /// the same folder. [`Functions::end_instances`](crate::Functions::end_instances) ends the
    /// process.
    SameStatement(JobId),
}

/// The owner and priority of a call, which determine its position in the queue.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CallOwner {
    /// The owner: a run or a caller, as shown to users. The queue shares its permits fairly among
    /// owners.
    pub owner: Arc<str>,
    /// The job that the call belongs to, if any.
    pub job: Option<JobId>,
    /// The priority. A call with a higher priority precedes calls of all owners with a lower
    /// priority.
    pub priority: Priority,
}

impl Default for CallOwner {
    /// Returns the owner `unknown`, without a job and with normal priority.
    fn default() -> Self {
        CallOwner { owner: "unknown".into(), job: None, priority: Priority::Normal }
    }
}

impl Invocation {
    /// Returns the size of the arguments in bytes. The size of a value that is not a table is the
    /// length of its JSON text. Streamed rows are not included, because they are counted when they
    /// are sent.
    pub(crate) fn bytes(&self) -> u64 {
        let bytes = |argument: &Argument| match &argument.value {
            ArgumentValue::Table(table) | ArgumentValue::Batches(table) => table.bytes(),
            ArgumentValue::Streamed(_) => 0,
            ArgumentValue::Json(value) => value.to_string().len() as u64,
        };
        self.arguments.iter().map(bytes).sum()
    }

    /// Returns a copy of the call without its arguments, which may be large.
    pub(crate) fn without_arguments(&self) -> Invocation {
        Invocation {
            environment: self.environment.clone(),
            files: self.files.clone(),
            module: self.module.clone(),
            function: self.function.clone(),
            arguments: Vec::new(),
            kind: self.kind,
            limits: self.limits.clone(),
            label: self.label.clone(),
            quota: self.quota.clone(),
            reuse: if crate::instance::reusable(self) { self.reuse } else { ReuseScope::Never },
            starts_runtime: self.starts_runtime,
            share: self.share.clone(),
            begins_until: self.begins_until.clone(),
            lake: self.lake.clone(),
            client: self.client.clone(),
            early_result: self.early_result.clone(),
        }
    }
}

/// An argument of a call, with the name of its parameter.
#[derive(Debug, Clone)]
pub struct Argument {
    /// The parameter's name.
    pub name: String,
    /// The argument's value.
    pub value: ArgumentValue,
}

/// The value of an argument.
#[derive(Debug, Clone)]
pub enum ArgumentValue {
    /// A `pyarrow.Table` over shared memory, without a copy.
    Table(SharedTable),
    /// The rows of a table, as record batches that the function can iterate over repeatedly.
    Batches(SharedTable),
    /// Record batches that are computed while the function reads them.
    Streamed(StreamedInput),
    /// A JSON value.
    Json(Value),
}

/// The kind of result that the caller expects.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ResultKind {
    /// A table of pyarrow, pandas or polars, a record batch reader, or a list of Python dicts.
    Table,
    /// True or false.
    Bool,
    /// A table, or a value that JSON can represent.
    Any,
}

/// An event that is sent to the caller while a function runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FunctionEvent {
    /// A printed line.
    Line {
        /// The output stream.
        stream: LogStream,
        /// The user's file whose code printed the line, relative to the project; `None` for native
        /// code.
        file: Option<String>,
        /// The number of the line of code in that file.
        line: Option<u32>,
        /// The text, without the line end.
        text: String,
    },
}

/// The outcome of a call. It includes the usage, even if the call failed.
#[derive(Debug)]
pub struct InvocationOutcome {
    /// The result, or the error.
    pub returned: Result<FunctionResult>,
    /// The usage, including waiting times.
    pub usage: Usage,
}

impl InvocationOutcome {
    /// Returns true if the call was a cold start: the environment had no zygote when the call
    /// started.
    pub fn is_cold(&self) -> bool {
        self.usage.cold_starts > 0
    }

    /// Records in the usage if the call was a cold start.
    pub(crate) fn begun(mut self, cold: bool) -> Self {
        self.usage.cold_starts = u64::from(cold);
        self
    }
}

impl FunctionResult {
    /// Returns the size of the result in bytes.
    pub(crate) fn bytes(&self) -> u64 {
        match self {
            FunctionResult::Table(table) => table.bytes(),
            FunctionResult::Bool(_) => 1,
            FunctionResult::Json(text) => text.len() as u64,
        }
    }
}

/// The result of a function.
#[derive(Debug, Clone)]
pub enum FunctionResult {
    /// A table in shared memory.
    Table(SharedTable),
    /// True or false.
    Bool(bool),
    /// The JSON text that user code returned. It is not validated.
    Json(Bytes),
}
