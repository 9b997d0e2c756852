//! The summary of a merge snapshot.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use headwater_tables::{
    MERGED, MERGED_METADATA, PICKED, PROFILE, REACH, SnapshotAncestry, UNDONE, picked_by, undone_by,
};

use crate::conflict::MergeSide;
use crate::merge::TableMerge;

/// Summary keys whose values apply only to the snapshot itself, and not to later snapshots.
const SNAPSHOT_KEYS: [&str; 6] = [REACH, MERGED, MERGED_METADATA, UNDONE, PICKED, PROFILE];

/// Maximum number of replayed snapshots that a summary lists. Beyond it, [`MANY`] is written
/// instead of the list.
const LISTED_MAX: usize = 1000;

/// Maximum number of reverted snapshots that a summary lists: almost seven days of snapshots of a
/// table that is written every minute. Beyond it, [`MANY`] is written instead of the list.
const UNDONE_MAX: usize = 10_000;

/// Value that is written if there are too many snapshots to list.
const MANY: &str = "many";

/// Prefix of the summary keys that Headwater writes.
const KEY_PREFIX: &str = "headwater.";

impl TableMerge {
    /// Returns the summary properties of the sides that also apply to the merged rows. These
    /// properties are the versions of the source tables from which the rows were computed. If the
    /// merged table has exactly the files of one side, all properties of that side are added. The
    /// versions of both sides are combined even then, because the other side may have read newer
    /// versions of its source tables without getting new rows.
    pub fn kept_summary(&self) -> BTreeMap<String, String> {
        let read = self.read_up_to();
        let side = match self.rows_of {
            None => return read,
            Some(MergeSide::Ours) => &self.ours,
            Some(MergeSide::Theirs) => &self.theirs,
        };
        let mut inherited = side.summary();
        inherited
            .retain(|key, _| key.starts_with(KEY_PREFIX) && !SNAPSHOT_KEYS.contains(&key.as_str()));
        inherited.extend(read);
        inherited
    }

    /// Returns the values of a summary property before and after each change that both sides
    /// contain and the base does not, such as a cherry-picked change.
    pub fn shared_values(&self, property: &str) -> Vec<[Option<String>; 2]> {
        let value = |one: &HashMap<String, String>| one.get(property).cloned();
        self.shared.iter().map(|[before, after]| [value(before), value(after)]).collect()
    }

    /// Returns the versions of the source tables from which the merged rows were computed. For each
    /// source table, returns the version of the side that changed the version. If both sides
    /// changed the version in different ways, omits the source table.
    fn read_up_to(&self) -> BTreeMap<String, String> {
        let [base, ours, theirs] = [&self.base, &self.ours, &self.theirs]
            .map(|table| SnapshotAncestry::of(table).read_up_to());
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

    /// Converts the merge to a cherry-pick or revert: our side's history then does not contain the
    /// history of the other side. Returns `None` if the merge changes nothing.
    #[must_use]
    pub fn into_change(mut self: Box<Self>) -> Option<Box<Self>> {
        self.records = false;
        self.of_branches = false;
        (self.changes_files() || self.changes_metadata()).then_some(self)
    }

    /// Converts the merge to an ordinary change of our side, which does not record the other side.
    /// Used to rebase a change on concurrent maintenance.
    #[must_use]
    pub fn into_continuation(self: Box<Self>) -> Option<Box<Self>> {
        self.into_change().map(|merge| Box::new(Self { goes_on: true, ..*merge }))
    }

    /// Returns the summary properties that record the merge itself.
    pub(crate) fn record(&self) -> Vec<(String, String)> {
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

/// The earlier changes that a cherry-pick or revert replays or reverts.
#[derive(Debug, Default)]
pub(crate) struct ReplayedChanges {
    /// The snapshots whose changes are replayed; `None` if they are not known.
    picked: Option<BTreeSet<i64>>,
    /// The reverted snapshots; `None` if they are not known.
    undone: Option<Vec<i64>>,
}

impl ReplayedChanges {
    /// Returns the changes that lead from a base to a side.
    pub fn of(base: &SnapshotAncestry, side: &SnapshotAncestry) -> ReplayedChanges {
        let mut undone = Some(only_in(base, side, UNDONE_MAX + 1));
        let mut picked = Some(BTreeSet::new());
        for id in only_in(side, base, LISTED_MAX + 1) {
            let snapshot = side.get(id);
            // If the snapshot itself replays earlier snapshots, the ids of these snapshots are
            // recorded instead.
            let again = snapshot.map_or_else(|| Some(Vec::new()), picked_by);
            let again = again.map(|ids| if ids.is_empty() { vec![id] } else { ids });
            picked = picked.zip(again).map(|(mut picked, ids): (BTreeSet<i64>, _)| {
                picked.extend(ids);
                picked
            });
            let ids = snapshot.map_or_else(|| Some(Vec::new()), undone_by);
            undone = undone.zip(ids).map(|(mut undone, ids): (Vec<i64>, _)| {
                undone.extend(ids);
                undone
            });
        }
        ReplayedChanges {
            picked: picked.filter(|picked| picked.len() <= LISTED_MAX),
            undone: undone.filter(|undone| undone.len() <= UNDONE_MAX),
        }
    }

    fn to_summary(&self) -> Vec<(String, String)> {
        // Record the list even if it is empty: its presence shows that summary properties of
        // earlier snapshots may not apply to the rows of this snapshot. If there are too many
        // snapshots, record no partial list: the omitted snapshots would count as not reverted.
        let undone = match &self.undone {
            Some(undone) => serde_json::to_string(undone).ok(),
            None => Some(MANY.to_owned()),
        };
        let mut summary: Vec<_> = undone.map(|ids| (UNDONE.to_owned(), ids)).into_iter().collect();
        let picked = match &self.picked {
            Some(picked) if picked.is_empty() => None,
            Some(picked) => serde_json::to_string(picked).ok(),
            None => Some(MANY.to_owned()),
        };
        summary.extend(picked.map(|ids| (PICKED.to_owned(), ids)));
        summary
    }
}

/// Returns at most `most` of the ancestors of `one` that are not ancestors of `other`.
fn only_in(one: &SnapshotAncestry, other: &SnapshotAncestry, most: usize) -> Vec<i64> {
    let others = other.ancestors();
    one.ancestors().into_iter().filter(|id| !others.contains(id)).take(most).collect()
}

#[cfg(test)]
mod tests {
    use iceberg::spec::{Operation, Snapshot, Summary};

    use super::*;

    /// Checks the recorded value, and the reverted snapshots that a reader gets from it.
    fn check(undone: Option<Vec<i64>>, expected: &str) {
        let changes = ReplayedChanges { picked: Some(BTreeSet::new()), undone };
        let summary = changes.to_summary();
        assert_eq!(summary, [(UNDONE.to_owned(), expected.to_owned())]);
        let additional_properties = summary.into_iter().collect();
        let summary = Summary { operation: Operation::Append, additional_properties };
        let snapshot = Snapshot::builder()
            .with_snapshot_id(1)
            .with_parent_snapshot_id(None)
            .with_sequence_number(1)
            .with_timestamp_ms(0)
            .with_manifest_list("list")
            .with_summary(summary)
            .build();
        assert_eq!(undone_by(&snapshot), changes.undone);
        assert_eq!(picked_by(&snapshot), Some(Vec::new()));
    }

    #[test]
    fn the_reverted_snapshots_are_all_listed_or_unknown() {
        check(Some(Vec::new()), "[]");
        check(Some(vec![1, 2]), "[1,2]");
        check(None, MANY);
    }
}
