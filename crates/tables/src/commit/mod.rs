//! Commits: the transition from one table state to the next.
//!
//! All metadata files of a commit (manifests, manifest list, metadata file) are encoded in memory,
//! then written and fsynced together. A failed commit deletes what it wrote; data files are the
//! caller's responsibility.

pub(crate) mod alter;
pub(crate) mod evolve;
pub(crate) mod layout;
pub(crate) mod manifests;
pub(crate) mod metadata_log;
mod snapshots;
mod summary;
mod values;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use bytes::Bytes;
use iceberg::spec::{
    FormatVersion, MAIN_BRANCH, ManifestContentType, ManifestFile, Snapshot, Summary,
    TableMetadata, TableMetadataBuilder,
};
use uuid::Uuid;

use self::alter::{Alteration, Altered, FORMAT_VERSION};
use self::evolve::{check_same_version, check_staged, rejected};
use self::manifests::{Addition, PlannedManifest, Removal, Removals, spec_by_id};
use self::snapshots::snapshots_to_expire;
pub(crate) use self::snapshots::{referenced_snapshots, snapshots_listed};
use self::summary::Changes;
pub use self::summary::Kind;
use self::values::check_values;
use crate::deletes::DeleteKey;
use crate::manifest::{Decoded, SnapshotIds, assign_row_ids, encode, encode_list};
use crate::partition::describe;
use crate::promotion::comparable_partition;
use crate::reach::{REACH, Reach};
use crate::storage::{Storage, Undo};
use crate::table::Totals;
use crate::tables::Tables;
use crate::{
    DataFile, Error, Operation, Result, RetainedRows, Rewrite, ScanPlan, StagedFiles, Table,
    metadata, rest, time_parts,
};

/// Maximum manifest entries encoded without a blocking thread.
const INLINE_ENTRIES_MAX: usize = 256;

/// Files of a commit that are not yet written or durable.
#[derive(Debug, Default)]
pub(crate) struct PendingFiles {
    /// Encoded files, by location.
    files: Vec<(String, Bytes)>,
    /// Data files that are written but may not be durable.
    staged: Option<StagedFiles>,
}

/// Commits an operation and returns the next state of the table.
pub(crate) async fn commit(
    tables: &Tables,
    table: &Table,
    operation: Operation,
    summary: BTreeMap<String, String>,
) -> Result<Table> {
    let before = table.metadata();
    if let Operation::Apply(commit) = &operation {
        return rest::apply(tables, table, commit, &summary).await;
    }
    if before.format_version() == FormatVersion::V1 && !upgrades(&operation) {
        return Err(Error::OldFormat { version: "1" });
    }
    match operation {
        Operation::Apply(_) => Ok(table.clone()),
        Operation::AddColumns { columns, .. } if columns.is_empty() => Ok(table.clone()),
        Operation::AddColumns { columns, after } => {
            let change = |builder| evolve::add_columns(before, builder, columns, after);
            commit_metadata(tables, table, change).await
        }
        Operation::Alter { alterations, after } => {
            let altered = Altered::of(before, alterations, after)?;
            if altered.is_nothing() {
                return Ok(table.clone());
            }
            Box::pin(check_values(tables, table, &altered.columns_to_require(before))).await?;
            commit_metadata(tables, table, |builder| altered.apply(before, builder)).await
        }
        Operation::SetProperties(properties) => {
            let change = |builder| evolve::set_properties(builder, properties);
            commit_metadata(tables, table, change).await
        }
        Operation::Append(staged) => {
            check_staged(before, &staged)?;
            let change = Change::new(Removal::Nothing, staged, Kind::Append, summary);
            change.commit(tables, table, before, metadata_builder(table)?).await
        }
        Operation::Overwrite(staged) => {
            check_staged(before, &staged)?;
            let change = Change::new(Removal::Everything, staged, Kind::Modify, summary);
            let change = change.with_reach(Reach::All);
            change.commit(tables, table, before, metadata_builder(table)?).await
        }
        Operation::OverwritePartitions { staged, retained } => {
            let change = plan_overwrite(tables, table, staged, retained, summary).await?;
            change.commit(tables, table, before, metadata_builder(table)?).await
        }
        Operation::Rewrite(rewrite) => {
            let change = Box::pin(plan_rewrite(tables, table, rewrite, summary)).await?;
            change.commit(tables, table, before, metadata_builder(table)?).await
        }
        Operation::Compact { removed, staged } => {
            let change = Box::pin(plan_compaction(tables, table, removed, staged, summary)).await?;
            change.commit(tables, table, before, metadata_builder(table)?).await
        }
        Operation::ArrangeManifests => merge_manifests(tables, table, summary).await,
        Operation::ExpireSnapshots(ids) => {
            let now = tables.options().clock.now().timestamp_millis();
            let left =
                metadata_log::without_snapshots(before, &ids, table.metadata_location(), now)?;
            store(tables, table, left, table.totals(), PendingFiles::default()).await
        }
        Operation::Replace { schema, partition, after, staged } => {
            let builder =
                evolve::replace(before, metadata_builder(table)?, &schema, &partition, after)?;
            let after = evolve::replaced(before, &schema, &partition, after)?;
            check_staged(&after, &staged)?;
            let change = Change::new(Removal::Everything, staged, Kind::Modify, summary);
            change.with_reach(Reach::All).commit(tables, table, &after, builder).await
        }
    }
}

