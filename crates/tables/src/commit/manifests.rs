//! Which manifests a new snapshot has: those that stay, those that must be rewritten, and a new
//! one.
//!
//! A commit adds one manifest. When sixteen of about the same size have come together they become
//! one, so that a table of n commits has O(log n) manifests and each entry is rewritten O(log n)
//! times.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use iceberg::spec::{
    ManifestContentType, ManifestFile, PartitionSpecRef, SchemaRef, Struct, TableMetadata,
};

use super::summary::Changes;
use crate::manifest::{Change, Decoded, NewManifest};
use crate::tables::Tables;
use crate::{DataFile, Error, Result};

/// How many manifests of one level are merged into one.
const MERGE_COUNT: usize = 16;

/// Manifests of this level and above, with 4,096 files or more, are not merged any further.
const MERGE_LEVEL_MAX: u32 = 3;

/// Which files go.
#[derive(Debug)]
pub(crate) enum Removal {
    /// None.
    Nothing,
    /// All.
    Everything,
    /// Those of these partitions of the spec with this id.
    Partitions(i32, HashSet<Struct>),
    /// Those at these locations; one that is not there is a conflict.
    Files(HashSet<String>),
}

impl Removal {
    /// The removal of these files.
    pub(crate) fn files(files: &[Arc<DataFile>]) -> Self {
        Removal::Files(files.iter().map(|file| file.location.clone()).collect())
    }

    fn takes(&self, file: &iceberg::spec::DataFile) -> bool {
        match self {
            Removal::Nothing => false,
            Removal::Everything => true,
            Removal::Partitions(_, partitions) => partitions.contains(file.partition()),
            Removal::Files(locations) => locations.contains(file.file_path()),
        }
    }
}

/// Files that come, all of one partition spec.
#[derive(Debug)]
pub(crate) struct Addition {
    /// Columns that the files may have.
    pub(crate) schema: SchemaRef,
    pub(crate) spec: PartitionSpecRef,
    pub(crate) files: Vec<iceberg::spec::DataFile>,
}

/// A manifest of the new snapshot.
#[derive(Debug)]
pub(crate) enum Planned {
    /// Written before.
    Kept(ManifestFile),
    /// To be written.
    New(NewManifest),
}

impl Planned {
    /// Entries that have yet to be written.
    pub(crate) fn entries(&self) -> usize {
        match self {
            Planned::Kept(_) => 0,
            Planned::New(new) => new.changes.len(),
        }
    }
}

/// The manifests of a table's next snapshot, and what they change.
pub(crate) async fn plan(
    tables: &Tables,
    metadata: &TableMetadata,
    before: &[ManifestFile],
    removal: Removal,
    additions: Vec<Addition>,
) -> Result<(Vec<Planned>, Changes)> {
    let mut changes = Changes::default();
    let mut planned = Vec::with_capacity(before.len() + 1);
    for manifest in before {
        // One without live files only tells of what its own snapshot removed.
        if manifest.has_added_files() || manifest.has_existing_files() {
            let rewritten = rewrite(tables, metadata, &removal, manifest, &mut changes).await?;
            planned.push(rewritten.map_or_else(|| Planned::Kept(manifest.clone()), Planned::New));
        }
    }
    if let Removal::Files(locations) = &removal
        && changes.files_removed() < locations.len() as u64
    {
        return Err(Error::TableChanged { what: "data" });
    }
    for Addition { schema, spec, files } in additions {
        for file in &files {
            changes.add(file);
        }
        let added = files.into_iter().map(|file| Change::Added(Box::new(file))).collect();
        planned.push(Planned::New(NewManifest { schema, spec, changes: added }));
    }
    merge_small(tables, metadata, &mut planned).await?;
    Ok((planned, changes))
}

/// The manifest without the files that go; none where it stays as it is.
async fn rewrite(
    tables: &Tables,
    metadata: &TableMetadata,
    removal: &Removal,
    manifest: &ManifestFile,
    changes: &mut Changes,
) -> Result<Option<NewManifest>> {
    if matches!(removal, Removal::Nothing) {
        return Ok(None);
    }
    if manifest.content == ManifestContentType::Deletes {
        return Err(delete_files(manifest));
    }
    if let Removal::Partitions(spec_id, _) = removal
        && *spec_id != manifest.partition_spec_id
    {
        return Err(Error::TableChanged { what: "partitioning" });
    }
    let decoded = tables.manifest(manifest).await?;
    if !decoded.live.iter().any(|entry| removal.takes(entry.data_file())) {
        return Ok(None);
    }
    let kept_or_removed = decoded.live.iter().map(|entry| {
        if removal.takes(entry.data_file()) {
            changes.remove(entry.data_file());
            Change::Removed(entry.clone())
        } else {
            Change::Kept(entry.clone())
        }
    });
    let entries = kept_or_removed.collect();
    let spec = spec_of(metadata, manifest)?;
    Ok(Some(NewManifest { schema: decoded.schema.clone(), spec, changes: entries }))
}

