//! What a state of a table is made of: its snapshots, and the manifests and files of the current one.

use std::collections::BTreeMap;

use chrono::DateTime;
use headwater_model::Timestamp;
use iceberg::spec::{DataContentType, ManifestContentType};

use crate::{Error, Result, Table, Tables, partition};

/// A snapshot that a table's metadata lists.
#[derive(Debug, Clone)]
pub struct ListedSnapshot {
    /// Its id.
    pub id: i64,
    /// The snapshot that it was made from.
    pub parent: Option<i64>,
    /// Its place among all; larger is later.
    pub sequence_number: i64,
    /// When it was made.
    pub made: Option<Timestamp>,
    /// What it did: `append`, `overwrite`, `delete` or `replace`.
    pub operation: String,
    /// What else it says of itself.
    pub summary: BTreeMap<String, String>,
    /// Its list of manifests.
    pub manifest_list: String,
    /// Whether the table holds it now.
    pub is_current: bool,
}

/// A manifest of a table's current snapshot.
#[derive(Debug, Clone)]
pub struct ListedManifest {
    /// Where it lies.
    pub location: String,
    /// Whether it lists delete files; otherwise data files.
    pub holds_deletes: bool,
    /// Its size in bytes.
    pub bytes: i64,
    /// The partition spec of its files.
    pub partition_spec: i32,
    /// The sequence number of the snapshot that it was made for.
    pub sequence_number: i64,
    /// That snapshot.
    pub snapshot: i64,
    /// How many of its files that snapshot added; none where unknown.
    pub files_added: Option<u32>,
    /// How many were there before.
    pub files_existing: Option<u32>,
    /// How many that snapshot removed.
    pub files_removed: Option<u32>,
}

/// A file of a table's current snapshot.
#[derive(Debug, Clone)]
pub struct ListedFile {
    /// What is in it: `data`, `position_deletes` or `equality_deletes`.
    pub content: &'static str,
    /// Where it lies.
    pub location: String,
    /// Its format.
    pub format: String,
    /// Its partition, as `ts_day=2013-01-01/origin=EWR`; empty where the table has no partitions.
    pub partition: String,
    /// Its rows.
    pub rows: u64,
    /// Its size in bytes.
    pub bytes: u64,
    /// The sequence number of its rows.
    pub sequence_number: i64,
    /// The snapshot that added it.
    pub snapshot: Option<i64>,
    /// The data file that a delete file is about, where it is about one.
    pub about: Option<String>,
}

impl Table {
    /// The snapshots that the metadata lists, oldest first.
    pub fn snapshots(&self) -> Vec<ListedSnapshot> {
        let current = self.snapshot_id();
        let listed = self.metadata().snapshots().map(|snapshot| ListedSnapshot {
            id: snapshot.snapshot_id(),
            parent: snapshot.parent_snapshot_id(),
            sequence_number: snapshot.sequence_number(),
            made: DateTime::from_timestamp_millis(snapshot.timestamp_ms()),
            operation: snapshot.summary().operation.as_str().to_owned(),
            summary: snapshot.summary().additional_properties.clone().into_iter().collect(),
            manifest_list: snapshot.manifest_list().to_owned(),
            is_current: current == Some(snapshot.snapshot_id()),
        });
        let mut listed: Vec<ListedSnapshot> = listed.collect();
        listed.sort_by_key(|snapshot| (snapshot.sequence_number, snapshot.id));
        listed
    }
}

impl Tables {
    /// The manifests of a table's current snapshot, in its order.
    pub async fn list_manifests(&self, table: &Table) -> Result<Vec<ListedManifest>> {
        let metadata = table.metadata();
        let Some(snapshot) = metadata.current_snapshot() else { return Ok(Vec::new()) };
        let listed = self.manifests(snapshot).await?;
        let listed = listed.iter().map(|manifest| ListedManifest {
            location: manifest.manifest_path.clone(),
            holds_deletes: manifest.content == ManifestContentType::Deletes,
            bytes: manifest.manifest_length,
            partition_spec: manifest.partition_spec_id,
            sequence_number: manifest.sequence_number,
            snapshot: manifest.added_snapshot_id,
            files_added: manifest.added_files_count,
            files_existing: manifest.existing_files_count,
            files_removed: manifest.deleted_files_count,
        });
        Ok(listed.collect())
    }

    /// The data files and delete files of a table's current snapshot, manifest by manifest.
    pub async fn list_files(&self, table: &Table) -> Result<Vec<ListedFile>> {
        let metadata = table.metadata();
        let Some(snapshot) = metadata.current_snapshot() else { return Ok(Vec::new()) };
        let mut files = Vec::new();
        for manifest in self.manifests(snapshot).await?.iter() {
            if !manifest.has_added_files() && !manifest.has_existing_files() {
                continue;
            }
            let decoded = self.manifest(manifest).await?;
            let corrupt = |reason: String| Error::corrupt(&manifest.manifest_path, reason);
            let spec = metadata.partition_spec_by_id(manifest.partition_spec_id);
            let spec = spec.ok_or_else(|| corrupt("its partition spec is unknown".to_owned()))?;
            let types = &decoded.partition_type;
            files.extend(decoded.live.iter().map(|entry| {
                let file = entry.data_file();
                ListedFile {
                    content: match file.content_type() {
                        DataContentType::Data => "data",
                        DataContentType::PositionDeletes => "position_deletes",
                        DataContentType::EqualityDeletes => "equality_deletes",
                    },
                    location: file.file_path().to_owned(),
                    format: file.file_format().to_string(),
                    partition: partition::describe(spec, types, file.partition()),
                    rows: file.record_count(),
                    bytes: file.file_size_in_bytes(),
                    sequence_number: entry.sequence_number.unwrap_or_default(),
                    snapshot: entry.snapshot_id,
                    about: file.referenced_data_file(),
                }
            }));
        }
        Ok(files)
    }
}
