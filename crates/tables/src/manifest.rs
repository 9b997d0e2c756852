//! Manifests and manifest lists to bytes and back.
//!
//! The `iceberg` crate reads and writes them through its own files; here they pass through its
//! memory files, so that all real I/O stays with our object store. All of it is work for the
//! processor, and runs off the network runtime's threads.

use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use iceberg::io::FileIO;
use iceberg::spec::{
    FormatVersion, Manifest, ManifestContentType, ManifestEntry, ManifestEntryRef, ManifestFile,
    ManifestList, ManifestListWriter, ManifestStatus, ManifestWriterBuilder, PartitionSpecRef,
    SchemaRef, UNASSIGNED_SEQUENCE_NUMBER,
};

use crate::{DataFile, Error, Result};

/// The one file in a memory file system.
const MEMORY_FILE: &str = "memory:/file";

/// A manifest that is read: the entries of files that are in the table, complete with the numbers
/// that they inherit.
#[derive(Debug)]
pub(crate) struct Decoded {
    /// Files added or existing, in the manifest's order.
    pub(crate) live: Vec<ManifestEntryRef>,
    /// The schema the manifest was written with.
    pub(crate) schema: SchemaRef,
    /// The same files as a scan plan has them, once one was made.
    pub(crate) files: OnceLock<Vec<Arc<DataFile>>>,
    /// Its size in the cache, in bytes, roughly.
    pub(crate) weight: u32,
}

impl Decoded {
    fn new(live: Vec<ManifestEntryRef>, schema: SchemaRef, encoded_bytes: usize) -> Self {
        // Decoded entries take a few times the bytes that they take in the file.
        let weight = u32::try_from(encoded_bytes.saturating_mul(4)).unwrap_or(u32::MAX);
        Decoded { live, schema, files: OnceLock::new(), weight }
    }
}

/// Reads a manifest.
pub(crate) fn decode(file: &ManifestFile, content: &[u8]) -> Result<Decoded> {
    let corrupt = |error| Error::corrupt(&file.manifest_path, error);
    let manifest = Manifest::parse_avro(content).map_err(corrupt)?;
    let (entries, metadata) = manifest.into_parts();
    let live = entries.into_iter().filter(|entry| entry.is_alive());
    let live = live.map(|entry| Arc::new(inherit(Arc::unwrap_or_clone(entry), file))).collect();
    Ok(Decoded::new(live, metadata.schema, content.len()))
}

/// What an entry leaves out stands in the manifest list.
fn inherit(mut entry: ManifestEntry, file: &ManifestFile) -> ManifestEntry {
    entry.snapshot_id = entry.snapshot_id.or(Some(file.added_snapshot_id));
    if entry.status == ManifestStatus::Added || file.sequence_number == 0 {
        entry.sequence_number = entry.sequence_number.or(Some(file.sequence_number));
        entry.file_sequence_number = entry.file_sequence_number.or(Some(file.sequence_number));
    }
    entry
}

/// Reads a manifest list.
pub(crate) fn decode_list(
    location: &str,
    content: &[u8],
    version: FormatVersion,
) -> Result<Vec<ManifestFile>> {
    let list = ManifestList::parse_with_version(content, version);
    let list = list.map_err(|error| Error::corrupt(location, error))?;
    Ok(list.consume_entries().into_iter().collect())
}

/// What becomes of a file in a new manifest.
#[derive(Debug, Clone)]
pub(crate) enum Change {
    /// The snapshot adds it.
    Added(Box<iceberg::spec::DataFile>),
    /// It was there before, and stays.
    Kept(ManifestEntryRef),
    /// It was there before, and goes.
    Removed(ManifestEntryRef),
}

/// A manifest that is to be written.
#[derive(Debug)]
pub(crate) struct NewManifest {
    /// Whether its files are data or deletes.
    pub(crate) content: ManifestContentType,
    pub(crate) schema: SchemaRef,
    pub(crate) spec: PartitionSpecRef,
    pub(crate) changes: Vec<Change>,
}

/// A manifest that is made and not yet written.
#[derive(Debug)]
pub(crate) struct Encoded {
    pub(crate) content: Bytes,
    /// Its row in the manifest list, which names its location.
    pub(crate) file: ManifestFile,
    /// As it will be read.
    pub(crate) decoded: Decoded,
}

/// The snapshot that a manifest is made for.
#[derive(Debug, Clone, Copy)]
pub(crate) struct SnapshotIds {
    pub(crate) id: i64,
    pub(crate) parent: Option<i64>,
    pub(crate) sequence_number: i64,
}

/// Makes a new manifest.
pub(crate) async fn encode(
    manifest: NewManifest,
    location: &str,
    snapshot: SnapshotIds,
) -> Result<Encoded, iceberg::Error> {
    let memory = FileIO::new_with_memory();
    let output = memory.new_output(MEMORY_FILE)?;
    let (spec, schema) = ((*manifest.spec).clone(), manifest.schema);
    let builder = ManifestWriterBuilder::new(output, Some(snapshot.id), schema.clone(), spec);
    let mut writer = match manifest.content {
        ManifestContentType::Data => builder.build_v2_data(),
        ManifestContentType::Deletes => builder.build_v2_deletes(),
    };
    let mut live = Vec::with_capacity(manifest.changes.len());
    for change in manifest.changes {
        match change {
            Change::Added(file) => {
                live.push(added((*file).clone(), snapshot));
                writer.add_file(*file, UNASSIGNED_SEQUENCE_NUMBER)?;
            }
            Change::Kept(entry) => {
                writer.add_existing_file(
                    entry.data_file.clone(),
                    entry.snapshot_id.unwrap_or_default(),
                    entry.sequence_number.unwrap_or_default(),
                    entry.file_sequence_number.or(entry.sequence_number),
                )?;
                live.push(entry);
            }
            Change::Removed(entry) => writer.add_delete_file(
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
    let decoded = Decoded::new(live, schema, content.len());
    Ok(Encoded { content, file, decoded })
}

/// The entry of an added file as it will be read.
fn added(data_file: iceberg::spec::DataFile, snapshot: SnapshotIds) -> ManifestEntryRef {
    Arc::new(ManifestEntry {
        status: ManifestStatus::Added,
        snapshot_id: Some(snapshot.id),
        sequence_number: Some(snapshot.sequence_number),
        file_sequence_number: Some(snapshot.sequence_number),
        data_file,
    })
}

/// The bytes of a manifest list.
pub(crate) async fn encode_list(
    manifests: &[ManifestFile],
    snapshot: SnapshotIds,
) -> Result<Bytes, iceberg::Error> {
    let memory = FileIO::new_with_memory();
    let output = memory.new_output(MEMORY_FILE)?.writer().await?;
    let SnapshotIds { id, parent, sequence_number } = snapshot;
    let mut writer = ManifestListWriter::v2(output, id, parent, sequence_number);
    writer.add_manifests(manifests.iter().cloned())?;
    writer.close().await?;
    memory.new_input(MEMORY_FILE)?.read().await
}

/// Runs work for the processor off the runtime's threads. A panic in it, which a broken file can
/// cause in a decoder, is an error about that file.
pub(crate) async fn off_thread<T: Send + 'static>(
    location: &str,
    work: impl FnOnce() -> Result<T> + Send + 'static,
) -> Result<T> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(error) => Err(Error::corrupt(location, error)),
    }
}
