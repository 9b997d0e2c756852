//! What the snapshot of a merge says of the merge, and keeps of what was said before.

use std::collections::{BTreeMap, BTreeSet};

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
    /// What the summaries of the sides say of the table's rows that holds for the merged ones: up to where
    /// they have read other tables and, where the merged table holds just the files of one side, whatever
    /// made those.
    pub fn kept_summary(&self) -> BTreeMap<String, String> {
        let mut kept = self.read_up_to();
        let side = match self.rows_of {
            None => return kept,
            Some(Side::Ours) => &self.ours,
            Some(Side::Theirs) => &self.theirs,
        };
        let said = side.summary().into_iter();
        kept.extend(
            said.filter(|(key, _)| key.starts_with(OWN) && !OF_ONE_CHANGE.contains(&key.as_str())),
        );
        kept
    }

    /// Up to where the merged rows have read other tables: what one side alone has changed is as that side
    /// says. Where both have, nobody knows.
    fn read_up_to(&self) -> BTreeMap<String, String> {
        let [base, ours, theirs] =
            [&self.base, &self.ours, &self.theirs].map(|table| Lineage::of(table).read_up_to());
        let keys: BTreeSet<&String> = ours.keys().chain(theirs.keys()).collect();
        let read = keys.into_iter().filter_map(|key| {
            let [base, ours, theirs] = [&base, &ours, &theirs].map(|side| side.get(key));
            let value = if ours == base {
                theirs
            } else {
                ours.filter(|_| theirs == base || theirs == ours)
            };
            Some((key.clone(), value?.clone()))
        });
        read.collect()
    }

    /// The same as the change of a commit that is made again, or undone: the other side's history is no
    /// part of ours then. None where that changes nothing.
    #[must_use]
    pub fn into_change(mut self: Box<Self>) -> Option<Box<Self>> {
        self.records = false;
        self.of_branches = false;
        (self.changes_files() || self.reshapes()).then_some(self)
    }

    /// The same as a change that goes on from the base, which the other side only arranged otherwise.
    #[must_use]
    pub fn into_continuation(self: Box<Self>) -> Option<Box<Self>> {
        self.into_change().map(|merge| Box::new(Self { goes_on: true, ..*merge }))
    }

    /// What the summary says of the merge itself.
    pub(super) fn record(&self) -> Vec<(String, String)> {
        if self.goes_on {
            return Vec::new();
        }
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