async fn plan_overwrite(
    tables: &Tables,
    table: &Table,
    staged: StagedFiles,
    retained: Option<RetainedRows>,
    summary: BTreeMap<String, String>,
) -> Result<Change> {
    let before = table.metadata();
    check_staged(before, &staged)?;
    let (mut removal, reach) = partitions_of(before, &staged);
    let mut all = vec![staged];
    if let Some((removed, rest)) = retained {
        check_staged(before, &rest)?;
        check_same_version(before, &rest)?;
        check_rows_unchanged(tables, table, removed.iter()).await?;
        removal = removal.and_files(&removed);
        all.push(rest);
    }
    let staged = StagedFiles::all(&all).ok_or_else(|| Error::internal("written", "no rows"))?;
    Ok(Change::new(removal, staged, Kind::Modify, summary).with_reach(reach))
}

async fn plan_rewrite(
    tables: &Tables,
    table: &Table,
    rewrite: Rewrite,
    summary: BTreeMap<String, String>,
) -> Result<Change> {
    check_staged(table.metadata(), &rewrite.staged)?;
    check_same_version(table.metadata(), &rewrite.staged)?;
    check_added_rows(tables, table, &rewrite).await?;
    check_deletes(tables, table, &rewrite).await?;
    let removal = Removal::files(&rewrite.removed);
    let staged = rewrite.staged;
    let adds = rewrite.removed.is_empty() && staged.deletes.is_empty();
    let kind = if adds { Kind::Append } else { Kind::Modify };
    Ok(Change::new(removal, staged, kind, summary))
}

async fn plan_compaction(
    tables: &Tables,
    table: &Table,
    removed: Vec<Arc<DataFile>>,
    staged: StagedFiles,
    summary: BTreeMap<String, String>,
) -> Result<Change> {
    check_staged(table.metadata(), &staged)?;
    check_same_version(table.metadata(), &staged)?;
    check_rows_unchanged(tables, table, removed.iter()).await?;
    check_rows(tables, &removed, &staged).await?;
    let dangling = tables.dangling_deletes(table, &removed).await?;
    let change = Change::new(Removal::files(&removed), staged, Kind::Compact, summary);
    Ok(Change { dangling, ..change })
}

/// Returns true if the operation upgrades the format version.
fn upgrades(operation: &Operation) -> bool {
    let version = |one: &Alteration| match one {
        Alteration::SetProperties(properties) => properties.contains_key(FORMAT_VERSION),
        _ => false,
    };
    matches!(operation, Operation::Alter { alterations, .. } if alterations.iter().any(version))
}

/// Merges small manifests; returns the same state if there are few already.
async fn merge_manifests(
    tables: &Tables,
    table: &Table,
    summary: BTreeMap<String, String>,
) -> Result<Table> {
    let metadata = table.metadata();
    let Some(snapshot) = metadata.current_snapshot() else { return Ok(table.clone()) };
    let old = tables.manifests(snapshot).await?;
    let planned = manifests::consolidate(tables, metadata, &old).await?;
    if planned.len() >= old.len() {
        return Ok(table.clone());
    }
    let change = Change {
        removal: Removal::Nothing,
        staged: None,
        additions: Vec::new(),
        kind: Kind::Compact,
        reach: Reach::Rows,
        dangling: Vec::new(),
        summary,
    };
    let changes = Changes::default();
    let builder = metadata_builder(table)?;
    let planned = PlannedSnapshot { manifests: planned, changes, after: metadata, builder };
    change.finish(tables, table, planned).await
}