/// That a table has delete files, which nothing here honours yet.
pub(crate) fn delete_files(manifest: &ManifestFile) -> Error {
    let feature = "row-level delete files".to_owned();
    Error::Unsupported { location: manifest.manifest_path.clone(), feature }
}

fn spec_of(metadata: &TableMetadata, manifest: &ManifestFile) -> Result<PartitionSpecRef> {
    let spec = metadata.partition_spec_by_id(manifest.partition_spec_id).cloned();
    spec.ok_or_else(|| {
        let reason = format!("partition spec {} is unknown", manifest.partition_spec_id);
        Error::corrupt(&manifest.manifest_path, reason)
    })
}

/// Live files of a planned manifest, and the spec they have; none for one that is never merged.
fn mergeable(planned: &Planned) -> Option<(i32, u32)> {
    let (spec, files) = match planned {
        Planned::Kept(manifest) if manifest.content == ManifestContentType::Data => {
            let files = manifest.added_files_count.zip(manifest.existing_files_count);
            let (added, existing) = files?;
            (manifest.partition_spec_id, added as usize + existing as usize)
        }
        Planned::Kept(_) => return None,
        // What a snapshot removed must stand in one of its own manifests, so that one is left
        // alone.
        Planned::New(new) if new.changes.iter().any(|c| matches!(c, Change::Removed(_))) => {
            return None;
        }
        Planned::New(new) => (new.spec.spec_id(), new.changes.len()),
    };
    let level = files.max(1).ilog(MERGE_COUNT);
    (level < MERGE_LEVEL_MAX).then_some((spec, level))
}

/// Merges manifests of one spec and level as long as there are enough of them.
async fn merge_small(
    tables: &Tables,
    metadata: &TableMetadata,
    planned: &mut Vec<Planned>,
) -> Result<()> {
    while let Some(class) = crowded(planned) {
        let all = std::mem::take(planned);
        let (merged, rest): (Vec<_>, Vec<_>) =
            all.into_iter().partition(|one| mergeable(one) == Some(class));
        *planned = rest;
        planned.push(Planned::New(merge(tables, metadata, class.0, merged).await?));
    }
    Ok(())
}

fn crowded(planned: &[Planned]) -> Option<(i32, u32)> {
    let mut classes: BTreeMap<(i32, u32), usize> = BTreeMap::new();
    for class in planned.iter().filter_map(mergeable) {
        *classes.entry(class).or_default() += 1;
    }
    classes.into_iter().find(|(_, count)| *count >= MERGE_COUNT).map(|(class, _)| class)
}

async fn merge(
    tables: &Tables,
    metadata: &TableMetadata,
    spec_id: i32,
    merged: Vec<Planned>,
) -> Result<NewManifest> {
    let mut changes = Vec::new();
    let mut schema: Option<SchemaRef> = None;
    for one in merged {
        match one {
            Planned::New(new) => {
                schema = Some(newer(schema, new.schema));
                changes.extend(new.changes);
            }
            Planned::Kept(manifest) => {
                let decoded: Arc<Decoded> = tables.manifest(&manifest).await?;
                schema = Some(newer(schema, decoded.schema.clone()));
                changes.extend(decoded.live.iter().cloned().map(Change::Kept));
            }
        }
    }
    let spec = metadata.partition_spec_by_id(spec_id).cloned();
    let spec = spec.ok_or_else(|| Error::internal("committed", "a partition spec is unknown"))?;
    let schema = schema.unwrap_or_else(|| metadata.current_schema().clone());
    Ok(NewManifest { schema, spec, changes })
}

/// The later of two schemas: columns are only ever added while files stay, so it has all of them.
fn newer(one: Option<SchemaRef>, other: SchemaRef) -> SchemaRef {
    match one {
        Some(one) if one.schema_id() >= other.schema_id() => one,
        _ => other,
    }
}
