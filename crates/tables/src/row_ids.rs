//! Row lineage for tables of format version 3: the id of each row, and the sequence number of the
//! commit that last changed the row.
//!
//! For a new row, neither value is stored. The id of the row is the first row id of the file plus
//! the position of the row. The sequence number is the sequence number of the file. For rewritten
//! rows, the file has two additional columns with both values. For a changed row, the stored
//! sequence number is null, so that the new file's sequence number applies.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, Int64Array, RecordBatch};
use arrow::compute::nullif;
use arrow::datatypes::{DataType, Field, FieldRef, Int64Type, Schema, SchemaRef};
use arrow::error::ArrowError;
use futures::StreamExt;
use headwater_table_format::{LAST_UPDATED, ROW_ID};
use iceberg::spec::{FormatVersion, TableMetadata};

use crate::read::{FileLocation, ReadOptions, open};
use crate::types::schema::field_id;
use crate::{BatchStream, DataFile, Error, FIELD_ID, Positions, Result, Table, Tables, read};

/// The names of the two lineage columns, reserved in tables of version 3.
pub const NAMES: [&str; 2] = ["_row_id", "_last_updated_sequence_number"];

/// Returns the two lineage columns.
pub fn fields() -> [FieldRef; 2] {
    let field = |name: &str, id: i32| {
        let metadata = HashMap::from([(FIELD_ID.to_owned(), id.to_string())]);
        Arc::new(Field::new(name, DataType::Int64, true).with_metadata(metadata))
    };
    [field(NAMES[0], ROW_ID), field(NAMES[1], LAST_UPDATED)]
}

/// Returns true if the table has row lineage.
pub fn has_row_ids(metadata: &TableMetadata) -> bool {
    metadata.format_version() >= FormatVersion::V3
}

/// Returns a schema with the lineage columns appended.
pub fn with_row_ids(schema: &Schema) -> SchemaRef {
    let all = schema.fields().iter().cloned().chain(fields());
    Arc::new(Schema::new_with_metadata(all.collect::<Vec<_>>(), schema.metadata().clone()))
}

/// Returns the number of columns without the lineage columns.
pub fn own_columns(schema: &Schema) -> usize {
    let own = |field: &&FieldRef| !matches!(field_id(field), Some(ROW_ID | LAST_UPDATED));
    schema.fields().iter().filter(own).count()
}

/// Returns a batch without the lineage columns, which are the last columns.
pub fn without_lineage(batch: &RecordBatch) -> Result<RecordBatch, ArrowError> {
    let own = own_columns(batch.schema_ref());
    if own == batch.num_columns() {
        return Ok(batch.clone());
    }
    batch.project(&(0..own).collect::<Vec<_>>())
}

/// The values from which the row ids and sequence numbers of the rows of a file are derived.
#[derive(Debug, Clone, Copy)]
pub(crate) struct RowIdOrigin {
    first_row_id: Option<i64>,
    sequence_number: i64,
}

impl RowIdOrigin {
    pub fn of(file: &DataFile) -> Self {
        RowIdOrigin {
            first_row_id: file.entry.data_file.first_row_id(),
            sequence_number: file.sequence_number(),
        }
    }

    /// Returns one lineage column: the stored values and, where these are null, derived values.
    pub fn column(&self, id: i32, found: Option<&ArrayRef>, positions: &ArrayRef) -> ArrayRef {
        let stored = found.and_then(|column| column.as_primitive_opt::<Int64Type>());
        let positions = positions.as_primitive::<Int64Type>();
        let value = |row: usize| {
            let own = stored.filter(|ids| ids.is_valid(row)).map(|ids| ids.value(row));
            own.or_else(|| match id {
                ROW_ID => Some(self.first_row_id? + positions.value(row)),
                _ => self.first_row_id.map(|_| self.sequence_number),
            })
        };
        Arc::new((0..positions.len()).map(value).collect::<Int64Array>())
    }
}

/// The row ids of a data file.
#[derive(Debug, Clone)]
pub enum RowIds {
    /// Consecutive ids, which start with this id of the first row.
    From(i64),
    /// Runs of consecutive ids.
    Runs(RowIdRuns),
    /// The rows have no ids.
    None,
}

impl RowIds {
    /// Returns the id of the row at a position in the file.
    pub fn at(&self, row: u64) -> Option<i64> {
        match self {
            RowIds::From(first) => first.checked_add(i64::try_from(row).ok()?),
            RowIds::Runs(runs) => runs.at(row),
            RowIds::None => None,
        }
    }

    /// Returns the approximate memory size in bytes.
    pub fn bytes(&self) -> usize {
        match self {
            RowIds::Runs(runs) => runs.starts.capacity() * 2 * size_of::<u64>(),
            RowIds::From(_) | RowIds::None => 0,
        }
    }
}