/// Checks that replacement files have as many rows as the removed ones.
async fn check_rows(
    tables: &Tables,
    removed: &[Arc<DataFile>],
    staged: &StagedFiles,
) -> Result<()> {
    let before = tables.live_rows(removed.to_vec()).await?;
    if before == staged.rows() {
        return Ok(());
    }
    let message = format!("{before} rows became {} during compaction", staged.rows());
    Err(Error::internal("compacted", message))
}

/// Checks that concurrently added rows do not affect the change.
async fn check_added_rows(tables: &Tables, table: &Table, rewrite: &Rewrite) -> Result<()> {
    let Some(unseen) = &rewrite.unseen else { return Ok(()) };
    let plan = tables.plan(table, None).await?;
    let added = with_new_rows(tables, &plan, &rewrite.seen).await?;
    if added.files().is_empty() || !unseen(&added) {
        return Ok(());
    }
    Err(Error::TableChanged { what: "data" })
}

/// Returns the files of a plan that have rows which an earlier plan does not have: new files, and
/// files whose deletes were undone, for example by a rollback.
async fn with_new_rows(tables: &Tables, now: &ScanPlan, then: &ScanPlan) -> Result<ScanPlan> {
    let seen: HashMap<&str, &Arc<DataFile>> =
        then.files().iter().map(|file| (file.location.as_str(), file)).collect();
    let mut new = vec![false; now.files().len()];
    let (mut indexes, mut before, mut after) = (Vec::new(), Vec::new(), Vec::new());
    for (index, file) in now.files().iter().enumerate() {
        match seen.get(file.location.as_str()) {
            None => new[index] = true,
            Some(old) if !old.has_deletes() || old.state() == file.state() => {}
            Some(old) => {
                indexes.push(index);
                before.push(Arc::clone(old));
                after.push(Arc::clone(file));
            }
        }
    }
    let before = tables.deleted_of_all(before).await?;
    let after = tables.deleted_of_all(after).await?;
    for (index, (before, after)) in indexes.into_iter().zip(before.into_iter().zip(after)) {
        let deleted_before = before.unwrap_or_default();
        new[index] = !after.unwrap_or_default().has_all(&deleted_before);
    }
    Ok(now.retain(&new))
}

/// Checks that files which a change removes or deletes rows of still have the same live rows: the
/// files exist, and no other delete file applies to them.
async fn check_deletes(tables: &Tables, table: &Table, rewrite: &Rewrite) -> Result<()> {
    let with_new_deletes = rewrite.staged.deletes.iter().map(|delete| &delete.of);
    let seen = rewrite.removed.iter().chain(with_new_deletes);
    if rewrite.staged.deletes.is_empty() {
        return check_rows_unchanged(tables, table, seen).await;
    }
    // A data file that only gets new deletes is not in the removal, so its existence must be
    // checked here.
    check_delete_files_unchanged(tables, table, seen).await
}

/// Checks that data files still have the same deletes as when they were read.
async fn check_rows_unchanged(
    tables: &Tables,
    table: &Table,
    seen: impl Iterator<Item = &Arc<DataFile>> + Clone,
) -> Result<()> {
    if !table.has_deletes() && seen.clone().all(|file| !file.has_deletes()) {
        return Ok(());
    }
    check_delete_files_unchanged(tables, table, seen).await
}

async fn check_delete_files_unchanged(
    tables: &Tables,
    table: &Table,
    seen: impl Iterator<Item = &Arc<DataFile>>,
) -> Result<()> {
    let plan = tables.plan(table, None).await?;
    let now: HashSet<_> = plan.files().iter().map(|file| file.state()).collect();
    let mut same = seen.map(|file| now.contains(&file.state()));
    if same.all(|same| same) { Ok(()) } else { Err(Error::TableChanged { what: "data" }) }
}

/// Returns a builder of the table's next metadata.
pub fn metadata_builder(table: &Table) -> Result<TableMetadataBuilder> {
    let metadata = time_parts::hidden_metadata(table.metadata())?.into_owned();
    Ok(metadata.into_builder(Some(table.metadata_location().to_owned())))
}

