//! What can go wrong with an environment or a function, and what to do about it.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::Duration;

use arrow::error::ArrowError;
use headwater_model::{ErrorCode, Fault};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::Returns;

/// A result of this room.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// One frame of the user's own code in a traceback.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Frame {
    /// The file, relative to the project.
    pub file: String,
    /// The line, from 1.
    pub line: u32,
    /// The function, or `<module>`.
    pub function: String,
    /// The text of that line, trimmed.
    #[serde(default)]
    pub source: String,
}

/// What can go wrong in this room.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Packages that cannot be resolved or installed.
    #[error("{message}")]
    EnvironmentFailed {
        /// What went wrong, in uv's words where it was uv, trimmed.
        message: String,
        /// What to do.
        hint: Option<String>,
    },
    /// The machine has no such Python.
    #[error("there is no Python `{wanted}` on this machine; it has {}", list(.found))]
    PythonNotFound {
        /// The version asked for.
        wanted: String,
        /// The versions found.
        found: Vec<String>,
    },
    /// There is no such environment.
    #[error("there is no environment `{id}`, or more than one whose id begins so")]
    EnvironmentNotFound {
        /// The beginning of its id.
        id: String,
    },
    /// The user's code raised.
    #[error("{}", raised(.exception, .message, .frames))]
    FunctionRaised {
        /// The exception's class.
        exception: String,
        /// Its message.
        message: String,
        /// The user's own frames, outermost first.
        frames: Vec<Frame>,
        /// What to do, where that is known.
        hint: Option<String>,
    },
    /// The function returned what cannot be a table, or is not true or false.
    #[error("{}", unfit(.function, .returned, .reason.as_deref(), *.wanted))]
    NotATable {
        /// The function.
        function: String,
        /// The type it returned.
        returned: String,
        /// Why that will not do, though others of its type may.
        reason: Option<String>,
        /// What to return instead, where that is known.
        hint: Option<String>,
        /// What it should have returned.
        wanted: Returns,
    },
    /// The instance used more memory than it may.
    #[error(
        "`{label}` needs more memory than its limit of {}{}; it had used {}",
        size(*.limit),
        retried(*.retried_with),
        size(*.used)
    )]
    MemoryLimit {
        /// The function's label.
        label: String,
        /// Its limit, in bytes.
        limit: u64,
        /// What it had when it ran once more, in bytes, where it did.
        retried_with: Option<u64>,
        /// The most it held, in bytes.
        used: u64,
    },
    /// The instance ran longer than it may.
    #[error(
        "`{label}` ran longer than its limit of {}{}",
        duration(*.limit),
        if *.importing { ": its packages were still being imported".to_owned() } else { at(.frames) }
    )]
    TimeLimit {
        /// The function's label.
        label: String,
        /// Its limit.
        limit: Duration,
        /// Whether it never began, because its packages were being imported for the first time.
        importing: bool,
        /// Where the user's code was, outermost first, where it answered in time.
        frames: Vec<Frame>,
    },
    /// The function filled its `/tmp`.
    #[error(
        "`{label}` needs more room in `/tmp` than its limit of {}; it had used {}{}",
        size(*.limit),
        size(*.used),
        at(.frames)
    )]
    TempLimit {
        /// The function's label.
        label: String,
        /// Its limit, in bytes.
        limit: u64,
        /// What lay there, in bytes.
        used: u64,
        /// Where the user's code was, outermost first.
        frames: Vec<Frame>,
    },
    /// Stopped by a person.
    #[error("`{label}` was cancelled")]
    Cancelled {
        /// The function's label, or what else was under way.
        label: String,
    },
    /// The server lets end what runs, and begins nothing more.
    #[error("`{label}` has not begun: the server is stopping")]
    Stopping {
        /// The function's label.
        label: String,
    },
    /// The process ended without an answer.
    #[error("`{label}` ended without an answer: {reason}")]
    InstanceDied {
        /// The function's label.
        label: String,
        /// The exit code or signal in words.
        reason: String,
    },
    /// A zygote could not be cloned, so that the function never began.
    #[error("{reason}")]
    NotCloned {
        /// The step that failed and the system's answer.
        reason: String,
    },
    /// The host forbids what a sandbox needs.
    #[error("this host does not let Headwater isolate functions: {reason}")]
    IsolationUnavailable {
        /// The step that failed and the kernel's answer.
        reason: String,
        /// What to change.
        hint: String,
    },
    /// Too many invocations wait already.
    #[error("{waiting} function calls wait already, {own} of them of {owner}: no more of its may")]
    TooBusy {
        /// How many wait.
        waiting: usize,
        /// How many of them belong to the owner of this one.
        own: usize,
        /// For whom the call was made.
        owner: String,
    },
    /// An instance's output is not what its worker writes.
    #[error("the output of `{label}` cannot be read: {reason}")]
    BadOutput {
        /// The function's label.
        label: String,
        /// What is wrong with it.
        reason: String,
    },
    /// A function returned a value that is no table, and larger than one may be.
    #[error("`{function}` returned a value that takes more than {} as JSON", size(*.most))]
    LargeValue {
        /// The function's name.
        function: String,
        /// The most bytes.
        most: u64,
    },
    /// The spawner could not be started, or ended.
    #[error("the spawner {reason}")]
    Spawner {
        /// What happened.
        reason: String,
    },
    /// Arrow data could not be written, to shared memory or to disk, or not be read back.
    #[error("cannot hold the rows of a table")]
    Arrow(#[from] ArrowError),
    /// The system refused something.
    #[error("cannot {what}")]
    Io {
        /// What was tried.
        what: String,
        /// The system's answer.
        source: std::io::Error,
    },
}

