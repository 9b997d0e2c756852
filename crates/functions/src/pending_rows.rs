//! Computed rows of a stream that are not sent yet. They are combined or split into batches, each
//! of which fits into one file.

use arrow::array::RecordBatch;
use futures::StreamExt;
use futures::stream::Fuse;

use crate::{Result, RowStream};

/// Maximum bytes and rows of a batch. A batch that consists of one large row may have more bytes.
const BATCH_BYTES_MAX: usize = 8 << 20;
const BATCH_ROWS_MAX: usize = 1 << 17;

/// Computed rows that have not been sent yet. Some are already split into smaller batches.
pub(crate) struct PendingRows {
    rows: Fuse<RowStream>,
    waiting: std::vec::IntoIter<(RecordBatch, usize)>,
}

impl PendingRows {
    pub(crate) fn new(rows: RowStream) -> Self {
        PendingRows { rows: rows.fuse(), waiting: Vec::new().into_iter() }
    }

    /// Returns the rows of the next batch; `None` after the last batch.
    pub(crate) async fn next(&mut self) -> Result<Option<Vec<RecordBatch>>> {
        let (mut taken, mut rows, mut bytes) = (Vec::new(), 0, 0);
        loop {
            while let Some((batch, size)) = self.waiting.as_slice().first() {
                let is_full =
                    rows + batch.num_rows() > BATCH_ROWS_MAX || bytes + size > BATCH_BYTES_MAX;
                if is_full && !taken.is_empty() {
                    return Ok(Some(taken));
                }
                (rows, bytes) = (rows + batch.num_rows(), bytes + size);
                taken.extend(self.waiting.next().map(|(batch, _)| batch));
            }
            let Some(batch) = self.rows.next().await else {
                return Ok((!taken.is_empty()).then_some(taken));
            };
            self.waiting = cut(&batch?)?.into_iter();
        }
    }
}

/// Splits a batch into batches that are small enough for one file. Returns each smaller batch with
/// its approximate size in bytes.
fn cut(batch: &RecordBatch) -> Result<Vec<(RecordBatch, usize)>> {
    let (rows, bytes) = (batch.num_rows(), headwater_shared_memory::bytes_of(batch)?);
    let pieces = rows.div_ceil(BATCH_ROWS_MAX).max(bytes.div_ceil(BATCH_BYTES_MAX)).max(1);
    let each = rows.div_ceil(pieces).max(1);
    let piece = |start: usize| (batch.slice(start, each.min(rows - start)), bytes / pieces);
    Ok((0..rows).step_by(each).map(piece).collect())
}