/// Returns the metadata of a table after an edit, without its logs.
pub fn edited_metadata(
    table: &Table,
    edit: impl FnOnce(TableMetadataBuilder) -> Result<TableMetadataBuilder>,
) -> Result<TableMetadata> {
    let (bare, _) = metadata_log::detach_logs(table.metadata())?;
    build(edit(bare.into_builder(None))?)
}

/// Commits a metadata change that affects no rows.
pub async fn commit_metadata(
    tables: &Tables,
    table: &Table,
    change: impl FnOnce(TableMetadataBuilder) -> Result<TableMetadataBuilder>,
) -> Result<Table> {
    let (base, logs) = metadata_log::detach_logs(table.metadata())?;
    let built = build(change(base.into_builder(None))?)?;
    let now = tables.options().clock.now().timestamp_millis();
    let metadata = metadata_log::attach_logs(&built, logs, table.metadata_location(), now)?;
    store(tables, table, metadata, table.totals(), PendingFiles::default()).await
}

/// Returns the removal of the new rows' partitions, and the reach of the overwrite.
fn partitions_of(metadata: &TableMetadata, staged: &StagedFiles) -> (Removal, Reach) {
    let (spec, types) = (metadata.default_partition_spec(), metadata.default_partition_type());
    let partitions = staged.files.iter().map(iceberg::spec::DataFile::partition);
    let partitions: HashSet<_> = partitions.collect();
    let reach = match spec.fields() {
        [] if partitions.is_empty() => Reach::Rows,
        [] => Reach::All,
        _ => Reach::Partitions(partitions.iter().map(|one| describe(spec, types, one)).collect()),
    };
    let partitions = partitions.into_iter().map(comparable_partition).collect();
    (Removal::Partitions { spec: spec.spec_id(), partitions, files: HashSet::new() }, reach)
}

pub(crate) fn build(builder: TableMetadataBuilder) -> Result<TableMetadata> {
    let built = builder.build().map_err(|error| rejected("committed", &error))?.metadata;
    let built = time_parts::revealed(built)?;
    evolve::check_table(&built)?;
    Ok(built)
}

/// A change of a table's rows.
pub struct Change {
    /// The files to remove.
    pub removal: Removal,
    /// Files written for this change.
    pub staged: Option<StagedFiles>,
    /// Files from other states of the table.
    pub additions: Vec<Addition>,
    /// The kind of the change.
    pub kind: Kind,
    /// The rows that the change applies to.
    pub reach: Reach,
    /// Delete files that no longer apply to any data file.
    pub dangling: Vec<DeleteKey>,
    /// Added to the snapshot's summary.
    pub summary: BTreeMap<String, String>,
}

/// Ids and file names of a new snapshot.
struct NewSnapshot {
    ids: SnapshotIds,
    timestamp_ms: i64,
    /// The folder of the metadata files.
    folder: String,
    /// The unique part of the names of this commit's files.
    name: Uuid,
}

/// The manifests of a new snapshot, and the metadata to add it to.
struct PlannedSnapshot<'a> {
    manifests: Vec<PlannedManifest>,
    changes: Changes,
    /// The metadata with the new schema and partition spec.
    after: &'a TableMetadata,
    builder: TableMetadataBuilder,
}

impl Change {
    fn new(
        removal: Removal,
        staged: StagedFiles,
        kind: Kind,
        summary: BTreeMap<String, String>,
    ) -> Self {
        let (staged, additions, reach) = (Some(staged), Vec::new(), Reach::Rows);
        Change { removal, staged, additions, kind, reach, dangling: Vec::new(), summary }
    }

    fn with_reach(self, reach: Reach) -> Self {
        Change { reach, ..self }
    }

    /// Commits against `after`, the metadata with the new schema and partition spec.
    pub async fn commit(
        mut self,
        tables: &Tables,
        table: &Table,
        after: &TableMetadata,
        builder: TableMetadataBuilder,
    ) -> Result<Table> {
        let before = table.metadata();
        let old = match before.current_snapshot() {
            Some(snapshot) => tables.manifests(snapshot).await?,
            None => Arc::new([]),
        };
        if let Some(staged) = self.staged.as_ref().filter(|staged| !staged.is_empty()) {
            self.additions.extend(added_by(staged, after)?);
        }
        let removal = std::mem::replace(&mut self.removal, Removal::Nothing);
        let additions = std::mem::take(&mut self.additions);
        let staged = self.staged.as_ref();
        let deletes = staged.into_iter().flat_map(|staged| staged.deletes.iter());
        let replaced = deletes.flat_map(|delete| &delete.replaced).chain(&self.dangling);
        let replaced = replaced.map(|(location, at)| (location.as_str(), *at)).collect();
        let removals = Removals { removal, replaced };
        let (planned, changes) = manifests::plan(tables, after, &old, removals, additions).await?;
        let same_columns = after.current_schema_id() == before.current_schema_id()
            && after.default_partition_spec_id() == before.default_partition_spec_id();
        if changes.is_empty() && self.summary.is_empty() && same_columns {
            return Ok(table.clone());
        }
        self.finish(tables, table, PlannedSnapshot { manifests: planned, changes, after, builder })
            .await
    }

