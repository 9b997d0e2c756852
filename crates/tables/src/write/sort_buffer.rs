//! Sorts rows by the table's sort order before they are written, in runs limited by memory. Each
//! run is written to separate files, so each file is sorted.

use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::compute::interleave_record_batch;
use arrow::error::ArrowError;

use crate::maintenance::{RowOrder, SortKeyEncoder, sorted_positions};
use crate::{Error, Result, Table};

/// Number of rows in an output batch.
const BATCH_ROWS: usize = 8192;

/// A buffer of rows that are to be sorted.
pub(super) struct SortBuffer {
    keys: Arc<SortKeyEncoder>,
    buffered: Vec<RecordBatch>,
    bytes: usize,
}

impl SortBuffer {
    /// Creates a buffer; `None` if the table has no sort order, or an unsupported sort order.
    pub fn of(table: &Table) -> Result<Option<Self>> {
        let Some(by) = table.sort_order() else { return Ok(None) };
        let keys = SortKeyEncoder::new(&RowOrder::Sort(by), &table.schema());
        let keys = Arc::new(keys.map_err(|error| Error::internal("sorted", error))?);
        Ok(Some(SortBuffer { keys, buffered: Vec::new(), bytes: 0 }))
    }

    /// Adds rows. Returns the memory of all buffered rows in bytes.
    pub fn push(&mut self, rows: RecordBatch) -> usize {
        self.bytes += rows.get_array_memory_size();
        self.buffered.push(rows);
        self.bytes
    }

    /// Returns the memory of the buffered rows in bytes.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Returns all buffered rows, sorted, and empties the buffer.
    pub async fn take(
        &mut self,
    ) -> Result<impl Iterator<Item = std::result::Result<RecordBatch, ArrowError>> + use<>> {
        let (keys, buffered) = (Arc::clone(&self.keys), std::mem::take(&mut self.buffered));
        self.bytes = 0;
        let sorting = tokio::task::spawn_blocking(move || {
            let positions = sorted_positions(&keys, &buffered)?;
            Ok::<_, ArrowError>((positions, buffered))
        });
        let sorted = sorting.await.map_err(|error| Error::internal("sorted", error))?;
        let (positions, buffered) = sorted.map_err(|error| Error::internal("sorted", error))?;
        let chunks = positions.len().div_ceil(BATCH_ROWS);
        Ok((0..chunks).map(move |chunk| {
            let all: Vec<&RecordBatch> = buffered.iter().collect();
            let end = positions.len().min((chunk + 1) * BATCH_ROWS);
            interleave_record_batch(&all, &positions[chunk * BATCH_ROWS..end])
        }))
    }
}
