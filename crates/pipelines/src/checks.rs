//! Records of successful steps that write no table, by fingerprint, so that a check does not run
//! twice. A fingerprint covers everything that a step depends on, so the records apply to all
//! branches.

use bytes::Bytes;
use headwater_store::{Append, Batch, Store};

use crate::{Error, Result};

const JOURNAL: &str = "steps_passed";

/// Returns true if a step with this full or code fingerprint has succeeded.
pub(crate) async fn passed(store: &dyn Store, fingerprint: &str) -> Result<bool> {
    let entry = store.latest(JOURNAL, fingerprint).await.map_err(|error| Error::other(&error))?;
    Ok(entry.is_some())
}

/// Returns the store operations that record the success of these steps.
pub(crate) fn remember(fingerprints: impl IntoIterator<Item = String>) -> Batch {
    let entries = fingerprints.into_iter().map(|key| Append {
        journal: JOURNAL.to_owned(),
        key,
        value: Some(Bytes::from_static(b"1")),
    });
    Batch { entries: entries.collect(), ..Batch::default() }
}
