//! Finds keys whose rows both sides changed.
//!
//! A table has keys if it has identifier fields, or if a model merges rows into it by keys. A merge
//! by rows alone would keep two rows if both sides added a row with the same new key. So this is a
//! conflict, even if the two rows are equal. If both sides changed or deleted the row of an
//! existing key in the same way, this is a conflict only with [`EqualChanges::Conflict`].

use std::collections::{HashMap, HashSet};

use arrow::array::{BooleanArray, RecordBatch};
use arrow::compute::filter_record_batch;
use arrow::datatypes::{Schema, SchemaRef};
use arrow::error::ArrowError;
use arrow::util::display::{ArrayFormatter, FormatOptions};
use futures::TryStreamExt;
use headwater_tables::{Error, KEYS_PROPERTY, Result, Tables, read_with_schema};

use crate::conflict::{Cause, Conflict};
use crate::files::{File, MergeFiles};
use crate::merge::{TableMerge, TableMergeResult};
use crate::merge_inputs::EqualChanges;
use crate::multiset_merge::{ROWS_SHOWN, RowBudget, RowHash, converter, row_hashes};
use crate::side_history::SideHistory;

/// The changed rows of each key. A row is identified by its values, and stored with the number of
/// its added minus removed copies.
type KeyChanges = HashMap<RowHash, HashMap<RowHash, i64>>;

/// The positions of the key columns in the schema of the merged table.
struct KeyColumns {
    positions: Vec<usize>,
    /// False if the values of some columns cannot be compared. Rows are then identified by their
    /// keys only.
    compares_rows: bool,
}

/// The files that a side added, or the files that it removed.
struct ChangedFiles<'a> {
    schema: &'a SchemaRef,
    files: Vec<File>,
    /// The effect on the number of rows: 1 for added files, -1 for removed files.
    by: i64,
}

/// Returns true if at least one side only compacted files, so that no key changed on both sides.
pub(crate) fn no_key_changed(histories: &[SideHistory; 2]) -> bool {
    histories.iter().any(SideHistory::only_compacts)
}

/// Returns the merge, or a conflict if both sides changed rows with the same key. If `changes_keys`
/// is false, there is no such key, so no rows are read.
pub(crate) async fn checked(
    tables: &Tables,
    merge: Box<TableMerge>,
    files: &MergeFiles<'_>,
    changes_keys: bool,
    budget: &mut RowBudget,
) -> Result<TableMergeResult> {
    if changes_keys && let Some(conflict) = check(tables, &merge, files, budget).await? {
        return Ok(TableMergeResult::Conflicts(vec![conflict]));
    }
    Ok(TableMergeResult::Both(merge))
}

/// Returns a conflict if both sides changed rows with the same key. Returns `None` if the table has
/// no keys.
async fn check(
    tables: &Tables,
    merge: &TableMerge,
    files: &MergeFiles<'_>,
    budget: &mut RowBudget,
) -> Result<Option<Conflict>> {
    let [base, ours, theirs] = merge.row_merger(tables).schemas;
    let Some(columns) = KeyColumns::of(merge, &ours) else { return Ok(None) };
    let sides = [
        changed_files(files.added(files.ours), files.removed(files.ours), [&ours, &base]),
        changed_files(files.added(files.theirs), files.removed(files.theirs), [&theirs, &base]),
    ];
    if sides.iter().any(|[added, removed]| added.files.is_empty() && removed.files.is_empty()) {
        return Ok(None);
    }
    let read = sides.iter().flatten().flat_map(|changed| &changed.files);
    if !budget.spend(read.map(|file| file.rows).sum()) {
        return Ok(Some(Conflict::new(Cause::TooManyRows { limit: budget.max() })));
    }
    let [our_files, their_files] = &sides;
    let our_changes = columns.changes(tables, our_files).await?;
    let mut conflicting = HashSet::new();
    for (key, rows) in columns.changes(tables, their_files).await? {
        let Some(our_rows) = our_changes.get(&key) else { continue };
        let existed = rows.values().any(|count| *count < 0);
        let is_one_change = existed && rows == *our_rows;
        if !(is_one_change && files.equal_changes == EqualChanges::Merge) {
            conflicting.insert(key);
        }
    }
    if conflicting.is_empty() {
        return Ok(None);
    }
    let [added, _] = their_files;
    let rows = columns.rows(tables, added, &conflicting).await?;
    let cause = Cause::Keys { key: columns.text(&rows)?, total: conflicting.len() as u64 };
    let about = Conflict::about(cause, added.files.clone());
    Ok(Some(Conflict { rows, rows_total: Some(conflicting.len() as u64), ..about }))
}

