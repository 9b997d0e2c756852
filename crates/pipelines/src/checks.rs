//! Which steps have succeeded on exactly what, where they leave nothing else: so that a check is
//! not made twice. A fingerprint holds all that a step depends on, so that one memory serves every
//! branch.

use bytes::Bytes;
use headwater_store::{Append, Batch, Store};

use crate::{Error, Result};

const JOURNAL: &str = "steps_passed";

/// Whether a step succeeded with this fingerprint.
pub(crate) async fn passed(store: &dyn Store, fingerprint: &str) -> Result<bool> {
    let entry = store.latest(JOURNAL, fingerprint).await.map_err(|error| Error::other(&error))?;
    Ok(entry.is_some())
}

/// What remembers that these succeeded.
pub(crate) fn remember(fingerprints: impl IntoIterator<Item = String>) -> Batch {
    let entries = fingerprints.into_iter().map(|key| Append {
        journal: JOURNAL.to_owned(),
        key,
        value: Some(Bytes::from_static(b"1")),
    });
    Batch { entries: entries.collect(), ..Batch::default() }
}
