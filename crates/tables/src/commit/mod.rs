//! Commits: from one state of a table to the next.
//!
//! All files of a commit are made in memory, written at once, and fsynced at once: manifests,
//! manifest list, metadata file. A commit that fails removes what it wrote; data files are the
//! caller's.

pub(crate) mod alter;
pub(crate) mod evolve;
pub(crate) mod layout;
pub(crate) mod manifests;
mod snapshots;
pub(crate) mod stamp;
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
use self::evolve::{check_same_version, check_staged, refused};
use self::manifests::{Addition, Planned, Removal, Removals, spec_by_id};
use self::snapshots::superfluous;
pub(crate) use self::snapshots::{named_snapshots, snapshots_listed};
use self::summary::Changes;
pub(crate) use self::summary::Kind;
use self::values::check_values;
use crate::deletes::DeleteKey;
use crate::manifest::{Decoded, SnapshotIds, encode, encode_list, number_rows};
use crate::merge::history::{REACH, Reach};
use crate::partition::describe;
use crate::promotion::comparable_partition;
use crate::storage::{Storage, Undo};
use crate::table::Totals;
use crate::tables::Tables;
use crate::{
    Beside, DataFile, Error, Operation, Result, Rewrite, ScanPlan, Staged, Table, metadata, rest,
    time_parts,
};

/// Entries up to which a commit's manifests are made without a thread of their own.
const INLINE_ENTRIES_MAX: usize = 256;

/// What a commit has yet to write, and to make durable.
#[derive(Debug, Default)]
pub(crate) struct Unwritten {
    /// Files that are made, by location.
    files: Vec<(String, Bytes)>,
    /// Data files that are written and not yet durable.
    staged: Option<Staged>,
}

/// Makes the next state of a table.
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
            store_metadata(tables, table, change).await
        }
        Operation::Alter { alterations, after } => {
            let altered = Altered::of(before, alterations, after)?;
            if altered.is_nothing() {
                return Ok(table.clone());
            }
            Box::pin(check_values(tables, table, &altered.newly_required(before))).await?;
            store_metadata(tables, table, |builder| altered.apply(before, builder)).await
        }
        Operation::SetProperties(properties) => {
            let change = |builder| evolve::set_properties(builder, properties);
            store_metadata(tables, table, change).await
        }
        Operation::Append(staged) => {
            check_staged(before, &staged)?;
            let change = Change::new(Removal::Nothing, staged, Kind::Adds, summary);
            change.commit(tables, table, before, builder_of(table)?).await
        }
        Operation::Overwrite(staged) => {
            check_staged(before, &staged)?;
            let change = Change::new(Removal::Everything, staged, Kind::Changes, summary);
            let change = change.reaching(Reach::All);
            change.commit(tables, table, before, builder_of(table)?).await
        }
        Operation::OverwritePartitions { staged, beside } => {
            let change = overwriting(tables, table, (staged, beside), summary).await?;
            change.commit(tables, table, before, builder_of(table)?).await
        }
        Operation::Rewrite(rewrite) => {
            let change = Box::pin(rewriting(tables, table, rewrite, summary)).await?;
            change.commit(tables, table, before, builder_of(table)?).await
        }
        Operation::Compact { removed, staged } => {
            let change = Box::pin(compacting(tables, table, (removed, staged), summary)).await?;
            change.commit(tables, table, before, builder_of(table)?).await
        }
        Operation::ArrangeManifests => arrange_manifests(tables, table, summary).await,
        Operation::ExpireSnapshots(ids) => {
            let now = tables.options().clock.now().timestamp_millis();
            let left = stamp::without_snapshots(before, &ids, table.metadata_location(), now)?;
            store(tables, table, left, table.totals(), Unwritten::default()).await
        }
        Operation::Replace { schema, partition, after, staged } => {
            let builder = evolve::replace(before, builder_of(table)?, &schema, &partition, after)?;
            let after = evolve::replaced(before, &schema, &partition, after)?;
            check_staged(&after, &staged)?;
            let change = Change::new(Removal::Everything, staged, Kind::Changes, summary);
            change.reaching(Reach::All).commit(tables, table, &after, builder).await
        }
    }
}

