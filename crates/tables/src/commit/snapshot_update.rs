//! An update of a table that is committed as one snapshot: files to remove and files to add.

use std::collections::BTreeMap;
use std::sync::Arc;

use iceberg::spec::{MAIN_BRANCH, ManifestContentType, TableMetadata, TableMetadataBuilder};

use super::create_and_evolve::rejected;
use super::durable_write::{PendingFiles, store};
use super::manifests::{self, AddedFiles, FilesToRemove, PlannedManifest, Removals, spec_by_id};
use super::metadata::build;
use super::new_snapshot::NewSnapshot;
use super::summary::{CommitKind, FileCounts};
use crate::deletes::DeleteKey;
use crate::listed_snapshots::{snapshots_listed, snapshots_to_expire};
use crate::{ChangeScope, REACH, Result, StagedFiles, Table, Tables};

/// An update of a table: files to remove and files to add, committed as one snapshot.
pub struct SnapshotUpdate {
    /// The files to remove.
    pub removal: FilesToRemove,
    /// Files that were written for this change, if any.
    pub staged: Option<StagedFiles>,
    /// Files that were taken from other states of the table.
    pub additions: Vec<AddedFiles>,
    /// The kind of the change.
    pub kind: CommitKind,
    /// The rows that the change was meant to cover. Merges use this scope to detect conflicts.
    pub reach: ChangeScope,
    /// Keys of the delete files to remove, because they apply to no remaining data file.
    pub dangling: Vec<DeleteKey>,
    /// Properties to add to the snapshot's summary.
    pub summary: BTreeMap<String, String>,
}

/// The manifests of a new snapshot, and the metadata to which the snapshot is added.
pub(super) struct PlannedSnapshot<'a> {
    pub(super) manifests: Vec<PlannedManifest>,
    pub(super) changes: FileCounts,
    /// The metadata of the table after the change, with its new schema and partition spec.
    pub(super) after: &'a TableMetadata,
    pub(super) builder: TableMetadataBuilder,
}

impl SnapshotUpdate {
    pub(super) fn new(
        removal: FilesToRemove,
        staged: StagedFiles,
        kind: CommitKind,
        summary: BTreeMap<String, String>,
    ) -> Self {
        let (staged, additions, reach) = (Some(staged), Vec::new(), ChangeScope::Rows);
        SnapshotUpdate { removal, staged, additions, kind, reach, dangling: Vec::new(), summary }
    }

    pub(super) fn with_reach(self, reach: ChangeScope) -> Self {
        SnapshotUpdate { reach, ..self }
    }

    /// Commits the change on top of `after`: the metadata with the new schema and partition spec.
    pub async fn commit(
        mut self,
        tables: &Tables,
        table: &Table,
        after: &TableMetadata,
        builder: TableMetadataBuilder,
    ) -> Result<Table> {
        let before = table.metadata();
        let old = match before.current_snapshot() {
            Some(snapshot) => tables.metadata_files().manifests(snapshot).await?,
            None => Arc::new([]),
        };
        if let Some(staged) = self.staged.as_ref().filter(|staged| !staged.is_empty()) {
            self.additions.extend(added_by(staged, after)?);
        }
        let removal = std::mem::replace(&mut self.removal, FilesToRemove::Nothing);
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
    pub(super) async fn finish(
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
        tables.metadata_files().cache_snapshot(
            encoded.manifest_list,
            encoded.listed,
            encoded.decoded,
        );
        Ok(stored)
    }
}

/// Returns the files written for a change. Data files have the current partition spec; a delete
/// file has the partition spec of its data file.
fn added_by(staged: &StagedFiles, after: &TableMetadata) -> Result<Vec<AddedFiles>> {
    let schema = &staged.schema;
    let mut additions = Vec::new();
    if !staged.files.is_empty() {
        let (content, files) = (ManifestContentType::Data, staged.files.to_vec());
        let spec = after.default_partition_spec().clone();
        additions.push(AddedFiles { content, schema: schema.clone(), spec, files });
    }
    let mut by_spec: BTreeMap<i32, Vec<_>> = BTreeMap::new();
    for delete in staged.deletes.iter() {
        by_spec.entry(delete.of.spec_id).or_default().push(delete.file.clone());
    }
    for (spec_id, files) in by_spec {
        let (content, spec) = (ManifestContentType::Deletes, spec_by_id(after, spec_id)?);
        additions.push(AddedFiles { content, schema: schema.clone(), spec, files });
    }
    Ok(additions)
}
