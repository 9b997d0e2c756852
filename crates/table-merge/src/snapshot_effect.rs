//! The effect of a side's snapshots on the rows of the base.
//!
//! The operation in the summary of a snapshot describes the change from its own parent. If the side
//! got the base by a merge, or does not contain it, this parent does not contain the base. A
//! snapshot with the operation `append` can then add rows that the base has in other files. It can
//! even remove rows of the base: if a merge brings the base and a later delete to the side, the
//! merge only adds files, in which the deleted row is missing. A revert or a cherry-pick can also
//! add rows of the base again. Such snapshots only count as appends if the history proves that the
//! base does not have the added rows.

use std::collections::HashSet;

use headwater_tables::{SnapshotAncestry, merged_by, picked_by, undone_by};
use iceberg::spec::{Operation, Snapshot};

use crate::included_changes::IncludedChanges;
use crate::shared_changes::AdjustedBase;

/// The effect of a snapshot, relative to the base of the merge.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum SnapshotEffect {
    /// All rows in the added files are new.
    Appends,
    /// No row of the base is removed or changed. The added files may contain rows that the base
    /// already has.
    Compacts,
    /// Rows may be changed or removed.
    Changes,
}

/// The changes that the base of the merge contains, to compare the snapshots of a side with them.
pub(crate) struct KnownChanges<'a> {
    /// The base's ancestors, including merged snapshots.
    pub ancestors: HashSet<i64>,
    /// The changes that the base contains, including cherry-picked changes.
    contained: HashSet<i64>,
    /// The changes that both sides contain. They are applied to the base, if their files are known.
    common: &'a AdjustedBase,
    /// True if the side descends from the base.
    is_ancestor: bool,
    /// True if all ancestors of the base are known, except those that the side had before the
    /// snapshots that are compared.
    pub is_complete: bool,
    /// True if the side's chain of first parents leads back to the base. Then the parent of each
    /// snapshot on this chain contains all changes of the base.
    pub is_parent: bool,
}

/// Returns true if a snapshot added or removed data files.
pub(crate) fn touches_files(snapshot: &Snapshot) -> bool {
    let properties = &snapshot.summary().additional_properties;
    ["added-data-files", "deleted-data-files"].iter().any(|key| properties.contains_key(*key))
}

impl<'a> KnownChanges<'a> {
    /// Returns the changes of the base. The caller sets `is_complete` and `is_parent`.
    pub fn of(base: &SnapshotAncestry, side: &SnapshotAncestry, common: &'a AdjustedBase) -> Self {
        KnownChanges {
            ancestors: base.ancestors(),
            contained: IncludedChanges::of(base).has,
            common,
            is_ancestor: side.descends_from(base),
            is_complete: false,
            is_parent: false,
        }
    }

    /// Returns the effect of a snapshot that the base does not have. If the snapshot is a merge,
    /// `merged` contains the merged snapshots: its ancestors that its first parent does not have.
    pub fn effect(
        &self,
        side: &SnapshotAncestry,
        snapshot: &Snapshot,
        merged: &HashSet<i64>,
    ) -> SnapshotEffect {
        if merged_by(snapshot).is_some() && only_adds(snapshot) {
            self.effect_of_merge(side, merged)
        } else {
            self.own_effect(snapshot)
        }
    }

    /// Returns the effect of a merge that only added files, or did not change any file.
    fn effect_of_merge(&self, side: &SnapshotAncestry, merged: &HashSet<i64>) -> SnapshotEffect {
        let AdjustedBase { same, unclear, .. } = self.common;
        // Their side may have rows of the `unclear` changes in other files.
        if !merged.is_disjoint(unclear) {
            return SnapshotEffect::Changes;
        }
        // The first parent of the merge contains all changes of the base. If no shared changes were
        // applied to the base (`same` is empty), the merge only adds rows that the base does not
        // have.
        if self.is_parent && same.is_empty() {
            return SnapshotEffect::Appends;
        }
        let new: HashSet<i64> = merged.difference(&self.ancestors).copied().collect();
        if new.len() < merged.len() {
            // If the side does not descend from the base, the merge may have removed rows of the
            // base.
            return if self.is_ancestor {
                self.combined_effect(side, &new)
            } else {
                SnapshotEffect::Changes
            };
        }
        // The added rows are new if no merged snapshot repeats a change of the base. The operations
        // of the merged snapshots do not matter, because the merge itself only added files.
        let is_new = |id: &i64| side.get(*id).is_some_and(|one| !self.repeats(one));
        if self.is_complete && new.iter().all(is_new) {
            SnapshotEffect::Appends
        } else {
            SnapshotEffect::Changes
        }
    }

    /// Returns the combined effect of several snapshots.
    fn combined_effect(&self, side: &SnapshotAncestry, ids: &HashSet<i64>) -> SnapshotEffect {
        let mut effect = SnapshotEffect::Appends;
        for id in ids {
            match side.get(*id).map(|one| self.own_effect(one)) {
                Some(SnapshotEffect::Appends) => {}
                Some(SnapshotEffect::Compacts) => effect = SnapshotEffect::Compacts,
                Some(SnapshotEffect::Changes) | None => return SnapshotEffect::Changes,
            }
        }
        effect
    }

    /// Returns the effect of a snapshot, without the snapshots that it merged.
    fn own_effect(&self, snapshot: &Snapshot) -> SnapshotEffect {
        let is_merge = merged_by(snapshot).is_some();
        if is_merge && only_adds(snapshot) {
            return SnapshotEffect::Appends;
        }
        match snapshot.summary().operation {
            Operation::Append
                if undone_by(snapshot).is_some_and(|ids| ids.is_empty())
                    && !self.repeats(snapshot) =>
            {
                SnapshotEffect::Appends
            }
            Operation::Replace if !is_merge => SnapshotEffect::Compacts,
            _ => SnapshotEffect::Changes,
        }
    }

    /// Returns true if the adjusted base may already contain a part of the snapshot's change.
    fn repeats(&self, snapshot: &Snapshot) -> bool {
        let is_known = |id: &i64| self.contained.contains(id) || self.common.same.contains(id);
        is_known(&snapshot.snapshot_id())
            || picked_by(snapshot).is_none_or(|picked| picked.iter().any(is_known))
    }
}

/// Returns true if a snapshot only added files, or is a merge that did not change any file.
fn only_adds(snapshot: &Snapshot) -> bool {
    snapshot.summary().operation == Operation::Append
        || (merged_by(snapshot).is_some() && !touches_files(snapshot))
}
