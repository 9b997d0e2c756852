//! Records of merges, for triggers.
//!
//! While triggers watch merges, the batch that moves the branch also appends a record of the merge
//! to the journal [`MERGE_JOURNAL`]. So the record and the merge are stored together or not at all.

use headwater_model::{BranchMerge, CommitId, MERGE_JOURNAL};
use headwater_store::{JournalAppend, OccurrenceJournal};
use uuid::Uuid;

use crate::codec::corrupt;
use crate::merge::{MergeCommit, MergePlan};
use crate::{Catalog, Result, TableChange};

impl Catalog {
    /// Returns the entry that records a merge with the names of the changed tables. Returns `None`
    /// if the plan has no ref to record, or if no trigger watches merges.
    pub(crate) async fn merge_entry(
        &self,
        plan: &MergePlan,
        id: CommitId,
        changed: Vec<String>,
        commit: &MergeCommit,
    ) -> Result<Option<JournalAppend>> {
        let Some(source) = &plan.merged else { return Ok(None) };
        if OccurrenceJournal::new(&*self.store, MERGE_JOURNAL).watched().await?.is_none() {
            return Ok(None);
        }
        let merge = BranchMerge {
            branch: plan.target.clone(),
            source: source.clone(),
            before: plan.head,
            commit: id,
            source_commit: plan.source,
            tables: changed,
            author: commit.author.clone(),
            properties: commit.properties.clone(),
            time: self.now(),
        };
        let value = serde_json::to_vec(&merge).map_err(|error| corrupt("a merge", error))?;
        let key = Uuid::new_v4().simple().to_string();
        Ok(Some(JournalAppend::put(MERGE_JOURNAL, key, value.into())))
    }
}

/// Returns the names of changed tables and views, in the order of the changes.
pub(crate) fn names(changes: &[TableChange]) -> Vec<String> {
    changes.iter().map(|change| change.table.qualified()).collect()
}
