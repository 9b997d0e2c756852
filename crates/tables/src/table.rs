//! One state of a table, and its totals.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::datatypes::{Schema, SchemaRef};
use chrono::DateTime;
use headwater_model::{Column, PartitionField, SortField, TableName, Timestamp};
use iceberg::spec::{DataContentType, NullOrder, Snapshot, SortDirection, TableMetadata};

use crate::column_defaults::default_text;
use crate::listed_snapshots::snapshots_listed;
use crate::partition::known_transform;
use crate::types::field_type_name;
use crate::types::schema::{arrow_schema, field_id, with_names};
use crate::{COMMENT, SortColumn, foreign_column};

/// One immutable state of one table, read from a metadata file. Clones share the state.
#[derive(Debug, Clone)]
pub struct Table(Arc<TableInner>);

#[derive(Debug)]
struct TableInner {
    metadata_location: String,
    metadata: TableMetadata,
    schema: SchemaRef,
    totals: Totals,
    weight: u32,
}

/// Totals of a snapshot.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Totals {
    /// Number of rows, including deleted rows.
    pub(crate) rows: u64,
    pub(crate) files: u64,
    /// Bytes of data files and delete files.
    pub(crate) bytes: u64,
    pub(crate) deletes: DeleteTotals,
}

/// Totals of a snapshot's delete files.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct DeleteTotals {
    pub(crate) files: u64,
    /// Rows in position delete files and deletion vectors.
    pub(crate) positions: u64,
    /// Rows in equality delete files.
    pub(crate) keys: u64,
}

/// Returns the size of a file in bytes. For a deletion vector, returns only the size of the vector
/// in its file.
pub(crate) fn content_bytes(file: &iceberg::spec::DataFile) -> u64 {
    let own = file.content_size_in_bytes().and_then(|bytes| u64::try_from(bytes).ok());
    own.unwrap_or_else(|| file.file_size_in_bytes())
}

impl DeleteTotals {
    pub(crate) fn add(&mut self, file: &iceberg::spec::DataFile) {
        self.files += 1;
        match file.content_type() {
            DataContentType::EqualityDeletes => self.keys += file.record_count(),
            _ => self.positions += file.record_count(),
        }
    }
}

impl Totals {
    /// Returns the totals in a snapshot's summary; `None` if the summary does not contain them.
    pub(crate) fn of(snapshot: &Snapshot) -> Option<Totals> {
        let total = |key: &str| snapshot.summary().additional_properties.get(key)?.parse().ok();
        let deletes = DeleteTotals {
            files: total("total-delete-files")?,
            positions: total("total-position-deletes")?,
            keys: total("total-equality-deletes")?,
        };
        Some(Totals {
            rows: total("total-records")?,
            files: total("total-data-files")?,
            bytes: total("total-files-size")?,
            deletes,
        })
    }
}

impl Table {
    pub(crate) fn new(
        metadata_location: String,
        metadata: TableMetadata,
        totals: Totals,
        encoded_bytes: usize,
    ) -> Self {
        let schema = arrow_schema(metadata.current_schema().as_struct().fields());
        let schema = with_names(&schema, name_mapping(&metadata));
        // Parsed metadata takes about three times the bytes of its JSON.
        let weight = u32::try_from(encoded_bytes.saturating_mul(3)).unwrap_or(u32::MAX);
        Table(Arc::new(TableInner { metadata_location, metadata, schema, totals, weight }))
    }

    /// Returns the decoded metadata file.
    pub fn metadata(&self) -> &TableMetadata {
        &self.0.metadata
    }

    /// Returns this table with other metadata, which is not stored. The returned table can be used
    /// to write rows. It has the totals of this state.
    #[must_use]
    pub fn unstored(&self, metadata: TableMetadata) -> Self {
        Table::new(self.metadata_location().to_owned(), metadata, self.totals(), 0)
    }

    /// Returns the totals of the current snapshot.
    pub fn totals(&self) -> Totals {
        self.0.totals
    }

    pub(crate) fn weight(&self) -> u32 {
        self.0.weight
    }

    /// Returns the location of the metadata file.
    pub fn metadata_location(&self) -> &str {
        &self.0.metadata_location
    }

    /// Returns the Iceberg table UUID, which is the same in all states.
    pub fn id(&self) -> String {
        self.metadata().uuid().to_string()
    }

