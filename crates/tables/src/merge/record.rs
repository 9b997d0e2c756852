//! What the snapshot of a merge says of the merge, and keeps of what was said before.

use std::collections::BTreeMap;

use super::history::{MERGED, REACH};
use super::lineage::MERGED_METADATA;
use super::{Side, TableMerge};

/// What is said of a snapshot's own change, and of no other.
const OF_ONE_CHANGE: [&str; 3] = [REACH, MERGED, MERGED_METADATA];

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

    /// What the summary says of the merge itself.
    pub(super) fn record(&self) -> Vec<(String, String)> {
        let Some(id) = self.theirs.snapshot_id() else { return Vec::new() };
        let location = self.theirs.metadata_location().to_owned();
        vec![(MERGED.to_owned(), id.to_string()), (MERGED_METADATA.to_owned(), location)]
    }
}
