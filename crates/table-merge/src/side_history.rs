//! The changes of one side since the base, as its snapshots record them, and their scope.
//!
//! The summary of a merge snapshot contains its second parent, the merged snapshot, under the key
//! [`headwater_tables::MERGED`]. It also contains the [`ChangeScope`] of the merged changes.
//!
//! It is possible that a side does not descend from the base: after a conflict was resolved by
//! taking one side's table, or in a revert or cherry-pick. The history of such a side then consists
//! of two parts: the reverse of the base's changes since the common ancestor, and the side's
//! changes. Some snapshots may not be known. If the side then kept no file of the table or of a
//! partition, it is assumed that the side replaced all rows there.

use std::collections::{HashMap, HashSet};

use futures::FutureExt;
use headwater_tables::{ChangeScope, SnapshotAncestry, Table, Tables, merged_by};
use iceberg::spec::{Operation, Snapshot};

use crate::shared_changes::AdjustedBase;
use crate::snapshot_effect::{KnownChanges, SnapshotEffect, touches_files};

/// The changes of a side since the base.
#[derive(Debug, Default)]
pub(crate) struct SideHistory {
    /// The combined scope of the side's changes.
    pub reach: ChangeScope,
    /// The snapshots that only added rows, none of which the base has.
    pub appends: HashSet<i64>,
    /// The snapshots that only added files, but with rows that the base may already have in other
    /// files.
    pub copies: HashSet<i64>,
    /// True if all snapshots are known, and each of them only added or compacted rows.
    pub only_appends_or_compacts: bool,
    /// True if at least one of the side's snapshots compacted rows.
    pub compacts: bool,
    /// True if all snapshots between the base and the side are known.
    pub complete: bool,
}

/// Returns true if the changes since a state of a table only compacted rows. If `appends` is true,
/// the changes may also have appended rows.
pub async fn only_compacted(tables: &Tables, base: &Table, now: &Table, appends: bool) -> bool {
    let (before, after) = (base.metadata(), now.metadata());
    let same_shape = before.uuid() == after.uuid()
        && before.current_schema_id() == after.current_schema_id()
        && before.default_partition_spec_id() == after.default_partition_spec_id()
        && before.properties() == after.properties();
    if !same_shape {
        return false;
    }
    if base.snapshot_id() == now.snapshot_id() {
        return true;
    }
    let past = MergeAncestry::read(tables, base, [now, base]).boxed().await;
    let [history, _] = past.histories(&AdjustedBase::default());
    let expected = if appends { history.only_appends_or_compacts } else { history.only_compacts() };
    expected && history.compacts
}

/// The lineages of the base and of both sides of a merge.
pub(crate) struct MergeAncestry {
    pub base: SnapshotAncestry,
    /// The lineages of our side and of their side.
    pub sides: [SnapshotAncestry; 2],
}

impl MergeAncestry {
    /// Reads older metadata files if the current metadata files do not list all snapshots since the
    /// base.
    pub async fn read(tables: &Tables, base: &Table, sides: [&Table; 2]) -> MergeAncestry {
        let mut past = MergeAncestry {
            base: SnapshotAncestry::of(base),
            sides: sides.map(SnapshotAncestry::of),
        };
        for side in &mut past.sides {
            while !is_complete(&past.base, side) {
                let more = side.read_more(tables).await;
                if !past.base.read_more(tables).await && !more {
                    break;
                }
            }
        }
        past.share_snapshots();
        past
    }

    /// Adds each snapshot that one lineage has read to the other lineages with this ancestor.
    /// Otherwise, a common ancestor that only one lineage has read would seem to be missing in the
    /// others.
    pub fn share_snapshots(&mut self) {
        let [ours, theirs] = &mut self.sides;
        ours.add_ancestors_from(&self.base);
        theirs.add_ancestors_from(&self.base);
        ours.add_ancestors_from(theirs);
        theirs.add_ancestors_from(ours);
        self.base.add_ancestors_from(ours);
        self.base.add_ancestors_from(theirs);
    }

    /// Reads the metadata of states that were merged into the sides since the base. Returns true if
    /// all snapshots are known afterwards.
    pub async fn read_merged(&mut self, tables: &Tables) -> bool {
        loop {
            self.share_snapshots();
            let known = self.base.ancestors();
            if !self.sides.iter().any(|side| side.lacks(&known)) {
                return true;
            }
            let mut more = false;
            for side in &mut self.sides {
                more |= side.read_since(tables, &known).await;
            }
            if !self.base.read_more(tables).await && !more {
                self.share_snapshots();
                return false;
            }
        }
    }

    /// Returns the summary properties of the snapshots in `same` that are newer than the base, each
    /// as a pair of the parent's properties and its own.
    pub fn shared_properties(&self, same: &HashSet<i64>) -> Vec<[HashMap<String, String>; 2]> {
        let old = self.base.ancestors();
        let properties = |one: &Snapshot| one.summary().additional_properties.clone();
        let both = |side: &SnapshotAncestry, id: i64| {
            let snapshot = side.get(id)?;
            let before = match snapshot.parent_snapshot_id() {
                Some(parent) => properties(side.get(parent)?),
                None => HashMap::new(),
            };
            Some([before, properties(snapshot)])
        };
        let new = same.iter().filter(|id| !old.contains(id));
        new.filter_map(|id| self.sides.iter().find_map(|side| both(side, *id))).collect()
    }

