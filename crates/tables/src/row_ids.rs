//! Row lineage: the id that each row of a table of format version 3 keeps, and the sequence number of the
//! commit that changed it last.
//!
//! Rows that are added have neither in their file: their id follows from the file's first one and from
//! their place in it, their number from the file's own. Where rows are written again, both come along
//! in two columns beside those of the table; where a row is changed, its number is left out and so becomes
//! that of the new file.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, Int64Array, RecordBatch};
use arrow::compute::nullif;
use arrow::datatypes::{DataType, Field, FieldRef, Int64Type, Schema, SchemaRef};
use arrow::error::ArrowError;
use futures::StreamExt;
use iceberg::spec::{FormatVersion, TableMetadata};

use crate::read::{Place, Reading, open};
use crate::types::schema::field_id;
use crate::{DataFile, Error, FIELD_ID, Result, Table, Tables};

/// Iceberg's field id of a row's id.
pub(crate) const ROW_ID: i32 = 2_147_483_540;

/// Iceberg's field id of the sequence number of the commit that changed a row last.
pub(crate) const CHANGED: i32 = 2_147_483_539;

/// The names of the two columns, which no column of a table of version 3 may have.
pub const NAMES: [&str; 2] = ["_row_id", "_last_updated_sequence_number"];

/// The two columns.
pub fn fields() -> [FieldRef; 2] {
    let field = |name: &str, id: i32| {
        let metadata = HashMap::from([(FIELD_ID.to_owned(), id.to_string())]);
        Arc::new(Field::new(name, DataType::Int64, true).with_metadata(metadata))
    };
    [field(NAMES[0], ROW_ID), field(NAMES[1], CHANGED)]
}

/// Whether the rows of a table have ids.
pub(crate) fn has_row_ids(metadata: &TableMetadata) -> bool {
    metadata.format_version() >= FormatVersion::V3
}

/// A schema with the two columns after its own.
pub(crate) fn with_row_ids(schema: &Schema) -> SchemaRef {
    let all = schema.fields().iter().cloned().chain(fields());
    Arc::new(Schema::new_with_metadata(all.collect::<Vec<_>>(), schema.metadata().clone()))
}

/// How many columns of a schema are the table's own: all but the two.
pub(crate) fn own_columns(schema: &Schema) -> usize {
    let own = |field: &&FieldRef| !matches!(field_id(field), Some(ROW_ID | CHANGED));
    schema.fields().iter().filter(own).count()
}

/// The columns of a batch that are the table's own, which come first.
pub(crate) fn own(batch: &RecordBatch) -> Result<RecordBatch, ArrowError> {
    let own = own_columns(batch.schema_ref());
    if own == batch.num_columns() {
        return Ok(batch.clone());
    }
    batch.project(&(0..own).collect::<Vec<_>>())
}

/// Where a file's rows have their ids from.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Origin {
    first_row_id: Option<i64>,
    sequence_number: i64,
}

impl Origin {
    pub fn of(file: &DataFile) -> Self {
        Origin {
            first_row_id: file.entry.data_file.first_row_id(),
            sequence_number: file.sequence_number(),
        }
    }

    /// One of the two columns: what the file has, and what follows from rows' places where it has nothing.
    pub fn column(&self, id: i32, found: Option<&ArrayRef>, places: &ArrayRef) -> ArrayRef {
        let found = found.and_then(|column| column.as_primitive_opt::<Int64Type>());
        let places = places.as_primitive::<Int64Type>();
        let value = |row: usize| {
            let own = found.filter(|found| found.is_valid(row)).map(|found| found.value(row));
            own.or_else(|| match id {
                ROW_ID => Some(self.first_row_id? + places.value(row)),
                _ => self.first_row_id.map(|_| self.sequence_number),
            })
        };
        Arc::new((0..places.len()).map(value).collect::<Int64Array>())
    }
}

/// The ids of a data file's rows.
#[derive(Debug, Clone)]
pub enum RowIds {
    /// The first row's; those of the others follow.
    From(i64),
    /// In runs of rows whose ids follow each other.
    Runs(IdRuns),
    /// They have none.
    None,
}

impl RowIds {
    /// The id of a row, by its place in the file.
    pub fn at(&self, row: u64) -> Option<i64> {
        match self {
            RowIds::From(first) => first.checked_add(i64::try_from(row).ok()?),
            RowIds::Runs(runs) => runs.at(row),
            RowIds::None => None,
        }
    }

    /// How many bytes they take.
    pub fn bytes(&self) -> usize {
        match self {
            RowIds::Runs(runs) => runs.starts.capacity() * 2 * size_of::<u64>(),
            RowIds::From(_) | RowIds::None => 0,
        }
    }
}

