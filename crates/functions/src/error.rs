//! Errors of environments and functions, with hints.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::Duration;

use arrow::error::ArrowError;
use headwater_model::{ErrorCode, ToProblem};
use headwater_sandbox::LimitSource;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::ResultKind;
use crate::runtime_start_clock::START_MAX;

/// A result of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// One frame of a traceback, in the user's own code.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TracebackFrame {
    /// The file, relative to the project.
    pub file: String,
    /// The line, from 1.
    pub line: u32,
    /// The name of the function, or `<module>`.
    pub function: String,
    /// The source text of the line, without surrounding blanks.
    #[serde(default)]
    pub source: String,
}

/// An error of this crate.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The environment does not exist, or cannot be built.
    #[error(transparent)]
    Environment(#[from] headwater_environments::Error),
    /// The user's code raised an exception.
    #[error("{}", raised(.exception, .message, .frames))]
    FunctionRaised {
        /// The class of the exception.
        exception: String,
        /// The message of the exception.
        message: String,
        /// The frames in the user's own code, outermost first.
        frames: Vec<TracebackFrame>,
        /// The hint, if there is one.
        hint: Option<String>,
    },
    /// The function returned a value of an unsupported type.
    #[error("{}", wrong_type(.function, .returned, .reason.as_deref(), *.wanted))]
    NotATable {
        /// The name of the function.
        function: String,
        /// The type of the returned value.
        returned: String,
        /// The reason why the value cannot be converted.
        reason: Option<String>,
        /// A hint that names a supported return type, if the worker knows a suitable one.
        hint: Option<String>,
        /// The kind of result that the caller expected.
        wanted: ResultKind,
    },
    /// The instance exceeded its memory limit.
    #[error(
        "`{label}` needs more memory than its limit of {}{}; it had used {}",
        size(*.limit),
        retried(*.retried_with),
        size(*.used)
    )]
    MemoryLimit {
        /// The function's label.
        label: String,
        /// The memory limit in bytes.
        limit: u64,
        /// The memory limit of the second attempt in bytes, if the function was run a second time.
        retried_with: Option<u64>,
        /// The peak memory in bytes.
        used: u64,
        /// The place where a user sets the limit.
        settings: LimitSource,
    },
    /// The instance exceeded its time limit.
    #[error(
        "`{label}` ran longer than its limit of {}{}",
        duration(*.limit),
        if *.importing { ": its packages were still being imported".to_owned() } else { at(.frames) }
    )]
    TimeLimit {
        /// The function's label.
        label: String,
        /// The time limit.
        limit: Duration,
        /// True if the limit expired while packages were imported for the first time, before the
        /// function itself started.
        importing: bool,
        /// The place where a user sets the limit.
        settings: LimitSource,
        /// The stack of the user's code, outermost frame first. Empty if the process did not report
        /// its stack in time.
        frames: Vec<TracebackFrame>,
    },
    /// The runtime of the function, such as Node, did not request an event before the time limit.
    #[error(
        "the runtime of `{label}` did not request an event within {} ({} for its start, plus its \
         time limit of {})",
        duration(START_MAX + *.limit),
        duration(START_MAX),
        duration(*.limit)
    )]
    StartLimit {
        /// The function's label.
        label: String,
        /// The time limit of the function, which does not include the time for the runtime's start.
        limit: Duration,
    },
    /// The function needs more space in `/tmp` than its limit.
    #[error(
        "`{label}` needs more space in `/tmp` than its limit of {}; it had used {}{}",
        size(*.limit),
        size(*.used),
        at(.frames)
    )]
    TempLimit {
        /// The function's label.
        label: String,
        /// The limit in bytes.
        limit: u64,
        /// The bytes of `/tmp` in use when the error occurred.
        used: u64,
        /// The place where a user sets the limit.
        settings: LimitSource,
        /// The stack of the user's code, outermost frame first.
        frames: Vec<TracebackFrame>,
    },
    /// The call was cancelled.
    #[error("`{label}` was cancelled")]
    Cancelled {
        /// The label of the function or operation.
        label: String,
    },
    /// The server is shutting down, so the call did not start.
    #[error("`{label}` was not started: the server is stopping")]
    Stopping {
        /// The function's label.
        label: String,
    },
    /// The process ended without a result.
    #[error("`{label}` ended without a response: {reason}")]
    InstanceDied {
        /// The function's label.
        label: String,
        /// The exit code or signal, as text.
        reason: String,
    },
    /// A zygote could not be cloned, so the function did not start.
    #[error("{reason}")]
    NotCloned {
        /// The failed step and the system's error.
        reason: String,
    },
    /// The host does not support sandboxes.
    #[error("this host does not let Headwater isolate functions: {reason}")]
    IsolationUnavailable {
        /// The failed step and the kernel's error.
        reason: String,
        /// The hint: the configuration to change.
        hint: String,
    },
    /// The files of a large function must be mounted into its sandbox as a folder, and the folder
    /// could not be created.
    #[error(
        "cannot create a folder that the sandbox of `{label}` can mount; the folder is required \
         because the function's files are larger than 32 MiB"
    )]
    NoFolder {
        /// The function's label.
        label: String,
    },
    /// The queue is full.
    #[error("queue full: {queued} function calls queued, {own} from {owner} (limit {limit})")]
    TooBusy {
        /// Number of queued calls.
        queued: usize,
        /// Number of queued calls of the owner of this call.
        own: usize,
        /// The owner of the call.
        owner: String,
        /// Maximum number of queued calls. The limit for one owner is lower.
        limit: usize,
    },
    /// An instance's output has an invalid format.
    #[error("the output of `{label}` cannot be read: {reason}")]
    BadOutput {
        /// The function's label.
        label: String,
        /// The reason why the output is invalid.
        reason: String,
    },
    /// A function returned a value that is not a table and exceeds the size limit.
    #[error("`{label}` returned a value larger than the limit of {} as JSON", size(*.most))]
    LargeValue {
        /// The function's label.
        label: String,
        /// The limit in bytes.
        most: u64,
        /// The place where a user sets the function's limits, for the hint.
        settings: LimitSource,
    },
    /// The spawner or a sandbox failed.
    #[error(transparent)]
    Sandbox(#[from] headwater_sandbox::Error),
    /// Arrow data could not be written or read.
    #[error("the rows of a table cannot be encoded or decoded")]
    Arrow(#[from] ArrowError),
    /// A system call failed.
    #[error("cannot {what}")]
    Io {
        /// The failed operation, as a verb phrase.
        what: String,
        /// The system's error.
        source: std::io::Error,
    },
}

impl From<headwater_shared_memory::Error> for Error {
    fn from(error: headwater_shared_memory::Error) -> Self {
        match error {
            headwater_shared_memory::Error::Arrow(error) => Error::Arrow(error),
            headwater_shared_memory::Error::Io { what, source } => Error::Io { what, source },
        }
    }
}

impl Error {
    /// Returns a function that wraps a system error in an [`Error::Io`]. `what` is the failed
    /// operation.
    pub(crate) fn io(what: impl Into<String>) -> impl FnOnce(std::io::Error) -> Error {
        let what = what.into();
        move |source| Error::Io { what, source }
    }
}

impl Error {
    /// Applies `map` to all texts of the error that come from user code: messages, reasons and
    /// source lines. Callers use it to remove secrets.
    #[must_use]
    pub fn map_text(mut self, map: impl Fn(&str) -> String) -> Self {
        match &mut self {
            Error::FunctionRaised { message, frames, hint, .. } => {
                *message = map(message);
                for frame in frames {
                    frame.source = map(&frame.source);
                }
                *hint = hint.as_deref().map(&map);
            }
            Error::NotATable { returned, reason, hint, .. } => {
                *returned = map(returned);
                *reason = reason.as_deref().map(&map);
                *hint = hint.as_deref().map(&map);
            }
            Error::BadOutput { reason, .. } | Error::InstanceDied { reason, .. } => {
                *reason = map(reason);
            }
            _ => {}
        }
        self
    }
}

impl ToProblem for Error {
    fn code(&self) -> ErrorCode {
        match self {
            Error::Environment(error) => error.code(),
            Error::FunctionRaised { .. }
            | Error::NotATable { .. }
            | Error::InstanceDied { .. }
            | Error::LargeValue { .. }
            | Error::BadOutput { .. } => ErrorCode::FunctionFailed,
            Error::MemoryLimit { .. } => ErrorCode::MemoryLimit,
            Error::TempLimit { .. } => ErrorCode::TempLimit,
            Error::TimeLimit { .. } | Error::StartLimit { .. } => ErrorCode::TimeLimit,
            Error::Cancelled { .. } => ErrorCode::Cancelled,
            Error::Stopping { .. } => ErrorCode::Unavailable,
            Error::IsolationUnavailable { .. } => ErrorCode::IsolationUnavailable,
            Error::NoFolder { .. } => ErrorCode::Storage,
            Error::TooBusy { .. } => ErrorCode::TooBusy,
            Error::Io { source, .. } | Error::Arrow(ArrowError::IoError(_, source))
                if source.kind() == std::io::ErrorKind::StorageFull =>
            {
                ErrorCode::DiskFull
            }
            Error::Sandbox(error) => error.code(),
            Error::NotCloned { .. } | Error::Arrow(_) | Error::Io { .. } => ErrorCode::Internal,
        }
    }

    fn hint(&self) -> Option<String> {
        match self {
            Error::Environment(error) => error.hint(),
            Error::FunctionRaised { hint, .. } => hint.clone(),
            Error::NotATable { hint: Some(hint), wanted: ResultKind::Table, .. }
            | Error::IsolationUnavailable { hint, .. } => Some(hint.clone()),
            Error::NotATable { reason: Some(_), wanted: ResultKind::Table, .. } => {
                Some("Give each column values of one type.".to_owned())
            }
            Error::NotATable { wanted, .. } => Some(format!("Return {}.", words(*wanted))),
            Error::LargeValue { settings: LimitSource::Decorator, .. } => {
                Some("Return a table, which can be larger.".to_owned())
            }
            Error::LargeValue { .. } => {
                Some("Write the value to a bucket, and return its key.".to_owned())
            }
            Error::MemoryLimit { settings, .. } => Some(settings.raise_hint("memory")),
            Error::TimeLimit { settings, .. } => Some(settings.raise_hint("timeout")),
            Error::StartLimit { .. } => Some(
                "Check that the program requests its events from the runtime API. If the program \
                 starts slowly, raise the time limit of the function."
                    .to_owned(),
            ),
            Error::TempLimit { settings: LimitSource::Decorator, .. } => Some(
                "Raise `tmp` in the function's decorator; the content of `/tmp` counts as memory."
                    .to_owned(),
            ),
            Error::TempLimit { .. } => {
                Some("Write less to `/tmp`, or remove files that are not used.".to_owned())
            }
            Error::TooBusy { .. } => Some(
                "Retry when some of these calls have ended, or make fewer calls at once; \
                 `headwater job get` shows what a call waits for."
                    .to_owned(),
            ),
            Error::NoFolder { .. } => Some(
                "Free disk space, or deploy a smaller function. If the disk is not full, put the \
                 lake on a local disk and run the server with `--isolation sandbox`."
                    .to_owned(),
            ),
            Error::Stopping { .. } => Some("Try again after the restart of the server.".to_owned()),
            Error::InstanceDied { .. } => {
                Some("Check the function's output, and the native code that it calls.".to_owned())
            }
            Error::Io { source, .. } if source.kind() == std::io::ErrorKind::StorageFull => {
                Some("Free space on the disk that holds the lake's environments.".to_owned())
            }
            Error::Arrow(ArrowError::IoError(_, source))
                if source.kind() == std::io::ErrorKind::StorageFull =>
            {
                Some(
                    "Free space on the disk that holds the lake, or process fewer rows.".to_owned(),
                )
            }
            Error::Sandbox(error) => error.hint(),
            Error::Cancelled { .. }
            | Error::BadOutput { .. }
            | Error::NotCloned { .. }
            | Error::Arrow(_)
            | Error::Io { .. } => None,
        }
    }

    fn context(&self) -> BTreeMap<String, Value> {
        if let Error::Environment(error) = self {
            return error.context();
        }
        let pairs: Vec<(&str, Value)> = match self {
            Error::FunctionRaised { exception, frames, .. } => {
                vec![("exception", json!(exception)), ("frames", json!(frames))]
            }
            Error::MemoryLimit { limit, used, .. } | Error::TempLimit { limit, used, .. } => {
                vec![("limit_bytes", json!(limit)), ("used_bytes", json!(used))]
            }
            Error::TimeLimit { limit, frames, .. } => {
                let millis = u64::try_from(limit.as_millis()).unwrap_or(u64::MAX);
                vec![("limit_ms", json!(millis)), ("frames", json!(frames))]
            }
            _ => Vec::new(),
        };
        pairs.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
    }
}

fn wrong_type(function: &str, returned: &str, reason: Option<&str>, wanted: ResultKind) -> String {
    let Some(reason) = reason else {
        return format!("`{function}` returned `{returned}`, which is not {}", words(wanted));
    };
    let what = if wanted == ResultKind::Any { "cannot be stored" } else { "is not a table" };
    format!("`{function}` returned a `{returned}` that {what}: {reason}")
}

fn words(wanted: ResultKind) -> &'static str {
    match wanted {
        ResultKind::Table => {
            "a table: a `pyarrow.Table`, a pandas or polars data frame, or a list of dicts"
        }
        ResultKind::Bool => "`True` or `False`",
        ResultKind::Any => "a table, or a JSON value: text, a number, a list or a dict",
    }
}

