//! Plans the manifests of a new snapshot: kept, rewritten and added manifests.
//!
//! A commit adds one manifest. As soon as there are sixteen manifests of similar size, these are
//! merged into one. So a table with n commits has O(log n) manifests, and each entry is rewritten
//! O(log n) times.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use iceberg::spec::{
    ManifestContentType, ManifestEntryRef, ManifestFile, PartitionSpecRef, SchemaRef, Struct,
    TableMetadata,
};

use super::summary::FileCounts;
use crate::cached_manifest::CachedManifest;
use crate::deletes::{named, place_of};
use crate::manifest::{NewManifest, NewManifestEntry};
use crate::tables::Tables;
use crate::type_promotion::comparable_partition;
use crate::{DataFile, Error, Result};

/// Number of manifests of one level that are merged into one. The level of a manifest grows with
/// the logarithm of its number of files.
const MERGE_COUNT: usize = 16;

/// Manifests of this level or a higher level are not merged. They have 4,096 files or more.
const MERGE_LEVEL_MAX: u32 = 3;

/// Maximum number of entries of a consolidated manifest, which then has a few megabytes.
pub(crate) const CONSOLIDATED_ENTRIES: usize = 8_192;

/// The files that a commit removes.
#[derive(Debug)]
pub enum FilesToRemove {
    /// No files.
    Nothing,
    /// All files.
    Everything,
    /// All files in some partitions of one partition spec, and some files of other specs.
    Partitions {
        /// The id of the partition spec.
        spec: i32,
        /// The values of the partitions, each promoted to the widest type that its column ever had.
        partitions: HashSet<Struct>,
        /// Locations of the files of other partition specs.
        files: HashSet<String>,
    },
    /// The files at these locations. A file that no longer exists is a conflict.
    Files(HashSet<String>),
}

impl FilesToRemove {
    /// Creates the removal of these files.
    pub fn files(files: &[Arc<DataFile>]) -> Self {
        FilesToRemove::Files(files.iter().map(|file| file.location.clone()).collect())
    }

    /// Adds files to the files to remove.
    pub(crate) fn and_files(mut self, more: &[Arc<DataFile>]) -> Self {
        if let FilesToRemove::Partitions { files, .. } | FilesToRemove::Files(files) = &mut self {
            files.extend(more.iter().map(|file| file.location.clone()));
        }
        self
    }

    fn includes(&self, file: &iceberg::spec::DataFile, spec_id: i32) -> bool {
        match self {
            FilesToRemove::Nothing => false,
            FilesToRemove::Everything => true,
            FilesToRemove::Partitions { spec, partitions, files } => {
                *spec == spec_id && partitions.contains(&comparable_partition(file.partition()))
                    || files.contains(file.file_path())
            }
            FilesToRemove::Files(locations) => locations.contains(file.file_path()),
        }
    }

    /// Returns true if a delete file must be removed. This is the case if the removal includes the
    /// only data file to which the delete file refers, or all data files of its partition.
    fn includes_delete_file(&self, file: &iceberg::spec::DataFile, spec_id: i32) -> bool {
        match self {
            FilesToRemove::Nothing => false,
            FilesToRemove::Everything => true,
            FilesToRemove::Partitions { spec, partitions, files } => {
                *spec == spec_id && partitions.contains(&comparable_partition(file.partition()))
                    || named(file).is_some_and(|of| files.contains(&of))
            }
            FilesToRemove::Files(locations) => {
                named(file).is_some_and(|of| locations.contains(&of))
            }
        }
    }
}

/// New files of one partition spec.
#[derive(Debug)]
pub struct AddedFiles {
    /// The kind of files: data or deletes.
    pub content: ManifestContentType,
    /// The schema that the manifest of these files contains.
    pub schema: SchemaRef,
    /// The partition spec of the files.
    pub spec: PartitionSpecRef,
    /// The files to add.
    pub files: Vec<iceberg::spec::DataFile>,
}

/// A manifest of the new snapshot.
#[derive(Debug)]
pub(crate) enum PlannedManifest {
    /// An existing manifest that is not changed.
    Kept(ManifestFile),
    /// A manifest to write.
    New(NewManifest),
}

impl PlannedManifest {
    /// Returns the number of manifest entries to write.
    pub(crate) fn entries(&self) -> usize {
        match self {
            PlannedManifest::Kept(_) => 0,
            PlannedManifest::New(new) => new.changes.len(),
        }
    }
}

