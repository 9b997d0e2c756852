//! The effect of a side's snapshots on the rows of the base.
//!
//! The operation in the summary of a snapshot describes the change from its own parent. If the side
//! got the base by a merge, or not at all, this parent does not contain the base. A snapshot with
//! the operation `append` can then contain rows of the base in other files. For example, the base
//! reached the side together with a later delete: the merge only added files, but removed a row of
//! the base. A revert or a cherry-pick can also add rows of the base again. Such snapshots only
//! count as appends if the history proves that the base does not have the added rows.

use std::collections::HashSet;

use headwater_tables::{Lineage, merged_by, picked_by, undone_by};
use iceberg::spec::{Operation, Snapshot};

use crate::included_changes::IncludedChanges;

/// The effect of a snapshot, relative to the base of the merge.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum SnapshotEffect {
    /// All rows in the added files are new.
    Appends,
    /// No row of the base is removed or changed. The added files can contain rows of the base.
    Compacts,
    /// Rows may be changed or removed.
    Changes,
}

/// The changes that the base contains, with which the snapshots of a side are compared.
pub(crate) struct KnownChanges<'a> {
    base: &'a Lineage,
    /// The base's ancestors, including merged snapshots.
    pub ancestors: HashSet<i64>,
    /// The changes that the base contains, including cherry-picked changes.
    contained: HashSet<i64>,
    /// The changes that both sides contain, and that were therefore applied to the base.
    same: &'a HashSet<i64>,
    /// True if the side descends from the base.
    is_ancestor: bool,
    /// True if the side's own snapshots, without merged snapshots, lead back to the base. Then the
    /// parent of each of them contains all changes of the base.
    pub is_parent: bool,
}

/// Returns true if a snapshot added or removed data files.
pub(crate) fn touches_files(snapshot: &Snapshot) -> bool {
    let properties = &snapshot.summary().additional_properties;
    ["added-data-files", "deleted-data-files"].iter().any(|key| properties.contains_key(*key))
}

impl<'a> KnownChanges<'a> {
    /// Returns the changes of the base. The caller sets `is_parent`.
    pub fn of(base: &'a Lineage, side: &Lineage, same: &'a HashSet<i64>) -> Self {
        KnownChanges {
            base,
            ancestors: base.ancestors(),
            contained: IncludedChanges::of(base).has,
            same,
            is_ancestor: side.descends_from(base),
            is_parent: false,
        }
    }

    /// Returns the effect of a snapshot that the base does not have.
    pub fn effect(&self, side: &Lineage, snapshot: &Snapshot) -> SnapshotEffect {
        match merged_by(snapshot) {
            Some(merged) if only_adds(snapshot) => self.effect_of_merge(side, snapshot, merged),
            _ => self.own_effect(snapshot),
        }
    }

    /// Returns the effect of a merge that only added files, or did not change any file.
    fn effect_of_merge(&self, side: &Lineage, snapshot: &Snapshot, merged: i64) -> SnapshotEffect {
        if self.is_parent {
            return SnapshotEffect::Appends;
        }
        let before = side.ancestors_of(snapshot.parent_snapshot_id());
        let mut merged = side.ancestors_of(Some(merged));
        merged.retain(|id| !before.contains(id));
        let all = merged.len();
        merged.retain(|id| !self.ancestors.contains(id));
        let has_base_rows = merged.len() < all;
        // Without the base's rows, all ancestors of the base must be known, except those that the
        // side had before.
        let is_proven = if has_base_rows { self.is_ancestor } else { !self.base.lacks(&before) };
        if !is_proven {
            return SnapshotEffect::Changes;
        }
        let mut effect = SnapshotEffect::Appends;
        for id in merged {
            let Some(one) = side.get(id) else { return SnapshotEffect::Changes };
            if !has_base_rows {
                // The added rows are new, whatever the merged snapshots changed before.
                if self.repeats(one) {
                    return SnapshotEffect::Changes;
                }
                continue;
            }
            match self.own_effect(one) {
                SnapshotEffect::Appends => {}
                SnapshotEffect::Compacts => effect = SnapshotEffect::Compacts,
                SnapshotEffect::Changes => return SnapshotEffect::Changes,
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
            Operation::Append if undone_by(snapshot).is_empty() && !self.repeats(snapshot) => {
                SnapshotEffect::Appends
            }
            Operation::Replace if !is_merge => SnapshotEffect::Compacts,
            _ => SnapshotEffect::Changes,
        }
    }

    /// Returns true if the base may contain a part of the snapshot's change.
    fn repeats(&self, snapshot: &Snapshot) -> bool {
        let is_known = |id: &i64| self.contained.contains(id) || self.same.contains(id);
        is_known(&snapshot.snapshot_id())
            || picked_by(snapshot).is_none_or(|picked| picked.iter().any(is_known))
    }
}

/// Returns true if a snapshot only added files, or is a merge that did not change any file.
fn only_adds(snapshot: &Snapshot) -> bool {
    snapshot.summary().operation == Operation::Append
        || (merged_by(snapshot).is_some() && !touches_files(snapshot))
}