async fn overwriting(
    tables: &Tables,
    table: &Table,
    (staged, beside): (Staged, Option<Beside>),
    summary: BTreeMap<String, String>,
) -> Result<Change> {
    let before = table.metadata();
    check_staged(before, &staged)?;
    let (mut removal, reach) = partitions_of(before, &staged);
    let mut all = vec![staged];
    if let Some((removed, rest)) = beside {
        check_staged(before, &rest)?;
        check_same_version(before, &rest)?;
        check_same(tables, table, removed.iter()).await?;
        removal = removal.and_files(&removed);
        all.push(rest);
    }
    let staged = Staged::all(&all).ok_or_else(|| Error::internal("written", "no rows"))?;
    Ok(Change::new(removal, staged, Kind::Changes, summary).reaching(reach))
}

async fn rewriting(
    tables: &Tables,
    table: &Table,
    rewrite: Rewrite,
    summary: BTreeMap<String, String>,
) -> Result<Change> {
    check_staged(table.metadata(), &rewrite.staged)?;
    check_same_version(table.metadata(), &rewrite.staged)?;
    check_unseen(tables, table, &rewrite).await?;
    check_deletes(tables, table, &rewrite).await?;
    let removal = Removal::files(&rewrite.removed);
    let staged = rewrite.staged;
    let adds = rewrite.removed.is_empty() && staged.deletes.is_empty();
    let kind = if adds { Kind::Adds } else { Kind::Changes };
    Ok(Change::new(removal, staged, kind, summary))
}

async fn compacting(
    tables: &Tables,
    table: &Table,
    (removed, staged): (Vec<Arc<DataFile>>, Staged),
    summary: BTreeMap<String, String>,
) -> Result<Change> {
    check_staged(table.metadata(), &staged)?;
    check_same_version(table.metadata(), &staged)?;
    check_same(tables, table, removed.iter()).await?;
    check_rows(tables, &removed, &staged).await?;
    let dangling = tables.dangling_deletes(table, &removed).await?;
    let change = Change::new(Removal::files(&removed), staged, Kind::Arranges, summary);
    Ok(Change { dangling, ..change })
}

/// Whether a change makes a table one of a later version of the format.
fn upgrades(operation: &Operation) -> bool {
    let version = |one: &Alteration| match one {
        Alteration::SetProperties(properties) => properties.contains_key(FORMAT_VERSION),
        _ => false,
    };
    matches!(operation, Operation::Alter { alterations, .. } if alterations.iter().any(version))
}

/// Puts what many manifests say into few; nothing where they are few already.
async fn arrange_manifests(
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
        kind: Kind::Arranges,
        reach: Reach::Rows,
        dangling: Vec::new(),
        summary,
    };
    let changes = Changes::default();
    change.finish(tables, table, (planned, &changes), (metadata, builder_of(table)?)).await
}

/// The files that come in place of others hold as many rows.
async fn check_rows(tables: &Tables, removed: &[Arc<DataFile>], staged: &Staged) -> Result<()> {
    let before = tables.live_rows(removed.to_vec()).await?;
    if before == staged.rows() {
        return Ok(());
    }
    let message = format!("{before} rows became {} where none was to change", staged.rows());
    Err(Error::internal("compacted", message))
}

/// Whether rows that others added since a change was made up leave it right.
async fn check_unseen(tables: &Tables, table: &Table, rewrite: &Rewrite) -> Result<()> {
    let Some(unseen) = &rewrite.unseen else { return Ok(()) };
    let plan = tables.plan(table, None).await?;
    let added = with_new_rows(tables, &plan, &rewrite.seen).await?;
    if added.files().is_empty() || !unseen(&added) {
        return Ok(());
    }
    Err(Error::TableChanged { what: "data" })
}

