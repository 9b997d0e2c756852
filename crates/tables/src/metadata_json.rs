//! Table metadata as JSON, in the form that clients receive.

use serde_json::Value;

use crate::{Error, Result, Table, metadata, referenced_snapshots};

/// The table property that allows engines to delete files.
pub const GC_ENABLED: &str = "gc.enabled";

/// Lists of a metadata file whose order is not defined, and the keys by which they are sorted.
const LISTS: [(&str, &str); 4] = [
    ("schemas", "schema-id"),
    ("partition-specs", "spec-id"),
    ("sort-orders", "order-id"),
    ("snapshots", "sequence-number"),
];

impl Table {
    /// Returns the metadata in the JSON format of Iceberg's specification. The JSON contains all
    /// snapshots or, if `only_referenced` is true, only the snapshots with a ref.
    ///
    /// `last_column_id` is the largest field id that any branch has assigned, so that the ids of
    /// new columns are unique.
    pub fn metadata_json(
        &self,
        only_referenced: bool,
        last_column_id: Option<i32>,
    ) -> Result<Value> {
        let mut value = metadata::to_value(self.metadata())
            .map_err(|error| Error::internal("described", error))?;
        // A client knows only one state of the table, so it must not delete files: other states may
        // need them.
        value["properties"][GC_ENABLED] = "false".into();
        if let Some(known) = last_column_id.filter(|known| *known > self.last_column_id()) {
            value["last-column-id"] = known.into();
        }
        // The lists are sorted, because some clients display them in this order.
        for (list, number) in LISTS {
            if let Some(Value::Array(items)) = value.get_mut(list) {
                items.sort_by_key(|item| item[number].as_i64());
            }
        }
        if !only_referenced {
            return Ok(value);
        }
        let referenced = referenced_snapshots(self.metadata());
        if let Some(Value::Array(snapshots)) = value.get_mut("snapshots") {
            let is_referenced = |id: i64| referenced.contains(&id);
            snapshots
                .retain(|snapshot| snapshot["snapshot-id"].as_i64().is_some_and(is_referenced));
        }
        Ok(value)
    }
}
