//! Errors of jobs.
//!
//! An error of the work itself is not an error of this crate. It is a `Problem`, which is stored
//! with the job.

use headwater_model::{ErrorCode, JobId, JobKind, Timestamp, ToProblem, did_you_mean};

/// A result of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// An error of this crate.
#[derive(Debug, Clone, thiserror::Error)]
pub enum Error {
    /// No job has this id.
    #[error("there is no job `{id}`")]
    JobNotFound {
        /// The requested id.
        id: String,
        /// A job with a similar id.
        near: Option<String>,
    },
    /// Several jobs match this part of an id.
    #[error("`{id}` matches several jobs: {}", list(.matches))]
    AmbiguousJob {
        /// The requested part of an id.
        id: String,
        /// Some of the matching jobs.
        matches: Vec<String>,
    },
    /// The queue of this kind of job is full.
    #[error("queue full: {waiting} jobs of kind `{}` are waiting", kind.as_str())]
    TooBusy {
        /// The kind of the rejected job.
        kind: JobKind,
        /// Number of queued jobs.
        waiting: usize,
    },
    /// The user has reached its limit of concurrent jobs.
    #[error("user `{user}` has {jobs} queued or running jobs (limit {limit})")]
    JobQuota {
        /// The user that has reached the limit.
        user: String,
        /// Number of the user's jobs that have not ended.
        jobs: u32,
        /// The user's limit of concurrent jobs.
        limit: u32,
    },
    /// The user has reached a daily limit.
    #[error("user `{user}` has reached a daily limit: {used} (limit {limit})")]
    DayQuota {
        /// The user that has reached the limit.
        user: String,
        /// The user's usage on this day.
        used: String,
        /// The user's daily limit.
        limit: String,
        /// The time at which the day ends and the limit is reset.
        day_ends: Timestamp,
    },
    /// The remaining budget of a function for the day is too small for another call.
    #[error(
        "function `{function}` has no budget left for another call today: {used} (`{setting}` is \
         {limit})"
    )]
    FunctionBudget {
        /// The function.
        function: String,
        /// The setting of the function that limits its usage.
        setting: &'static str,
        /// The usage on this day, with the reservations.
        used: String,
        /// The value of the budget setting.
        limit: String,
        /// True if the setting permits a call on a day without other calls.
        permits_call: bool,
        /// The time at which the day ends and the usage is reset.
        day_ends: Timestamp,
    },
    /// The server is shutting down and rejects new jobs.
    #[error("the server is stopping and does not accept jobs")]
    Stopping,
    /// The job was cancelled while it was queued.
    #[error("job `{id}` was stopped before it started")]
    Stopped {
        /// The job's id.
        id: JobId,
    },
    /// A stored entry is invalid.
    #[error("record `{key}` of journal `{journal}` cannot be read: {reason}")]
    Corrupt {
        /// The journal that contains the entry.
        journal: String,
        /// The key of the entry.
        key: String,
        /// The decoder's error.
        reason: String,
    },
    /// A job cannot be encoded as JSON.
    #[error("the job record cannot be encoded: {reason}")]
    Encode {
        /// The encoder's error.
        reason: String,
    },
    /// The store failed.
    #[error("{message}")]
    Store {
        /// Error code that the store returned.
        code: ErrorCode,
        /// Message of the store's error.
        message: String,
        /// Hint of the store's error.
        hint: Option<String>,
        /// True if another writer created the same unique key or ref first.
        taken: bool,
    },
}

fn list(matches: &[String]) -> String {
    matches.iter().map(|id| format!("`{id}`")).collect::<Vec<_>>().join(", ")
}

impl ToProblem for Error {
    fn code(&self) -> ErrorCode {
        match self {
            Error::JobNotFound { .. } => ErrorCode::JobNotFound,
            Error::AmbiguousJob { .. } => ErrorCode::InvalidArgument,
            Error::TooBusy { .. } => ErrorCode::TooBusy,
            Error::JobQuota { .. } | Error::DayQuota { .. } | Error::FunctionBudget { .. } => {
                ErrorCode::QuotaExceeded
            }
            Error::Stopping => ErrorCode::Unavailable,
            Error::Stopped { .. } => ErrorCode::Cancelled,
            Error::Corrupt { .. } => ErrorCode::Corrupt,
            Error::Encode { .. } => ErrorCode::Internal,
            Error::Store { code, .. } => *code,
        }
    }

    fn hint(&self) -> Option<String> {
        match self {
            Error::JobNotFound { near, .. } => {
                Some(did_you_mean(near.as_deref(), "List the jobs with `headwater job ls`."))
            }
            Error::AmbiguousJob { .. } => Some("Use more digits of the id.".into()),
            Error::TooBusy { .. } => {
                Some("Wait until some of these jobs end, and try again.".into())
            }
            Error::JobQuota { user, .. } => Some(format!(
                "Wait until a job ends, or ask an administrator to raise the limit with \
                 `headwater limit set {user}`."
            )),
            Error::DayQuota { user, day_ends, .. } => Some(format!(
                "The next day begins at {}; an administrator can raise the limit with \
                 `headwater limit set {user}`.",
                day_ends.format("%Y-%m-%dT%H:%M:%SZ")
            )),
            Error::FunctionBudget { setting, permits_call: false, .. } => {
                let or = if *setting == "calls_per_day" { "" } else { ", or lower `timeout`," };
                Some(format!(
                    "The budget is too small for a call, also on other days. Raise `{setting}` of \
                     the function{or} and run `headwater deploy`."
                ))
            }
            Error::FunctionBudget { setting, day_ends, .. } => Some(format!(
                "The next day begins at {}. To call the function today, raise `{setting}` of the \
                 function and run `headwater deploy`.",
                day_ends.format("%Y-%m-%dT%H:%M:%SZ")
            )),
            Error::Stopping => Some("Try again after the restart of the server.".into()),
            Error::Stopped { .. } | Error::Corrupt { .. } | Error::Encode { .. } => None,
            Error::Store { hint, .. } => hint.clone(),
        }
    }
}

impl From<headwater_store::Error> for Error {
    fn from(error: headwater_store::Error) -> Self {
        let problem = error.to_problem();
        let taken = matches!(
            error,
            headwater_store::Error::NotUnique { .. } | headwater_store::Error::Conflict { .. }
        );
        let message = std::iter::once(problem.message).chain(problem.causes);
        Error::Store {
            code: problem.code,
            message: message.collect::<Vec<_>>().join(": "),
            hint: problem.hint,
            taken,
        }
    }
}
