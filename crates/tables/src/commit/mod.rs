//! Commits: from one state of a table to the next.
//!
//! All files of a commit are made in memory, written at once, and fsynced at once: manifests, manifest
//! list, metadata file. A commit that fails removes what it wrote; data files are the caller's.

pub(crate) mod evolve;
pub(crate) mod manifests;
pub(crate) mod stamp;
mod summary;

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use iceberg::spec::{
    MAIN_BRANCH, ManifestFile, Snapshot, Summary, TableMetadata, TableMetadataBuilder,
};
use uuid::Uuid;

use self::evolve::{check_staged, refused};
use self::manifests::{Planned, Removal};
use crate::manifest::{encode, encode_list};
use crate::storage::Undo;
use crate::table::Totals;
use crate::tables::Tables;
use crate::{Error, Operation, Result, Staged, Table, metadata};

/// Files that are made and not yet written, by location.
type Files = Vec<(String, Bytes)>;

/// Makes the next state of a table.
pub(crate) async fn commit(
    tables: &Tables,
    table: &Table,
    operation: Operation,
    summary: BTreeMap<String, String>,
) -> Result<Table> {
    let before = table.metadata();
    match operation {
        Operation::AddColumns(columns) if columns.is_empty() => Ok(table.clone()),
        Operation::AddColumns(columns) => {
            let change = |builder| evolve::add_columns(before, builder, columns);
            store_metadata(tables, table, change).await
        }
        Operation::SetProperties(properties) => {
            let change = |builder| evolve::set_properties(builder, properties);
            store_metadata(tables, table, change).await
        }
        Operation::Append(staged) => {
            check_staged(before, &staged)?;
            let change = Change { removal: Removal::Nothing, staged, appends: true, summary };
            change.commit(tables, table, before, builder_of(table)).await
        }
        Operation::Overwrite(staged) => {
            check_staged(before, &staged)?;
            let change = Change { removal: Removal::Everything, staged, appends: false, summary };
            change.commit(tables, table, before, builder_of(table)).await
        }
        Operation::OverwritePartitions(staged) => {
            check_staged(before, &staged)?;
            let removal = partitions_of(before, &staged);
            let change = Change { removal, staged, appends: false, summary };
            change.commit(tables, table, before, builder_of(table)).await
        }
        Operation::Replace { schema, partition, staged } => {
            let after = evolve::replaced(before, &schema, &partition)?;
            check_staged(&after, &staged)?;
            let builder = evolve::replace(before, builder_of(table), &schema, &partition)?;
            let change = Change { removal: Removal::Everything, staged, appends: false, summary };
            change.commit(tables, table, &after, builder).await
        }
    }
}

fn builder_of(table: &Table) -> TableMetadataBuilder {
    table.metadata().clone().into_builder(Some(table.metadata_location().to_owned()))
}

/// Makes a change that touches no row.
async fn store_metadata(
    tables: &Tables,
    table: &Table,
    change: impl FnOnce(TableMetadataBuilder) -> Result<TableMetadataBuilder>,
) -> Result<Table> {
    let (base, logs) = stamp::put_aside(table.metadata())?;
    let built = build(change(base.into_builder(None))?)?;
    let now = tables.options().clock.now().timestamp_millis();
    let metadata = stamp::put_back(&built, logs, table.metadata_location(), now)?;
    store(tables, table, metadata, table.totals(), Files::new()).await
}

fn partitions_of(metadata: &TableMetadata, staged: &Staged) -> Removal {
    let partitions = staged.files.iter().map(|file| file.partition().clone()).collect();
    Removal::Partitions(metadata.default_partition_spec_id(), partitions)
}

pub(crate) fn build(builder: TableMetadataBuilder) -> Result<TableMetadata> {
    Ok(builder.build().map_err(|error| refused("committed", &error))?.metadata)
}

/// A change of a table's rows.
struct Change {
    removal: Removal,
    staged: Staged,
    appends: bool,
    summary: BTreeMap<String, String>,
}

/// The numbers and names of a new snapshot.
struct NewSnapshot {
    id: i64,
    parent: Option<i64>,
    sequence_number: i64,
    timestamp_ms: i64,
    /// The folder of metadata files, and the unique part of this commit's names.
    folder: String,
    name: Uuid,
}

impl Change {
    /// Commits against `after`, the metadata with its new schema and spec where those change.
    async fn commit(
        self,
        tables: &Tables,
        table: &Table,
        after: &TableMetadata,
        builder: TableMetadataBuilder,
    ) -> Result<Table> {
        let before = table.metadata();
        let old = match before.current_snapshot() {
            Some(snapshot) => tables.snapshot_files(before, snapshot).await?.manifests.clone(),
            None => Vec::new(),
        };
        let spec = after.default_partition_spec();
        let (planned, changes) =
            manifests::plan(tables, after, old, self.removal, &self.staged, spec).await?;
        let same_columns = after.current_schema_id() == before.current_schema_id()
            && after.default_partition_spec_id() == before.default_partition_spec_id();
        if changes.is_empty() && self.summary.is_empty() && same_columns {
            return Ok(table.clone());
        }
        let new = NewSnapshot::after(tables, before);
        let summary = changes.summarise(table.totals(), self.appends, self.summary);
        let (files, manifest_list) = new.encode(planned).await?;
        let snapshot = new.snapshot(manifest_list, summary, after.current_schema_id());
        let builder = builder
            .set_branch_snapshot(snapshot, MAIN_BRANCH)
            .map_err(|error| refused("committed", &error))?
            .remove_snapshots(&superfluous(before, tables.options().snapshots_listed_max));
        store(tables, table, build(builder)?, changes.totals(table.totals()), files).await
    }
}

