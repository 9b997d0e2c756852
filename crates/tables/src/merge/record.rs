//! What the snapshot of a merge says of the merge, and keeps of what was said before.

use std::collections::{BTreeMap, BTreeSet};

use super::history::{MERGED, REACH};
use super::lineage::{Lineage, MERGED_METADATA, PICKED, UNDONE, picked_by, undone_by};
use super::{Side, TableMerge};

/// What is said of a snapshot's own change, and of no other.
const OF_ONE_CHANGE: [&str; 5] = [REACH, MERGED, MERGED_METADATA, UNDONE, PICKED];

/// How many snapshots are named that a change undoes, or makes again.
const NAMED_MAX: usize = 1000;

/// In place of snapshots that are too many to name.
const MANY: &str = "many";

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
            return self.again.to_summary();
        }
        let Some(id) = self.theirs.snapshot_id() else { return Vec::new() };
        let location = self.theirs.metadata_location().to_owned();
        vec![(MERGED.to_owned(), id.to_string()), (MERGED_METADATA.to_owned(), location)]
    }
}

/// What a change does again, or undoes, of what others did.
#[derive(Debug, Default)]
pub(super) struct Again {
    /// The snapshots whose changes it makes again; none where they are not known.
    picked: Option<BTreeSet<i64>>,
    undone: Vec<i64>,
}

impl Again {
    /// What leads from a base to a side.
    pub fn of(base: &Lineage, side: &Lineage) -> Again {
        let mut undone = base.without(side, NAMED_MAX);
        let mut picked = Some(BTreeSet::new());
        for id in side.without(base, NAMED_MAX + 1) {
            let snapshot = side.get(id);
            // What was made again there is known by where it was made first.
            let again = snapshot.map_or_else(|| Some(Vec::new()), picked_by);
            let again = again.map(|ids| if ids.is_empty() { vec![id] } else { ids });
            picked = picked.zip(again).map(|(mut picked, ids): (BTreeSet<i64>, _)| {
                picked.extend(ids);
                picked
            });
            undone.extend(snapshot.map(undone_by).unwrap_or_default());
        }
        undone.truncate(NAMED_MAX);
        Again { picked: picked.filter(|picked| picked.len() <= NAMED_MAX), undone }
    }

    fn to_summary(&self) -> Vec<(String, String)> {
        // Even where nothing is undone: what was said before may not hold for these rows.
        let undone = serde_json::to_string(&self.undone).ok();
        let mut said: Vec<_> = undone.map(|ids| (UNDONE.to_owned(), ids)).into_iter().collect();
        let picked = match &self.picked {
            Some(picked) if picked.is_empty() => None,
            Some(picked) => serde_json::to_string(picked).ok(),
            None => Some(MANY.to_owned()),
        };
        said.extend(picked.map(|ids| (PICKED.to_owned(), ids)));
        said
    }
}
