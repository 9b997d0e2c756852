//! Which expectations have passed on exactly what: so that a check is not made twice.

use bytes::Bytes;
use headwater_store::{Append, Batch, Store};

use crate::{Error, Result};

const JOURNAL: &str = "expectations_passed";

/// Whether an expectation passed with this fingerprint.
pub(crate) async fn passed(store: &dyn Store, fingerprint: &str) -> Result<bool> {
    let entry = store.latest(JOURNAL, fingerprint).await.map_err(|error| Error::other(&error))?;
    Ok(entry.is_some())
}

/// What remembers that these passed.
pub(crate) fn remember(fingerprints: impl IntoIterator<Item = String>) -> Batch {
    let entries = fingerprints.into_iter().map(|key| Append {
        journal: JOURNAL.to_owned(),
        key,
        value: Some(Bytes::from_static(b"1")),
    });
    Batch { entries: entries.collect(), ..Batch::default() }
}
