//! Positions of the rows that a change affects, collected from the query's result.

use std::collections::BTreeMap;

use arrow::array::{AsArray, BooleanArray, RecordBatch};
use arrow::datatypes::{Int32Type, Int64Type};
use headwater_tables::Positions;

use crate::error::{Error, Result};

/// Positions of the affected rows, and their number.
#[derive(Debug, Default)]
pub(super) struct RowPositions {
    /// Positions of the rows to delete or replace, by the index of the file in the scan plan.
    pub rows: BTreeMap<usize, Positions>,
    /// Number of deleted, updated and inserted rows.
    pub count: u64,
}

impl RowPositions {
    /// Adds a batch whose first two columns are the file and the row index, both null for an
    /// inserted row. Returns, for each row, true if it was not added before.
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