    /// Commits the planned snapshot.
    async fn finish(
        mut self,
        tables: &Tables,
        table: &Table,
        planned: PlannedSnapshot<'_>,
    ) -> Result<Table> {
        let PlannedSnapshot { manifests, changes, after, builder } = planned;
        let before = table.metadata();
        let new = NewSnapshot::after(tables, before, after);
        self.summary.extend(self.reach.to_value().map(|value| (REACH.to_owned(), value)));
        let summary = changes.summarise(table.totals(), self.kind, self.summary);
        let listed_max = tables.options().snapshots_listed_max;
        let encoded = new.encode_files(manifests).await?;
        let snapshot = new.snapshot(&encoded, summary, after.current_schema_id());
        let builder = builder
            .set_branch_snapshot(snapshot, MAIN_BRANCH)
            .map_err(|error| rejected("committed", &error))?
            .remove_snapshots(&snapshots_to_expire(before, snapshots_listed(before, listed_max)));
        let unwritten = PendingFiles { files: encoded.files, staged: self.staged };
        let totals = changes.totals(table.totals());
        let stored = store(tables, table, build(builder)?, totals, unwritten).await?;
        tables.cache_snapshot(encoded.manifest_list, encoded.listed, encoded.decoded);
        Ok(stored)
    }
}

/// Returns the files written for a change: data files of the current partition spec, and delete
/// files of the specs of their data files.
fn added_by(staged: &StagedFiles, after: &TableMetadata) -> Result<Vec<Addition>> {
    let schema = &staged.schema;
    let mut additions = Vec::new();
    if !staged.files.is_empty() {
        let (content, files) = (ManifestContentType::Data, staged.files.to_vec());
        let spec = after.default_partition_spec().clone();
        additions.push(Addition { content, schema: schema.clone(), spec, files });
    }
    let mut by_spec: BTreeMap<i32, Vec<_>> = BTreeMap::new();
    for delete in staged.deletes.iter() {
        by_spec.entry(delete.of.spec_id).or_default().push(delete.file.clone());
    }
    for (spec_id, files) in by_spec {
        let (content, spec) = (ManifestContentType::Deletes, spec_by_id(after, spec_id)?);
        additions.push(Addition { content, schema: schema.clone(), spec, files });
    }
    Ok(additions)
}

/// The encoded, not yet written files of a new snapshot.
struct EncodedSnapshot {
    files: Vec<(String, Bytes)>,
    manifest_list: String,
    listed: Vec<ManifestFile>,
    decoded: Vec<(String, Decoded)>,
    /// The next row id of the table after the snapshot.
    next_row_id: u64,
}

impl NewSnapshot {
    fn after(tables: &Tables, before: &TableMetadata, after: &TableMetadata) -> Self {
        let now = tables.options().clock.now().timestamp_millis();
        NewSnapshot {
            ids: SnapshotIds {
                id: snapshot_id(before),
                parent: before.current_snapshot_id(),
                sequence_number: before.next_sequence_number(),
                version: after.format_version(),
                first_row_id: after.next_row_id(),
            },
            // Iceberg requires increasing timestamps, even if the clock is set back.
            timestamp_ms: now.max(before.last_updated_ms()),
            folder: format!("{}/metadata", before.location()),
            name: Uuid::new_v4(),
        }
    }

    async fn encode_files(&self, planned: Vec<PlannedManifest>) -> Result<EncodedSnapshot> {
        let entries: usize = planned.iter().map(PlannedManifest::entries).sum();
        let list = format!("{}/snap-{}-1-{}.avro", self.folder, self.ids.id, self.name);
        let encoding =
            encode_all(planned, format!("{}/{}-m", self.folder, self.name), list, self.ids);
        if entries <= INLINE_ENTRIES_MAX {
            return encoding.await;
        }
        let encoding = tokio::task::spawn_blocking(|| futures::executor::block_on(encoding));
        encoding.await.map_err(|error| Error::internal("committed", error))?
    }

