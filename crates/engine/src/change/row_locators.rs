//! Where the rows lie that a change concerns, gathered from the answer of a query.

use std::collections::BTreeMap;

use arrow::array::{AsArray, RecordBatch};
use arrow::datatypes::{Int32Type, Int64Type};
use headwater_tables::Positions;

use crate::error::{Error, Result};

/// Rows by the number of their file in the scan plan, and how many rows a change concerns.
#[derive(Debug, Default)]
pub(super) struct Places {
    /// Rows that go, by file.
    pub rows: BTreeMap<usize, Positions>,
    /// Rows that go, change or come.
    pub count: u64,
}

impl Places {
    /// Takes in a batch of which the first two columns are the file and the row; where those are
    /// null, the row is new. False where a row came a second time.
    pub(super) fn add(&mut self, batch: &RecordBatch) -> Result<bool> {
        let unplaced = || Error::Internal { message: "a row to change has no place".to_owned() };
        let files = batch.column(0).as_primitive_opt::<Int32Type>().ok_or_else(unplaced)?;
        let rows = batch.column(1).as_primitive_opt::<Int64Type>().ok_or_else(unplaced)?;
        let mut once = true;
        for (file, row) in files.iter().zip(rows) {
            let Some(file) = file else {
                self.count += 1;
                continue;
            };
            let row = row.ok_or_else(unplaced)?;
            let first = self.rows.entry(file as usize).or_default().insert(row as u64);
            self.count += u64::from(first);
            once &= first;
        }
        Ok(once)
    }
}