impl NewSnapshot {
    fn after(tables: &Tables, before: &TableMetadata) -> Self {
        let now = tables.options().clock.now().timestamp_millis();
        NewSnapshot {
            id: snapshot_id(before),
            parent: before.current_snapshot_id(),
            sequence_number: before.next_sequence_number(),
            // Iceberg wants times that do not go back, whatever the clock does.
            timestamp_ms: now.max(before.last_updated_ms()),
            folder: format!("{}/metadata", before.location()),
            name: Uuid::new_v4(),
        }
    }

    /// The bytes of new manifests and of the manifest list, and where the list will be.
    async fn encode(&self, planned: Vec<Planned>) -> Result<(Files, String)> {
        let list = format!("{}/snap-{}-1-{}.avro", self.folder, self.id, self.name);
        let location = list.clone();
        let (id, parent, sequence_number) = (self.id, self.parent, self.sequence_number);
        let prefix = format!("{}/{}-m", self.folder, self.name);
        let encoding = tokio::task::spawn_blocking(move || {
            let encoding = encode_all(planned, &prefix, id, parent, sequence_number, location);
            futures::executor::block_on(encoding).map_err(|error| refused("committed", &error))
        });
        let files = encoding.await.map_err(|error| Error::internal("committed", error))??;
        Ok((files, list))
    }

    fn snapshot(&self, manifest_list: String, summary: Summary, schema_id: i32) -> Snapshot {
        Snapshot::builder()
            .with_snapshot_id(self.id)
            .with_parent_snapshot_id(self.parent)
            .with_sequence_number(self.sequence_number)
            .with_timestamp_ms(self.timestamp_ms)
            .with_manifest_list(manifest_list)
            .with_summary(summary)
            .with_schema_id(schema_id)
            .build()
    }
}

async fn encode_all(
    planned: Vec<Planned>,
    prefix: &str,
    snapshot_id: i64,
    parent: Option<i64>,
    sequence_number: i64,
    list_location: String,
) -> std::result::Result<Files, iceberg::Error> {
    let mut files = Files::new();
    let mut listed: Vec<ManifestFile> = Vec::with_capacity(planned.len());
    for one in planned {
        match one {
            Planned::Kept(manifest) => listed.push(manifest),
            Planned::New(new) => {
                let location = format!("{prefix}{}.avro", files.len());
                let (content, manifest) = encode(new, &location, snapshot_id).await?;
                files.push((location, content));
                listed.push(manifest);
            }
        }
    }
    let content = encode_list(listed, snapshot_id, parent, sequence_number).await?;
    files.push((list_location, content));
    Ok(files)
}

/// A random id that the table does not have yet.
fn snapshot_id(metadata: &TableMetadata) -> i64 {
    let ids = std::iter::repeat_with(|| (Uuid::new_v4().as_u64_pair().0 & i64::MAX as u64) as i64);
    let mut free = ids.filter(|id| *id > 0 && metadata.snapshot_by_id(*id).is_none());
    free.next().unwrap_or(1)
}

/// The oldest snapshots beyond the number that a metadata file lists, once one more is added.
fn superfluous(metadata: &TableMetadata, listed_max: usize) -> Vec<i64> {
    let count = metadata.snapshots().len() + 1;
    let Some(excess) = count.checked_sub(listed_max.max(1)).filter(|excess| *excess > 0) else {
        return Vec::new();
    };
    let mut snapshots: Vec<_> = metadata.snapshots().collect();
    snapshots.sort_by_key(|snapshot| snapshot.sequence_number());
    snapshots.into_iter().take(excess).map(|snapshot| snapshot.snapshot_id()).collect()
}

/// Writes a commit's files, with the metadata file that names them, and gives the new state.
async fn store(
    tables: &Tables,
    table: &Table,
    metadata: TableMetadata,
    totals: Totals,
    files: Files,
) -> Result<Table> {
    let location = metadata::next_location(metadata.location(), Some(table.metadata_location()));
    store_as(tables, location, metadata, totals, files).await
}

/// Writes files and metadata under a location of its own.
pub(crate) async fn store_as(
    tables: &Tables,
    location: String,
    metadata: TableMetadata,
    totals: Totals,
    mut files: Files,
) -> Result<Table> {
    let content = metadata::encode(&metadata)?;
    let encoded_bytes = content.len();
    files.push((location.clone(), content));
    let storage = tables.storage();
    let mut undo = Undo::new(Arc::clone(storage));
    files.iter().for_each(|(location, _)| undo.add(location.clone()));
    if let Err(error) = storage.write_all(&files).await {
        undo.run().await;
        return Err(error);
    }
    undo.keep();
    let table = Table::new(location, metadata, totals, encoded_bytes);
    tables.remember(&table);
    Ok(table)
}
