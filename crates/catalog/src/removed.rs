//! Branches and tags that were deleted lately, with the commits that they stood for.
//!
//! What only they led to is kept for a while: somebody may still read it, or want it back.

use headwater_model::{CommitId, Timestamp};
use headwater_store::{Append, KeyRange};

use crate::codec::{self, BranchRecord};
use crate::{Catalog, Result};

/// The journal of deleted refs; keys are times, so that they sort.
const REMOVED: &str = "removed_refs";

/// The journal of failed runs whose branches were deleted, by the commits that those stood for. It is kept:
/// tags, and whoever knows a commit's id, may find their way back to what was never checked.
const QUARANTINED: &str = "removed_quarantine";

impl Catalog {
    /// The entries that say that a branch is deleted.
    pub(crate) fn removals(&self, name: &str, record: &BranchRecord) -> Result<Vec<Append>> {
        let mut entries = vec![self.removal(name, record.commit)?];
        if let Some(run) = &record.quarantine {
            let value = Some(codec::encode("a failed run", &(record.commit, run))?);
            let key = record.commit.to_string();
            entries.push(Append { journal: QUARANTINED.to_owned(), key, value });
        }
        Ok(entries)
    }

    /// The failed runs whose branches were deleted, with the last commit of each.
    pub(crate) async fn removed_quarantine(&self) -> Result<Vec<(CommitId, String)>> {
        let found = self.store.scan(QUARANTINED, &KeyRange::all()).await?;
        found.iter().map(|entry| codec::decode("a failed run", &entry.value)).collect()
    }

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

    /// The commits that branches and tags stood for which were deleted before.
    pub async fn removed_before(&self, until: Timestamp) -> Result<Vec<CommitId>> {
        let found = self.store.scan(REMOVED, &KeyRange::all().until(key_of(until))).await?;
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
