//! Skeleton.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use headwater_model::{PartitionField, TableName, Timestamp};

/// One immutable state of one table; cheap to clone.
#[derive(Debug, Clone)]
pub struct Table(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    metadata_location: String,
    schema: SchemaRef,
}

impl Table {
    /// The metadata file that is this state.
    pub fn metadata_location(&self) -> &str {
        &self.0.metadata_location
    }

    /// Iceberg's table id, the same through all states.
    pub fn id(&self) -> String {
        String::new()
    }

    /// The folder of the table, as a URL.
    pub fn location(&self) -> &str {
        ""
    }

    /// Its columns; each field's metadata carries its id as [`crate::FIELD_ID`].
    pub fn schema(&self) -> SchemaRef {
        self.0.schema.clone()
    }

    /// The current snapshot; none for a table that never held a row.
    pub fn snapshot_id(&self) -> Option<i64> {
        None
    }

    /// Rows in the current snapshot.
    pub fn rows(&self) -> u64 {
        0
    }

    /// Data files in the current snapshot.
    pub fn files(&self) -> u64 {
        0
    }

    /// Bytes of those files.
    pub fn bytes(&self) -> u64 {
        0
    }

    /// When the current snapshot was made.
    pub fn updated(&self) -> Option<Timestamp> {
        None
    }

    /// Its partition fields, in order.
    pub fn partition(&self) -> Vec<PartitionField> {
        Vec::new()
    }

    /// Iceberg's table properties.
    pub fn properties(&self) -> BTreeMap<String, String> {
        BTreeMap::new()
    }

    /// The current snapshot's summary, with `operation`.
    pub fn summary(&self) -> BTreeMap<String, String> {
        BTreeMap::new()
    }

    /// The table as it is listed under this name.
    pub fn describe(&self, name: &TableName) -> headwater_model::Table {
        headwater_model::Table {
            name: name.clone(),
            namespace: name.namespace.clone(),
            id: self.id(),
            columns: Vec::new(),
            partition: self.partition(),
            rows: self.rows(),
            files: self.files(),
            bytes: self.bytes(),
            snapshot: self.snapshot_id(),
            updated: self.updated(),
            metadata_location: self.metadata_location().to_owned(),
            properties: self.properties(),
        }
    }
}