/// Row ids, run-length encoded: the ids of each run are consecutive.
#[derive(Debug, Clone, Default)]
pub struct RowIdRuns {
    /// The first position of each run.
    starts: Vec<u64>,
    /// The first id of each run; negative if its rows have no ids.
    ids: Vec<i64>,
    rows: u64,
}

impl RowIdRuns {
    fn push(&mut self, id: Option<i64>) {
        let id = id.filter(|id| *id >= 0);
        if id.is_none() || id != self.next_in_run() {
            self.starts.push(self.rows);
            self.ids.push(id.unwrap_or(-1));
        }
        self.rows += 1;
    }

    /// Returns the id that continues the last run: the id after its last row's id.
    fn next_in_run(&self) -> Option<i64> {
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

/// Reader of rows that are to be rewritten. [`Tables::rewrites`] returns this type.
#[derive(Debug, Clone, Copy)]
pub struct RewriteReader<'a> {
    pub(crate) tables: &'a Tables,
}

impl RewriteReader<'_> {
    /// Reads data files in order, to rewrite them: all columns of the current schema, except the
    /// rows at the given positions. Read errors are returned through the stream.
    pub fn read_live(self, table: &Table, files: Vec<(Arc<DataFile>, Positions)>) -> BatchStream {
        read::read_live(self.tables, &self.schema(table), files)
    }

    /// Reads data files in order, to rewrite them: all columns of the current schema, and row ids
    /// if the table has row lineage.
    pub fn read(self, table: &Table, files: &[Arc<DataFile>]) -> Result<BatchStream> {
        read::read(self.tables, &self.schema(table), files, None, None)
    }
}

impl RewriteReader<'_> {
    /// Returns the row ids of a data file.
    pub async fn row_ids(self, file: &DataFile) -> Result<RowIds> {
        let Some(first) = file.entry.data_file.first_row_id() else { return Ok(RowIds::None) };
        if !file.has_column(ROW_ID) {
            return Ok(RowIds::From(first));
        }
        let [ids, _] = fields();
        let read_options = ReadOptions {
            origin: Some(RowIdOrigin::of(file)),
            ..ReadOptions::all(Arc::new(Schema::new(vec![ids])))
        };
        let batches =
            open(self.tables.object_store().clone(), FileLocation::of(file), read_options).await;
        let mut batches = batches.map_err(|error| Error::from_arrow(&file.location, error))?;
        let mut runs = RowIdRuns::default();
        while let Some(batch) = batches.next().await {
            let batch = batch.map_err(|error| Error::from_arrow(&file.location, error))?;
            batch.column(0).as_primitive::<Int64Type>().iter().for_each(|id| runs.push(id));
        }
        Ok(RowIds::Runs(runs))
    }

    /// Returns the schema for rewriting a table's rows, including the lineage columns if the table
    /// has them.
    pub fn schema(self, table: &Table) -> SchemaRef {
        if has_row_ids(table.metadata()) { with_row_ids(&table.schema()) } else { table.schema() }
    }

    /// Appends the lineage columns with these ids to changed rows. A null id means a new row.
    /// Without row lineage, returns the rows unchanged.
    pub fn with_ids(
        self,
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

/// Clears the ids and sequence numbers of these rows, so that the commit assigns new values.
pub fn without_ids(batch: &RecordBatch, rows: &[usize]) -> Result<RecordBatch, ArrowError> {
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

/// Clears the row ids and sequence numbers that another branch has assigned since the merge base.
/// The target branch may have assigned the same values to other rows.
pub fn without_ids_after_base(
    batch: &RecordBatch,
    next_row_id: u64,
    sequence_number: i64,
) -> Result<RecordBatch, ArrowError> {
    let own = own_columns(batch.schema_ref());
    if own == batch.num_columns() {
        return Ok(batch.clone());
    }
    let mut columns = batch.columns().to_vec();
    let ids = columns[own].as_primitive::<Int64Type>().clone();
    let numbers = columns[own + 1].as_primitive::<Int64Type>().clone();
    let is_in_base = |row: usize| ids.is_valid(row) && (ids.value(row) as u64) < next_row_id;
    let new_ids = (0..ids.len()).map(|row| is_in_base(row).then(|| ids.value(row)));
    let new_numbers = (0..ids.len()).map(|row| {
        let known = numbers.is_valid(row) && numbers.value(row) <= sequence_number;
        (is_in_base(row) && known).then(|| numbers.value(row))
    });
    columns[own] = Arc::new(new_ids.collect::<Int64Array>());
    columns[own + 1] = Arc::new(new_numbers.collect::<Int64Array>());
    RecordBatch::try_new(batch.schema(), columns)
}
