//! Rows that clients send, and the memory that they take.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use arrow::array::{Array, RecordBatch};
use arrow_flight::decode::FlightRecordBatchStream;
use futures::StreamExt;
use headwater_model::{ErrorCode, Identity, Principal, Problem};
use parking_lot::Mutex;
use tonic::Status;

use crate::grpc_status::to_status;
use crate::limits::{FlightLimits, account, exceeded};

/// The uploads of all clients.
#[derive(Clone)]
pub struct Uploads(Arc<UploadsInner>);

struct UploadsInner {
    limits: FlightLimits,
    /// The usage by current uploads, for each principal.
    used: Mutex<HashMap<String, UploadUsage>>,
}

#[derive(Default)]
struct UploadUsage {
    uploads: usize,
    bytes: usize,
}

/// The resources of one upload, which count against the principal's limits. Dropping this value
/// releases them.
pub struct UploadQuota {
    uploads: Uploads,
    identity: Identity,
    bytes: usize,
    /// True until the client has sent all rows. Until then, the upload counts as concurrent.
    is_open: bool,
}

impl Uploads {
    /// Creates the state of a server that receives no uploads yet.
    pub fn new(limits: FlightLimits) -> Self {
        Uploads(Arc::new(UploadsInner { limits, used: Mutex::default() }))
    }

    /// Begins an upload.
    ///
    /// Errors: the principal has too many uploads.
    pub fn begin(&self, principal: &Principal) -> Result<UploadQuota, Status> {
        let identity = principal.identity().clone();
        let mut used = self.0.used.lock();
        let own = used.entry(account(&identity)).or_default();
        if own.uploads >= self.0.limits.uploads_max {
            let what = format!("{} concurrent uploads", own.uploads);
            return Err(exceeded(&identity, &what, "Wait until one of them ends."));
        }
        own.uploads += 1;
        Ok(UploadQuota { uploads: self.clone(), identity, bytes: 0, is_open: true })
    }

    /// Returns the next batch of an upload; `None` after the last one.
    ///
    /// Errors: the client sends nothing for too long.
    pub async fn next(
        &self,
        rows: &mut FlightRecordBatchStream,
    ) -> Result<Option<RecordBatch>, Status> {
        let batch = self.in_time(rows.next()).await?;
        batch.transpose().map_err(Status::from)
    }

    /// Waits for an operation that receives a message of a client.
    ///
    /// Errors: the client sends nothing for too long.
    pub async fn in_time<T>(&self, work: impl Future<Output = T>) -> Result<T, Status> {
        let idle = self.0.limits.upload_idle;
        tokio::time::timeout(idle, work).await.map_err(|_| too_slow(idle))
    }
}

impl UploadQuota {
    /// Charges the memory of a batch to the principal.
    ///
    /// Errors: the uploads of the principal take too much memory.
    pub fn add(&mut self, batch: &RecordBatch) -> Result<(), Status> {
        let (bytes, max) = (size(batch), self.uploads.0.limits.upload_bytes_max);
        let mut used = self.uploads.0.used.lock();
        let own = used.entry(account(&self.identity)).or_default();
        if own.bytes + bytes > max {
            let what = format!("{} bytes of uploads in memory (limit {max})", own.bytes + bytes);
            let hint = "Send smaller batches, or wait until other uploads end.";
            return Err(exceeded(&self.identity, &what, hint));
        }
        own.bytes += bytes;
        self.bytes += bytes;
        Ok(())
    }

    /// Returns true if an ingestion should insert the rows that it has received. Concurrent
    /// ingestions insert smaller chunks, so that together they take about half of the memory of the
    /// principal.
    pub fn is_full(&self) -> bool {
        let limits = &self.uploads.0.limits;
        let used = self.uploads.0.used.lock();
        let uploads = used.get(&account(&self.identity)).map_or(1, |own| own.uploads.max(1));
        self.bytes >= limits.chunk_bytes.min(limits.upload_bytes_max / (2 * uploads))
    }

