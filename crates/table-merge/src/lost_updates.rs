//! Finds lost updates: values that one side changed in a column that the other side dropped. The
//! merged table cannot contain the changed values, so a lost update is a conflict. The values of
//! added rows cause no conflict: they are dropped with the column, like the values of existing
//! rows.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use arrow::array::{BooleanArray, RecordBatch};
use arrow::compute::filter_record_batch;
use arrow::datatypes::{DataType, Field, Fields, Schema, SchemaRef};
use arrow::error::ArrowError;
use futures::TryStreamExt;
use headwater_tables::{
    Error, Result, Table, Tables, align, entry_fields, field_id, read_with_schema,
};
use iceberg::spec::TableMetadata;

use crate::conflict::{Cause, Conflict, MergeSide};
use crate::files::{File, ReplacedFiles};
use crate::multiset_merge::{ROWS_SHOWN, RowBudget, RowHash, converter, row_hashes};

/// The columns that a side shares with the base (`all`), and those of them that the merged table
/// also has (`remaining`).
struct SharedColumns {
    all: SchemaRef,
    remaining: SchemaRef,
    /// The names of the dropped columns.
    dropped: Vec<String>,
}

/// The number of added minus removed copies of a row. The key has two hashes of the row: over the
/// remaining columns, and over all columns.
type RowChanges = HashMap<(RowHash, RowHash), i64>;

/// The files that one side replaced, and the metadata that the merge needs.
pub(crate) struct SideChange<'a> {
    pub(crate) base: &'a TableMetadata,
    pub(crate) merged: &'a TableMetadata,
    pub(crate) side: MergeSide,
    pub(crate) table: &'a Table,
    pub(crate) replaced: &'a ReplacedFiles,
}

/// Returns a conflict if one side changed values in a column that the other side dropped.
pub(crate) async fn check(
    tables: &Tables,
    change: &SideChange<'_>,
    budget: &mut RowBudget,
) -> Result<Option<Conflict>> {
    let SideChange { base, merged, side, table, replaced } = *change;
    if replaced.old.is_empty() || replaced.new.is_empty() {
        return Ok(None);
    }
    let Some(columns) = SharedColumns::of(base, merged, &table.schema()) else { return Ok(None) };
    let about = |cause| Ok(Some(Conflict::about(cause, replaced.old.clone())));
    let files = replaced.old.iter().chain(&replaced.new);
    if !budget.spend(files.map(|file| file.rows).sum()) {
        return about(Cause::TooManyRows { limit: budget.max() });
    }
    if let Err(error) = converter(&columns.all) {
        return about(Cause::Incomparable { reason: format!("rows cannot be compared: {error}") });
    }
    let mut changes = RowChanges::new();
    for (files, by) in [(&replaced.old, -1), (&replaced.new, 1)] {
        changes = columns.count(tables, files, by, changes).await?;
    }
    let lost = lost(changes);
    if lost.is_empty() {
        return Ok(None);
    }
    let rows = columns.rows(tables, &replaced.old, &lost).await?;
    let cause = Cause::Dropped { columns: columns.dropped, side: side.other() };
    let rows_total = Some(lost.values().sum());
    Ok(Some(Conflict { rows, rows_total, ..Conflict::about(cause, replaced.old.clone()) }))
}

/// Returns the rows in which only dropped columns changed: the number of copies of each row, by the
/// hash over all columns.
fn lost(changes: RowChanges) -> HashMap<RowHash, u64> {
    let came: HashSet<RowHash> = changes
        .iter()
        .filter(|(_, count)| **count > 0)
        .map(|((remaining, _), _)| *remaining)
        .collect();
    let went = changes.into_iter().filter(|(_, count)| *count < 0);
    let lost = went.filter(|((remaining, _), _)| came.contains(remaining));
    lost.map(|((_, all), count)| (all, count.unsigned_abs())).collect()
}

impl SharedColumns {
    /// Returns the columns to compare; `None` if no column was dropped.
    fn of(base: &TableMetadata, merged: &TableMetadata, side: &Schema) -> Option<SharedColumns> {
        let has = |of: &TableMetadata, id: i32| of.current_schema().field_by_id(id).is_some();
        let known = |id: i32| has(base, id);
        let all = pruned(side.fields(), &known);
        let remaining = pruned(&all, &|id| has(merged, id));
        let mut dropped = Vec::new();
        name_dropped(&all, &|id| has(merged, id), "", &mut dropped);
        let schema = |fields: Fields| Arc::new(Schema::new(fields));
        (!dropped.is_empty()).then(|| SharedColumns {
            all: schema(all),
            remaining: schema(remaining),
            dropped,
        })
    }

