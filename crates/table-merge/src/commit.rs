//! Commits computed merges: writes the merged rows, and adds and removes files in one snapshot.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use headwater_tables::{
    AddedFiles, CleanupGuard, DataFile, Error, FilesToRemove, Result, SnapshotUpdate, StagedFiles,
    Table, Tables, commit_metadata, edited_metadata, has_row_ids, metadata_builder, with_row_id,
};
use iceberg::spec::{ManifestContentType, PartitionSpecRef, TableMetadata, TableMetadataBuilder};

use crate::merge::{RowsToWrite, TableMerge};
use crate::metadata;
use crate::row_lineage::BaseCounters;

/// The result of committing a merge.
#[derive(Debug)]
pub struct CommittedMerge {
    /// The new state of our table.
    pub table: Table,
    /// The data files that were written.
    pub staged: Vec<StagedFiles>,
}

impl TableMerge {
    /// Commits the merge to our side; `summary` is added to the summary of the snapshot. If the
    /// commit fails, the files that it wrote are deleted.
    pub async fn commit(
        &self,
        tables: &Tables,
        summary: BTreeMap<String, String>,
    ) -> Result<CommittedMerge> {
        let mut undo = CleanupGuard::new(Arc::clone(tables.storage()));
        let mut staged = Vec::new();
        for rewrite in &self.rewrites {
            match self.rewrite(tables, rewrite).await {
                Ok(written) => {
                    written.locations().for_each(|location| undo.add(location.to_owned()));
                    staged.push(written);
                }
                Err(error) => {
                    undo.run().await;
                    return Err(error);
                }
            }
        }
        match self.commit_files(tables, &staged, summary).await {
            Ok(table) => {
                undo.keep();
                Ok(CommittedMerge { table, staged })
            }
            Err(error) => {
                undo.run().await;
                Err(error)
            }
        }
    }

    async fn rewrite(&self, tables: &Tables, rewrite: &RowsToWrite) -> Result<StagedFiles> {
        let merger = self.row_merger(tables);
        let rows = match rewrite {
            RowsToWrite::Group(group) => merger.rows_of(group)?,
            RowsToWrite::RewriteAll(files) => merger.read_their_files(files)?,
        };
        tables.write(&self.merged_table, rows).await
    }

    async fn commit_files(
        &self,
        tables: &Tables,
        staged: &[StagedFiles],
        mut summary: BTreeMap<String, String>,
    ) -> Result<Table> {
        if !self.changes_files() && !self.records {
            let edit = |builder| self.apply_shape(builder);
            return commit_metadata(tables, &self.ours, edit).await;
        }
        summary.extend(self.record());
        let after = edited_metadata(&self.ours, |builder| self.edit(builder))?;
        let change = SnapshotUpdate {
            removal: FilesToRemove::files(&self.files_to_remove),
            staged: StagedFiles::all(staged),
            additions: self.additions(&after)?,
            kind: self.kind,
            reach: self.reach.clone(),
            dangling: Vec::new(),
            summary,
        };
        let builder = self.edit(metadata_builder(&self.ours)?)?;
        change.commit(tables, &self.ours, &after, builder).await
    }

    fn apply_shape(&self, builder: TableMetadataBuilder) -> Result<TableMetadataBuilder> {
        self.shape.apply(builder).map_err(|error| Error::internal("merged", error))
    }

    /// Adds the merged metadata to the builder, with the partition specs of all added files.
    fn edit(&self, builder: TableMetadataBuilder) -> Result<TableMetadataBuilder> {
        let rejected = |error: iceberg::Error| Error::internal("merged", error);
        let mut builder = self.apply_shape(builder)?;
        let theirs = self.theirs.metadata();
        let specs: HashSet<i32> = self.files_to_add.iter().map(|file| file.spec_id).collect();
        for spec in specs.into_iter().filter_map(|id| theirs.partition_spec_by_id(id)) {
            let unbound = metadata::unbound(spec).map_err(rejected)?;
            builder = builder.add_partition_spec(unbound).map_err(rejected)?;
        }
        Ok(builder)
    }

    /// Returns the added files by their partition spec in the merged table.
    fn additions(&self, after: &TableMetadata) -> Result<Vec<AddedFiles>> {
        let mut found: BTreeMap<i32, AddedFiles> = BTreeMap::new();
        let mut known: HashMap<i32, PartitionSpecRef> = HashMap::new();
        for file in &self.files_to_add {
            let order = file.entry.data_file.sort_order_id();
            let order = order.and_then(|id| order_in(after, self.theirs.metadata(), id));
            let spec = if let Some(spec) = known.get(&file.spec_id) {
                spec.clone()
            } else {
                let spec = spec_in(after, self.theirs.metadata(), file.spec_id)?;
                known.insert(file.spec_id, spec.clone());
                spec
            };
            let addition = found.entry(spec.spec_id()).or_insert_with(|| AddedFiles {
                content: ManifestContentType::Data,
                schema: after.current_schema().clone(),
                spec,
                files: Vec::new(),
            });
            let ids = first_row_id(file, self.base_counters).filter(|_| has_row_ids(after));
            addition.files.push(with_row_id(&file.entry.data_file, order, ids)?);
        }
        Ok(found.into_values().collect())
    }
}

/// Returns the first row id of a file. Returns `None` if the file has no row ids, or if some of
/// them were assigned after the last common snapshot.
fn first_row_id(file: &DataFile, base: BaseCounters) -> Option<i64> {
    let first = file.entry.data_file.first_row_id()?;
    let end = u64::try_from(first).ok()?.checked_add(file.rows)?;
    (end <= base.next_row_id).then_some(first)
}

/// Returns the id of the merged table's sort order that equals their sort order `id`; `None` if no
/// sort order is equal.
fn order_in(after: &TableMetadata, theirs: &TableMetadata, id: i32) -> Option<i32> {
    let wanted = theirs.sort_order_by_id(i64::from(id))?;
    let mut orders = after.sort_orders_iter();
    let found = orders.find(|order| order.fields == wanted.fields)?;
    i32::try_from(found.order_id).ok()
}

/// Returns the merged table's partition spec that equals their partition spec `id`.
fn spec_in(after: &TableMetadata, theirs: &TableMetadata, id: i32) -> Result<PartitionSpecRef> {
    let missing = || Error::internal("merged", format!("partition spec {id} is unknown"));
    let wanted = theirs.partition_spec_by_id(id).ok_or_else(missing)?;
    let mut specs = after.partition_specs_iter();
    specs.find(|spec| spec.is_compatible_with(wanted)).cloned().ok_or_else(missing)
}