/// The files of a plan that have rows which an earlier plan has not: other files, and those of which rows
/// that were gone are there again, as where somebody undid their removal.
async fn with_new_rows(tables: &Tables, now: &ScanPlan, then: &ScanPlan) -> Result<ScanPlan> {
    let seen: HashMap<&str, &Arc<DataFile>> =
        then.files().iter().map(|file| (file.location.as_str(), file)).collect();
    let mut new = vec![false; now.files().len()];
    let (mut places, mut before, mut after) = (Vec::new(), Vec::new(), Vec::new());
    for (place, file) in now.files().iter().enumerate() {
        match seen.get(file.location.as_str()) {
            None => new[place] = true,
            Some(old) if !old.has_deletes() || old.state() == file.state() => {}
            Some(old) => {
                places.push(place);
                before.push(Arc::clone(old));
                after.push(Arc::clone(file));
            }
        }
    }
    let before = tables.deleted_of_all(before).await?;
    let after = tables.deleted_of_all(after).await?;
    for (place, (before, after)) in places.into_iter().zip(before.into_iter().zip(after)) {
        let gone = before.unwrap_or_default();
        new[place] = !after.unwrap_or_default().has_all(&gone);
    }
    Ok(now.retain(&new))
}

/// Whether the files that a change removes or takes rows of away hold the rows that it saw: they are
/// still there, and no other delete file takes rows of them away.
async fn check_deletes(tables: &Tables, table: &Table, rewrite: &Rewrite) -> Result<()> {
    let thinned = rewrite.staged.deletes.iter().map(|delete| &delete.of);
    let seen = rewrite.removed.iter().chain(thinned);
    if rewrite.staged.deletes.is_empty() {
        return check_same(tables, table, seen).await;
    }
    // Nothing else tells that a file which only loses rows is still there.
    check_states(tables, table, seen).await
}

/// Whether data files are as they were seen, with the same rows gone.
async fn check_same(
    tables: &Tables,
    table: &Table,
    seen: impl Iterator<Item = &Arc<DataFile>> + Clone,
) -> Result<()> {
    if !table.has_deletes() && seen.clone().all(|file| !file.has_deletes()) {
        return Ok(());
    }
    check_states(tables, table, seen).await
}

async fn check_states(
    tables: &Tables,
    table: &Table,
    seen: impl Iterator<Item = &Arc<DataFile>>,
) -> Result<()> {
    let plan = tables.plan(table, None).await?;
    let now: HashSet<_> = plan.files().iter().map(|file| file.state()).collect();
    let mut same = seen.map(|file| now.contains(&file.state()));
    if same.all(|same| same) { Ok(()) } else { Err(Error::TableChanged { what: "data" }) }
}

pub(crate) fn builder_of(table: &Table) -> Result<TableMetadataBuilder> {
    let metadata = time_parts::hidden_metadata(table.metadata())?.into_owned();
    Ok(metadata.into_builder(Some(table.metadata_location().to_owned())))
}

/// Makes a change that touches no row.
pub(crate) async fn store_metadata(
    tables: &Tables,
    table: &Table,
    change: impl FnOnce(TableMetadataBuilder) -> Result<TableMetadataBuilder>,
) -> Result<Table> {
    let (base, logs) = stamp::put_aside(table.metadata())?;
    let built = build(change(base.into_builder(None))?)?;
    let now = tables.options().clock.now().timestamp_millis();
    let metadata = stamp::put_back(&built, logs, table.metadata_location(), now)?;
    store(tables, table, metadata, table.totals(), Unwritten::default()).await
}