impl Error {
    /// Says what was tried when the system refused.
    pub(crate) fn io(what: impl Into<String>) -> impl FnOnce(std::io::Error) -> Error {
        let what = what.into();
        move |source| Error::Io { what, source }
    }

    /// An environment that cannot be, with a hint.
    pub(crate) fn environment(message: impl Into<String>, hint: impl Into<String>) -> Error {
        Error::EnvironmentFailed { message: message.into(), hint: Some(hint.into()) }
    }
}

impl Fault for Error {
    fn code(&self) -> ErrorCode {
        match self {
            Error::EnvironmentFailed { .. } | Error::PythonNotFound { .. } => {
                ErrorCode::EnvironmentFailed
            }
            Error::EnvironmentNotFound { .. } => ErrorCode::EnvironmentNotFound,
            Error::FunctionRaised { .. }
            | Error::NotATable { .. }
            | Error::InstanceDied { .. }
            | Error::LargeValue { .. }
            | Error::BadOutput { .. } => ErrorCode::FunctionFailed,
            Error::MemoryLimit { .. } => ErrorCode::MemoryLimit,
            Error::TempLimit { .. } => ErrorCode::TempLimit,
            Error::TimeLimit { .. } => ErrorCode::TimeLimit,
            Error::Cancelled { .. } => ErrorCode::Cancelled,
            Error::Stopping { .. } => ErrorCode::Unavailable,
            Error::IsolationUnavailable { .. } => ErrorCode::IsolationUnavailable,
            Error::TooBusy { .. } => ErrorCode::TooBusy,
            Error::Io { source, .. } | Error::Arrow(ArrowError::IoError(_, source))
                if source.kind() == std::io::ErrorKind::StorageFull =>
            {
                ErrorCode::DiskFull
            }
            Error::Spawner { .. }
            | Error::NotCloned { .. }
            | Error::Arrow(_)
            | Error::Io { .. } => ErrorCode::Internal,
        }
    }