/// Plans the manifests of a table's next snapshot, and counts the added and removed files.
pub(crate) async fn plan(
    tables: &Tables,
    metadata: &TableMetadata,
    before: &[ManifestFile],
    removal: Removals<'_>,
    additions: Vec<AddedFiles>,
) -> Result<(Vec<PlannedManifest>, FileCounts)> {
    let mut changes = FileCounts::default();
    let mut planned = Vec::with_capacity(before.len() + 1);
    for manifest in before {
        // A manifest without live files is dropped, because it only lists files that an earlier
        // snapshot removed.
        if manifest.has_added_files() || manifest.has_existing_files() {
            let rewritten = rewrite(tables, metadata, &removal, manifest, &mut changes).await?;
            planned.push(
                rewritten
                    .map_or_else(|| PlannedManifest::Kept(manifest.clone()), PlannedManifest::New),
            );
        }
    }
    if let FilesToRemove::Files(locations) = &removal.removal
        && changes.files_removed() < locations.len() as u64
    {
        return Err(Error::TableChanged { what: "data" });
    }
    for AddedFiles { content, schema, spec, files } in additions {
        for file in &files {
            changes.add(file);
        }
        let added = files.into_iter().map(|file| NewManifestEntry::Added(Box::new(file))).collect();
        planned.push(PlannedManifest::New(NewManifest { content, schema, spec, changes: added }));
    }
    merge_small(tables, metadata, &mut planned).await?;
    ensure_source_columns(metadata, &mut planned);
    Ok((planned, changes))
}

/// Gives each new manifest a schema with all source columns of its partition spec. The schema of
/// the newest files is not sufficient if it lacks a source column that was dropped earlier.
fn ensure_source_columns(metadata: &TableMetadata, planned: &mut [PlannedManifest]) {
    for one in planned {
        let PlannedManifest::New(new) = one else { continue };
        let fields = new.spec.fields();
        let has_all = |schema: &SchemaRef| {
            fields.iter().all(|field| schema.field_by_id(field.source_id).is_some())
        };
        if has_all(&new.schema) {
            continue;
        }
        let others = metadata.schemas_iter().filter(|schema| has_all(schema));
        if let Some(latest) = others.max_by_key(|schema| schema.schema_id()) {
            new.schema = latest.clone();
        }
    }
}

/// The files that a commit removes: data files, and delete files that new delete files replace.
pub(crate) struct Removals<'a> {
    pub(crate) removal: FilesToRemove,
    pub(crate) replaced: HashSet<(&'a str, i64)>,
}

impl Removals<'_> {
    fn includes(&self, entry: &ManifestEntryRef, manifest: &ManifestFile) -> bool {
        let file = entry.data_file();
        match manifest.content {
            ManifestContentType::Data => self.removal.includes(file, manifest.partition_spec_id),
            ManifestContentType::Deletes => {
                self.replaced.contains(&place_of(file))
                    || self.removal.includes_delete_file(file, manifest.partition_spec_id)
            }
        }
    }
}

/// Rewrites a manifest without the removed files. Returns `None` if the manifest does not change.
async fn rewrite(
    tables: &Tables,
    metadata: &TableMetadata,
    removal: &Removals<'_>,
    manifest: &ManifestFile,
    changes: &mut FileCounts,
) -> Result<Option<NewManifest>> {
    if matches!(removal.removal, FilesToRemove::Nothing) && removal.replaced.is_empty() {
        return Ok(None);
    }
    let decoded = tables.metadata_files().manifest(manifest).await?;
    if !decoded.live.iter().any(|entry| removal.includes(entry, manifest)) {
        return Ok(None);
    }
    let changed_entries = decoded.live.iter().map(|entry| {
        if removal.includes(entry, manifest) {
            changes.remove(entry.data_file());
            NewManifestEntry::Removed(entry.clone())
        } else {
            NewManifestEntry::Kept(entry.clone())
        }
    });
    let entries = changed_entries.collect();
    let spec = spec_of(metadata, manifest)?;
    let (content, schema) = (manifest.content, decoded.schema.clone());
    Ok(Some(NewManifest { content, schema, spec, changes: entries }))
}

fn spec_of(metadata: &TableMetadata, manifest: &ManifestFile) -> Result<PartitionSpecRef> {
    let spec = metadata.partition_spec_by_id(manifest.partition_spec_id).cloned();
    spec.ok_or_else(|| {
        let reason = format!("partition spec {} is unknown", manifest.partition_spec_id);
        Error::corrupt(&manifest.manifest_path, reason)
    })
}

/// A class of manifests that can be merged with each other. The parts are: true for manifests of
/// delete files, the partition spec id, and the level.
type ManifestClass = (bool, i32, u32);

/// Returns a planned manifest's class; `None` if the manifest is never merged.
fn mergeable(planned: &PlannedManifest) -> Option<ManifestClass> {
    let deletes = |content| content == ManifestContentType::Deletes;
    let (deletes, spec, files) = match planned {
        PlannedManifest::Kept(manifest) => {
            let files = manifest.added_files_count.zip(manifest.existing_files_count);
            let (added, existing) = files?;
            let files = added as usize + existing as usize;
            (deletes(manifest.content), manifest.partition_spec_id, files)
        }
        // A manifest with entries of removed files is not merged, because the manifests of this
        // snapshot must contain these entries.
        PlannedManifest::New(new)
            if new.changes.iter().any(|c| matches!(c, NewManifestEntry::Removed(_))) =>
        {
            return None;
        }
        PlannedManifest::New(new) => (deletes(new.content), new.spec.spec_id(), new.changes.len()),
    };
    let level = files.max(1).ilog(MERGE_COUNT);
    (level < MERGE_LEVEL_MAX).then_some((deletes, spec, level))
}

