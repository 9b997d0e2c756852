//! Branches and tags that were deleted lately, with the commits that they stood for.
//!
//! What only they led to is kept for a while: somebody may still read it, or want it back.

use headwater_model::{CommitId, Timestamp};
use headwater_store::{Append, KeyRange};

use crate::{Catalog, Result, codec};

/// The journal of deleted refs; keys are times, so that they sort.
const REMOVED: &str = "removed_refs";

impl Catalog {
    /// The entry that says that a ref is deleted.
    pub(crate) fn removal(&self, name: &str, commit: CommitId) -> Result<Append> {
        let key = format!("{}/{name}", key_of(self.now()));
        let value = codec::encode("a deleted ref", &commit)?;
        Ok(Append { journal: REMOVED.to_owned(), key, value: Some(value) })
    }

    /// The commits that branches and tags stood for which were deleted since.
    pub async fn removed_since(&self, since: Timestamp) -> Result<Vec<CommitId>> {
        let range = KeyRange::all().from(key_of(since));
        let found = self.store.scan(REMOVED, &range).await?;
        found.iter().map(|entry| codec::decode("a deleted ref", &entry.value)).collect()
    }

    /// Forgets refs that were deleted before.
    pub async fn forget_removed(&self, before: Timestamp) -> Result<()> {
        self.store.trim(REMOVED, &KeyRange::all().until(key_of(before))).await?;
        Ok(())
    }
}

fn key_of(time: Timestamp) -> String {
    format!("{:020}", time.timestamp_micros().max(0))
}
