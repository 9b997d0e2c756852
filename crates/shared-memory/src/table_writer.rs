//! Writes tables to shared memory, or to disk if the memory quota is exhausted.

use std::io::BufWriter;

use arrow::array::RecordBatch;
use arrow::datatypes::{Schema, SchemaRef};
use arrow::error::ArrowError;
use arrow::ipc::writer::FileWriter;
use futures::{Stream, StreamExt};

use crate::blocking_io::run_blocking;
use crate::decode_limits::DecodeBudget;
use crate::extents::Extents;
use crate::ipc::IpcFooter;
use crate::quota::TableQuota;
use crate::spill_writer::{SpillLocation, SpillWriter};
use crate::{Error, MemoryFile, Result, SharedTable};

/// Size of the buffer for writes to the file, in bytes.
const WRITE_BYTES: usize = 1 << 18;

/// A writer of record batches to a memory file or to disk.
pub(crate) type Writer = FileWriter<BufWriter<SpillWriter>>;

impl SharedTable {
    /// Writes record batches of one schema to a new memory file and seals it.
    pub fn write<I>(schema: SchemaRef, batches: I) -> Result<Self>
    where
        I: IntoIterator<Item = Result<RecordBatch, ArrowError>>,
    {
        let mut writer = writer(&schema, None)?;
        let mut rows = 0;
        for batch in batches {
            let batch = batch?;
            rows += batch.num_rows() as u64;
            writer.write(&batch)?;
        }
        finish(writer, rows)
    }

    /// Writes a stream of record batches of one schema to a new memory file, which is sealed, or to
    /// disk if the quota is exhausted.
    pub async fn write_stream<S>(
        schema: SchemaRef,
        mut batches: S,
        table_quota: &TableQuota,
    ) -> Result<Self>
    where
        S: Stream<Item = Result<RecordBatch, ArrowError>> + Unpin,
    {
        let mut writer = writer(&schema, Some(table_quota))?;
        let mut rows = 0;
        while let Some(batch) = batches.next().await {
            let batch = batch?;
            rows += batch.num_rows() as u64;
            let write = move || {
                writer.write(&batch)?;
                Ok::<_, Error>(writer)
            };
            writer = run_blocking(write).await?;
        }
        run_blocking(move || finish(writer, rows)).await
    }
}

/// Creates a writer of record batches, whose file moves to disk if the quota is exhausted.
pub(crate) fn writer(schema: &Schema, table_quota: Option<&TableQuota>) -> Result<Writer> {
    let file = BufWriter::with_capacity(WRITE_BYTES, SpillWriter::new(table_quota)?);
    Ok(FileWriter::try_new(file, schema)?)
}

/// Ends the file of a writer, and opens it as a table.
pub(crate) fn finish(writer: Writer, rows: u64) -> Result<SharedTable> {
    let buffered = writer.into_inner()?;
    let file = buffered.into_inner().map_err(|error| ArrowError::from(error.into_error()))?;
    match file.finish() {
        SpillLocation::Memory(file, taken) => {
            let file = MemoryFile::seal(file.into())?;
            if let Some(taken) = taken {
                file.take(taken);
            }
            SharedTable::in_memory(Extents::whole(file), DecodeBudget::unlimited())
        }
        SpillLocation::Disk(file) => {
            let layout = IpcFooter::read(&file)?;
            Ok(SharedTable::on_disk(layout, rows, file))
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{ArrayRef, Int64Array};
    use futures::stream;
    use headwater_model::{ErrorCode, ToProblem};

    use super::*;

    #[tokio::test]
    async fn a_full_disk_is_reported() {
        let folder = tempfile::tempdir().unwrap();
        let table_quota = TableQuota::new(0, folder.path().join("rows"), 10_000);
        let numbers = Arc::new(Int64Array::from_iter_values(0..3)) as ArrayRef;
        let batch = RecordBatch::try_from_iter([("n", numbers)]).unwrap();
        let batches = stream::iter(vec![batch.clone(); 1_000]).map(Ok);
        let full =
            SharedTable::write_stream(batch.schema(), batches, &table_quota).await.unwrap_err();
        assert_eq!(full.code(), ErrorCode::DiskFull);
        assert_eq!(table_quota.disk_bytes(), 0);
    }
}
