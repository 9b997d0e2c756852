//! Batches of messages that one call of a function processes.

use std::collections::{BTreeSet, HashSet};

use serde::Deserialize;

use crate::message::ReceivedMessage;

/// Returns the message group whose order is preserved; `None` if the queue is not a FIFO queue.
/// Only messages of FIFO queues have deduplication ids.
pub fn ordered_group(received: &ReceivedMessage) -> Option<&String> {
    received.message.deduplication_id.as_ref().and(received.message.group.as_ref())
}

/// Returns the total size of messages in bytes.
pub fn batch_bytes(messages: &[ReceivedMessage]) -> usize {
    messages.iter().map(|one| one.message.bytes()).sum()
}

/// Separates processed messages from failed messages. After a failed message of a group, the later
/// messages of the group count as failed, so that their order is preserved.
pub fn split_processed(
    messages: Vec<ReceivedMessage>,
    failed: &BTreeSet<String>,
) -> (Vec<ReceivedMessage>, Vec<ReceivedMessage>) {
    let mut blocked = HashSet::new();
    messages.into_iter().partition(|received| {
        let group = ordered_group(received).cloned();
        let is_blocked = group.as_ref().is_some_and(|group| blocked.contains(group));
        let is_processed = !is_blocked && !failed.contains(&received.message.id);
        if !is_processed {
            blocked.extend(group);
        }
        is_processed
    })
}

/// The response of a function that reports failed messages.
#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct BatchResponse {
    batch_item_failures: Option<Vec<BatchItemFailure>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct BatchItemFailure {
    item_identifier: String,
}

/// Parses the ids of failed messages in the JSON response of a function, which has Lambda's field
/// `batchItemFailures`. Errors, returned as text: the response is invalid, or contains an id that
/// is not in `ids`.
pub fn failed_message_ids(
    response: &[u8],
    ids: &BTreeSet<String>,
) -> Result<BTreeSet<String>, String> {
    let answer: Option<BatchResponse> =
        serde_json::from_slice(response).map_err(|error| error.to_string())?;
    let failed = answer.unwrap_or_default().batch_item_failures.unwrap_or_default();
    let failed: BTreeSet<String> = failed.into_iter().map(|one| one.item_identifier).collect();
    match failed.iter().find(|id| !ids.contains(*id)) {
        Some(id) => Err(format!("the batch has no message `{id}`")),
        None => Ok(failed),
    }
}
