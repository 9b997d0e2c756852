//! Which manifests a new snapshot has: those that stay, those that must be rewritten, and a new
//! one.
//!
//! A commit adds one manifest. When sixteen of about the same size have come together they become
//! one, so that a table of n commits has O(log n) manifests and each entry is rewritten O(log n)
//! times.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use iceberg::spec::{
    ManifestContentType, ManifestEntryRef, ManifestFile, PartitionSpecRef, SchemaRef, Struct,
    TableMetadata,
};

use super::summary::Changes;
use crate::deletes::{named, place_of};
use crate::manifest::{Change, Decoded, NewManifest};
use crate::promotion::comparable_partition;
use crate::tables::Tables;
use crate::{DataFile, Error, Result};

/// How many manifests of one level are merged into one.
const MERGE_COUNT: usize = 16;

/// Manifests of this level and above, with 4,096 files or more, are not merged any further.
const MERGE_LEVEL_MAX: u32 = 3;

/// Entries of a manifest that others are put together in: one is a few megabytes then.
pub(crate) const CONSOLIDATED_ENTRIES: usize = 8_192;

/// Which files go.
#[derive(Debug)]
pub(crate) enum Removal {
    /// None.
    Nothing,
    /// All.
    Everything,
    /// Those of some partitions, and some others.
    Partitions {
        /// The spec that the partitions are of.
        spec: i32,
        /// To be compared.
        partitions: HashSet<Struct>,
        /// Where files of other specs lie that go, too.
        files: HashSet<String>,
    },
    /// Those at these locations; one that is not there is a conflict.
    Files(HashSet<String>),
}

impl Removal {
    /// The removal of these files.
    pub(crate) fn files(files: &[Arc<DataFile>]) -> Self {
        Removal::Files(files.iter().map(|file| file.location.clone()).collect())
    }

    /// The removal of these files as well.
    pub(crate) fn and_files(mut self, more: &[Arc<DataFile>]) -> Self {
        if let Removal::Partitions { files, .. } | Removal::Files(files) = &mut self {
            files.extend(more.iter().map(|file| file.location.clone()));
        }
        self
    }

    fn takes(&self, file: &iceberg::spec::DataFile, spec_id: i32) -> bool {
        match self {
            Removal::Nothing => false,
            Removal::Everything => true,
            Removal::Partitions { spec, partitions, files } => {
                *spec == spec_id && partitions.contains(&comparable_partition(file.partition()))
                    || files.contains(file.file_path())
            }
            Removal::Files(locations) => locations.contains(file.file_path()),
        }
    }

    /// Whether a delete file goes: with the only data file that it is about, or with all that there
    /// are in its partition.
    fn takes_deletes(&self, file: &iceberg::spec::DataFile, spec_id: i32) -> bool {
        match self {
            Removal::Nothing => false,
            Removal::Everything => true,
            Removal::Partitions { spec, partitions, files } => {
                *spec == spec_id && partitions.contains(&comparable_partition(file.partition()))
                    || named(file).is_some_and(|of| files.contains(&of))
            }
            Removal::Files(locations) => named(file).is_some_and(|of| locations.contains(&of)),
        }
    }
}

/// Files that come, all of one partition spec.
#[derive(Debug)]
pub(crate) struct Addition {
    /// Whether they are data or deletes.
    pub(crate) content: ManifestContentType,
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
    removal: Removals<'_>,
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
    if let Removal::Files(locations) = &removal.removal
        && changes.files_removed() < locations.len() as u64
    {
        return Err(Error::TableChanged { what: "data" });
    }
    for Addition { content, schema, spec, files } in additions {
        for file in &files {
            changes.add(file);
        }
        let added = files.into_iter().map(|file| Change::Added(Box::new(file))).collect();
        planned.push(Planned::New(NewManifest { content, schema, spec, changes: added }));
    }
    merge_small(tables, metadata, &mut planned).await?;
    with_sources(metadata, &mut planned);
    Ok((planned, changes))
}

