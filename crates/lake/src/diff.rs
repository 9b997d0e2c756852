//! What differs between two refs: tables, columns, files, rows, and a few rows to look at.
//!
//! The catalog says which tables differ without opening a file; only those are opened, and of their
//! files only as many as the sample needs.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use futures::{StreamExt, TryStreamExt, stream};
use headwater_catalog::{TableChange, TableEntry};
use headwater_model::{ColumnDiff, Diff, RefSpec, TableDiff};
use headwater_tables::{DataFile, Table, type_name};
use serde_json::Value;

use crate::error::Result;
use crate::lake::Lake;
use crate::sample::json_rows;

/// Tables that are compared at once.
const TABLES_AT_ONCE: usize = 8;

/// One side of a comparison: a table with its data files.
struct Side {
    table: Table,
    files: Arc<[Arc<DataFile>]>,
}

impl Lake {
    /// Compares two refs. `sample_rows` rows of the added and of the removed files come with each
    /// table, none where it is 0.
    pub async fn diff(&self, from: &RefSpec, to: &RefSpec, sample_rows: usize) -> Result<Diff> {
        let from = self.catalog().resolve(from).await?.commit;
        let to = self.catalog().resolve(to).await?.commit;
        let changes = self.catalog().diff(from, to).await?;
        let tables = stream::iter(changes)
            .map(|change| self.diff_table(change, sample_rows))
            .buffered(TABLES_AT_ONCE)
            .try_collect()
            .await?;
        Ok(Diff { from, to, tables })
    }

    async fn diff_table(&self, change: TableChange, sample_rows: usize) -> Result<TableDiff> {
        let before = self.side(change.from.as_ref()).await?;
        let after = self.side(change.to.as_ref()).await?;
        let added = files_only_in(after.as_ref(), before.as_ref());
        let removed = files_only_in(before.as_ref(), after.as_ref());
        let rows_in = |files: &[Arc<DataFile>]| files.iter().map(|file| file.rows).sum();
        Ok(TableDiff {
            kind: change.kind(),
            table: change.table,
            columns: diff_columns(before.as_ref(), after.as_ref()),
            files_added: added.len() as u64,
            files_removed: removed.len() as u64,
            rows_before: before.as_ref().map(|side| side.table.rows()),
            rows_after: after.as_ref().map(|side| side.table.rows()),
            rows_in_files_added: rows_in(&added),
            rows_in_files_removed: rows_in(&removed),
            sample_added: self.sample(after.as_ref(), &added, sample_rows).await?,
            sample_removed: self.sample(before.as_ref(), &removed, sample_rows).await?,
        })
    }

    async fn side(&self, entry: Option<&TableEntry>) -> Result<Option<Side>> {
        let Some(entry) = entry else { return Ok(None) };
        let table = self.tables().load(&entry.metadata_location).await?;
        let files = self.tables().plan(&table, None).await?.files().clone();
        Ok(Some(Side { table, files }))
    }

    async fn sample(
        &self,
        side: Option<&Side>,
        files: &[Arc<DataFile>],
        rows: usize,
    ) -> Result<Vec<Value>> {
        let Some(side) = side.filter(|_| rows > 0 && !files.is_empty()) else {
            return Ok(Vec::new());
        };
        let stream = self.tables().read(&side.table, files, None, Some(rows))?;
        let batches: Vec<_> = stream.try_collect().await?;
        let mut found = json_rows(&batches)?;
        found.truncate(rows);
        Ok(found)
    }
}

/// The files of one side that the other does not have with the same rows gone, in the plan's order.
fn files_only_in(side: Option<&Side>, other: Option<&Side>) -> Vec<Arc<DataFile>> {
    let known: HashSet<_> =
        other.iter().flat_map(|side| side.files.iter().map(|file| file.state())).collect();
    let files = side.iter().flat_map(|side| side.files.iter());
    files.filter(|file| !known.contains(&file.state())).cloned().collect()
}

/// The columns that differ in name or type: the first side's in its order, then the second's own.
fn diff_columns(before: Option<&Side>, after: Option<&Side>) -> Vec<ColumnDiff> {
    let (before, after) = (columns(before), columns(after));
    let types = |columns: &[(String, String)]| columns.iter().cloned().collect::<BTreeMap<_, _>>();
    let (types_before, types_after) = (types(&before), types(&after));
    let gone_or_changed = before.iter().filter_map(|(column, data_type)| {
        let now = types_after.get(column);
        (now != Some(data_type)).then(|| ColumnDiff {
            column: column.clone(),
            before: Some(data_type.clone()),
            after: now.cloned(),
        })
    });
    let new = after.iter().filter(|(column, _)| !types_before.contains_key(column));
    let new = new.map(|(column, data_type)| ColumnDiff {
        column: column.clone(),
        before: None,
        after: Some(data_type.clone()),
    });
    gone_or_changed.chain(new).collect()
}

fn columns(side: Option<&Side>) -> Vec<(String, String)> {
    let Some(side) = side else { return Vec::new() };
    let schema = side.table.schema();
    let column =
        |field: &Arc<arrow::datatypes::Field>| (field.name().clone(), type_name(field.data_type()));
    schema.fields().iter().map(column).collect()
}
