//! Records of successful steps that write no table, by fingerprint, so that a check with the same
//! fingerprint does not run twice. A fingerprint covers everything that a step depends on, so a
//! record applies to all branches.

use bytes::Bytes;
use headwater_store::{JournalAppend, Store, WriteBatch};

use crate::{Error, Result};

const JOURNAL: &str = "steps_passed";

/// Returns true if this fingerprint is recorded: a step with this full fingerprint has succeeded,
/// or a step with this code fingerprint has succeeded or ended with a warning.
pub(crate) async fn passed(store: &dyn Store, fingerprint: &str) -> Result<bool> {
    let entry = store.latest(JOURNAL, fingerprint).await.map_err(|error| Error::other(&error))?;
    Ok(entry.is_some())
}

/// Returns the store operations that record `fingerprints` as passed.
pub(crate) fn remember(fingerprints: impl IntoIterator<Item = String>) -> WriteBatch {
    let entries = fingerprints.into_iter().map(|key| JournalAppend {
        journal: JOURNAL.to_owned(),
        key,
        value: Some(Bytes::from_static(b"1")),
    });
    WriteBatch { entries: entries.collect(), ..WriteBatch::default() }
}
