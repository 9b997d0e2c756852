//! Where the rows lie that a change concerns, gathered from the answer of a query.

use std::collections::BTreeMap;

use arrow::array::{AsArray, RecordBatch};
use arrow::datatypes::{Int32Type, Int64Type};
use futures::TryStreamExt;
use headwater_tables::Positions;

use crate::drive::Running;
use crate::error::{Error, Result};
use crate::planning_error::Limits;

/// Rows by the number of their file in the scan plan.
#[derive(Debug, Default)]
pub(super) struct Places(pub BTreeMap<usize, Positions>);

impl Places {
    /// Reads an answer of which the first two columns are the file and the row. A row may come
    /// several times.
    pub(super) async fn gather(mut running: Running, limits: Limits) -> Result<Self> {
        let mut places = Places::default();
        while let Some(batch) =
            running.stream.try_next().await.map_err(|error| limits.explain(&error))?
        {
            places.add(&batch)?;
        }
        Ok(places)
    }

    fn add(&mut self, batch: &RecordBatch) -> Result<()> {
        let unplaced = || Error::Internal { message: "a row to change has no place".to_owned() };
        let files = batch.column(0).as_primitive_opt::<Int32Type>().ok_or_else(unplaced)?;
        let rows = batch.column(1).as_primitive_opt::<Int64Type>().ok_or_else(unplaced)?;
        for (file, row) in files.iter().zip(rows) {
            let (Some(file), Some(row)) = (file, row) else { return Err(unplaced()) };
            self.0.entry(file as usize).or_default().insert(row as u64);
        }
        Ok(())
    }

    /// How many rows there are.
    pub(super) fn count(&self) -> u64 {
        self.0.values().map(Positions::len).sum()
    }
}
