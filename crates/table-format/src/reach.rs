//! The rows that a change was intended for, recorded in the snapshot's summary.
//!
//! The files that a snapshot added and removed do not show the intention of the change. If a change
//! replaced all rows, or all rows of some partitions, then no other row should exist there, also
//! after a merge. The summary records this under [`REACH`].

use std::collections::BTreeSet;

use iceberg::spec::{Operation, Snapshot};

/// Summary key of a change's reach: `all`, or a JSON list of partitions.
pub const REACH: &str = "headwater.reach";

/// Maximum number of partitions listed in a summary.
const PARTITIONS_MAX: usize = 500;

/// Value if there are too many partitions to list.
const MANY: &str = "partitions";

/// The rows that a change was intended for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Reach {
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
    /// Returns the reach of a snapshot's change; `before` is its parent.
    pub fn of(snapshot: &Snapshot, before: Option<&Snapshot>) -> Reach {
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
        // For snapshots of other engines, the value is derived from their summaries.
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

    /// Returns the combined reach of two changes.
    #[must_use]
    pub fn and(self, other: Reach) -> Reach {
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
    pub fn to_value(&self) -> Option<String> {
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