/// Merges manifests of the same class until each class has fewer than [`MERGE_COUNT`].
async fn merge_small(
    tables: &Tables,
    metadata: &TableMetadata,
    planned: &mut Vec<PlannedManifest>,
) -> Result<()> {
    while let Some(class) = full_class(planned) {
        let all = std::mem::take(planned);
        let (merged, rest): (Vec<_>, Vec<_>) =
            all.into_iter().partition(|one| mergeable(one) == Some(class));
        *planned = rest;
        planned.push(PlannedManifest::New(merge(tables, metadata, class, merged).await?));
    }
    Ok(())
}

/// Merges all manifests of a snapshot into as few as possible, sorted by partition and sequence
/// number.
pub(crate) async fn consolidate(
    tables: &Tables,
    metadata: &TableMetadata,
    before: &[ManifestFile],
) -> Result<Vec<PlannedManifest>> {
    let mut classes: BTreeMap<(bool, i32), (Option<SchemaRef>, Vec<ManifestEntryRef>)> =
        BTreeMap::new();
    for manifest in before {
        let decoded = tables.metadata_files().manifest(manifest).await?;
        if decoded.live.is_empty() {
            continue;
        }
        let deletes = manifest.content == ManifestContentType::Deletes;
        let (schema, entries) = classes.entry((deletes, manifest.partition_spec_id)).or_default();
        *schema = Some(newer(schema.take(), decoded.schema.clone()));
        entries.extend(decoded.live.iter().cloned());
    }
    let mut planned = Vec::new();
    for ((deletes, spec_id), (schema, mut entries)) in classes {
        let spec = spec_by_id(metadata, spec_id)?;
        let schema = schema.unwrap_or_else(|| metadata.current_schema().clone());
        entries.sort_by_cached_key(|entry| {
            let partition = comparable_partition(entry.data_file().partition());
            (format!("{partition:?}"), entry.sequence_number)
        });
        let content =
            if deletes { ManifestContentType::Deletes } else { ManifestContentType::Data };
        for some in entries.chunks(CONSOLIDATED_ENTRIES) {
            let changes = some.iter().cloned().map(NewManifestEntry::Kept).collect();
            let (schema, spec) = (schema.clone(), spec.clone());
            planned.push(PlannedManifest::New(NewManifest { content, schema, spec, changes }));
        }
    }
    ensure_source_columns(metadata, &mut planned);
    Ok(planned)
}

fn full_class(planned: &[PlannedManifest]) -> Option<ManifestClass> {
    let mut classes: BTreeMap<ManifestClass, usize> = BTreeMap::new();
    for class in planned.iter().filter_map(mergeable) {
        *classes.entry(class).or_default() += 1;
    }
    classes.into_iter().find(|(_, count)| *count >= MERGE_COUNT).map(|(class, _)| class)
}

async fn merge(
    tables: &Tables,
    metadata: &TableMetadata,
    (deletes, spec_id, _): ManifestClass,
    merged: Vec<PlannedManifest>,
) -> Result<NewManifest> {
    let mut changes = Vec::new();
    let mut schema: Option<SchemaRef> = None;
    for one in merged {
        match one {
            PlannedManifest::New(new) => {
                schema = Some(newer(schema, new.schema));
                changes.extend(new.changes);
            }
            PlannedManifest::Kept(manifest) => {
                let decoded: Arc<CachedManifest> =
                    tables.metadata_files().manifest(&manifest).await?;
                schema = Some(newer(schema, decoded.schema.clone()));
                changes.extend(decoded.live.iter().cloned().map(NewManifestEntry::Kept));
            }
        }
    }
    let content = if deletes { ManifestContentType::Deletes } else { ManifestContentType::Data };
    let schema = schema.unwrap_or_else(|| metadata.current_schema().clone());
    Ok(NewManifest { content, schema, spec: spec_by_id(metadata, spec_id)?, changes })
}

/// Returns a partition spec of the table.
pub(crate) fn spec_by_id(metadata: &TableMetadata, spec_id: i32) -> Result<PartitionSpecRef> {
    let spec = metadata.partition_spec_by_id(spec_id).cloned();
    spec.ok_or_else(|| Error::internal("committed", format!("no partition spec has id {spec_id}")))
}

/// Returns the later of two schemas. The later schema may lack dropped columns. If a partition spec
/// needs one of these, `ensure_source_columns` replaces the schema.
fn newer(one: Option<SchemaRef>, other: SchemaRef) -> SchemaRef {
    match one {
        Some(one) if one.schema_id() >= other.schema_id() => one,
        _ => other,
    }
}