/// The partitions that new rows fall into: their removal, and how far that reaches.
fn partitions_of(metadata: &TableMetadata, staged: &Staged) -> (Removal, Reach) {
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
    let built = builder.build().map_err(|error| refused("committed", &error))?.metadata;
    let built = time_parts::revealed(built)?;
    evolve::check_table(&built)?;
    Ok(built)
}

/// A change of a table's rows.
pub(crate) struct Change {
    pub(crate) removal: Removal,
    /// Files that were written for it.
    pub(crate) staged: Option<Staged>,
    /// Files that were there before, in other states of the table.
    pub(crate) additions: Vec<Addition>,
    pub(crate) kind: Kind,
    /// Which rows it is meant for.
    pub(crate) reach: Reach,
    /// Delete files that go because they concern no data file any more.
    pub(crate) dangling: Vec<DeleteKey>,
    pub(crate) summary: BTreeMap<String, String>,
}

/// The numbers and names of a new snapshot.
struct NewSnapshot {
    ids: SnapshotIds,
    timestamp_ms: i64,
    /// The folder of metadata files, and the unique part of this commit's names.
    folder: String,
    name: Uuid,
}

impl Change {
    fn new(
        removal: Removal,
        staged: Staged,
        kind: Kind,
        summary: BTreeMap<String, String>,
    ) -> Self {
        let (staged, additions, reach) = (Some(staged), Vec::new(), Reach::Rows);
        Change { removal, staged, additions, kind, reach, dangling: Vec::new(), summary }
    }

    fn reaching(self, reach: Reach) -> Self {
        Change { reach, ..self }
    }

    /// Commits against `after`, the metadata with its new schema and spec where those change.
    pub(crate) async fn commit(
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
        self.finish(tables, table, (planned, &changes), (after, builder)).await
    }

    /// Makes the snapshot that was planned.
    async fn finish(
        mut self,
        tables: &Tables,
        table: &Table,
        (planned, changes): (Vec<Planned>, &Changes),
        (after, builder): (&TableMetadata, TableMetadataBuilder),
    ) -> Result<Table> {
        let before = table.metadata();
        let new = NewSnapshot::after(tables, before, after);
        self.summary.extend(self.reach.to_value().map(|value| (REACH.to_owned(), value)));
        let summary = changes.summarise(table.totals(), self.kind, self.summary);
        let listed_max = tables.options().snapshots_listed_max;
        let made = new.make(planned).await?;
        let snapshot = new.snapshot(&made, summary, after.current_schema_id());
        let builder = builder
            .set_branch_snapshot(snapshot, MAIN_BRANCH)
            .map_err(|error| refused("committed", &error))?
            .remove_snapshots(&superfluous(before, snapshots_listed(before, listed_max)));
        let unwritten = Unwritten { files: made.files, staged: self.staged };
        let totals = changes.totals(table.totals());
        let stored = store(tables, table, build(builder)?, totals, unwritten).await?;
        tables.remember_snapshot(made.manifest_list, made.listed, made.decoded);
        Ok(stored)
    }
}

