//! Values that are stored as JSON in journals.

use bytes::Bytes;
use headwater_store::{JournalEntry, KeyRange, Store};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::{Error, Result};

/// Number of entries that are read per request.
const PAGE: usize = 1_000;

pub(crate) fn encode(value: &impl Serialize) -> Result<Bytes> {
    let encoded = serde_json::to_vec(value);
    encoded.map(Bytes::from).map_err(|error| Error::Encode { reason: error.to_string() })
}

pub(crate) fn decode<T: DeserializeOwned>(journal: &str, key: &str, value: &[u8]) -> Result<T> {
    serde_json::from_slice(value).map_err(|error| Error::Corrupt {
        journal: journal.to_owned(),
        key: key.to_owned(),
        reason: error.to_string(),
    })
}

/// Returns the decoded value of a key; `None` if the key does not exist.
pub(crate) async fn read<T: DeserializeOwned>(
    store: &dyn Store,
    journal: &str,
    key: &str,
) -> Result<Option<T>> {
    let Some(entry) = store.latest(journal, key).await? else { return Ok(None) };
    decode(journal, key, &entry.value).map(Some)
}

/// Returns all entries whose keys have a prefix.
pub(crate) async fn read_all(
    store: &dyn Store,
    journal: &str,
    prefix: &str,
) -> Result<Vec<JournalEntry>> {
    let mut entries: Vec<JournalEntry> = Vec::new();
    loop {
        let range = KeyRange {
            prefix: prefix.to_owned(),
            from: entries.last().map(|last| format!("{}\0", last.key)),
            limit: PAGE,
            ..KeyRange::default()
        };
        let page = store.scan(journal, &range).await?;
        let is_last = page.len() < PAGE;
        entries.extend(page);
        if is_last {
            return Ok(entries);
        }
    }
}