    fn snapshot(&self, encoded: &EncodedSnapshot, summary: Summary, schema_id: i32) -> Snapshot {
        let builder = Snapshot::builder()
            .with_snapshot_id(self.ids.id)
            .with_parent_snapshot_id(self.ids.parent)
            .with_sequence_number(self.ids.sequence_number)
            .with_timestamp_ms(self.timestamp_ms)
            .with_manifest_list(encoded.manifest_list.as_str())
            .with_summary(summary)
            .with_schema_id(schema_id);
        if self.ids.version < FormatVersion::V3 {
            return builder.build();
        }
        let first = self.ids.first_row_id;
        builder.with_row_range(first, encoded.next_row_id.saturating_sub(first)).build()
    }
}

async fn encode_all(
    planned: Vec<PlannedManifest>,
    prefix: String,
    manifest_list: String,
    snapshot: SnapshotIds,
) -> Result<EncodedSnapshot> {
    let (mut files, mut listed, mut decoded) = (Vec::new(), Vec::new(), Vec::new());
    for one in planned {
        match one {
            PlannedManifest::Kept(manifest) => listed.push(manifest),
            PlannedManifest::New(new) => {
                let location = format!("{prefix}{}.avro", files.len());
                let encoded = encode(new, &location, snapshot).await;
                let encoded = encoded.map_err(|error| rejected("committed", &error))?;
                files.push((location.clone(), encoded.content));
                decoded.push((location, encoded.decoded));
                listed.push(encoded.file);
            }
        }
    }
    let mut next_row_id = snapshot.first_row_id;
    if snapshot.version >= FormatVersion::V3 {
        next_row_id = assign_row_ids(&mut listed, &mut decoded, next_row_id)?;
    }
    let content = encode_list(&listed, snapshot).await;
    let content = content.map_err(|error| rejected("committed", &error))?;
    files.push((manifest_list.clone(), content));
    Ok(EncodedSnapshot { files, manifest_list, listed, decoded, next_row_id })
}

/// Returns a random unused snapshot id.
fn snapshot_id(metadata: &TableMetadata) -> i64 {
    let ids = std::iter::repeat_with(|| (Uuid::new_v4().as_u64_pair().0 & i64::MAX as u64) as i64);
    let mut free = ids.filter(|id| *id > 0 && metadata.snapshot_by_id(*id).is_none());
    free.next().unwrap_or(1)
}

/// Writes a commit's files and metadata file, and returns the new state.
async fn store(
    tables: &Tables,
    table: &Table,
    metadata: TableMetadata,
    totals: Totals,
    unwritten: PendingFiles,
) -> Result<Table> {
    let location = metadata::next_location(metadata.location(), Some(table.metadata_location()));
    store_as(tables, location, metadata, totals, unwritten).await
}

/// Writes files, and metadata at this location.
pub(crate) async fn store_as(
    tables: &Tables,
    location: String,
    metadata: TableMetadata,
    totals: Totals,
    unwritten: PendingFiles,
) -> Result<Table> {
    let content = metadata::encode(&metadata)?;
    let encoded_bytes = content.len();
    let PendingFiles { mut files, staged } = unwritten;
    files.push((location.clone(), content));
    let storage = tables.storage();
    let mut undo = Undo::new(Arc::clone(storage));
    for (location, _) in &files {
        undo.add(location.clone());
    }
    if let Err(error) = write(storage, &files, staged.as_ref()).await {
        undo.run().await;
        return Err(error);
    }
    undo.keep();
    let table = Table::new(location, metadata, totals, encoded_bytes);
    tables.cache_table(&table);
    Ok(table)
}

/// Writes a commit's metadata files and makes them and the data files durable.
async fn write(
    storage: &Storage,
    files: &[(String, Bytes)],
    staged: Option<&StagedFiles>,
) -> Result<()> {
    // A failed background sync is retried here, so that its error is reported.
    let rest = match staged {
        Some(staged) if !staged.durable.wait().await => Some(staged),
        _ => None,
    };
    storage.write_all(files, rest.into_iter().flat_map(StagedFiles::locations)).await
}
