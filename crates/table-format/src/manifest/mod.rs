//! Encodes and decodes manifests and manifest lists.
//!
//! [`crate::avro`] decodes manifests and manifest lists. The `iceberg` crate encodes them into
//! files in memory, so that all real I/O uses the warehouse's object store. Encoding and decoding
//! are CPU work and run on blocking threads.

mod bounds;
mod entries;
mod list;
mod partition;
mod uuid_partitions;

use std::sync::Arc;

use bytes::Bytes;
use iceberg::io::FileIO;
use iceberg::spec::{
    FormatVersion, ManifestContentType, ManifestEntry, ManifestEntryRef, ManifestFile,
    ManifestListWriter, ManifestStatus, ManifestWriterBuilder, PartitionSpecRef, SchemaRef,
    StructType, UNASSIGNED_SEQUENCE_NUMBER,
};

use self::uuid_partitions::UuidFields;
use crate::manifest_entry::builder_of;
use crate::type_promotion::promoted_file;
use crate::{Error, Result};

/// Name of the only file in the file system in memory.
const MEMORY_FILE: &str = "memory:/file";

/// A decoded manifest: the entries of live files, including the values inherited from the manifest
/// list.
#[derive(Debug)]
pub struct DecodedManifest {
    /// Existing and added files, in the manifest's order.
    pub live: Vec<ManifestEntryRef>,
    /// The schema with which the manifest was written.
    pub schema: SchemaRef,
    /// The types of the partition values.
    pub partition_type: StructType,
    /// The approximate memory of the decoded manifest, in bytes. The cache uses it as weight.
    pub weight: u32,
}

impl DecodedManifest {
    fn new(
        live: Vec<ManifestEntryRef>,
        schema: SchemaRef,
        partition_type: StructType,
        encoded_bytes: usize,
    ) -> Self {
        // In memory, decoded entries need about four times their encoded bytes.
        let weight = u32::try_from(encoded_bytes.saturating_mul(4)).unwrap_or(u32::MAX);
        DecodedManifest { live, schema, partition_type, weight }
    }
}

/// Decodes a manifest.
pub fn decode(file: &ManifestFile, content: &[u8]) -> Result<DecodedManifest> {
    let corrupt = |error| Error::corrupt(&file.manifest_path, error);
    let parsed = entries::parse(content).map_err(corrupt)?;
    let live = parsed.live.into_iter().map(|entry| Arc::new(inherit(entry, file))).collect();
    let live = with_row_ids(live, file)?;
    Ok(DecodedManifest::new(live, parsed.schema, parsed.partition_type, content.len()))
}

/// Assigns a first row id to each data file that has none. The ids are consecutive, from the first
/// row id of the manifest. If the manifest has none, the entries are not changed.
fn with_row_ids(live: Vec<ManifestEntryRef>, file: &ManifestFile) -> Result<Vec<ManifestEntryRef>> {
    let Some(mut next) = file.first_row_id.filter(|_| file.content == ManifestContentType::Data)
    else {
        return Ok(live);
    };
    let entries = live.into_iter().map(|entry| {
        if entry.data_file.first_row_id().is_some() {
            return Ok(entry);
        }
        let mut entry_with_id = Arc::unwrap_or_clone(entry);
        let first = i64::try_from(next)
            .map_err(|_| Error::corrupt(&file.manifest_path, "the row ids are too large"))?;
        next = next.saturating_add(entry_with_id.data_file.record_count());
        let built = builder_of(&entry_with_id.data_file).first_row_id(Some(first)).build();
        entry_with_id.data_file =
            built.map_err(|error| Error::corrupt(&file.manifest_path, error))?;
        Ok(Arc::new(entry_with_id))
    });
    entries.collect()
}

/// Number of row ids reserved for a manifest without row counts. The number is large, because the
/// ids of different manifests must not overlap.
const UNKNOWN_ROWS_RESERVED: u64 = 1 << 40;