/// The files that were written for a change: data of the current partition spec, and deletes of those
/// of the data files that they are about.
fn added_by(staged: &Staged, after: &TableMetadata) -> Result<Vec<Addition>> {
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

/// The manifests of a new snapshot, made and not yet written.
struct Made {
    files: Vec<(String, Bytes)>,
    manifest_list: String,
    listed: Vec<ManifestFile>,
    decoded: Vec<(String, Decoded)>,
    /// The id that the next row of the table comes to have.
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
            // Iceberg wants times that do not go back, whatever the clock does.
            timestamp_ms: now.max(before.last_updated_ms()),
            folder: format!("{}/metadata", before.location()),
            name: Uuid::new_v4(),
        }
    }

    async fn make(&self, planned: Vec<Planned>) -> Result<Made> {
        let entries: usize = planned.iter().map(Planned::entries).sum();
        let list = format!("{}/snap-{}-1-{}.avro", self.folder, self.ids.id, self.name);
        let making = make_all(planned, format!("{}/{}-m", self.folder, self.name), list, self.ids);
        if entries <= INLINE_ENTRIES_MAX {
            return making.await;
        }
        let making = tokio::task::spawn_blocking(|| futures::executor::block_on(making));
        making.await.map_err(|error| Error::internal("committed", error))?
    }

    fn snapshot(&self, made: &Made, summary: Summary, schema_id: i32) -> Snapshot {
        let builder = Snapshot::builder()
            .with_snapshot_id(self.ids.id)
            .with_parent_snapshot_id(self.ids.parent)
            .with_sequence_number(self.ids.sequence_number)
            .with_timestamp_ms(self.timestamp_ms)
            .with_manifest_list(made.manifest_list.as_str())
            .with_summary(summary)
            .with_schema_id(schema_id);
        if self.ids.version < FormatVersion::V3 {
            return builder.build();
        }
        let first = self.ids.first_row_id;
        builder.with_row_range(first, made.next_row_id.saturating_sub(first)).build()
    }
}

async fn make_all(
    planned: Vec<Planned>,
    prefix: String,
    manifest_list: String,
    snapshot: SnapshotIds,
) -> Result<Made> {
    let (mut files, mut listed, mut decoded) = (Vec::new(), Vec::new(), Vec::new());
    for one in planned {
        match one {
            Planned::Kept(manifest) => listed.push(manifest),
            Planned::New(new) => {
                let location = format!("{prefix}{}.avro", files.len());
                let made = encode(new, &location, snapshot).await;
                let made = made.map_err(|error| refused("committed", &error))?;
                files.push((location.clone(), made.content));
                decoded.push((location, made.decoded));
                listed.push(made.file);
            }
        }
    }
    let mut next_row_id = snapshot.first_row_id;
    if snapshot.version >= FormatVersion::V3 {
        next_row_id = number_rows(&mut listed, &mut decoded, next_row_id)?;
    }
    let content = encode_list(&listed, snapshot).await;
    let content = content.map_err(|error| refused("committed", &error))?;
    files.push((manifest_list.clone(), content));
    Ok(Made { files, manifest_list, listed, decoded, next_row_id })
}

/// A random id that the table does not have yet.
fn snapshot_id(metadata: &TableMetadata) -> i64 {
    let ids = std::iter::repeat_with(|| (Uuid::new_v4().as_u64_pair().0 & i64::MAX as u64) as i64);
    let mut free = ids.filter(|id| *id > 0 && metadata.snapshot_by_id(*id).is_none());
    free.next().unwrap_or(1)
}

/// Writes a commit's files, with the metadata file that names them, and gives the new state.
async fn store(
    tables: &Tables,
    table: &Table,
    metadata: TableMetadata,
    totals: Totals,
    unwritten: Unwritten,
) -> Result<Table> {
    let location = metadata::next_location(metadata.location(), Some(table.metadata_location()));
    store_as(tables, location, metadata, totals, unwritten).await
}

/// Writes files and metadata under a location of its own.
pub(crate) async fn store_as(
    tables: &Tables,
    location: String,
    metadata: TableMetadata,
    totals: Totals,
    unwritten: Unwritten,
) -> Result<Table> {
    let content = metadata::encode(&metadata)?;
    let encoded_bytes = content.len();
    let Unwritten { mut files, staged } = unwritten;
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
    tables.remember(&table);
    Ok(table)
}

/// Writes a commit's own files, and sees to it that they and the data files are durable.
async fn write(
    storage: &Storage,
    files: &[(String, Bytes)],
    staged: Option<&Staged>,
) -> Result<()> {
    // What failed in the background is tried again here, to fail with its reason or not at all.
    let rest = match staged {
        Some(staged) if !staged.durable.wait().await => Some(staged),
        _ => None,
    };
    storage.write_all(files, rest.into_iter().flat_map(Staged::locations)).await
}