    /// Returns the memory of the upload, in bytes.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Releases the memory of all batches so far, after they were inserted.
    pub fn release(&mut self) {
        let bytes = std::mem::take(&mut self.bytes);
        self.subtract(0, bytes);
    }

    /// Ends the upload, so that it no longer counts as concurrent. Its memory counts until the
    /// quota is dropped.
    pub fn end(&mut self) {
        if std::mem::take(&mut self.is_open) {
            self.subtract(1, 0);
        }
    }

    fn subtract(&self, uploads: usize, bytes: usize) {
        let mut used = self.uploads.0.used.lock();
        let key = account(&self.identity);
        let Some(own) = used.get_mut(&key) else { return };
        own.uploads -= uploads;
        own.bytes -= bytes;
        if own.uploads == 0 && own.bytes == 0 {
            used.remove(&key);
        }
    }
}

impl Drop for UploadQuota {
    fn drop(&mut self) {
        self.end();
        self.release();
    }
}

/// Returns the size of a batch in bytes. If columns share a buffer, each column counts the part
/// that it uses.
pub fn size(batch: &RecordBatch) -> usize {
    let of_column = |column: &Arc<dyn Array>| {
        let used = column.to_data().get_slice_memory_size();
        used.unwrap_or_else(|_| column.get_array_memory_size())
    };
    batch.columns().iter().map(of_column).sum()
}

fn too_slow(idle: Duration) -> Status {
    let message = format!("the client sent no rows for {} s", idle.as_secs_f64());
    let problem = Problem::new(ErrorCode::TimeLimit, message);
    to_status(problem.with_hint("Compute the rows before you start the upload."))
}

#[cfg(test)]
mod tests {
    use arrow::array::{ArrayRef, Int64Array};

    use super::*;

    #[test]
    fn the_chunks_of_parallel_uploads_leave_memory_for_others() {
        let column: ArrayRef = Arc::new(Int64Array::from(vec![0; 100]));
        let batch = RecordBatch::try_from_iter([("a", column)]).expect("a batch");
        let limits = FlightLimits {
            uploads_max: 4,
            upload_bytes_max: 9_600,
            chunk_bytes: 2_400,
            ..FlightLimits::default()
        };
        let uploads = Uploads::new(limits);
        let begin = || uploads.begin(&Principal::owner()).expect("an upload");
        let mut one = begin();
        one.add(&batch).expect("within the limit");
        one.add(&batch).expect("within the limit");
        assert!(!one.is_full());
        let others = [begin(), begin(), begin()];
        assert!(one.is_full(), "a quarter of half of the memory");
        drop(others);
        assert!(!one.is_full());
        one.add(&batch).expect("within the limit");
        assert!(one.is_full(), "a chunk");
    }

    #[test]
    fn memory_is_limited_and_released() {
        let column: ArrayRef = Arc::new(Int64Array::from(vec![0; 100]));
        let batch = RecordBatch::try_from_iter([("a", column)]).expect("a batch");
        assert_eq!(size(&batch), 800);
        assert_eq!(size(&batch.slice(0, 10)), 80);
        let limits =
            FlightLimits { uploads_max: 2, upload_bytes_max: 2_000, ..FlightLimits::default() };
        let (uploads, owner) = (Uploads::new(limits), Principal::owner());
        let mut one = uploads.begin(&owner).expect("an upload");
        let mut two = uploads.begin(&owner).expect("an upload");
        let code = |status: Status| status.code();
        let exhausted = tonic::Code::ResourceExhausted;
        assert_eq!(uploads.begin(&owner).map(drop).map_err(code), Err(exhausted));
        one.add(&batch).expect("within the limit");
        two.add(&batch).expect("within the limit");
        assert_eq!(two.add(&batch).map_err(code), Err(exhausted));
        one.release();
        two.add(&batch).expect("released");
        // The end of an upload does not release its memory, because the rows are kept as
        // parameters.
        two.end();
        let mut three = uploads.begin(&owner).expect("an upload");
        assert_eq!(three.add(&batch).map_err(code), Err(exhausted));
        drop(two);
        three.add(&batch).expect("released");
        drop((one, three));
        assert!(uploads.0.used.lock().is_empty());
    }
}
