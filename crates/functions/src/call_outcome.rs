//! Determines the outcome of a call from the messages of the worker and the exit of the process.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use bytes::Bytes;
use headwater_model::{ErrorCode, ToProblem, Usage};
use headwater_sandbox::{EgressPolicy, ProcessEnd};
use headwater_shared_memory::{MemoryFile, ResultFile, WorkerFile, run_blocking};

use crate::instance::InstanceStopReason;
use crate::streaming_input::InputFeedUsage;
use crate::worker_protocol::FinalMessage;
use crate::{Error, FunctionResult, Invocation, Result, ResultKind, SharedTable};

/// Full names of the exceptions that Python, numpy and pyarrow raise when memory is exhausted. Only
/// the full names are compared, because exceptions of other libraries have the same class names.
const OUT_OF_MEMORY: [&str; 4] = [
    "MemoryError",
    "numpy._core._exceptions._ArrayMemoryError",
    "numpy.core._exceptions._ArrayMemoryError",
    "pyarrow.lib.ArrowMemoryError",
];

/// Returns the usage of one call. If the process has executed earlier calls, their CPU time is
/// subtracted.
pub(crate) fn usage(
    elapsed: Duration,
    ended: &ProcessEnd,
    cpu_us_before: u64,
    fed: &InputFeedUsage,
) -> Usage {
    Usage {
        wall_ms: elapsed.as_micros().div_ceil(1000) as u64,
        cpu_us: ended.cpu_us.saturating_sub(cpu_us_before),
        memory_bytes_peak: ended.memory_bytes_peak,
        bytes_in: fed.bytes(),
        calls: 1,
        cold_starts: 1,
        ..Usage::default()
    }
}

/// The facts that determine the outcome of a call after its end.
pub(crate) struct CallEndState<'a> {
    pub(crate) ended: ProcessEnd,
    /// The reason why the runtime stopped the call; `None` if the call ended on its own.
    pub(crate) stopped: Option<InstanceStopReason>,
    pub(crate) fed: &'a InputFeedUsage,
    pub(crate) policy: Option<&'a EgressPolicy>,
    pub(crate) message: FinalMessage,
    /// The file that the server provided for the call's result.
    pub(crate) result_file: ResultFile,
    /// The files with the call's arguments.
    pub(crate) files: Vec<WorkerFile>,
}

/// Determines the result from the exit of the process and the worker's messages.
pub(crate) async fn conclude(
    invocation: &Invocation,
    end: CallEndState<'_>,
) -> Result<FunctionResult> {
    let CallEndState { ended, stopped, fed, policy, message: said, result_file: given, files } =
        end;
    let label = invocation.label.clone();
    let (limit, settings) = (invocation.limits.memory_bytes, invocation.limits.settings);
    let memory_limit = || {
        let (label, used) = (label.clone(), ended.memory_bytes_peak);
        Error::MemoryLimit { label, limit, retried_with: None, used, settings }
    };
    if stopped != Some(InstanceStopReason::Cancelled)
        && let Some(error) = fed.take_failure()
    {
        // Discard the result, because the function has read incomplete rows.
        return Err(error);
    }
    match (said, stopped) {
        (_, Some(InstanceStopReason::Cancelled)) => Err(Error::Cancelled { label }),
        (FinalMessage::Table(file), _) => {
            let is_small = are_small([file.as_fd()], &[]);
            read_table(invocation, opened(is_small, move || SharedTable::open(file)).await)
        }
        (FinalMessage::Laid(outline, own), _) => {
            let written = own.as_ref().map(|own| [own.as_fd(), outline.as_fd()]);
            let is_small = written.is_some_and(|written| are_small(written, &files));
            let open = move || SharedTable::from_worker_files(outline, (own, given), &files);
            read_table(invocation, opened(is_small, open).await)
        }
        (FinalMessage::ChunkedTable(table), _) => read_table(invocation, table),
        (FinalMessage::Value(file), _) if invocation.kind == ResultKind::Any => {
            read_value(invocation, file)
        }
        (FinalMessage::Text(text), _) if invocation.kind == ResultKind::Any => {
            Ok(FunctionResult::Json(Bytes::from(text)))
        }
        (FinalMessage::Bool(value), _) if invocation.kind == ResultKind::Bool => {
            Ok(FunctionResult::Bool(value))
        }
        (_, Some(InstanceStopReason::StartLimit)) => {
            Err(Error::StartLimit { label, limit: invocation.limits.timeout })
        }
        (said, Some(InstanceStopReason::TimeLimit)) => {
            let frames =
                if let FinalMessage::Raised { frames, .. } = said { frames } else { Vec::new() };
            let limit = invocation.limits.timeout;
            Err(Error::TimeLimit { label, limit, importing: false, settings, frames })
        }
        _ if ended.out_of_memory => Err(memory_limit()),
        (FinalMessage::Raised { exception, .. }, _) if OUT_OF_MEMORY.contains(&&*exception) => {
            Err(memory_limit())
        }
        (FinalMessage::Raised { frames, full: Some(used), .. }, _) => {
            let limit = invocation.limits.temp_bytes;
            Err(Error::TempLimit { label, limit, used, settings, frames })
        }
        (FinalMessage::Raised { exception, message, frames, hint, unreachable, .. }, _) => {
            let denied = || policy?.denied_hosts().hint(&message, unreachable, settings);
            let hint = hint.or_else(denied);
            Err(Error::FunctionRaised { exception, message, frames, hint })
        }
        (FinalMessage::Unfit { returned, reason, hint }, _) => {
            Err(wrong_type(invocation, returned, (reason, hint)))
        }
        (FinalMessage::Bool(_) | FinalMessage::Value(_) | FinalMessage::Text(_), _) => {
            Err(wrong_type(invocation, "bool".to_owned(), (None, None)))
        }
        (FinalMessage::Nothing, _) => {
            Err(Error::InstanceDied { label, reason: ended.exit.describe() })
        }
    }
}

