//! The journals of queues, and the removal of their old entries.
//!
//! | journal | key | value |
//! |---|---|---|
//! | `queues` | name of the queue | its attributes |
//! | `queue_messages` | `QUEUE_ID/SEQUENCE` | a message |
//! | `queue_receptions` | `QUEUE_ID/SEQUENCE` | the deliveries of the message |
//! | `queue_deduplication` | `QUEUE_ID/SEQUENCE` | the deduplication id of the message |
//!
//! A message is deleted by a tombstone in `queue_messages`. Entries of `queue_receptions` whose
//! messages are deleted are ignored, so that a late entry cannot restore a message.

use std::sync::Arc;

use bytes::Bytes;
use headwater_store::{JournalAppend, JournalEntry, KeyRange, Store};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::message::{DeliveryState, StoredMessage, sequence_text};
use crate::{Error, Result};

pub(crate) const QUEUES: &str = "queues";
pub(crate) const MESSAGES: &str = "queue_messages";
pub(crate) const RECEPTIONS: &str = "queue_receptions";
pub(crate) const DEDUPLICATION: &str = "queue_deduplication";

/// Number of entries that one request to the store reads.
const PAGE: usize = 1_000;

/// Returns the key of a message.
pub(crate) fn key(queue: &str, sequence: u64) -> String {
    format!("{queue}/{}", sequence_text(sequence))
}

/// Returns the queue id and sequence number of a key.
pub(crate) fn parse_key(key: &str) -> Option<(&str, u64)> {
    let (queue, sequence) = key.split_once('/')?;
    Some((queue, sequence.parse().ok()?))
}

pub(crate) fn message_entry(queue: &str, sequence: u64, message: &StoredMessage) -> JournalAppend {
    JournalAppend::put(MESSAGES, key(queue, sequence), encode(message))
}

pub(crate) fn delivery_entry(
    queue: &str,
    sequence: u64,
    delivery: &DeliveryState,
) -> JournalAppend {
    JournalAppend::put(RECEPTIONS, key(queue, sequence), encode(delivery))
}

pub(crate) fn deletion_entry(queue: &str, sequence: u64) -> JournalAppend {
    JournalAppend::tombstone(MESSAGES, key(queue, sequence))
}

pub(crate) fn encode(value: &impl Serialize) -> Bytes {
    // Strings, numbers and times can always be written as JSON.
    serde_json::to_vec(value).unwrap_or_default().into()
}

pub(crate) fn decode<T: DeserializeOwned>(
    journal: &'static str,
    entry: &JournalEntry,
) -> Result<T> {
    serde_json::from_slice(&entry.value).map_err(|error| Error::Corrupt {
        journal,
        key: entry.key.clone(),
        reason: error.to_string(),
    })
}

/// Reads the entries of a journal.
pub(crate) async fn scan(store: &Arc<dyn Store>, journal: &str) -> Result<Vec<JournalEntry>> {
    let mut entries: Vec<JournalEntry> = Vec::new();
    loop {
        let from = entries.last().map(|last| format!("{}\0", last.key));
        let range = KeyRange { from, limit: PAGE, ..KeyRange::default() };
        let page = store.scan(journal, &range).await?;
        let is_last = page.len() < PAGE;
        entries.extend(page);
        if is_last {
            return Ok(entries);
        }
    }
}

/// Removes the entries of a queue's messages from journals. `range` contains the first and the last
/// sequence number to remove.
pub(crate) async fn trim(
    store: &Arc<dyn Store>,
    journals: &[&str],
    queue: &str,
    [first, last]: [u64; 2],
) -> Result<()> {
    let range = KeyRange::with_prefix(format!("{queue}/"))
        .from(key(queue, first))
        .until(format!("{}\0", key(queue, last)));
    for journal in journals {
        store.trim(journal, &range).await?;
    }
    Ok(())
}
