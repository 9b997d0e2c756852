//! Errors of jobs.
//!
//! An error of the work itself is no error of this crate: it is kept with the job as a `Problem`.

use headwater_model::{ErrorCode, Fault, JobId, JobKind};

/// A result of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// An error of this crate.
#[derive(Debug, Clone, thiserror::Error)]
pub enum Error {
    /// No job answers to this id.
    #[error("there is no job `{id}`")]
    JobNotFound {
        /// The text as given.
        id: String,
        /// A job whose id is nearly that.
        near: Option<String>,
    },
    /// Several jobs answer to this part of an id.
    #[error("`{id}` is the beginning or end of several jobs' ids: {}", list(.matches))]
    AmbiguousJob {
        /// The text as given.
        id: String,
        /// Some of the jobs.
        matches: Vec<String>,
    },
    /// The queue of this kind is full.
    #[error("{waiting} jobs of kind `{}` are waiting already", kind.as_str())]
    TooBusy {
        /// The kind.
        kind: JobKind,
        /// How many wait.
        waiting: usize,
    },
    /// The server lets its last jobs end and takes no more.
    #[error("the server is stopping and takes no more jobs")]
    Stopping,
    /// The job was stopped while it waited for its turn.
    #[error("job `{id}` was stopped before it began")]
    Stopped {
        /// Its id.
        id: JobId,
    },
    /// What is stored cannot be read back.
    #[error("`{key}` in journal `{journal}` cannot be read back: {reason}")]
    Corrupt {
        /// The journal.
        journal: String,
        /// The key.
        key: String,
        /// What the decoder said.
        reason: String,
    },
    /// What was to be stored cannot be written as JSON.
    #[error("job state cannot be written: {reason}")]
    Encode {
        /// What the encoder said.
        reason: String,
    },
    /// The store failed.
    #[error("{message}")]
    Store {
        /// The store's code.
        code: ErrorCode,
        /// The store's message.
        message: String,
        /// The store's hint.
        hint: Option<String>,
        /// Whether a unique key, or a ref, was taken: somebody else did the same first.
        taken: bool,
    },
}

fn list(matches: &[String]) -> String {
    matches.iter().map(|id| format!("`{id}`")).collect::<Vec<_>>().join(", ")
}

fn did_you_mean(near: Option<&String>, otherwise: &str) -> String {
    near.map_or_else(|| otherwise.to_owned(), |near| format!("Did you mean `{near}`?"))
}

impl Fault for Error {
    fn code(&self) -> ErrorCode {
        match self {
            Error::JobNotFound { .. } => ErrorCode::JobNotFound,
            Error::AmbiguousJob { .. } => ErrorCode::InvalidArgument,
            Error::TooBusy { .. } => ErrorCode::TooBusy,
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
                Some(did_you_mean(near.as_ref(), "List the jobs with `headwater job ls`."))
            }
            Error::AmbiguousJob { .. } => Some("Give more digits of the id.".into()),
            Error::TooBusy { .. } => Some("Wait for some of them to end, then try again.".into()),
            Error::Stopping => Some("Try again when the server is back.".into()),
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
