//! What a side did since the base, as far as its snapshots tell: how far its changes of rows reach.
//!
//! Sets of files tell which files came and went, and not why. A snapshot that put all rows, or all rows
//! of some partitions, in place of others means that no other row is to be there; its summary says so
//! under [`REACH`]. A snapshot that a merge made has the snapshot that was merged as a second parent,
//! under [`MERGED`], and says how far the changes that it took reach.
//!
//! A side need not come from the base: a conflict may have been settled by keeping one side's table, or a
//! commit is undone, or made again on another branch. What the base did since both were one is then undone
//! first. What is not known is taken for the worst: a side whose snapshots do not all tell may have meant to
//! replace whatever it left nothing of.

use std::collections::{BTreeSet, HashSet};

use iceberg::spec::{Operation, Snapshot};

use super::lineage::{Lineage, merged_by};
use crate::{Table, Tables};

/// The summary's key of how far a change reaches: `all`, or a JSON list of partitions.
pub(crate) const REACH: &str = "headwater.reach";

/// The summary's key of the snapshot that a merge took rows from.
pub(crate) const MERGED: &str = "headwater.merged-snapshot";

/// How many partitions a summary names.
const PARTITIONS_MAX: usize = 500;

/// In place of partitions that are too many to name.
const MANY: &str = "partitions";

/// Which rows a side's changes were meant for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) enum Reach {
    /// Those that changed.
    #[default]
    Rows,
    /// All rows of these partitions.
    Partitions(BTreeSet<String>),
    /// All rows of all partitions that changed.
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
        // What other engines say of a snapshot.
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

    /// What two changes reach together.
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

    /// The summary's value; none where there is nothing to say.
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

/// A side's snapshots since the base.
#[derive(Debug, Default)]
pub(super) struct History {
    /// How far its changes reach.
    pub reach: Reach,
    /// Snapshots that only added rows.
    pub appends: HashSet<i64>,
    /// Whether every snapshot is known, and each only added rows or arranged them anew.
    pub tidies: bool,
    /// Whether any of them arranged rows.
    pub arranges: bool,
    /// Whether every snapshot is known.
    pub complete: bool,
    /// Whether the side comes from the base, as it does not where a change is made again elsewhere.
    pub from_base: bool,
}

/// The base of a merge and both sides, with the snapshots that they come from.
pub(super) struct Past {
    pub base: Lineage,
    /// Ours and theirs.
    pub sides: [Lineage; 2],
}

impl Past {
    /// Reads older metadata files, where the current ones do not tell all that the sides did since the base.
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

    /// Reads what was merged into the sides since the base as well; whether all is known then.
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

    /// What both sides did since the base, but for the snapshots `same`, whose changes the base has as well.
    pub fn histories(&self, same: &HashSet<i64>) -> [History; 2] {
        self.sides.each_ref().map(|side| {
            let mut found = History::between(&self.base, side, same);
            found.tidies &= found.complete;
            found
        })
    }
}

impl History {
    /// What leads from the base to the side. Where the side does not come from the base, as when a change
    /// is undone or made again elsewhere, that is to undo what the base did since both were one, and then
    /// what the side did.
    fn between(base: &Lineage, side: &Lineage, same: &HashSet<i64>) -> History {
        let (mut found, began) = History::since(&base.ancestors(), side, same);
        found.from_base = side.comes_from(base);
        if found.from_base {
            found.complete &= !began || base.current().is_none();
        } else {
            let (undone, undone_began) = History::since(&side.ancestors(), base, same);
            found.complete &= undone.complete && began == undone_began;
            found.reach = found.reach.and(undone.reach);
            // What is added anew when rows go again is no rows that were added.
            found.tidies &= undone.tidies && undone.appends.is_empty();
        }
        found
    }

    /// The side's snapshots that are not known, and whether they go back to where there was none.
    fn since(known: &HashSet<i64>, side: &Lineage, same: &HashSet<i64>) -> (History, bool) {
        let mut found = History { tidies: true, complete: true, ..Self::default() };
        let mut next = side.current();
        while let Some(id) = next.filter(|id| !known.contains(id)) {
            let Some(snapshot) = side.get(id) else {
                found.complete = false;
                break;
            };
            let parent = snapshot.parent_snapshot_id();
            let before = parent.and_then(|id| side.get(id));
            // What a merge took from where the other comes from too is no change of this side.
            let merged = merged_by(snapshot);
            let taken = merged.is_some_and(|id| known.contains(&id));
            let reach = if taken { Reach::Rows } else { Reach::of(snapshot, before) };
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
                self.tidies &= !merged;
                self.arranges = true;
            }
            Operation::Delete | Operation::Overwrite => self.tidies = false,
        }
    }
}