/// Assigns first row ids, starting from `first`, to manifests that have none. Returns the next free
/// row id.
pub fn assign_row_ids(
    listed: &mut [ManifestFile],
    decoded: &mut [(String, DecodedManifest)],
    first: u64,
) -> Result<u64> {
    let mut next = first;
    for manifest in listed {
        if manifest.content != ManifestContentType::Data || manifest.first_row_id.is_some() {
            continue;
        }
        manifest.first_row_id = Some(next);
        let rows = manifest.existing_rows_count.zip(manifest.added_rows_count);
        let rows =
            rows.map_or(UNKNOWN_ROWS_RESERVED, |(existing, added)| existing.saturating_add(added));
        next = next.saturating_add(rows);
        let new = decoded.iter_mut().find(|(location, _)| *location == manifest.manifest_path);
        if let Some((_, decoded)) = new {
            decoded.live = with_row_ids(std::mem::take(&mut decoded.live), manifest)?;
        }
    }
    Ok(next)
}

/// Fills in the values that an entry inherits from the manifest list.
fn inherit(mut entry: ManifestEntry, file: &ManifestFile) -> ManifestEntry {
    entry.snapshot_id = entry.snapshot_id.or(Some(file.added_snapshot_id));
    if entry.status == ManifestStatus::Added || file.sequence_number == 0 {
        entry.sequence_number = entry.sequence_number.or(Some(file.sequence_number));
        entry.file_sequence_number = entry.file_sequence_number.or(Some(file.sequence_number));
    }
    entry
}

/// Decodes a manifest list.
pub fn decode_list(location: &str, content: &[u8]) -> Result<Vec<ManifestFile>> {
    list::parse(content).map_err(|error| Error::corrupt(location, error))
}

/// The status of a file in a new manifest.
#[derive(Debug, Clone)]
pub enum NewManifestEntry {
    /// The file is new.
    Added(Box<iceberg::spec::DataFile>),
    /// The file exists and is kept.
    Kept(ManifestEntryRef),
    /// The file exists and is removed.
    Removed(ManifestEntryRef),
}

impl NewManifestEntry {
    /// Promotes the partition values to the types of the manifest that is being written.
    fn promoted(self, types: &StructType) -> Result<Self, iceberg::Error> {
        let entry = |entry: ManifestEntryRef| {
            let Some(data_file) = promoted_file(&entry.data_file, types)? else { return Ok(entry) };
            Ok::<_, iceberg::Error>(Arc::new(ManifestEntry {
                data_file,
                ..Arc::unwrap_or_clone(entry)
            }))
        };
        Ok(match self {
            NewManifestEntry::Added(file) => match promoted_file(&file, types)? {
                Some(promoted) => NewManifestEntry::Added(Box::new(promoted)),
                None => NewManifestEntry::Added(file),
            },
            NewManifestEntry::Kept(kept) => NewManifestEntry::Kept(entry(kept)?),
            NewManifestEntry::Removed(removed) => NewManifestEntry::Removed(entry(removed)?),
        })
    }
}

/// A manifest to encode.
#[derive(Debug)]
pub struct NewManifest {
    /// The kind of files: data or deletes.
    pub content: ManifestContentType,
    /// The schema with which the manifest is written.
    pub schema: SchemaRef,
    /// The partition spec of the files in the manifest.
    pub spec: PartitionSpecRef,
    /// The entries of the manifest, each with its status.
    pub changes: Vec<NewManifestEntry>,
}

/// A manifest that is encoded but not written yet.
#[derive(Debug)]
pub struct EncodedManifest {
    /// The encoded content of the file.
    pub content: Bytes,
    /// The manifest's entry in the manifest list.
    pub file: ManifestFile,
    /// The decoded manifest, which is added to the cache.
    pub decoded: DecodedManifest,
}

/// The ids of the snapshot for which a manifest is written.
#[derive(Debug, Clone, Copy)]
pub struct SnapshotIds {
    /// The snapshot's id.
    pub id: i64,
    /// Id of the parent snapshot; `None` for the first snapshot.
    pub parent: Option<i64>,
    /// The data sequence number.
    pub sequence_number: i64,
    /// The format version of the table.
    pub version: FormatVersion,
    /// The id of the first new row; used only in format version 3.
    pub first_row_id: u64,
}

