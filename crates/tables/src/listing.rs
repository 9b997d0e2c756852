//! Listings of a table's snapshots, and of the current snapshot's manifests and files.

use std::collections::BTreeMap;

use chrono::DateTime;
use headwater_model::Timestamp;
use iceberg::spec::{DataContentType, ManifestContentType};

use crate::{Error, Result, Table, Tables, partition};

/// A snapshot in a table's metadata.
#[derive(Debug, Clone)]
pub struct ListedSnapshot {
    /// The snapshot's id.
    pub id: i64,
    /// Id of the parent snapshot; `None` for the first snapshot.
    pub parent: Option<i64>,
    /// The sequence number. Later snapshots have larger numbers.
    pub sequence_number: i64,
    /// The time at which the snapshot was committed.
    pub made: Option<Timestamp>,
    /// The operation: `append`, `overwrite`, `delete` or `replace`.
    pub operation: String,
    /// The summary: counts, totals and other properties.
    pub summary: BTreeMap<String, String>,
    /// The location of the manifest list.
    pub manifest_list: String,
    /// True for the table's current snapshot.
    pub is_current: bool,
}

/// A manifest of a table's current snapshot.
#[derive(Debug, Clone)]
pub struct ListedManifest {
    /// Location of the manifest.
    pub location: String,
    /// True for a manifest of delete files, false for a manifest of data files.
    pub holds_deletes: bool,
    /// Size of the manifest file in bytes.
    pub bytes: i64,
    /// The id of the partition spec of the files in the manifest.
    pub partition_spec: i32,
    /// The sequence number of the snapshot that added the manifest.
    pub sequence_number: i64,
    /// Id of the snapshot that added the manifest.
    pub snapshot: i64,
    /// The number of files that the snapshot `snapshot` added; `None` if unknown.
    pub files_added: Option<u32>,
    /// The number of files that earlier snapshots added; `None` if unknown.
    pub files_existing: Option<u32>,
    /// The number of files that the snapshot `snapshot` removed; `None` if unknown.
    pub files_removed: Option<u32>,
}

/// A file of a table's current snapshot.
#[derive(Debug, Clone)]
pub struct ListedFile {
    /// The content: `data`, `position_deletes` or `equality_deletes`.
    pub content: &'static str,
    /// Location of the file.
    pub location: String,
    /// The file format.
    pub format: String,
    /// The partition, such as `ts_day=2013-01-01/origin=EWR`; empty if the table is not
    /// partitioned.
    pub partition: String,
    /// Number of rows in the file.
    pub rows: u64,
    /// Size of the file in bytes.
    pub bytes: u64,
    /// The data sequence number.
    pub sequence_number: i64,
    /// Id of the snapshot that added the file; `None` if unknown.
    pub snapshot: Option<i64>,
    /// The data file of a delete file, if the delete file refers to exactly one data file.
    pub about: Option<String>,
}

impl Table {
    /// Returns the snapshots in the metadata, oldest first.
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
    /// Returns the manifests of a table's current snapshot, in the order of the manifest list.
    pub async fn list_manifests(&self, table: &Table) -> Result<Vec<ListedManifest>> {
        let metadata = table.metadata();
        let Some(snapshot) = metadata.current_snapshot() else { return Ok(Vec::new()) };
        let listed = self.metadata_files().manifests(snapshot).await?;
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

    /// Returns the data and delete files of a table's current snapshot, in the manifests' order.
    pub async fn list_files(&self, table: &Table) -> Result<Vec<ListedFile>> {
        let metadata = table.metadata();
        let Some(snapshot) = metadata.current_snapshot() else { return Ok(Vec::new()) };
        let mut files = Vec::new();
        for manifest in self.metadata_files().manifests(snapshot).await?.iter() {
            if !manifest.has_added_files() && !manifest.has_existing_files() {
                continue;
            }
            let decoded = self.metadata_files().manifest(manifest).await?;
            let corrupt = |reason: String| Error::corrupt(&manifest.manifest_path, reason);
            let spec = metadata.partition_spec_by_id(manifest.partition_spec_id);
            let spec = spec.ok_or_else(|| {
                corrupt(format!("partition spec {} is unknown", manifest.partition_spec_id))
            })?;
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