    fn hint(&self) -> Option<String> {
        match self {
            Error::EnvironmentFailed { hint, .. } | Error::FunctionRaised { hint, .. } => {
                hint.clone()
            }
            Error::PythonNotFound { .. } => Some(
                "Install that version (with pyenv, or `uv python install`), or ask for one of those."
                    .to_owned(),
            ),
            Error::NotATable { hint: Some(hint), wanted: Returns::Table, .. }
            | Error::IsolationUnavailable { hint, .. } => Some(hint.clone()),
            Error::NotATable { reason: Some(_), wanted: Returns::Table, .. } => {
                Some("Give each column values of one type.".to_owned())
            }
            Error::NotATable { wanted, .. } => Some(format!("Return {}.", words(*wanted))),
            Error::LargeValue { .. } => Some("Return a table: it may be larger.".to_owned()),
            Error::MemoryLimit { .. } => Some(
                "Raise `memory` in the function's decorator or in `[defaults]` of headwater.toml."
                    .to_owned(),
            ),
            Error::TimeLimit { .. } => Some(
                "Raise `timeout` in the function's decorator or in `[defaults]` of headwater.toml."
                    .to_owned(),
            ),
            Error::EnvironmentNotFound { .. } => {
                Some("see `headwater environment ls` for those that there are".to_owned())
            }
            Error::TempLimit { .. } => Some(
                "Raise `tmp` in the function's decorator; what lies in `/tmp` counts as memory, too."
                    .to_owned(),
            ),

            Error::TooBusy { .. } => Some(
                "Try again when some have ended, or have fewer wait at a time; `headwater job get` \
                 says what a call waits for."
                    .to_owned(),
            ),
            Error::Stopping { .. } => Some("Try again when the server is back.".to_owned()),
            Error::InstanceDied { .. } => Some(
                "Look at what the function printed, and at native code it calls.".to_owned(),
            ),
            Error::Io { source, .. } if source.kind() == std::io::ErrorKind::StorageFull => {
                Some("Free space on the disk that holds the lake's environments.".to_owned())
            }
            Error::Arrow(ArrowError::IoError(_, source))
                if source.kind() == std::io::ErrorKind::StorageFull =>
            {
                Some("Free space on the disk that holds the lake, or keep fewer rows.".to_owned())
            }
            Error::Cancelled { .. }
            | Error::BadOutput { .. }
            | Error::NotCloned { .. }
            | Error::Spawner { .. }
            | Error::Arrow(_)
            | Error::Io { .. } => None,
        }
    }

    fn context(&self) -> BTreeMap<String, Value> {
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
            Error::PythonNotFound { found, .. } => vec![("found", json!(found))],
            _ => Vec::new(),
        };
        pairs.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
    }
}

fn unfit(function: &str, returned: &str, reason: Option<&str>, wanted: Returns) -> String {
    let Some(reason) = reason else {
        return format!("`{function}` returned `{returned}`, which is not {}", words(wanted));
    };
    let what = if wanted == Returns::Any { "cannot be answered with" } else { "is no table" };
    format!("`{function}` returned a `{returned}` that {what}: {reason}")
}

fn words(wanted: Returns) -> &'static str {
    match wanted {
        Returns::Table => {
            "a table: a `pyarrow.Table`, a pandas or polars data frame, or a list of dicts"
        }
        Returns::Bool => "`True` or `False`",
        Returns::Any => "a table, or what JSON can say: text, numbers, lists and dicts of those",
    }
}

/// ` and than the 512 MiB that it ran once more with`.
fn retried(with: Option<u64>) -> String {
    with.map(|bytes| format!(" and than the {} that it ran once more with", size(bytes)))
        .unwrap_or_default()
}

fn raised(exception: &str, message: &str, frames: &[Frame]) -> String {
    let mut text = exception.to_owned();
    if !message.is_empty() {
        let _ = write!(text, ": {message}");
    }
    if let Some(frame) = frames.last() {
        let _ = write!(text, " ({}:{})", frame.file, frame.line);
    }
    text
}

fn at(frames: &[Frame]) -> String {
    match frames.last() {
        Some(frame) => format!(", and was at {}:{}", frame.file, frame.line),
        None => String::new(),
    }
}

fn list(found: &[String]) -> String {
    if found.is_empty() { "none".to_owned() } else { found.join(", ") }
}

/// Bytes for people: `512 MiB`, `1.5 GiB`.
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

/// A duration for people: `250 ms`, `30 s`, `1.5 s`.
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
        let frame = |line| Frame {
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
