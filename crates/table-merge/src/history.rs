//! The changes of one side since the base, according to its snapshots, and their scope.
//!
//! A merge snapshot records the merged snapshot, its second parent, under
//! [`headwater_tables::MERGED`], and the [`ChangeScope`] of the merged changes.
//!
//! A side may not descend from the base, for example if a conflict was resolved by keeping one
//! side's table, or in a revert or cherry-pick. Its history then consists of two parts: the reverse
//! of the base's changes since the common ancestor, and the side's changes. If some snapshots are
//! unknown and the side kept no file of the table, or of a partition, it is assumed to have
//! replaced all rows there.

use std::collections::HashSet;

use headwater_tables::{ChangeScope, Lineage, Table, Tables, merged_by};
use iceberg::spec::{Operation, Snapshot};

/// The changes of a side since the base.
#[derive(Debug, Default)]
pub(crate) struct History {
    /// The combined scope of the side's changes.
    pub reach: ChangeScope,
    /// Snapshots that only added rows.
    pub appends: HashSet<i64>,
    /// True if all snapshots are known, and each of them only added or compacted rows.
    pub only_appends_or_compacts: bool,
    /// True if any of them compacted rows.
    pub compacts: bool,
    /// True if all snapshots are known.
    pub complete: bool,
    /// True if the side descends from the base; false in a cherry-pick, for example.
    pub from_base: bool,
}

/// The lineages of a merge's base and sides.
pub(crate) struct MergeLineages {
    pub base: Lineage,
    /// The lineages of our side and of their side.
    pub sides: [Lineage; 2],
}

impl MergeLineages {
    /// Reads older metadata files if the current ones do not list all snapshots since the base.
    pub async fn read(tables: &Tables, base: &Table, sides: [&Table; 2]) -> MergeLineages {
        let mut past = MergeLineages { base: Lineage::of(base), sides: sides.map(Lineage::of) };
        for side in &mut past.sides {
            while !History::between(&past.base, side, &HashSet::new()).complete {
                let more = side.read_more(tables).await;
                if !past.base.read_more(tables).await && !more {
                    break;
                }
            }
        }
        past
    }

    /// Reads the metadata of states that were merged into the sides since the base. Returns true if
    /// all snapshots are known afterwards.
    pub async fn read_merged(&mut self, tables: &Tables) -> bool {
        loop {
            let known = self.base.ancestors();
            if !self.sides.iter().any(|side| side.lacks(&known)) {
                return true;
            }
            let mut more = false;
            for side in &mut self.sides {
                more |= side.read_since(tables, &known).await;
            }
            if !self.base.read_more(tables).await && !more {
                return false;
            }
        }
    }

    /// Returns the changes of both sides since the base. Excludes the snapshots in `same`, whose
    /// changes the base also contains.
    pub fn histories(&self, same: &HashSet<i64>) -> [History; 2] {
        self.sides.each_ref().map(|side| {
            let mut found = History::between(&self.base, side, same);
            found.only_appends_or_compacts &= found.complete;
            found
        })
    }
}

impl History {
    /// Returns the changes from the base to the side. The side may not descend from the base, for
    /// example in a revert or cherry-pick. The changes then are the reverse of the base's changes
    /// since the common ancestor, followed by the side's changes.
    fn between(base: &Lineage, side: &Lineage, same: &HashSet<i64>) -> History {
        let (mut found, began) = History::since(&base.ancestors(), side, same);
        found.from_base = side.descends_from(base);
        if found.from_base {
            found.complete &= !began || base.current().is_none();
        } else {
            let (undone, undone_began) = History::since(&side.ancestors(), base, same);
            found.complete &= undone.complete && began == undone_began;
            found.reach = found.reach.and(undone.reach);
            // Files that a reverted removal adds again contain no new rows.
            found.only_appends_or_compacts &=
                undone.only_appends_or_compacts && undone.appends.is_empty();
        }
        found
    }

    /// Returns the side's snapshots that are not in `known`, and true if they reach back to the
    /// first snapshot.
    fn since(known: &HashSet<i64>, side: &Lineage, same: &HashSet<i64>) -> (History, bool) {
        let mut found =
            History { only_appends_or_compacts: true, complete: true, ..Self::default() };
        let mut next = side.current();
        while let Some(id) = next.filter(|id| !known.contains(id)) {
            let Some(snapshot) = side.get(id) else {
                found.complete = false;
                break;
            };
            let parent = snapshot.parent_snapshot_id();
            let before = parent.and_then(|id| side.get(id));
            // The part of a merge that both sides contain does not count as a change of this side.
            let merged = merged_by(snapshot);
            let is_shared = merged.is_some_and(|id| known.contains(&id));
            let reach =
                if is_shared { ChangeScope::Rows } else { ChangeScope::of(snapshot, before) };
            if !same.contains(&id) {
                found.add(snapshot, reach, merged.is_some());
            }
            next = parent;
        }
        (found, next.is_none())
    }

    fn add(&mut self, snapshot: &Snapshot, reach: ChangeScope, merged: bool) {
        self.reach = std::mem::take(&mut self.reach).and(reach);
        let properties = &snapshot.summary().additional_properties;
        let touches = |key: &str| properties.contains_key(key);
        if merged && !touches("added-data-files") && !touches("deleted-data-files") {
            return;
        }
        match snapshot.summary().operation {
            Operation::Append => {
                self.appends.insert(snapshot.snapshot_id());
            }
            Operation::Replace => {
                self.only_appends_or_compacts &= !merged;
                self.compacts = true;
            }
            Operation::Delete | Operation::Overwrite => self.only_appends_or_compacts = false,
        }
    }
}
