//! Recently deleted branches and tags, with their commits.
//!
//! For a limited time, commits that are reachable only from deleted refs are retained. In this
//! time, reads of these commits can finish, and a deleted ref can be restored.

use headwater_model::{CommitId, Timestamp};
use headwater_store::{JournalAppend, KeyRange};

use crate::codec::{self, BranchRecord};
use crate::{Catalog, Result};

/// The journal of deleted refs. Its keys start with the time of deletion, so they sort by time.
const DELETED_REFS: &str = "removed_refs";

/// The journal of deleted branches that were in quarantine, by their last commit. It is never
/// trimmed: the unchecked commits remain reachable by tags and commit ids.
const QUARANTINED: &str = "deleted_quarantine";

/// The recently deleted refs. Returned by a [`Catalog`].
#[derive(Debug, Clone, Copy)]
pub struct DeletedRefs<'a> {
    pub(crate) catalog: &'a Catalog,
}

impl DeletedRefs<'_> {
    /// Lists the commits of the refs deleted at or after a time.
    pub async fn since(self, since: Timestamp) -> Result<Vec<CommitId>> {
        let range = KeyRange::all().from(time_key(since));
        let found = self.catalog.store.scan(DELETED_REFS, &range).await?;
        found.iter().map(|entry| codec::decode("a deleted ref", &entry.value)).collect()
    }

    /// Lists the commits of the refs deleted before a time.
    pub async fn before(self, until: Timestamp) -> Result<Vec<CommitId>> {
        let found =
            self.catalog.store.scan(DELETED_REFS, &KeyRange::all().until(time_key(until))).await?;
        found.iter().map(|entry| codec::decode("a deleted ref", &entry.value)).collect()
    }

    /// Deletes the records of refs deleted before a time.
    pub async fn trim(self, before: Timestamp) -> Result<()> {
        self.catalog.store.trim(DELETED_REFS, &KeyRange::all().until(time_key(before))).await?;
        Ok(())
    }
}

impl Catalog {
    /// Returns the journal entries for the deletion of a branch.
    pub(crate) fn deletion_entries(
        &self,
        name: &str,
        record: &BranchRecord,
    ) -> Result<Vec<JournalAppend>> {
        let mut entries = vec![self.deletion_entry(name, record.commit)?];
        if let Some(run) = &record.quarantine {
            let value = Some(codec::encode("a quarantine record", &(record.commit, run))?);
            let key = record.commit.to_string();
            entries.push(JournalAppend { journal: QUARANTINED.to_owned(), key, value });
        }
        Ok(entries)
    }

    /// Lists the deleted branches in quarantine: the last commit and the failed run of each.
    pub(crate) async fn deleted_quarantine(&self) -> Result<Vec<(CommitId, String)>> {
        let found = self.store.scan(QUARANTINED, &KeyRange::all()).await?;
        found.iter().map(|entry| codec::decode("a quarantine record", &entry.value)).collect()
    }

    /// Returns the journal entry for the deletion of a ref.
    pub(crate) fn deletion_entry(&self, name: &str, commit: CommitId) -> Result<JournalAppend> {
        let key = format!("{}/{name}", time_key(self.now()));
        let value = codec::encode("a deleted ref", &commit)?;
        Ok(JournalAppend { journal: DELETED_REFS.to_owned(), key, value: Some(value) })
    }
}

fn time_key(time: Timestamp) -> String {
    format!("{:020}", time.timestamp_micros().max(0))
}
