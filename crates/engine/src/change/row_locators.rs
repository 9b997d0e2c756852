//! Positions of the rows that a change affects, collected from the query's result.

use std::collections::BTreeMap;

use arrow::array::{AsArray, BooleanArray, RecordBatch};
use arrow::datatypes::{Int32Type, Int64Type};
use headwater_tables::Positions;

use crate::error::{Error, Result};

/// Row positions by file number in the scan plan, and the affected row count.
#[derive(Debug, Default)]
pub(super) struct RowPositions {
    /// Deleted rows by file.
    pub rows: BTreeMap<usize, Positions>,
    /// Number of deleted, updated and inserted rows.
    pub count: u64,
}

impl RowPositions {
    /// Adds a batch whose first two columns are file and row index; nulls mark an inserted row.
    /// Returns which rows occur for the first time.
    pub(super) fn add(&mut self, batch: &RecordBatch) -> Result<BooleanArray> {
        let unplaced = || Error::Internal { message: "a changed row has no position".to_owned() };
        let files = batch.column(0).as_primitive_opt::<Int32Type>().ok_or_else(unplaced)?;
        let rows = batch.column(1).as_primitive_opt::<Int64Type>().ok_or_else(unplaced)?;
        let mut firsts = Vec::with_capacity(batch.num_rows());
        for (file, row) in files.iter().zip(rows) {
            let Some(file) = file else {
                self.count += 1;
                firsts.push(true);
                continue;
            };
            let row = row.ok_or_else(unplaced)?;
            let first = self.rows.entry(file as usize).or_default().insert(row as u64);
            self.count += u64::from(first);
            firsts.push(first);
        }
        Ok(firsts.into())
    }
}
