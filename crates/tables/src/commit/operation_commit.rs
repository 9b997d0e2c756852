//! Commits each kind of operation.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use iceberg::spec::{FormatVersion, TableMetadata};

use super::alter::{Alteration, AlteredMetadata, FORMAT_VERSION};
use super::conflict_checks::{check_added_rows, check_deletes, check_rows, check_rows_unchanged};
use super::create_and_evolve::{self, check_same_version, check_staged};
use super::durable_write::{PendingFiles, store};
use super::manifests::{self, FilesToRemove};
use super::metadata::{commit_metadata, metadata_builder};
use super::null_checks::check_values;
use super::snapshot_update::{PlannedSnapshot, SnapshotUpdate};
use super::summary::{CommitKind, FileCounts};
use crate::partition::describe;
use crate::type_promotion::comparable_partition;
use crate::{
    ChangeScope, DataFile, Error, Result, RetainedRows, RowRewrite, StagedFiles, Table,
    TableOperation, Tables, metadata_log,
};

/// Commits an operation and returns the next state of the table.
pub(crate) async fn commit(
    tables: &Tables,
    table: &Table,
    operation: TableOperation,
    summary: BTreeMap<String, String>,
) -> Result<Table> {
    let before = table.metadata();
    if before.format_version() == FormatVersion::V1 && !upgrades(&operation) {
        return Err(Error::OldFormat { version: "1" });
    }
    match operation {
        TableOperation::AddColumns { columns, .. } if columns.is_empty() => Ok(table.clone()),
        TableOperation::AddColumns { columns, after } => {
            let change = |builder| create_and_evolve::add_columns(before, builder, columns, after);
            commit_metadata(tables, table, change).await
        }
        TableOperation::Alter { alterations, after } => {
            let altered = AlteredMetadata::of(before, alterations, after)?;
            if altered.is_nothing() {
                return Ok(table.clone());
            }
            Box::pin(check_values(tables, table, &altered.columns_to_require(before))).await?;
            commit_metadata(tables, table, |builder| altered.apply(before, builder)).await
        }
        TableOperation::SetProperties(properties) => {
            let change = |builder| create_and_evolve::set_properties(builder, properties);
            commit_metadata(tables, table, change).await
        }
        TableOperation::Append(staged) => {
            check_staged(before, &staged)?;
            let change =
                SnapshotUpdate::new(FilesToRemove::Nothing, staged, CommitKind::Append, summary);
            change.commit(tables, table, before, metadata_builder(table)?).await
        }
        TableOperation::Overwrite(staged) => {
            check_staged(before, &staged)?;
            let change =
                SnapshotUpdate::new(FilesToRemove::Everything, staged, CommitKind::Modify, summary);
            let change = change.with_reach(ChangeScope::All);
            change.commit(tables, table, before, metadata_builder(table)?).await
        }
        TableOperation::OverwritePartitions { staged, retained } => {
            let change = plan_overwrite(tables, table, staged, retained, summary).await?;
            change.commit(tables, table, before, metadata_builder(table)?).await
        }
        TableOperation::Rewrite(rewrite) => {
            let change = Box::pin(plan_rewrite(tables, table, rewrite, summary)).await?;
            change.commit(tables, table, before, metadata_builder(table)?).await
        }
        TableOperation::Compact { removed, staged } => {
            let change = Box::pin(plan_compaction(tables, table, removed, staged, summary)).await?;
            change.commit(tables, table, before, metadata_builder(table)?).await
        }
        TableOperation::ArrangeManifests => merge_manifests(tables, table, summary).await,
        TableOperation::ExpireSnapshots(ids) => {
            let now = tables.options().clock.now().timestamp_millis();
            let left =
                metadata_log::without_snapshots(before, &ids, table.metadata_location(), now)?;
            store(tables, table, left, table.totals(), PendingFiles::default()).await
        }
        TableOperation::Replace { schema, partition, after, staged } => {
            let builder = create_and_evolve::replace(
                before,
                metadata_builder(table)?,
                &schema,
                &partition,
                after,
            )?;
            let after = create_and_evolve::replaced(before, &schema, &partition, after)?;
            check_staged(&after, &staged)?;
            let change =
                SnapshotUpdate::new(FilesToRemove::Everything, staged, CommitKind::Modify, summary);
            change.with_reach(ChangeScope::All).commit(tables, table, &after, builder).await
        }
    }
}

