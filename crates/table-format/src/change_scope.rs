//! The rows that a change was meant to cover, as recorded in the summary of its snapshot.
//!
//! The scope cannot be derived from the files that a snapshot added and removed. For example, a
//! change can be meant to replace all rows of a partition. A merge must then not add rows of the
//! other side to this partition. The summary contains the scope under the key [`REACH`].

use std::collections::BTreeSet;

use iceberg::spec::{Operation, Snapshot};

/// Summary key of the scope of a change: `all`, `partitions`, or a JSON list of partitions.
pub const REACH: &str = "headwater.reach";

/// Maximum number of partitions that a summary lists.
const PARTITIONS_MAX: usize = 500;

/// Value of [`REACH`] if there are too many partitions to list.
const MANY: &str = "partitions";

/// The rows that a change was meant to cover. A merge must not add rows to this scope.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum ChangeScope {
    /// Only the rows that the change added, removed or updated.
    #[default]
    Rows,
    /// All rows of these partitions.
    Partitions(BTreeSet<String>),
    /// All rows of the partitions in which files changed.
    ChangedPartitions,
    /// All rows.
    All,
}

impl ChangeScope {
    /// Returns the scope of a snapshot's change; `before` is its parent.
    pub fn of(snapshot: &Snapshot, before: Option<&Snapshot>) -> ChangeScope {
        let summary = snapshot.summary();
        let value = |key: &str| summary.additional_properties.get(key).map(String::as_str);
        match value(REACH) {
            Some("all") => return ChangeScope::All,
            Some(MANY) => return ChangeScope::ChangedPartitions,
            Some(list) => match serde_json::from_str(list) {
                Ok(partitions) => return ChangeScope::Partitions(partitions),
                Err(_) => return ChangeScope::All,
            },
            None => {}
        }
        // Other engines do not write [`REACH`], so the scope of their changes is derived from other
        // properties.
        if summary.operation != Operation::Overwrite || value("engine-name") == Some("headwater") {
            return ChangeScope::Rows;
        }
        let files = before.and_then(|before| {
            before.summary().additional_properties.get("total-data-files").map(String::as_str)
        });
        if value("replace-partitions") == Some("true") {
            ChangeScope::ChangedPartitions
        } else if files
            .is_some_and(|files| files != "0" && value("deleted-data-files") == Some(files))
        {
            ChangeScope::All
        } else {
            ChangeScope::Rows
        }
    }

    /// Returns the combined scope of two changes.
    #[must_use]
    pub fn and(self, other: ChangeScope) -> ChangeScope {
        match (self, other) {
            (ChangeScope::All, _) | (_, ChangeScope::All) => ChangeScope::All,
            (ChangeScope::Rows, other) | (other, ChangeScope::Rows) => other,
            (ChangeScope::ChangedPartitions, _) | (_, ChangeScope::ChangedPartitions) => {
                ChangeScope::ChangedPartitions
            }
            (ChangeScope::Partitions(mut one), ChangeScope::Partitions(other)) => {
                one.extend(other);
                ChangeScope::Partitions(one)
            }
        }
    }

    /// Returns the scope as a summary value; `None` for [`ChangeScope::Rows`].
    pub fn to_value(&self) -> Option<String> {
        match self {
            ChangeScope::Rows => None,
            ChangeScope::All => Some("all".to_owned()),
            ChangeScope::Partitions(partitions) if partitions.len() <= PARTITIONS_MAX => {
                serde_json::to_string(partitions).ok()
            }
            ChangeScope::Partitions(_) | ChangeScope::ChangedPartitions => Some(MANY.to_owned()),
        }
    }
}
