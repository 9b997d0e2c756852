//! Errors of queues.

use headwater_model::{ErrorCode, ToProblem};

/// A result with the error type of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// An error of this crate.
#[derive(Debug, Clone, thiserror::Error)]
pub enum Error {
    /// No queue has the name.
    #[error("there is no queue `{name}`")]
    QueueNotFound {
        /// The name.
        name: String,
    },
    /// No event source mapping has the id.
    #[error("there is no event source mapping `{id}`")]
    MappingNotFound {
        /// The id.
        id: String,
    },
    /// A queue with this name but other attributes exists.
    #[error("queue `{name}` already exists, with attributes that differ from the request")]
    QueueExists {
        /// The name of the queue.
        name: String,
    },
    /// A name, attribute or message is invalid.
    #[error("{reason}")]
    Invalid {
        /// Description of the invalid value.
        reason: String,
    },
    /// A message has characters that SQS does not allow.
    #[error("the message has characters that are not allowed in XML")]
    InvalidContents,
    /// A required value is missing.
    #[error("the parameter `{name}` is missing")]
    Missing {
        /// Name of the parameter.
        name: &'static str,
    },
    /// A receipt does not belong to a message of the queue.
    #[error("the receipt handle `{receipt}` is invalid")]
    InvalidReceipt {
        /// The receipt.
        receipt: String,
    },
    /// The message of a receipt is not in flight.
    #[error("the message of receipt handle `{receipt}` is not in flight")]
    NotInFlight {
        /// The receipt.
        receipt: String,
    },
    /// The queue is full.
    #[error("queue `{name}` is full: the limit of {messages} messages is reached")]
    QueueFull {
        /// The name of the queue.
        name: String,
        /// Number of messages in the queue.
        messages: usize,
    },
    /// A stored value cannot be decoded.
    #[error("record `{key}` of journal `{journal}` cannot be read: {reason}")]
    Corrupt {
        /// Name of the journal.
        journal: &'static str,
        /// Key of the entry.
        key: String,
        /// The reason why the value cannot be decoded.
        reason: String,
    },
    /// The server is stopping.
    #[error("the operation stopped before it finished")]
    Stopped,
    /// The store failed.
    #[error(transparent)]
    Store(#[from] headwater_store::Error),
}

impl ToProblem for Error {
    fn code(&self) -> ErrorCode {
        match self {
            Error::QueueNotFound { .. } => ErrorCode::QueueNotFound,
            Error::MappingNotFound { .. } => ErrorCode::TriggerNotFound,
            Error::QueueExists { .. } => ErrorCode::AlreadyExists,
            Error::Invalid { .. }
            | Error::InvalidContents
            | Error::Missing { .. }
            | Error::InvalidReceipt { .. }
            | Error::NotInFlight { .. } => ErrorCode::InvalidArgument,
            Error::QueueFull { .. } => ErrorCode::TooBusy,
            Error::Corrupt { .. } => ErrorCode::Corrupt,
            Error::Stopped => ErrorCode::Unavailable,
            Error::Store(error) => error.code(),
        }
    }

    fn hint(&self) -> Option<String> {
        match self {
            Error::QueueNotFound { name } => {
                Some(format!("Create the queue with `aws sqs create-queue --queue-name {name}`."))
            }
            Error::MappingNotFound { .. } => {
                Some("List the mappings with `aws lambda list-event-source-mappings`.".into())
            }
            Error::QueueExists { .. } => Some(
                "Change the attributes of the queue with \
                 `SetQueueAttributes`, or delete the queue \
                 first."
                    .into(),
            ),
            Error::QueueFull { .. } => {
                Some("Receive and delete messages of the queue, and send the message again.".into())
            }
            Error::InvalidContents => {
                Some("Remove the control characters from the message, or encode it.".into())
            }
            Error::InvalidReceipt { .. } | Error::NotInFlight { .. } => Some(
                "Receive the message again, and use the receipt handle of the response.".into(),
            ),
            Error::Store(error) => error.hint(),
            Error::Invalid { .. }
            | Error::Missing { .. }
            | Error::Corrupt { .. }
            | Error::Stopped => None,
        }
    }
}