async fn plan_overwrite(
    tables: &Tables,
    table: &Table,
    staged: StagedFiles,
    retained: Option<RetainedRows>,
    summary: BTreeMap<String, String>,
) -> Result<SnapshotUpdate> {
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
    Ok(SnapshotUpdate::new(removal, staged, CommitKind::Modify, summary).with_reach(reach))
}

async fn plan_rewrite(
    tables: &Tables,
    table: &Table,
    rewrite: RowRewrite,
    summary: BTreeMap<String, String>,
) -> Result<SnapshotUpdate> {
    check_staged(table.metadata(), &rewrite.staged)?;
    check_same_version(table.metadata(), &rewrite.staged)?;
    check_added_rows(tables, table, &rewrite).await?;
    check_deletes(tables, table, &rewrite).await?;
    let removal = FilesToRemove::files(&rewrite.removed);
    let staged = rewrite.staged;
    let adds = rewrite.removed.is_empty() && staged.deletes.is_empty();
    let kind = if adds { CommitKind::Append } else { CommitKind::Modify };
    Ok(SnapshotUpdate::new(removal, staged, kind, summary))
}

async fn plan_compaction(
    tables: &Tables,
    table: &Table,
    removed: Vec<Arc<DataFile>>,
    staged: StagedFiles,
    summary: BTreeMap<String, String>,
) -> Result<SnapshotUpdate> {
    check_staged(table.metadata(), &staged)?;
    check_same_version(table.metadata(), &staged)?;
    check_rows_unchanged(tables, table, removed.iter()).await?;
    check_rows(tables, &removed, &staged).await?;
    let dangling = tables.maintenance().dangling_deletes(table, &removed).await?;
    let change =
        SnapshotUpdate::new(FilesToRemove::files(&removed), staged, CommitKind::Compact, summary);
    Ok(SnapshotUpdate { dangling, ..change })
}

/// Returns true if the operation upgrades the format version.
fn upgrades(operation: &TableOperation) -> bool {
    let TableOperation::Alter { alterations, .. } = operation else { return false };
    alterations.iter().any(|one| match one {
        Alteration::SetProperties(properties) => properties.contains_key(FORMAT_VERSION),
        _ => false,
    })
}

/// Merges small manifests. Returns the table unchanged if there are only a few manifests.
async fn merge_manifests(
    tables: &Tables,
    table: &Table,
    summary: BTreeMap<String, String>,
) -> Result<Table> {
    let metadata = table.metadata();
    let Some(snapshot) = metadata.current_snapshot() else { return Ok(table.clone()) };
    let old = tables.metadata_files().manifests(snapshot).await?;
    let planned = manifests::consolidate(tables, metadata, &old).await?;
    if planned.len() >= old.len() {
        return Ok(table.clone());
    }
    let change = SnapshotUpdate {
        removal: FilesToRemove::Nothing,
        staged: None,
        additions: Vec::new(),
        kind: CommitKind::Compact,
        reach: ChangeScope::Rows,
        dangling: Vec::new(),
        summary,
    };
    let changes = FileCounts::default();
    let builder = metadata_builder(table)?;
    let planned = PlannedSnapshot { manifests: planned, changes, after: metadata, builder };
    change.finish(tables, table, planned).await
}

/// Returns the files to remove when the new rows replace their partitions: all files of these
/// partitions. Also returns the scope of this change.
fn partitions_of(metadata: &TableMetadata, staged: &StagedFiles) -> (FilesToRemove, ChangeScope) {
    let (spec, types) = (metadata.default_partition_spec(), metadata.default_partition_type());
    let partitions = staged.files.iter().map(iceberg::spec::DataFile::partition);
    let partitions: HashSet<_> = partitions.collect();
    let reach = match spec.fields() {
        [] if partitions.is_empty() => ChangeScope::Rows,
        [] => ChangeScope::All,
        _ => ChangeScope::Partitions(
            partitions.iter().map(|one| describe(spec, types, one)).collect(),
        ),
    };
    let partitions = partitions.into_iter().map(comparable_partition).collect();
    (FilesToRemove::Partitions { spec: spec.spec_id(), partitions, files: HashSet::new() }, reach)
}
