//! A table's metadata as it is sent.

use serde_json::Value;

use crate::commit::named_snapshots;
use crate::{Error, Result, Table};

/// Lists of a metadata file that have no order, and the numbers to sort them by.
const LISTS: [(&str, &str); 4] = [
    ("schemas", "schema-id"),
    ("partition-specs", "spec-id"),
    ("sort-orders", "order-id"),
    ("snapshots", "sequence-number"),
];

impl Table {
    /// Its metadata, in the JSON form of Iceberg's specification: with all snapshots, or only with those
    /// that its own branches and tags name.
    pub fn metadata_json(&self, only_named: bool) -> Result<Value> {
        let mut value = serde_json::to_value(self.metadata())
            .map_err(|error| Error::internal("described", error))?;
        // Their order says nothing, but clients show it.
        for (list, number) in LISTS {
            if let Some(Value::Array(items)) = value.get_mut(list) {
                items.sort_by_key(|item| item[number].as_i64());
            }
        }
        if !only_named {
            return Ok(value);
        }
        let named = named_snapshots(self.metadata());
        if let Some(Value::Array(snapshots)) = value.get_mut("snapshots") {
            let is_named = |id: i64| named.contains(&id);
            snapshots.retain(|snapshot| snapshot["snapshot-id"].as_i64().is_some_and(is_named));
        }
        Ok(value)
    }
}
