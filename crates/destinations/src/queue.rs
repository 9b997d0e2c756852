//! Queues as destinations: the body of each message is one record or result.

use headwater_model::{Problem, ToProblem};
use headwater_queues::{Error, NewMessage, Queues};
use headwater_triggers::with_retryable;
use serde_json::{Value, json};

use crate::payload::IdentifiedPayload;

/// The suffix of the names of FIFO queues.
const FIFO: &str = ".fifo";

/// The sender of a message, and its lineage.
pub(crate) struct MessageOrigin<'a> {
    pub sender: &'a str,
    pub caused_by: Vec<String>,
}

/// Sends a message. Does nothing if content with the same id was sent to the queue before.
pub(crate) async fn send(
    queues: &Queues,
    queue: &str,
    origin: MessageOrigin<'_>,
    content: &IdentifiedPayload<'_>,
) -> Result<Value, Problem> {
    let MessageOrigin { sender, caused_by } = origin;
    let is_fifo = queue.ends_with(FIFO);
    let message = NewMessage {
        body: String::from_utf8_lossy(&content.body().await?.bytes).into_owned(),
        group: is_fifo.then(|| group(content.function())),
        deduplication_id: is_fifo.then(|| content.id.to_owned()),
        caused_by,
        ..NewMessage::default()
    };
    match queues.send_once(queue, sender, message, content.id).await {
        Ok(()) => Ok(json!({"queue": queue})),
        Err(error) => Err(failure(&error)),
    }
}

/// Returns the message group of the records of a function.
fn group(function: &str) -> String {
    let name: String = function.chars().filter(char::is_ascii_graphic).take(128).collect();
    if name.is_empty() { "function".to_owned() } else { name }
}

fn failure(error: &Error) -> Problem {
    let problem = error.to_problem();
    match error {
        Error::QueueNotFound { .. } => with_retryable(problem, true),
        Error::Invalid { .. } | Error::InvalidContents | Error::Missing { .. } => {
            with_retryable(problem, false)
        }
        // For example a full queue. Without `retryable`, the trigger waits, and counts no attempt.
        _ => problem,
    }
}