/// Gives each new manifest a schema that has the columns which its files are partitioned by: one that was
/// dropped since is no longer in the schema of files that were written last.
fn with_sources(metadata: &TableMetadata, planned: &mut [Planned]) {
    for one in planned {
        let Planned::New(new) = one else { continue };
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

/// Which files go, and which delete files besides, because others take their place.
pub(crate) struct Removals<'a> {
    pub(crate) removal: Removal,
    pub(crate) replaced: HashSet<(&'a str, i64)>,
}

impl Removals<'_> {
    fn takes(&self, entry: &ManifestEntryRef, manifest: &ManifestFile) -> bool {
        let file = entry.data_file();
        match manifest.content {
            ManifestContentType::Data => self.removal.takes(file, manifest.partition_spec_id),
            ManifestContentType::Deletes => {
                self.replaced.contains(&place_of(file))
                    || self.removal.takes_deletes(file, manifest.partition_spec_id)
            }
        }
    }
}

/// The manifest without the files that go; none where it stays as it is.
async fn rewrite(
    tables: &Tables,
    metadata: &TableMetadata,
    removal: &Removals<'_>,
    manifest: &ManifestFile,
    changes: &mut Changes,
) -> Result<Option<NewManifest>> {
    if matches!(removal.removal, Removal::Nothing) && removal.replaced.is_empty() {
        return Ok(None);
    }
    let decoded = tables.manifest(manifest).await?;
    if !decoded.live.iter().any(|entry| removal.takes(entry, manifest)) {
        return Ok(None);
    }
    let kept_or_removed = decoded.live.iter().map(|entry| {
        if removal.takes(entry, manifest) {
            changes.remove(entry.data_file());
            Change::Removed(entry.clone())
        } else {
            Change::Kept(entry.clone())
        }
    });
    let entries = kept_or_removed.collect();
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

/// Manifests that can be merged: whether they hold delete files, of which spec, and about how many.
type Class = (bool, i32, u32);

/// The class of a planned manifest; none for one that is never merged.
fn mergeable(planned: &Planned) -> Option<Class> {
    let deletes = |content| content == ManifestContentType::Deletes;
    let (deletes, spec, files) = match planned {
        Planned::Kept(manifest) => {
            let files = manifest.added_files_count.zip(manifest.existing_files_count);
            let (added, existing) = files?;
            let files = added as usize + existing as usize;
            (deletes(manifest.content), manifest.partition_spec_id, files)
        }
        // What a snapshot removed must stand in one of its own manifests, so that one is left
        // alone.
        Planned::New(new) if new.changes.iter().any(|c| matches!(c, Change::Removed(_))) => {
            return None;
        }
        Planned::New(new) => (deletes(new.content), new.spec.spec_id(), new.changes.len()),
    };
    let level = files.max(1).ilog(MERGE_COUNT);
    (level < MERGE_LEVEL_MAX).then_some((deletes, spec, level))
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
        planned.push(Planned::New(merge(tables, metadata, class, merged).await?));
    }
    Ok(())
}

/// All manifests of a snapshot as few: entries of one partition together, the oldest first.
pub(crate) async fn consolidate(
    tables: &Tables,
    metadata: &TableMetadata,
    before: &[ManifestFile],
) -> Result<Vec<Planned>> {
    let mut classes: BTreeMap<(bool, i32), (Option<SchemaRef>, Vec<ManifestEntryRef>)> =
        BTreeMap::new();
    for manifest in before {
        let decoded = tables.manifest(manifest).await?;
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
            let changes = some.iter().cloned().map(Change::Kept).collect();
            let (schema, spec) = (schema.clone(), spec.clone());
            planned.push(Planned::New(NewManifest { content, schema, spec, changes }));
        }
    }
    with_sources(metadata, &mut planned);
    Ok(planned)
}

fn crowded(planned: &[Planned]) -> Option<Class> {
    let mut classes: BTreeMap<Class, usize> = BTreeMap::new();
    for class in planned.iter().filter_map(mergeable) {
        *classes.entry(class).or_default() += 1;
    }
    classes.into_iter().find(|(_, count)| *count >= MERGE_COUNT).map(|(class, _)| class)
}

async fn merge(
    tables: &Tables,
    metadata: &TableMetadata,
    (deletes, spec_id, _): Class,
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
    let content = if deletes { ManifestContentType::Deletes } else { ManifestContentType::Data };
    let schema = schema.unwrap_or_else(|| metadata.current_schema().clone());
    Ok(NewManifest { content, schema, spec: spec_by_id(metadata, spec_id)?, changes })
}

/// A partition spec of the table.
pub(crate) fn spec_by_id(metadata: &TableMetadata, spec_id: i32) -> Result<PartitionSpecRef> {
    let spec = metadata.partition_spec_by_id(spec_id).cloned();
    spec.ok_or_else(|| Error::internal("committed", "a partition spec is unknown"))
}

/// The later of two schemas. It lacks columns that were dropped in between, of which nothing is asked
/// any more; no partition is made of such a column.
fn newer(one: Option<SchemaRef>, other: SchemaRef) -> SchemaRef {
    match one {
        Some(one) if one.schema_id() >= other.schema_id() => one,
        _ => other,
    }
}
