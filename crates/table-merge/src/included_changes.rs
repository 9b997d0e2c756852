//! The changes that a table state contains. A change is identified by the snapshot that first
//! committed it, possibly on another branch: cherry-picks record the snapshots that they replay,
//! and reverts record the snapshots that they revert.

use std::collections::{HashMap, HashSet};

use headwater_tables::{SnapshotAncestry, picked_by, undone_by};
use iceberg::spec::{Operation, Snapshot};

use crate::side_history::MergeAncestry;

/// The changes that a state contains, including those first committed on another branch.
#[derive(Debug, Default)]
pub(crate) struct IncludedChanges {
    /// The ids of the snapshots that first committed the changes. Without the snapshots that are
    /// known to be reverted.
    pub has: HashSet<i64>,
    /// For each snapshot that was replayed: the last snapshot that replayed it.
    pub again: HashMap<i64, i64>,
    /// The snapshots that were reverted and have not been replayed since.
    pub undone: HashSet<i64>,
    /// The snapshots that may have been reverted: the ancestors of a snapshot that reverts unknown
    /// snapshots.
    pub uncertain: HashSet<i64>,
    /// True if a snapshot of the state replays or reverts changes and does not record their
    /// original snapshots.
    pub unclear: bool,
}

impl IncludedChanges {
    /// Returns the known changes that the state contains.
    pub fn of(state: &SnapshotAncestry) -> Self {
        let mut found = IncludedChanges::default();
        for snapshot in state.newest_first() {
            let id = snapshot.snapshot_id();
            if found.undone.contains(&id) {
                continue;
            }
            found.has.insert(id);
            let again = picked_by(snapshot);
            found.unclear |= again.is_none();
            for picked in again.unwrap_or_default() {
                if !found.undone.contains(&picked) {
                    found.has.insert(picked);
                    found.again.entry(picked).or_insert(id);
                }
            }
            if let Some(ids) = undone_by(snapshot) {
                found.undone.extend(ids);
            } else {
                found.unclear = true;
                found.uncertain.extend(state.ancestors_of(snapshot.parent_snapshot_id()));
            }
        }
        let unknown = state.ancestors().into_iter().filter(|id| state.get(*id).is_none());
        found.has.extend(unknown.filter(|id| !found.undone.contains(id)));
        found.undone.retain(|id| !found.has.contains(id));
        found
    }
}

impl MergeAncestry {
    /// Returns the operation of a snapshot that removed rows, if a side contains only a part of
    /// this change. A cherry-pick removes only rows that its target has, and a later merge can add
    /// the other rows to the target. So the removals of each side must count as its own changes.
    pub fn partial_removal(&self, sides: [&IncludedChanges; 2], id: i64) -> Option<Operation> {
        let own = self.sides.iter().find(|side| side.ancestors().contains(&id));
        let replays = self.sides.iter().zip(sides).filter_map(|(side, changes)| {
            let again = *changes.again.get(&id)?;
            (!side.ancestors().contains(&id)).then_some((side, again))
        });
        let snapshots: Vec<(&SnapshotAncestry, i64)> =
            own.map(|side| (side, id)).into_iter().chain(replays).collect();
        let counts = snapshots.iter().filter_map(|(side, id)| row_change(side, *id));
        if counts.collect::<HashSet<i64>>().len() < 2 {
            return None;
        }
        let operations = snapshots.iter().filter_map(|(side, id)| side.get(*id));
        let mut operations = operations.map(|one| one.summary().operation.clone());
        operations.find(|one| matches!(one, Operation::Delete | Operation::Overwrite))
    }
}

/// Returns the number of rows that a snapshot added, minus the number of rows that it removed;
/// `None` if this is unknown, for example because the table has equality deletes.
fn row_change(state: &SnapshotAncestry, id: i64) -> Option<i64> {
    let snapshot = state.get(id)?;
    let before = match snapshot.parent_snapshot_id() {
        Some(parent) => row_count(state.get(parent)?)?,
        None => 0,
    };
    Some(row_count(snapshot)? - before)
}

/// Returns the number of rows of a table after a snapshot, from the snapshot's summary.
fn row_count(snapshot: &Snapshot) -> Option<i64> {
    let properties = &snapshot.summary().additional_properties;
    let total = |key: &str| properties.get(key).map_or(Some(0), |value| value.parse::<i64>().ok());
    let written: i64 = properties.get("total-records")?.parse().ok()?;
    (total("total-equality-deletes")? == 0).then_some(written - total("total-position-deletes")?)
}
