//! The changes of one side since the base, according to its snapshots, and their reach.
//!
//! Sets of files tell which files were added and removed, but not why. A snapshot that replaced all
//! rows, or all rows of some partitions, means that no other row should exist there. Its summary
//! records that under [`REACH`]. A merge snapshot records the merged snapshot, its second parent,
//! under [`MERGED`], and the reach of the merged changes.
//!
//! A side need not descend from the base: a conflict may have been resolved by keeping one side's
//! table, or a commit is reverted, or cherry-picked to another branch. Then the base's changes
//! since the common ancestor are reverted first. If some snapshots are unknown, the side may have
//! intended to replace everything of which it left nothing.

use std::collections::{BTreeSet, HashSet};

use iceberg::spec::{Operation, Snapshot};

use super::lineage::{Lineage, merged_by};
use crate::{Table, Tables};

/// Summary key of a change's reach: `all`, or a JSON list of partitions.
pub(crate) const REACH: &str = "headwater.reach";

/// Summary key of the snapshot that a merge took rows from.
pub(crate) const MERGED: &str = "headwater.merged-snapshot";

/// Maximum number of partitions listed in a summary.
const PARTITIONS_MAX: usize = 500;

/// Value if there are too many partitions to list.
const MANY: &str = "partitions";

/// The rows that a change was intended for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) enum Reach {
    /// Only the changed rows.
    #[default]
    Rows,
    /// All rows of these partitions.
    Partitions(BTreeSet<String>),
    /// All rows of all changed partitions.
    ChangedPartitions,
    /// All rows.
    All,
}

impl Reach {
    pub(crate) fn of(snapshot: &Snapshot, before: Option<&Snapshot>) -> Reach {
        let summary = snapshot.summary();
        let value = |key: &str| summary.additional_properties.get(key).map(String::as_str);
        match value(REACH) {
            Some("all") => return Reach::All,
            Some(MANY) => return Reach::ChangedPartitions,
            Some(list) => match serde_json::from_str(list) {
                Ok(partitions) => return Reach::Partitions(partitions),
                Err(_) => return Reach::All,
            },
            None => {}
        }
        // For snapshots of other engines, derived from their summaries.
        if summary.operation != Operation::Overwrite || value("engine-name") == Some("headwater") {
            return Reach::Rows;
        }
        let files = before.and_then(|before| {
            before.summary().additional_properties.get("total-data-files").map(String::as_str)
        });
        if value("replace-partitions") == Some("true") {
            Reach::ChangedPartitions
        } else if files
            .is_some_and(|files| files != "0" && value("deleted-data-files") == Some(files))
        {
            Reach::All
        } else {
            Reach::Rows
        }
    }

    /// Returns the reach of two changes combined.
    pub(crate) fn and(self, other: Reach) -> Reach {
        match (self, other) {
            (Reach::All, _) | (_, Reach::All) => Reach::All,
            (Reach::Rows, other) | (other, Reach::Rows) => other,
            (Reach::ChangedPartitions, _) | (_, Reach::ChangedPartitions) => {
                Reach::ChangedPartitions
            }
            (Reach::Partitions(mut one), Reach::Partitions(other)) => {
                one.extend(other);
                Reach::Partitions(one)
            }
        }
    }

    /// Returns the summary value; none for [`Reach::Rows`].
    pub(crate) fn to_value(&self) -> Option<String> {
        match self {
            Reach::Rows => None,
            Reach::All => Some("all".to_owned()),
            Reach::Partitions(partitions) if partitions.len() <= PARTITIONS_MAX => {
                serde_json::to_string(partitions).ok()
            }
            Reach::Partitions(_) | Reach::ChangedPartitions => Some(MANY.to_owned()),
        }
    }
}

/// The changes of a side since the base.
#[derive(Debug, Default)]
pub(super) struct History {
    /// The reach of its changes.
    pub reach: Reach,
    /// Snapshots that only added rows.
    pub appends: HashSet<i64>,
    /// True if all snapshots are known, and each only added or compacted rows.
    pub only_appends_or_compacts: bool,
    /// True if any of them compacted rows.
    pub compacts: bool,
    /// True if all snapshots are known.
    pub complete: bool,
    /// True if the side descends from the base; false if a change is cherry-picked.
    pub from_base: bool,
}

/// The lineages of a merge's base and sides.
pub(super) struct Past {
    pub base: Lineage,
    /// Ours and theirs.
    pub sides: [Lineage; 2],
}

impl Past {
    /// Reads older metadata files if the current ones do not list all snapshots since the base.
    pub async fn read(tables: &Tables, base: &Table, sides: [&Table; 2]) -> Past {
        let mut past = Past { base: Lineage::of(base), sides: sides.map(Lineage::of) };
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

    /// Reads the metadata of states merged into the sides since the base. Returns true if all
    /// snapshots are known then.
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

    /// Returns the changes of both sides since the base, without the snapshots `same`, whose
    /// changes the base contains as well.
    pub fn histories(&self, same: &HashSet<i64>) -> [History; 2] {
        self.sides.each_ref().map(|side| {
            let mut found = History::between(&self.base, side, same);
            found.only_appends_or_compacts &= found.complete;
            found
        })
    }
}

impl History {
    /// Returns the changes from the base to the side. If the side does not descend from the base,
    /// for example when a commit is reverted or cherry-picked, these are the reverse of the base's
    /// changes since the common ancestor, and then the side's changes.
    fn between(base: &Lineage, side: &Lineage, same: &HashSet<i64>) -> History {
        let (mut found, began) = History::since(&base.ancestors(), side, same);
        found.from_base = side.descends_from(base);
        if found.from_base {
            found.complete &= !began || base.current().is_none();
        } else {
            let (undone, undone_began) = History::since(&side.ancestors(), base, same);
            found.complete &= undone.complete && began == undone_began;
            found.reach = found.reach.and(undone.reach);
            // Files that are added again by reverting a removal contain no appended rows.
            found.only_appends_or_compacts &=
                undone.only_appends_or_compacts && undone.appends.is_empty();
        }
        found
    }

    /// Returns the side's snapshots that are not in `known`, and whether they reach back to the
    /// first one.
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
            // The part of a merge that both sides contain is not a change of this side.
            let merged = merged_by(snapshot);
            let is_shared = merged.is_some_and(|id| known.contains(&id));
            let reach = if is_shared { Reach::Rows } else { Reach::of(snapshot, before) };
            if !same.contains(&id) {
                found.add(snapshot, reach, merged.is_some());
            }
            next = parent;
        }
        (found, next.is_none())
    }

    fn add(&mut self, snapshot: &Snapshot, reach: Reach, merged: bool) {
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