/// Returns the files that a side added and removed, with the schemas to read them.
fn changed_files<'s>(
    added: Vec<&File>,
    removed: Vec<&File>,
    [side, base]: [&'s SchemaRef; 2],
) -> [ChangedFiles<'s>; 2] {
    let [added, removed] = [added, removed].map(|files| files.into_iter().cloned().collect());
    let added = ChangedFiles { schema: side, files: added, by: 1 };
    [added, ChangedFiles { schema: base, files: removed, by: -1 }]
}

impl KeyColumns {
    /// Returns the key columns of the merged table; `None` if the table has no keys.
    fn of(merge: &TableMerge, schema: &Schema) -> Option<KeyColumns> {
        let noted = [&merge.ours, &merge.theirs].into_iter().find_map(|table| {
            serde_json::from_str::<Vec<String>>(table.summary_property(KEYS_PROPERTY)?).ok()
        });
        let merged = merge.merged_table.metadata().current_schema();
        let identifiers =
            merged.identifier_field_ids().filter_map(|id| merged.name_by_field_id(id));
        let mut names: Vec<String> = identifiers.map(str::to_owned).collect();
        if names.is_empty() {
            names = noted?;
        }
        let position = |name: &String| {
            let fields = || schema.fields().iter();
            let exact = fields().position(|field| field.name() == name);
            exact.or_else(|| fields().position(|field| field.name().eq_ignore_ascii_case(name)))
        };
        let positions: Vec<usize> = names.iter().map(position).collect::<Option<_>>()?;
        let key_schema = schema.project(&positions).ok()?;
        if positions.is_empty() || converter(&key_schema).is_err() {
            return None;
        }
        Some(KeyColumns { positions, compares_rows: converter(schema).is_ok() })
    }

    /// Returns the changed rows of one side, by key.
    async fn changes(&self, tables: &Tables, files: &[ChangedFiles<'_>; 2]) -> Result<KeyChanges> {
        let internal = |error: ArrowError| Error::internal("merged", error);
        let mut changes = KeyChanges::new();
        for changed in files {
            let mut batches = read_with_schema(tables, changed.schema, &changed.files)?;
            while let Some(batch) = batches.try_next().await.map_err(Error::Input)? {
                let key_columns = batch.project(&self.positions).map_err(internal)?;
                let (compares_rows, by) = (self.compares_rows, changed.by);
                let counting = tokio::task::spawn_blocking(move || {
                    let found = row_hashes(&key_columns)?;
                    let rows = if compares_rows { row_hashes(&batch)? } else { found.clone() };
                    for (key, row) in found.into_iter().zip(rows) {
                        *changes.entry(key).or_default().entry(row).or_default() += by;
                    }
                    Ok::<_, ArrowError>(changes)
                });
                let counted = counting.await.map_err(|error| Error::internal("merged", error))?;
                changes = counted.map_err(internal)?;
            }
        }
        // A row that a rewrite kept was removed once and added once, so its count is 0.
        for rows in changes.values_mut() {
            rows.retain(|_, count| *count != 0);
        }
        changes.retain(|_, rows| !rows.is_empty());
        Ok(changes)
    }

    /// Returns rows with these keys, up to a limit.
    async fn rows(
        &self,
        tables: &Tables,
        changed: &ChangedFiles<'_>,
        wanted: &HashSet<RowHash>,
    ) -> Result<Vec<RecordBatch>> {
        let internal = |error: ArrowError| Error::internal("merged", error);
        let (mut found, mut remaining_rows) = (Vec::new(), ROWS_SHOWN);
        let mut batches = read_with_schema(tables, changed.schema, &changed.files)?;
        while remaining_rows > 0
            && let Some(batch) = batches.try_next().await.map_err(Error::Input)?
        {
            let key_columns = batch.project(&self.positions).map_err(internal)?;
            let row_keys = row_hashes(&key_columns).map_err(internal)?;
            let mask: BooleanArray =
                row_keys.iter().map(|key| Some(wanted.contains(key))).collect();
            let some = filter_record_batch(&batch, &mask).map_err(internal)?;
            let some = some.slice(0, some.num_rows().min(remaining_rows));
            remaining_rows -= some.num_rows();
            found.extend((some.num_rows() > 0).then_some(some));
        }
        Ok(found)
    }

    /// Returns the key of the first row as text. Returns `None` if there are no rows: the source
    /// then only deleted rows with the conflicting keys.
    fn text(&self, rows: &[RecordBatch]) -> Result<Option<String>> {
        let internal = |error: ArrowError| Error::internal("merged", error);
        let Some(first) = rows.first() else { return Ok(None) };
        let first = first.project(&self.positions).map_err(internal)?;
        let options = FormatOptions::default().with_null("null");
        let mut parts = Vec::new();
        for (field, column) in first.schema().fields().iter().zip(first.columns()) {
            let value = ArrayFormatter::try_new(column.as_ref(), &options).map_err(internal)?;
            parts.push(format!("`{}` {}", field.name(), value.value(0)));
        }
        Ok(Some(parts.join(", ")))
    }
}