/// Formats the memory limit of the second attempt, if any: ` and its retry limit of 512 MiB`.
fn retried(with: Option<u64>) -> String {
    with.map(|bytes| format!(" and its retry limit of {}", size(bytes))).unwrap_or_default()
}

fn raised(exception: &str, message: &str, frames: &[TracebackFrame]) -> String {
    let mut text = exception.to_owned();
    if !message.is_empty() {
        let _ = write!(text, ": {message}");
    }
    if let Some(frame) = frames.last() {
        let _ = write!(text, " ({}:{})", frame.file, frame.line);
    }
    text
}

fn at(frames: &[TracebackFrame]) -> String {
    match frames.last() {
        Some(frame) => format!(", and was at {}:{}", frame.file, frame.line),
        None => String::new(),
    }
}

/// Formats bytes: `512 MiB`, `1.5 GiB`.
pub(crate) fn size(bytes: u64) -> String {
    const UNITS: [&str; 4] = ["KiB", "MiB", "GiB", "TiB"];
    let mut value = bytes as f64 / 1024.0;
    let mut unit = 0;
    while value >= 1024.0 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    let digits = usize::from(value.fract() > 0.05 && value < 100.0);
    format!("{value:.digits$} {}", UNITS[unit])
}

/// Formats a duration: `250 ms`, `30 s`, `1.5 s`.
fn duration(limit: Duration) -> String {
    if limit < Duration::from_secs(1) {
        return format!("{} ms", limit.as_millis());
    }
    let digits = usize::from(limit.subsec_millis() > 0);
    format!("{:.digits$} s", limit.as_secs_f64())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_and_durations_read_well() {
        assert_eq!(size(512 << 20), "512 MiB");
        assert_eq!(size(3 << 29), "1.5 GiB");
        assert_eq!(size(1024), "1 KiB");
        assert_eq!(duration(Duration::from_millis(250)), "250 ms");
        assert_eq!(duration(Duration::from_millis(1500)), "1.5 s");
        assert_eq!(duration(Duration::from_secs(30)), "30 s");
    }

    #[test]
    fn a_raised_exception_names_the_users_own_line() {
        let frame = |line| TracebackFrame {
            file: "models/a.py".to_owned(),
            line,
            function: "clean".to_owned(),
            source: "x = 1 / 0".to_owned(),
        };
        let error = Error::FunctionRaised {
            exception: "ZeroDivisionError".to_owned(),
            message: "division by zero".to_owned(),
            frames: vec![frame(3), frame(7)],
            hint: None,
        };
        assert_eq!(error.to_string(), "ZeroDivisionError: division by zero (models/a.py:7)");
        assert_eq!(error.code(), ErrorCode::FunctionFailed);
        assert_eq!(error.context()["frames"][1]["line"], 7);
    }
}