    async fn count(
        &self,
        tables: &Tables,
        files: &[File],
        by: i64,
        mut changes: RowChanges,
    ) -> Result<RowChanges> {
        let internal = |error: ArrowError| Error::internal("merged", error);
        let mut batches = read_with_schema(tables, &self.all, files)?;
        while let Some(batch) = batches.try_next().await.map_err(Error::Input)? {
            let remaining = self.remaining_columns(&batch).map_err(internal)?;
            let counting = tokio::task::spawn_blocking(move || {
                let remaining = match remaining.num_columns() {
                    0 => vec![RowHash::default(); remaining.num_rows()],
                    _ => row_hashes(&remaining)?,
                };
                for pair in remaining.into_iter().zip(row_hashes(&batch)?) {
                    *changes.entry(pair).or_default() += by;
                }
                Ok::<_, ArrowError>(changes)
            });
            let counted = counting.await.map_err(|error| Error::internal("merged", error))?;
            changes = counted.map_err(internal)?;
        }
        Ok(changes)
    }

    /// Returns the remaining columns of a batch.
    fn remaining_columns(
        &self,
        batch: &RecordBatch,
    ) -> std::result::Result<RecordBatch, ArrowError> {
        let columns = self.remaining.fields().iter().map(|field| {
            let column = batch.column_by_name(field.name()).ok_or_else(|| {
                ArrowError::SchemaError(format!("column `{}` was not read", field.name()))
            })?;
            align(column, field)
        });
        let columns = columns.collect::<std::result::Result<Vec<_>, _>>()?;
        let options =
            arrow::array::RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
        RecordBatch::try_new_with_options(self.remaining.clone(), columns, &options)
    }

    /// Returns rows with these values, up to a limit.
    async fn rows(
        &self,
        tables: &Tables,
        files: &[File],
        wanted: &HashMap<RowHash, u64>,
    ) -> Result<Vec<RecordBatch>> {
        let internal = |error: ArrowError| Error::internal("merged", error);
        let (mut found, mut remaining_rows) = (Vec::new(), ROWS_SHOWN);
        let mut batches = read_with_schema(tables, &self.all, files)?;
        while remaining_rows > 0
            && let Some(batch) = batches.try_next().await.map_err(Error::Input)?
        {
            let keys = row_hashes(&batch).map_err(internal)?;
            let mask: BooleanArray =
                keys.into_iter().map(|key| Some(wanted.contains_key(&key))).collect();
            let some = filter_record_batch(&batch, &mask).map_err(internal)?;
            let some = some.slice(0, some.num_rows().min(remaining_rows));
            remaining_rows -= some.num_rows();
            found.extend((some.num_rows() > 0).then_some(some));
        }
        Ok(found)
    }
}

/// Returns the fields whose field id satisfies `has`. Nested fields are filtered in the same way.
fn pruned(fields: &Fields, has: &dyn Fn(i32) -> bool) -> Fields {
    fields
        .iter()
        .filter(|field| field_id(field).is_some_and(has))
        .filter_map(|field| {
            let data_type = pruned_type(field.data_type(), has)?;
            Some(field.as_ref().clone().with_data_type(data_type))
        })
        .collect()
}

/// Returns the type with only the nested fields whose field id satisfies `has`; `None` if no field
/// remains.
fn pruned_type(data_type: &DataType, has: &dyn Fn(i32) -> bool) -> Option<DataType> {
    let within = |part: &Arc<Field>| {
        let data_type = pruned_type(part.data_type(), has)?;
        Some(Arc::new(part.as_ref().clone().with_data_type(data_type)))
    };
    Some(match data_type {
        DataType::Struct(parts) => {
            let parts = pruned(parts, has);
            return (!parts.is_empty()).then_some(DataType::Struct(parts));
        }
        DataType::List(element) => DataType::List(within(element)?),
        DataType::Map(entries, sorted) => {
            let entries = within(entries)?;
            entry_fields(&entries).ok()?;
            DataType::Map(entries, *sorted)
        }
        other => other.clone(),
    })
}

/// Collects the paths of the columns, at every level, whose field id does not satisfy `has`.
fn name_dropped(fields: &Fields, has: &dyn Fn(i32) -> bool, path: &str, names: &mut Vec<String>) {
    for field in fields {
        let name =
            if path.is_empty() { field.name().clone() } else { format!("{path}.{}", field.name()) };
        if !field_id(field).is_some_and(has) {
            names.push(name);
            continue;
        }
        let mut inner = field.data_type();
        while let DataType::List(part) | DataType::Map(part, _) = inner {
            inner = part.data_type();
        }
        if let DataType::Struct(parts) = inner {
            name_dropped(parts, has, &name, names);
        }
    }
}