/// Ids of rows, most of which follow the one before.
#[derive(Debug, Clone, Default)]
pub struct IdRuns {
    /// The row that each run begins with.
    starts: Vec<u64>,
    /// Its id; negative where it has none.
    ids: Vec<i64>,
    rows: u64,
}

impl IdRuns {
    fn push(&mut self, id: Option<i64>) {
        let id = id.filter(|id| *id >= 0);
        if id.is_none() || id != self.after_last() {
            self.starts.push(self.rows);
            self.ids.push(id.unwrap_or(-1));
        }
        self.rows += 1;
    }

    /// The id that would follow the last one.
    fn after_last(&self) -> Option<i64> {
        let first = self.ids.last().filter(|id| **id >= 0)?;
        let within = i64::try_from(self.rows - self.starts.last()?).ok()?;
        first.checked_add(within)
    }

    fn at(&self, row: u64) -> Option<i64> {
        let run = self.starts.partition_point(|start| *start <= row).checked_sub(1)?;
        let first = self.ids.get(run).filter(|id| **id >= 0 && row < self.rows)?;
        first.checked_add(i64::try_from(row - self.starts.get(run)?).ok()?)
    }
}

impl Tables {
    /// The ids of a data file's rows.
    pub async fn row_ids(&self, file: &DataFile) -> Result<RowIds> {
        let Some(first) = file.entry.data_file.first_row_id() else { return Ok(RowIds::None) };
        if !file.has_column(ROW_ID) {
            return Ok(RowIds::From(first));
        }
        let [ids, _] = fields();
        let reading = Reading {
            origin: Some(Origin::of(file)),
            ..Reading::all(Arc::new(Schema::new(vec![ids])))
        };
        let batches = open(self.object_store().clone(), Place::of(file), reading).await;
        let mut batches = batches.map_err(|error| Error::from_arrow(&file.location, error))?;
        let mut runs = IdRuns::default();
        while let Some(batch) = batches.next().await {
            let batch = batch.map_err(|error| Error::from_arrow(&file.location, error))?;
            batch.column(0).as_primitive::<Int64Type>().iter().for_each(|id| runs.push(id));
        }
        Ok(RowIds::Runs(runs))
    }

    /// The columns of a table with those that its rows keep when they are written again.
    pub fn schema_to_rewrite(&self, table: &Table) -> SchemaRef {
        if has_row_ids(table.metadata()) { with_row_ids(&table.schema()) } else { table.schema() }
    }

    /// New rows of a table with the ids that they keep; none where one is null. Rows of tables without ids
    /// stay as they are.
    pub fn with_ids(
        &self,
        table: &Table,
        rows: &RecordBatch,
        ids: Int64Array,
    ) -> Result<RecordBatch, ArrowError> {
        if !has_row_ids(table.metadata()) {
            return Ok(rows.clone());
        }
        let schema = with_row_ids(rows.schema_ref());
        let mut columns = rows.columns().to_vec();
        columns.push(Arc::new(ids));
        columns.push(arrow::array::new_null_array(&DataType::Int64, rows.num_rows()));
        RecordBatch::try_new(schema, columns)
    }
}

/// Rows of which some have no ids, nor numbers: they get new ones.
pub(crate) fn without_ids(batch: &RecordBatch, rows: &[usize]) -> Result<RecordBatch, ArrowError> {
    let own = own_columns(batch.schema_ref());
    let mut columns = batch.columns().to_vec();
    let mut mask = vec![false; batch.num_rows()];
    for row in rows {
        mask[*row] = true;
    }
    let mask = BooleanArray::from(mask);
    for column in &mut columns[own..] {
        *column = nullif(column, &mask)?;
    }
    RecordBatch::try_new(batch.schema(), columns)
}

/// Rows of another branch without the ids and numbers that were given since both were one: ours may have
/// given them to others.
pub(crate) fn without_later(
    batch: &RecordBatch,
    (next_row_id, sequence_number): (u64, i64),
) -> Result<RecordBatch, ArrowError> {
    let own = own_columns(batch.schema_ref());
    if own == batch.num_columns() {
        return Ok(batch.clone());
    }
    let mut columns = batch.columns().to_vec();
    let ids = columns[own].as_primitive::<Int64Type>().clone();
    let numbers = columns[own + 1].as_primitive::<Int64Type>().clone();
    let kept = |row: usize| ids.is_valid(row) && (ids.value(row) as u64) < next_row_id;
    let new_ids = (0..ids.len()).map(|row| kept(row).then(|| ids.value(row)));
    let new_numbers = (0..ids.len()).map(|row| {
        let known = numbers.is_valid(row) && numbers.value(row) <= sequence_number;
        (kept(row) && known).then(|| numbers.value(row))
    });
    columns[own] = Arc::new(new_ids.collect::<Int64Array>());
    columns[own + 1] = Arc::new(new_numbers.collect::<Int64Array>());
    RecordBatch::try_new(batch.schema(), columns)
}