    /// Returns the table's base location, a URL.
    pub fn location(&self) -> &str {
        self.metadata().location()
    }

    /// Returns the current schema. The Arrow metadata of each field contains the field's id under
    /// the key [`crate::FIELD_ID`].
    pub fn schema(&self) -> SchemaRef {
        self.0.schema.clone()
    }

    /// Returns the largest field id ever assigned in the table.
    pub fn last_column_id(&self) -> i32 {
        self.metadata().last_column_id()
    }

    /// Returns the schema of a snapshot; `None` if the table does not have the snapshot.
    pub fn schema_at(&self, snapshot: i64) -> Option<SchemaRef> {
        let schema = self.metadata().snapshot_by_id(snapshot)?.schema(self.metadata()).ok()?;
        let schema = arrow_schema(schema.as_struct().fields());
        Some(with_names(&schema, name_mapping(self.metadata())))
    }

    /// Returns the id of the current snapshot; `None` if the table never had rows.
    pub fn snapshot_id(&self) -> Option<i64> {
        self.metadata().current_snapshot_id()
    }

    /// Returns the number of rows in the current snapshot. If other engines wrote delete files, the
    /// number is approximate; [`crate::Tables::count`] returns the exact number.
    pub fn rows(&self) -> u64 {
        self.0.totals.rows.saturating_sub(self.0.totals.deletes.positions)
    }

    /// Returns true if the current snapshot has delete files.
    pub fn has_deletes(&self) -> bool {
        self.0.totals.deletes.files > 0
    }

    /// Returns the number of delete files in the current snapshot.
    pub fn delete_files(&self) -> u64 {
        self.0.totals.deletes.files
    }

    /// Returns the snapshots created at or before `before`, oldest first. The `keep` newest
    /// snapshots, and snapshots to which refs in the metadata point, are excluded.
    pub fn snapshots_before(&self, before: Timestamp, keep: usize) -> Vec<i64> {
        let metadata = self.metadata();
        let mut snapshots: Vec<_> = metadata.snapshots().collect();
        snapshots.sort_by_key(|snapshot| snapshot.sequence_number());
        let keep = snapshots_listed(metadata, keep.max(1));
        snapshots.truncate(snapshots.len().saturating_sub(keep));
        // The refs are read from the JSON, because the `iceberg` crate does not return them.
        let refs = serde_json::to_value(metadata).map(|mut value| value["refs"].take());
        let refs = refs.ok().and_then(|refs| refs.as_object().cloned()).unwrap_or_default();
        let referenced: Vec<i64> =
            refs.values().filter_map(|reference| reference["snapshot-id"].as_i64()).collect();
        let old = snapshots.into_iter().filter(|snapshot| {
            snapshot.timestamp_ms() <= before.timestamp_millis()
                && !referenced.contains(&snapshot.snapshot_id())
        });
        old.map(|snapshot| snapshot.snapshot_id()).collect()
    }

    /// Returns the name and type of the first column whose type only other engines support.
    pub fn foreign_column(&self) -> Option<(String, String)> {
        self.schema().fields().iter().find_map(|field| foreign_column(field))
    }

    /// Returns the number of data files in the current snapshot.
    pub fn files(&self) -> u64 {
        self.0.totals.files
    }

    /// Returns the total size of the current snapshot's data files and delete files, in bytes.
    pub fn bytes(&self) -> u64 {
        self.0.totals.bytes
    }

    /// Returns the time when the current snapshot was created.
    pub fn updated(&self) -> Option<Timestamp> {
        DateTime::from_timestamp_millis(self.metadata().current_snapshot()?.timestamp_ms())
    }

    /// Returns the partition fields, in order. Fields with unknown transforms are omitted.
    pub fn partition(&self) -> Vec<PartitionField> {
        let schema = self.metadata().current_schema();
        let fields = self.metadata().default_partition_spec().fields().iter();
        let fields = fields.filter_map(|field| {
            let transform = known_transform(field.transform)?;
            let column = schema.name_by_field_id(field.source_id)?.to_owned();
            Some(PartitionField { column, transform })
        });
        fields.collect()
    }

