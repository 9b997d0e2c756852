//! What a side did since the base, as far as its snapshots tell: how far its changes of rows reach.
//!
//! Sets of files tell which files came and went, and not why. A snapshot that put all rows, or all rows
//! of some partitions, in place of others means that no other row is to be there; its summary says so
//! under [`REACH`]. A snapshot that a merge made has the snapshot that was merged as a second parent,
//! under [`MERGED`], and says what both sides' changes reach together.

use std::collections::{BTreeSet, HashSet};

use iceberg::spec::{Operation, Snapshot, TableMetadata};

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
    fn of(snapshot: &Snapshot, before: Option<&Snapshot>) -> Reach {
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
    /// Whether every snapshot is known.
    pub complete: bool,
}

impl History {
    /// The side's snapshots that the base does not come from.
    pub fn since(base: &TableMetadata, side: &TableMetadata) -> History {
        let known = ancestors(base);
        let mut found = History { tidies: true, complete: true, ..Self::default() };
        let mut next: Vec<i64> = side.current_snapshot_id().into_iter().collect();
        let mut seen: HashSet<i64> = HashSet::new();
        while let Some(id) = next.pop() {
            if known.contains(&id) || !seen.insert(id) {
                continue;
            }
            let Some(snapshot) = side.snapshot_by_id(id) else {
                found.complete = false;
                continue;
            };
            let parent = snapshot.parent_snapshot_id();
            let before = parent.and_then(|id| side.snapshot_by_id(id));
            // What a merge took from where the base comes from is no change since the base.
            let merged = merged_by(snapshot);
            let taken = merged.is_some_and(|id| known.contains(&id));
            let reach = if taken { Reach::Rows } else { Reach::of(snapshot, before.map(|b| &**b)) };
            found.add(snapshot, reach, merged.is_some());
            match parent {
                Some(parent) => next.push(parent),
                // It begins at nothing, and so not where the base stands.
                None => found.complete &= known.is_empty(),
            }
        }
        found.tidies &= found.complete;
        found
    }

    fn add(&mut self, snapshot: &Snapshot, reach: Reach, merged: bool) {
        self.reach = std::mem::take(&mut self.reach).and(reach);
        match snapshot.summary().operation {
            Operation::Append => {
                self.appends.insert(snapshot.snapshot_id());
            }
            Operation::Replace => self.tidies &= !merged,
            Operation::Delete | Operation::Overwrite => self.tidies = false,
        }
    }
}

/// The snapshot that a merge took rows from, where the snapshot was made by one.
fn merged_by(snapshot: &Snapshot) -> Option<i64> {
    snapshot.summary().additional_properties.get(MERGED)?.parse().ok()
}

/// The current snapshot, and all that it comes from, merged ones among them.
fn ancestors(metadata: &TableMetadata) -> HashSet<i64> {
    let mut found = HashSet::new();
    let mut next: Vec<i64> = metadata.current_snapshot_id().into_iter().collect();
    while let Some(id) = next.pop() {
        if !found.insert(id) {
            continue;
        }
        let Some(snapshot) = metadata.snapshot_by_id(id) else { continue };
        next.extend(snapshot.parent_snapshot_id());
        next.extend(merged_by(snapshot));
    }
    found
}
