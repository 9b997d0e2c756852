//! A table's metadata as it is sent.

use serde_json::Value;

use crate::commit::named_snapshots;
use crate::{Error, Result, Table, metadata};

/// The table property that says whether engines may remove files by themselves.
pub(super) const GC_ENABLED: &str = "gc.enabled";

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
    ///
    /// `last_column_id` is the largest field id that any branch's state of the table has, so that new
    /// columns have ids of their own.
    pub fn metadata_json(&self, only_named: bool, last_column_id: Option<i32>) -> Result<Value> {
        let mut value = metadata::to_value(self.metadata())
            .map_err(|error| Error::internal("described", error))?;
        // Nobody may remove files by what one state of one branch needs. Clients that would ask this.
        value["properties"][GC_ENABLED] = "false".into();
        if let Some(known) = last_column_id.filter(|known| *known > self.last_column_id()) {
            value["last-column-id"] = known.into();
        }
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