/// Sets the hint of a failed call in a sandbox if a connection was refused. In a sandbox, only
/// connections to a loopback address are refused; the proxy resets other connections.
pub(crate) fn explain_refusal(returned: &mut Result<FunctionResult>) {
    let Err(Error::FunctionRaised { message, hint, .. }) = returned else { return };
    if message.contains("Connection refused") || message.contains("ECONNREFUSED") {
        *hint = Some(
            "Connect to a service on another machine: in a function, `localhost` is the sandbox \
             itself, and the addresses of the server's host are not reachable."
                .to_owned(),
        );
    }
}

/// Maximum size in bytes of the files of a table that is opened on the current thread.
const SMALL_BYTES_MAX: u64 = 64 << 10;

/// Returns true if a table in these files is small. The table may refer to the inputs, so the size
/// of the inputs counts, too.
fn are_small<const N: usize>(written: [BorrowedFd<'_>; N], inputs: &[WorkerFile]) -> bool {
    let size = |file: BorrowedFd<'_>| u64::try_from(rustix::fs::fstat(file).ok()?.st_size).ok();
    let sizes = written.into_iter().map(size).chain(inputs.iter().map(WorkerFile::memory_bytes));
    sizes.sum::<Option<u64>>().is_some_and(|total| total <= SMALL_BYTES_MAX)
}

/// Opens a table: a small table on the current thread, a larger table on a thread for blocking
/// operations.
async fn opened(
    is_small: bool,
    open: impl FnOnce() -> headwater_shared_memory::Result<SharedTable> + Send + 'static,
) -> Result<SharedTable> {
    Ok(if is_small { open()? } else { run_blocking(open).await? })
}

fn read_table(invocation: &Invocation, table: Result<SharedTable>) -> Result<FunctionResult> {
    if invocation.kind == ResultKind::Bool {
        return Err(wrong_type(invocation, "a table".to_owned(), (None, None)));
    }
    table.map(FunctionResult::Table).map_err(|error| match error {
        full if full.code() == ErrorCode::DiskFull => full,
        Error::Arrow(error) => bad_output(invocation, error.to_string()),
        Error::Io { what, source } => bad_output(invocation, format!("cannot {what}: {source}")),
        other => bad_output(invocation, other.to_string()),
    })
}

/// Maximum size of a result that is not a table, in bytes.
const VALUE_BYTES_MAX: u64 = 64 << 20;

/// Parses the JSON that a function returned. User code can return any bytes.
fn read_value(invocation: &Invocation, file: OwnedFd) -> Result<FunctionResult> {
    let bad = |reason: String| bad_output(invocation, reason);
    let file = MemoryFile::seal(file).map_err(|error| bad(error.to_string()))?;
    if file.bytes() > VALUE_BYTES_MAX {
        let (label, settings) = (invocation.label.clone(), invocation.limits.settings);
        return Err(Error::LargeValue { label, most: VALUE_BYTES_MAX, settings });
    }
    Ok(FunctionResult::Json(Bytes::copy_from_slice(&file.buffer()?)))
}

fn bad_output(invocation: &Invocation, reason: String) -> Error {
    Error::BadOutput { label: invocation.label.clone(), reason }
}

/// Returns the error for a result of the wrong type. The reason and the hint come from the worker.
fn wrong_type(
    invocation: &Invocation,
    returned: String,
    (reason, hint): (Option<String>, Option<String>),
) -> Error {
    let (function, wanted) = (invocation.function.clone(), invocation.kind);
    Error::NotATable { function, returned, reason, hint, wanted }
}