    /// Returns the changes of both sides since the base. Omits the changes of the snapshots in
    /// `common.same`, which the adjusted base already contains.
    pub fn histories(&self, common: &AdjustedBase) -> [SideHistory; 2] {
        self.sides.each_ref().map(|side| {
            let mut found = SideHistory::between(&self.base, side, common);
            found.only_appends_or_compacts &= found.complete;
            found
        })
    }
}

/// The snapshots on a state's chain of first parents, newest first. Merged snapshots are not on
/// this chain.
struct OwnSnapshots<'a> {
    snapshots: Vec<&'a Snapshot>,
    /// The parent of the last item in `snapshots`; `None` if this item is the table's first
    /// snapshot.
    parent: Option<i64>,
    /// False if the chain stops early, because the next snapshot is not known.
    complete: bool,
}

impl<'a> OwnSnapshots<'a> {
    /// Returns the snapshots of a side up to the first one that is in `known`.
    fn since(known: &HashSet<i64>, side: &'a SnapshotAncestry) -> Self {
        let mut found =
            OwnSnapshots { snapshots: Vec::new(), parent: side.current(), complete: true };
        while let Some(id) = found.parent.filter(|id| !known.contains(id)) {
            let Some(snapshot) = side.get(id) else {
                found.complete = false;
                break;
            };
            found.parent = snapshot.parent_snapshot_id();
            found.snapshots.push(snapshot);
        }
        found
    }
}

/// Returns true if all snapshots between the base and the side are known.
fn is_complete(base: &SnapshotAncestry, side: &SnapshotAncestry) -> bool {
    let own = OwnSnapshots::since(&base.ancestors(), side);
    if side.descends_from(base) {
        // If the base reached the side through a merge, the side's chain of first parents can lead
        // back to an empty table without meeting the base. All ancestors of the base must then be
        // known.
        let began = own.parent.is_none();
        return own.complete && !(began && base.lacks(&HashSet::new()));
    }
    let undone = OwnSnapshots::since(&side.ancestors(), base);
    own.complete && undone.complete && own.parent.is_none() == undone.parent.is_none()
}

impl SideHistory {
    /// Returns the changes from the base to the side. In a revert or cherry-pick, for example, the
    /// side does not descend from the base. The changes are then the reverse of the base's changes
    /// since the common ancestor, followed by the side's changes since that ancestor.
    fn between(
        base: &SnapshotAncestry,
        side: &SnapshotAncestry,
        common: &AdjustedBase,
    ) -> SideHistory {
        let mut found = SideHistory::since(base, side, common);
        found.complete = is_complete(base, side);
        if !side.descends_from(base) {
            let undone = SideHistory::since(side, base, common);
            // If the side reverted a removal of files, it added these files again, and their rows
            // are not new.
            found.only_appends_or_compacts &= undone.only_compacts();
            found.reach = found.reach.and(undone.reach);
        }
        found
    }

    /// Returns true if the snapshots only compacted rows.
    pub fn only_compacts(&self) -> bool {
        self.only_appends_or_compacts && self.appends.is_empty() && self.copies.is_empty()
    }

    /// Returns the changes of the side's snapshots that `base` does not have.
    fn since(
        base: &SnapshotAncestry,
        side: &SnapshotAncestry,
        common: &AdjustedBase,
    ) -> SideHistory {
        let mut found = SideHistory { only_appends_or_compacts: true, ..Self::default() };
        let mut known = KnownChanges::of(base, side, common);
        let own = OwnSnapshots::since(&known.ancestors, side);
        known.is_parent = own.parent == base.current();
        let mut before = side.ancestors_of(own.parent);
        known.is_complete = !base.lacks(&before);
        for snapshot in own.snapshots.into_iter().rev() {
            let parent = snapshot.parent_snapshot_id().and_then(|id| side.get(id));
            // A merge of changes that the base already contains is not a change of this side.
            let is_shared = merged_by(snapshot).is_some_and(|id| known.ancestors.contains(&id));
            let reach =
                if is_shared { ChangeScope::Rows } else { ChangeScope::of(snapshot, parent) };
            let merged = side.ancestors_since(merged_by(snapshot), &before);
            if !common.same.contains(&snapshot.snapshot_id()) {
                found.add(snapshot, reach, known.effect(side, snapshot, &merged));
            }
            before.insert(snapshot.snapshot_id());
            before.extend(merged);
        }
        found
    }

    fn add(&mut self, snapshot: &Snapshot, reach: ChangeScope, effect: SnapshotEffect) {
        self.reach = std::mem::take(&mut self.reach).and(reach);
        self.only_appends_or_compacts &= effect != SnapshotEffect::Changes;
        if merged_by(snapshot).is_some() && !touches_files(snapshot) {
            return;
        }
        let id = snapshot.snapshot_id();
        self.compacts |= effect == SnapshotEffect::Compacts;
        if effect == SnapshotEffect::Appends {
            self.appends.insert(id);
        } else if snapshot.summary().operation == Operation::Append {
            self.copies.insert(id);
        }
    }
}