    /// Returns the sort order for new rows; `None` if there is no sort order, or if Headwater does
    /// not support one of its transforms.
    pub fn sort_order(&self) -> Option<Vec<SortColumn>> {
        let fields = &self.metadata().default_sort_order().fields;
        let columns = self.metadata().current_schema().as_struct();
        let by = fields.iter().map(|key| {
            let column = columns.field_by_id(key.source_id)?;
            let plain = key.transform == iceberg::spec::Transform::Identity;
            plain.then(|| SortColumn {
                name: column.name.clone(),
                descending: key.direction == SortDirection::Descending,
                nulls_first: key.null_order == NullOrder::First,
            })
        });
        by.collect::<Option<Vec<_>>>().filter(|by| !by.is_empty())
    }

    /// Returns the names of the table's identifier fields.
    pub fn identifier(&self) -> Vec<String> {
        let schema = self.metadata().current_schema();
        let ids: Vec<i32> = schema.identifier_field_ids().collect();
        let columns = schema.as_struct().fields().iter();
        columns.filter(|column| ids.contains(&column.id)).map(|c| c.name.clone()).collect()
    }

    /// Returns true if any schema has this name for the field with this id, even a nested field.
    pub fn has_called(&self, id: i32, name: &str) -> bool {
        let mut schemas = self.metadata().schemas_iter();
        schemas.any(|schema| schema.field_by_id(id).is_some_and(|field| field.name == name))
    }

    /// Returns the version of Iceberg's table format.
    pub fn format_version(&self) -> u8 {
        self.metadata().format_version() as u8
    }

    /// Returns true if the table has partition fields with any transform, including unknown ones.
    pub fn is_partitioned(&self) -> bool {
        !self.metadata().default_partition_spec().is_unpartitioned()
    }

    /// Returns the table properties.
    pub fn properties(&self) -> BTreeMap<String, String> {
        sorted(self.metadata().properties())
    }

    /// Returns a summary property's value from the newest listed snapshot that contains it.
    pub fn summary_property(&self, property: &str) -> Option<&str> {
        let snapshots = self.metadata().snapshots();
        let values = snapshots.filter_map(|snapshot| {
            let value = snapshot.summary().additional_properties.get(property)?;
            Some((snapshot.sequence_number(), value.as_str()))
        });
        values.max_by_key(|(number, _)| *number).map(|(_, value)| value)
    }

    /// Returns the current snapshot's summary, including `operation`; empty if the table never had
    /// rows.
    pub fn summary(&self) -> BTreeMap<String, String> {
        let Some(snapshot) = self.metadata().current_snapshot() else { return BTreeMap::new() };
        let mut summary = sorted(&snapshot.summary().additional_properties);
        let operation = snapshot.summary().operation.as_str().to_owned();
        summary.insert("operation".to_owned(), operation);
        summary
    }

    /// Returns the API's description of the table. `name` is the name in the description.
    pub fn describe(&self, name: &TableName) -> headwater_model::Table {
        headwater_model::Table {
            name: name.clone(),
            namespace: name.namespace.clone(),
            id: self.id(),
            columns: described(&self.0.schema),
            partition: self.partition(),
            sort: self.sort_order().into_iter().flatten().map(sort_field).collect(),
            identifier: self.identifier(),
            format_version: self.format_version(),
            rows: self.rows(),
            files: self.files(),
            bytes: self.bytes(),
            snapshot: self.snapshot_id(),
            updated: self.updated(),
            metadata_location: self.metadata_location().to_owned(),
            properties: self.properties(),
            restricted: false,
            maintenance: None,
        }
    }
}

/// Returns the descriptions of the columns of a schema, for the API.
pub(crate) fn described(schema: &Schema) -> Vec<Column> {
    let columns = schema.fields().iter().map(|field| Column {
        name: field.name().clone(),
        data_type: field_type_name(field),
        nullable: field.is_nullable(),
        field_id: field_id(field).unwrap_or_default(),
        default: default_text(field),
        comment: field.metadata().get(COMMENT).cloned(),
    });
    columns.collect()
}

fn sort_field(by: SortColumn) -> SortField {
    SortField { column: by.name, descending: by.descending, nulls_first: by.nulls_first }
}

/// Returns the table's default name mapping, for files without field ids.
pub fn name_mapping(metadata: &TableMetadata) -> Option<&str> {
    metadata.properties().get("schema.name-mapping.default").map(String::as_str)
}

fn sorted(map: &std::collections::HashMap<String, String>) -> BTreeMap<String, String> {
    map.iter().map(|(key, value)| (key.clone(), value.clone())).collect()
}
