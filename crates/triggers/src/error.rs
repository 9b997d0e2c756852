//! Errors of triggers. The error of a delivery is stored with its event as a `Problem`.

use std::collections::BTreeMap;

use headwater_model::{ErrorCode, ToProblem};
use serde_json::Value;

/// A result with the error type of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// An error of this crate.
#[derive(Debug, Clone, thiserror::Error)]
pub enum Error {
    /// The definition of a trigger is invalid.
    #[error("trigger `{trigger}` cannot be used: {reason}")]
    InvalidTrigger {
        /// Name of the trigger.
        trigger: String,
        /// Reason why the definition is invalid.
        reason: String,
        /// Suggested correction of the definition.
        hint: String,
    },
    /// No trigger has this name.
    #[error("there is no trigger `{name}`")]
    TriggerNotFound {
        /// The name that the caller gave.
        name: String,
        /// A trigger with a similar name, if there is one.
        near: Option<String>,
    },
    /// The id matches no event, or several events.
    #[error("there is {} event `{id}`", if *.several { "more than one" } else { "no" })]
    EventNotFound {
        /// The id that the caller gave: complete, or its beginning or end.
        id: String,
        /// True if the id matches several events.
        several: bool,
    },
    /// The status of an event does not allow another delivery.
    #[error("event `{id}` is {status} and cannot be replayed")]
    EventNotReplayable {
        /// Id of the event.
        id: String,
        /// Status of the event.
        status: &'static str,
    },
    /// The status of an event does not allow its removal.
    #[error("event `{id}` is {status} and cannot be removed")]
    EventNotRemovable {
        /// Id of the event.
        id: String,
        /// Status of the event.
        status: &'static str,
    },
    /// The queue of a function is full.
    #[error("queue full: {pending} events of function `{function}` are pending")]
    QueueFull {
        /// Name of the function.
        function: String,
        /// Number of pending events of the function.
        pending: usize,
    },
    /// An idempotency key is invalid.
    #[error("the key `{key}` is empty, longer than 200 characters, or has control characters")]
    InvalidEventId {
        /// The key, truncated.
        key: String,
    },
    /// A stored value cannot be decoded.
    #[error("record `{key}` of journal `{journal}` cannot be read: {reason}")]
    Corrupt {
        /// Name of the journal.
        journal: String,
        /// Key of the entry in the journal.
        key: String,
        /// Reason why the value cannot be decoded.
        reason: String,
    },
    /// A value cannot be encoded as JSON.
    #[error("the record of a trigger event cannot be encoded: {reason}")]
    Encode {
        /// Reason why the value cannot be encoded.
        reason: String,
    },
    /// The job queue failed.
    #[error(transparent)]
    Jobs(#[from] headwater_jobs::Error),
    /// The changes of buckets cannot be read.
    #[error(transparent)]
    Objects(#[from] headwater_objects::Error),
    /// Messages of a queue cannot be received.
    #[error(transparent)]
    Queues(#[from] headwater_queues::Error),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] headwater_store::Error),
}

impl ToProblem for Error {
    fn code(&self) -> ErrorCode {
        match self {
            Error::InvalidTrigger { .. } => ErrorCode::InvalidProject,
            Error::TriggerNotFound { .. } => ErrorCode::TriggerNotFound,
            Error::EventNotFound { .. } => ErrorCode::EventNotFound,
            Error::EventNotReplayable { .. }
            | Error::EventNotRemovable { .. }
            | Error::InvalidEventId { .. } => ErrorCode::InvalidArgument,
            Error::QueueFull { .. } => ErrorCode::TooBusy,
            Error::Corrupt { .. } => ErrorCode::Corrupt,
            Error::Encode { .. } => ErrorCode::Internal,
            Error::Jobs(error) => error.code(),
            Error::Objects(error) => error.code(),
            Error::Queues(error) => error.code(),
            Error::Store(error) => error.code(),
        }
    }

    fn hint(&self) -> Option<String> {
        match self {
            Error::InvalidTrigger { hint, .. } => Some(hint.clone()),
            Error::TriggerNotFound { near: Some(near), .. } => {
                Some(format!("Did you mean `{near}`?"))
            }
            Error::TriggerNotFound { near: None, .. } => {
                Some("List the triggers with `headwater trigger ls`.".into())
            }
            Error::EventNotFound { several: true, .. } => Some("Use more digits of the id.".into()),
            Error::EventNotFound { several: false, .. } => {
                Some("List the events with `headwater event ls`.".into())
            }
            Error::EventNotReplayable { .. } => {
                Some("Replay only pending or failed events.".into())
            }
            Error::EventNotRemovable { .. } => {
                Some("Remove only events that are pending or failed.".into())
            }
            Error::QueueFull { .. } => Some("Send the event again later.".into()),
            Error::InvalidEventId { .. } => {
                Some("Use a short id that is unique for each event.".into())
            }
            Error::Corrupt { .. } | Error::Encode { .. } => None,
            Error::Jobs(error) => error.hint(),
            Error::Objects(error) => error.hint(),
            Error::Queues(error) => error.hint(),
            Error::Store(error) => error.hint(),
        }
    }

    fn context(&self) -> BTreeMap<String, Value> {
        match self {
            Error::Jobs(error) => error.context(),
            Error::Objects(error) => error.context(),
            Error::Queues(error) => error.context(),
            Error::Store(error) => error.context(),
            _ => BTreeMap::new(),
        }
    }
}
