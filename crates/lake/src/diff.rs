//! What differs between two refs: tables, columns, files, rows, and a few rows to look at.
//!
//! The catalog says which tables differ without opening a file; only those are opened, and of their
//! files only as many as the sample needs.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::Schema;
use arrow::error::ArrowError;
use arrow::row::{Row, RowConverter, Rows, SortField};
use futures::{StreamExt, TryStreamExt, stream};
use headwater_catalog::{TableChange, TableEntry};
use headwater_model::{ColumnDiff, Diff, PropertyDiff, RefSpec, TableDiff, ViewDiff, ViewQuery};
use headwater_tables::{DataFile, SqlView, Table, type_name};
use serde_json::Value;
use tokio::sync::Mutex;

use crate::error::Result;
use crate::lake::Lake;
use crate::sample::json_rows;

/// Tables that are compared at once.
const TABLES_AT_ONCE: usize = 8;

/// Rows, and bytes in files as well as in memory, up to which two sides are compared row by row.
const COMPARED_ROWS_MAX: u64 = 200_000;
const COMPARED_BYTES_MAX: u64 = 64 << 20;

/// Rows that are decoded at once to be compared: a few bytes in a file may be many in memory.
const COMPARED_AT_ONCE: usize = 128;

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
        // Rows of one table at a time are held to be compared.
        let comparing = Mutex::new(());
        let tables = stream::iter(changes)
            .map(|change| self.diff_table(change, sample_rows, &comparing))
            .buffered(TABLES_AT_ONCE)
            .try_collect()
            .await?;
        Ok(Diff { from, to, tables })
    }

    async fn diff_table(
        &self,
        change: TableChange,
        sample_rows: usize,
        comparing: &Mutex<()>,
    ) -> Result<TableDiff> {
        let sides = || [&change.from, &change.to].into_iter().flatten();
        if sides().any(TableEntry::is_view) {
            return self.diff_view(change).await;
        }
        let before = self.side(change.from.as_ref()).await?;
        let after = self.side(change.to.as_ref()).await?;
        let added = files_only_in(after.as_ref(), before.as_ref());
        let removed = files_only_in(before.as_ref(), after.as_ref());
        let rows_in = |files: &[Arc<DataFile>]| files.iter().map(|file| file.rows).sum();
        let rows = match (&before, &after) {
            (Some(before), Some(after)) => {
                let _alone = comparing.lock().await;
                self.compare((before, &removed), (after, &added), sample_rows).await?
            }
            _ => None,
        };
        let rows = match rows {
            Some(rows) => rows,
            None => Compared {
                removed: self.sample(before.as_ref(), &removed, sample_rows).await?,
                added: self.sample(after.as_ref(), &added, sample_rows).await?,
                counts: counts(before.as_ref(), after.as_ref(), removed.len(), added.len()),
            },
        };
        Ok(TableDiff {
            kind: change.kind(),
            table: change.table,
            view: None,
            columns: diff_columns(&columns(before.as_ref()), &columns(after.as_ref())),
            properties: diff_properties(&properties(before.as_ref()), &properties(after.as_ref())),
            files_added: added.len() as u64,
            files_removed: removed.len() as u64,
            rows_before: before.as_ref().map(|side| side.table.rows()),
            rows_after: after.as_ref().map(|side| side.table.rows()),
            rows_in_files_added: rows_in(&added),
            rows_in_files_removed: rows_in(&removed),
            rows_removed: rows.counts.map(|(removed, _)| removed),
            rows_added: rows.counts.map(|(_, added)| added),
            sample_added: rows.added,
            sample_removed: rows.removed,
        })
    }

    /// A view that differs; a table on the other side has no query.
    async fn diff_view(&self, change: TableChange) -> Result<TableDiff> {
        let before = self.view_side(change.from.as_ref()).await?;
        let after = self.view_side(change.to.as_ref()).await?;
        let queries = |side: &Option<SqlView>| {
            let all = side.iter().flat_map(SqlView::representations);
            all.map(|(dialect, sql)| ViewQuery { dialect, sql }).collect()
        };
        let columns = |side: &Option<SqlView>| -> Vec<(String, String)> {
            side.as_ref().map_or_else(Vec::new, |view| columns_of(&view.schema()))
        };
        let properties =
            |side: &Option<SqlView>| side.as_ref().map(SqlView::properties).unwrap_or_default();
        Ok(TableDiff {
            kind: change.kind(),
            table: change.table,
            view: Some(ViewDiff { before: queries(&before), after: queries(&after) }),
            columns: diff_columns(&columns(&before), &columns(&after)),
            properties: diff_properties(&properties(&before), &properties(&after)),
            files_added: 0,
            files_removed: 0,
            rows_before: None,
            rows_after: None,
            rows_in_files_added: 0,
            rows_in_files_removed: 0,
            rows_removed: None,
            rows_added: None,
            sample_added: Vec::new(),
            sample_removed: Vec::new(),
        })
    }

    async fn view_side(&self, entry: Option<&TableEntry>) -> Result<Option<SqlView>> {
        match entry.filter(|entry| entry.is_view()) {
            Some(entry) => Ok(Some(self.tables().load_view(&entry.metadata_location).await?)),
            None => Ok(None),
        }
    }

    async fn side(&self, entry: Option<&TableEntry>) -> Result<Option<Side>> {
        let Some(entry) = entry else { return Ok(None) };
        let table = self.tables().load(&entry.metadata_location).await?;
        let files = self.tables().plan(&table, None).await?.files().clone();
        Ok(Some(Side { table, files }))
    }

    /// Compares the rows of files that only one side has: what was written again as it was differs in
    /// nothing. None where one side has nothing of its own, there is too much to read, or the columns
    /// differ.
    async fn compare(
        &self,
        (before, removed): (&Side, &[Arc<DataFile>]),
        (after, added): (&Side, &[Arc<DataFile>]),
        sample_rows: usize,
    ) -> Result<Option<Compared>> {
        let files = || removed.iter().chain(added);
        let (rows, bytes) =
            files().fold((0, 0), |(rows, bytes), file| (rows + file.rows, bytes + file.bytes));
        let columns = before.table.schema();
        let same = columns.fields() == after.table.schema().fields();
        let one_sided = removed.is_empty() || added.is_empty();
        if one_sided || !same || rows > COMPARED_ROWS_MAX || bytes > COMPARED_BYTES_MAX {
            return Ok(None);
        }
        let mut left = COMPARED_BYTES_MAX as usize;
        let Some(removed) = self.read_within(before, removed, &mut left).await? else {
            return Ok(None);
        };
        let Some(added) = self.read_within(after, added, &mut left).await? else {
            return Ok(None);
        };
        let differing = Differing::of(&columns, &removed, &added)?;
        Ok(Some(Compared {
            removed: rows_at(&removed, &differing.removed, sample_rows)?,
            added: rows_at(&added, &differing.added, sample_rows)?,
            counts: Some((differing.removed.len() as u64, differing.added.len() as u64)),
        }))
    }

    /// Reads files; none where that would take more memory than is left.
    async fn read_within(
        &self,
        side: &Side,
        files: &[Arc<DataFile>],
        left: &mut usize,
    ) -> Result<Option<Vec<RecordBatch>>> {
        let mut stream = self.tables().read_slowly(&side.table, files, COMPARED_AT_ONCE);
        let mut batches = Vec::new();
        while let Some(batch) = stream.try_next().await? {
            let Some(rest) = left.checked_sub(batch.get_array_memory_size()) else {
                return Ok(None);
            };
            *left = rest;
            batches.push(batch);
        }
        Ok(Some(batches))
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

/// What is left of two sides' rows once those that both have are taken out.
struct Compared {
    removed: Vec<Value>,
    added: Vec<Value>,
    /// How many were removed, and added, where that is known.
    counts: Option<(u64, u64)>,
}

/// How many rows were removed and added, where files came only, or went only.
fn counts(
    before: Option<&Side>,
    after: Option<&Side>,
    files_removed: usize,
    files_added: usize,
) -> Option<(u64, u64)> {
    let rows = |side: Option<&Side>| side.map_or(0, |side| side.table.rows());
    let (before, after) = (rows(before), rows(after));
    match (files_removed, files_added) {
        (0, _) => Some((0, after.checked_sub(before)?)),
        (_, 0) => Some((before.checked_sub(after)?, 0)),
        _ => None,
    }
}

/// The rows that only one side has, by batch and place.
struct Differing {
    removed: Vec<(usize, usize)>,
    added: Vec<(usize, usize)>,
}

impl Differing {
    fn of(columns: &Schema, removed: &[RecordBatch], added: &[RecordBatch]) -> Result<Self> {
        let fields = columns.fields().iter().map(|field| SortField::new(field.data_type().clone()));
        let converter = RowConverter::new(fields.collect())?;
        let rows = |batches: &[RecordBatch]| -> std::result::Result<Vec<Rows>, ArrowError> {
            batches.iter().map(|batch| converter.convert_columns(batch.columns())).collect()
        };
        let (removed, added) = (rows(removed)?, rows(added)?);
        // How often a row is there before, less how often it is there after.
        let mut count: HashMap<&[u8], i64> = HashMap::new();
        for (_, row) in all(&removed) {
            *count.entry(row.data()).or_default() += 1;
        }
        for (_, row) in all(&added) {
            *count.entry(row.data()).or_default() -= 1;
        }
        let mut take = |rows: &[Rows], sign: i64| -> Vec<(usize, usize)> {
            let mut taken = Vec::new();
            for (at, row) in all(rows) {
                match count.get_mut(row.data()) {
                    Some(left) if *left * sign > 0 => {
                        *left -= sign;
                        taken.push(at);
                    }
                    _ => {}
                }
            }
            taken
        };
        Ok(Differing { removed: take(&removed, 1), added: take(&added, -1) })
    }
}

fn all(rows: &[Rows]) -> impl Iterator<Item = ((usize, usize), Row<'_>)> {
    let numbered =
        |(batch, rows): (usize, &'_ Rows)| (0..rows.num_rows()).map(move |at| (batch, at));
    rows.iter().enumerate().flat_map(numbered).map(|at| (at, rows[at.0].row(at.1)))
}

/// The first of some rows.
fn rows_at(batches: &[RecordBatch], places: &[(usize, usize)], most: usize) -> Result<Vec<Value>> {
    let places = places.iter().take(most);
    let found: Vec<_> = places.map(|(batch, at)| batches[*batch].slice(*at, 1)).collect();
    Ok(json_rows(&found)?)
}

/// The files of one side that the other does not have with the same rows gone, in the plan's order.
fn files_only_in(side: Option<&Side>, other: Option<&Side>) -> Vec<Arc<DataFile>> {
    let known: HashSet<_> =
        other.iter().flat_map(|side| side.files.iter().map(|file| file.state())).collect();
    let files = side.iter().flat_map(|side| side.files.iter());
    files.filter(|file| !known.contains(&file.state())).cloned().collect()
}

/// The columns that differ in name or type: the first side's in its order, then the second's own.
fn diff_columns(before: &[(String, String)], after: &[(String, String)]) -> Vec<ColumnDiff> {
    let types = |columns: &[(String, String)]| columns.iter().cloned().collect::<BTreeMap<_, _>>();
    let (types_before, types_after) = (types(before), types(after));
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
    side.map_or_else(Vec::new, |side| columns_of(&side.table.schema()))
}

fn columns_of(schema: &Schema) -> Vec<(String, String)> {
    let column =
        |field: &Arc<arrow::datatypes::Field>| (field.name().clone(), type_name(field.data_type()));
    schema.fields().iter().map(column).collect()
}

fn properties(side: Option<&Side>) -> BTreeMap<String, String> {
    side.map(|side| side.table.properties()).unwrap_or_default()
}

/// The properties that differ, by key.
fn diff_properties(
    before: &BTreeMap<String, String>,
    after: &BTreeMap<String, String>,
) -> Vec<PropertyDiff> {
    let keys: BTreeSet<&String> = before.keys().chain(after.keys()).collect();
    let diff = |key: &String| {
        let (before, after) = (before.get(key).cloned(), after.get(key).cloned());
        (before != after).then(|| PropertyDiff { key: key.clone(), before, after })
    };
    keys.into_iter().filter_map(diff).collect()
}