/// Encodes a new manifest without writing it.
pub async fn encode(
    manifest: NewManifest,
    location: &str,
    snapshot: SnapshotIds,
) -> Result<EncodedManifest, iceberg::Error> {
    let memory = FileIO::new_with_memory();
    let output = memory.new_output(MEMORY_FILE)?;
    let (spec, schema) = ((*manifest.spec).clone(), manifest.schema);
    let types = spec.partition_type(&schema)?;
    let uuids = UuidFields::new(&types);
    let (written_schema, written_types) = uuids.as_bytes(&spec, &schema)?;
    let builder = ManifestWriterBuilder::new(output, Some(snapshot.id), written_schema, spec);
    let mut writer = match (manifest.content, snapshot.version) {
        (ManifestContentType::Data, FormatVersion::V3) => builder.build_v3_data(),
        (ManifestContentType::Deletes, FormatVersion::V3) => builder.build_v3_deletes(),
        (ManifestContentType::Data, _) => builder.build_v2_data(),
        (ManifestContentType::Deletes, _) => builder.build_v2_deletes(),
    };
    let mut live = Vec::with_capacity(manifest.changes.len());
    for change in manifest.changes {
        match change.promoted(&written_types)? {
            NewManifestEntry::Added(file) => {
                live.push(added((*file).clone(), snapshot));
                writer.add_file(*file, UNASSIGNED_SEQUENCE_NUMBER)?;
            }
            NewManifestEntry::Kept(entry) => {
                writer.add_existing_file(
                    entry.data_file.clone(),
                    entry.snapshot_id.unwrap_or_default(),
                    entry.sequence_number.unwrap_or_default(),
                    entry.file_sequence_number.or(entry.sequence_number),
                )?;
                live.push(entry);
            }
            NewManifestEntry::Removed(entry) => writer.add_delete_file(
                entry.data_file.clone(),
                entry.sequence_number.unwrap_or_default(),
                entry.file_sequence_number.or(entry.sequence_number),
            )?,
        }
    }
    let mut file = writer.write_manifest_file().await?;
    location.clone_into(&mut file.manifest_path);
    file.sequence_number = snapshot.sequence_number;
    if file.min_sequence_number == UNASSIGNED_SEQUENCE_NUMBER {
        file.min_sequence_number = snapshot.sequence_number;
    }
    let content = memory.new_input(MEMORY_FILE)?.read().await?;
    let content = uuids.correct_header(content, &schema)?;
    file.manifest_length = content.len() as i64;
    let decoded = DecodedManifest::new(live, schema, types, content.len());
    Ok(EncodedManifest { content, file, decoded })
}

/// Returns the manifest entry of an added file, in decoded form.
fn added(data_file: iceberg::spec::DataFile, snapshot: SnapshotIds) -> ManifestEntryRef {
    Arc::new(ManifestEntry {
        status: ManifestStatus::Added,
        snapshot_id: Some(snapshot.id),
        sequence_number: Some(snapshot.sequence_number),
        file_sequence_number: Some(snapshot.sequence_number),
        data_file,
    })
}

/// Encodes a manifest list.
pub async fn encode_list(
    manifests: &[ManifestFile],
    snapshot: SnapshotIds,
) -> Result<Bytes, iceberg::Error> {
    let memory = FileIO::new_with_memory();
    let output = memory.new_output(MEMORY_FILE)?.writer().await?;
    let SnapshotIds { id, parent, sequence_number, version, first_row_id } = snapshot;
    let mut writer = match version {
        FormatVersion::V3 => {
            ManifestListWriter::v3(output, id, parent, sequence_number, Some(first_row_id))
        }
        _ => ManifestListWriter::v2(output, id, parent, sequence_number),
    };
    writer.add_manifests(manifests.iter().cloned())?;
    writer.close().await?;
    memory.new_input(MEMORY_FILE)?.read().await
}

/// Runs CPU work on a thread for blocking operations. If a decoder panics, which a corrupt file can
/// cause, returns an error about that file.
pub async fn run_blocking<T: Send + 'static>(
    location: &str,
    work: impl FnOnce() -> Result<T> + Send + 'static,
) -> Result<T> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(error) => Err(Error::corrupt(location, error)),
    }
}

#[cfg(test)]
mod tests;
