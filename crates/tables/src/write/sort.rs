//! Rows put in the order that a table wants before they are written: as many at once as memory bears,
//! so that each file is in order by itself.

use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::compute::interleave_record_batch;
use arrow::error::ArrowError;

use crate::upkeep::{Keys, Order, places};
use crate::{Error, Result, Table};

/// Rows in a batch that is handed on.
const BATCH_ROWS: usize = 8192;

/// Rows that wait to be put in order.
pub(super) struct Sorting {
    keys: Arc<Keys>,
    held: Vec<RecordBatch>,
    bytes: usize,
}

impl Sorting {
    /// None for a table that wants no order, or one that is not made here.
    pub fn of(table: &Table) -> Result<Option<Self>> {
        let Some(by) = table.sort_order() else { return Ok(None) };
        let keys = Keys::new(&Order::Sort(by), &table.schema());
        let keys = Arc::new(keys.map_err(|error| Error::internal("sorted", error))?);
        Ok(Some(Sorting { keys, held: Vec::new(), bytes: 0 }))
    }

    /// Keeps rows, and gives the bytes of all that are kept.
    pub fn hold(&mut self, rows: RecordBatch) -> usize {
        self.bytes += rows.get_array_memory_size();
        self.held.push(rows);
        self.bytes
    }

    /// The bytes of the rows that are kept.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// All that are kept, in order.
    pub async fn take(
        &mut self,
    ) -> Result<impl Iterator<Item = std::result::Result<RecordBatch, ArrowError>> + use<>> {
        let (keys, held) = (Arc::clone(&self.keys), std::mem::take(&mut self.held));
        self.bytes = 0;
        let sorting = tokio::task::spawn_blocking(move || {
            let places = places(&keys, &held)?;
            Ok::<_, ArrowError>((places, held))
        });
        let sorted = sorting.await.map_err(|error| Error::internal("sorted", error))?;
        let (places, held) = sorted.map_err(|error| Error::internal("sorted", error))?;
        let chunks = places.len().div_ceil(BATCH_ROWS);
        Ok((0..chunks).map(move |chunk| {
            let all: Vec<&RecordBatch> = held.iter().collect();
            let end = places.len().min((chunk + 1) * BATCH_ROWS);
            interleave_record_batch(&all, &places[chunk * BATCH_ROWS..end])
        }))
    }
}
