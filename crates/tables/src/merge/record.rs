//! What the snapshot of a merge says of the merge, and keeps of what was said before.

use std::collections::BTreeMap;

use super::history::{MERGED, REACH};
use super::lineage::{Lineage, MERGED_METADATA, UNDONE};
use super::{Side, TableMerge};

/// What is said of a snapshot's own change, and of no other.
const OF_ONE_CHANGE: [&str; 4] = [REACH, MERGED, MERGED_METADATA, UNDONE];

/// How many snapshots are named that a change undoes.
const UNDONE_MAX: usize = 1000;

/// What all keys that this project gives to summaries begin with.
const OWN: &str = "headwater.";

impl TableMerge {
    /// What the summary of a side's snapshot says of the table's rows, where the merged table holds just
    /// the files of that side. Whatever made those rows made the merged table's.
    pub fn kept_summary(&self) -> BTreeMap<String, String> {
        let side = match self.rows_of {
            None => return BTreeMap::new(),
            Some(Side::Ours) => &self.ours,
            Some(Side::Theirs) => &self.theirs,
        };
        let mut kept = side.summary();
        kept.retain(|key, _| key.starts_with(OWN) && !OF_ONE_CHANGE.contains(&key.as_str()));
        kept
    }

    /// The same as the change of a commit that is made again, or undone: the other side's history is no
    /// part of ours then. None where that changes nothing.
    #[must_use]
    pub fn into_change(mut self: Box<Self>) -> Option<Box<Self>> {
        self.records = false;
        self.of_branches = false;
        (self.changes_files() || self.reshapes()).then_some(self)
    }

    /// What the summary says of the merge itself.
    pub(super) fn record(&self) -> Vec<(String, String)> {
        if !self.of_branches {
            let (base, theirs) = (Lineage::of(&self.base), Lineage::of(&self.theirs));
            let undone = base.without(&theirs, UNDONE_MAX);
            // Even where nothing is undone: what was said before may not hold for these rows.
            let value = serde_json::to_string(&undone).ok();
            return value.map(|value| (UNDONE.to_owned(), value)).into_iter().collect();
        }
        let Some(id) = self.theirs.snapshot_id() else { return Vec::new() };
        let location = self.theirs.metadata_location().to_owned();
        vec![(MERGED.to_owned(), id.to_string()), (MERGED_METADATA.to_owned(), location)]
    }
}
