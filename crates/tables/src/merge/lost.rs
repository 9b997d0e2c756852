//! Values that one side changed in a column which the other dropped: the merged table has no place for
//! them, and nobody meant to lose them. Values of rows that were added go with the column, as those that
//! were there.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use arrow::array::{BooleanArray, RecordBatch};
use arrow::compute::filter_record_batch;
use arrow::datatypes::{DataType, Field, Fields, Schema, SchemaRef};
use arrow::error::ArrowError;
use futures::TryStreamExt;
use iceberg::spec::TableMetadata;

use super::clash::{Cause, Clash, Side};
use super::files::{File, Replaced};
use super::rows::{ROWS_SHOWN, RowBudget, RowKey, converter, keys};
use crate::read::{align, read};
use crate::types::schema::{entry_fields, field_id};
use crate::{Error, Result, Table, Tables};

/// The columns of a side that the base has as well, and those of them that the merged table has.
struct Columns {
    all: SchemaRef,
    kept: SchemaRef,
    /// The names of those that go.
    dropped: Vec<String>,
}

/// How often a row came, less how often it went: by the values that are kept, and by all of them.
type Changes = HashMap<(RowKey, RowKey), i64>;

/// The clash about values that a side changed, in files that came in place of others, and that the other
/// side's drop of their column would lose.
pub(super) async fn check(
    tables: &Tables,
    (base, merged): (&TableMetadata, &TableMetadata),
    (side, table): (Side, &Table),
    replaced: &Replaced,
    budget: &mut RowBudget,
) -> Result<Option<Clash>> {
    if replaced.gone.is_empty() || replaced.come.is_empty() {
        return Ok(None);
    }
    let Some(columns) = Columns::of(base, merged, &table.schema()) else { return Ok(None) };
    let about = |cause| Ok(Some(Clash::about(cause, replaced.gone.clone())));
    let files = replaced.gone.iter().chain(&replaced.come);
    if !budget.spend(files.map(|file| file.rows).sum()) {
        return about(Cause::TooManyRows { limit: budget.max() });
    }
    if let Err(error) = converter(&columns.all) {
        return about(Cause::Incomparable { reason: format!("rows cannot be compared: {error}") });
    }
    let mut changes = Changes::new();
    for (files, by) in [(&replaced.gone, -1), (&replaced.come, 1)] {
        changes = columns.count(tables, files, by, changes).await?;
    }
    let lost = lost(changes);
    if lost.is_empty() {
        return Ok(None);
    }
    let rows = columns.rows(tables, &replaced.gone, &lost).await?;
    let cause = Cause::Dropped { columns: columns.dropped, side: side.other() };
    let rows_total = Some(lost.values().sum());
    Ok(Some(Clash { rows, rows_total, ..Clash::about(cause, replaced.gone.clone()) }))
}

/// The rows that went and came again with other values only where those are lost, by all of their values, and
/// how many there are of each.
fn lost(changes: Changes) -> HashMap<RowKey, u64> {
    let came: HashSet<RowKey> =
        changes.iter().filter(|(_, count)| **count > 0).map(|((kept, _), _)| *kept).collect();
    let went = changes.into_iter().filter(|(_, count)| *count < 0);
    let lost = went.filter(|((kept, _), _)| came.contains(kept));
    lost.map(|((_, all), count)| (all, count.unsigned_abs())).collect()
}

impl Columns {
    /// None where no column goes.
    fn of(base: &TableMetadata, merged: &TableMetadata, side: &Schema) -> Option<Columns> {
        let has = |of: &TableMetadata, id: i32| of.current_schema().field_by_id(id).is_some();
        let known = |id: i32| has(base, id);
        let all = pruned(side.fields(), &known);
        let kept = pruned(&all, &|id| has(merged, id));
        let mut dropped = Vec::new();
        name_dropped(&all, &|id| has(merged, id), "", &mut dropped);
        let schema = |fields: Fields| Arc::new(Schema::new(fields));
        (!dropped.is_empty()).then(|| Columns { all: schema(all), kept: schema(kept), dropped })
    }

    async fn count(
        &self,
        tables: &Tables,
        files: &[File],
        by: i64,
        mut changes: Changes,
    ) -> Result<Changes> {
        let internal = |error: ArrowError| Error::internal("merged", error);
        let mut batches = read(tables, &self.all, files, None, None)?;
        while let Some(batch) = batches.try_next().await.map_err(Error::Input)? {
            let kept = self.kept_of(&batch).map_err(internal)?;
            let counting = tokio::task::spawn_blocking(move || {
                let kept = match kept.num_columns() {
                    0 => vec![RowKey::default(); kept.num_rows()],
                    _ => keys(&kept)?,
                };
                for pair in kept.into_iter().zip(keys(&batch)?) {
                    *changes.entry(pair).or_default() += by;
                }
                Ok::<_, ArrowError>(changes)
            });
            let counted = counting.await.map_err(|error| Error::internal("merged", error))?;
            changes = counted.map_err(internal)?;
        }
        Ok(changes)
    }

    /// The columns of a batch that are kept.
    fn kept_of(&self, batch: &RecordBatch) -> std::result::Result<RecordBatch, ArrowError> {
        let columns = self.kept.fields().iter().map(|field| {
            let column = batch.column_by_name(field.name()).ok_or_else(|| {
                ArrowError::SchemaError(format!("column `{}` was not read", field.name()))
            })?;
            align(column, field)
        });
        let columns = columns.collect::<std::result::Result<Vec<_>, _>>()?;
        let options =
            arrow::array::RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
        RecordBatch::try_new_with_options(self.kept.clone(), columns, &options)
    }

    /// Some of the rows that have these values.
    async fn rows(
        &self,
        tables: &Tables,
        files: &[File],
        wanted: &HashMap<RowKey, u64>,
    ) -> Result<Vec<RecordBatch>> {
        let internal = |error: ArrowError| Error::internal("merged", error);
        let (mut found, mut left) = (Vec::new(), ROWS_SHOWN);
        let mut batches = read(tables, &self.all, files, None, None)?;
        while left > 0
            && let Some(batch) = batches.try_next().await.map_err(Error::Input)?
        {
            let keys = keys(&batch).map_err(internal)?;
            let mask: BooleanArray =
                keys.into_iter().map(|key| Some(wanted.contains_key(&key))).collect();
            let some = filter_record_batch(&batch, &mask).map_err(internal)?;
            let some = some.slice(0, some.num_rows().min(left));
            left -= some.num_rows();
            found.extend((some.num_rows() > 0).then_some(some));
        }
        Ok(found)
    }
}

/// The columns, and those within them, that have one of the ids.
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

/// None where no part is left.
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

/// Names the columns that have none of the ids, with the columns they lie in.
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
