//! A table's metadata as it is sent.

use serde_json::Value;

use crate::commit::named_snapshots;
use crate::{Error, Result, Table};

impl Table {
    /// Its metadata, in the JSON form of Iceberg's specification: with all snapshots, or only with those
    /// that its own branches and tags name.
    pub fn metadata_json(&self, only_named: bool) -> Result<Value> {
        let mut value = serde_json::to_value(self.metadata())
            .map_err(|error| Error::internal("described", error))?;
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
