//! The writer of one Parquet data file.
//!
//! Columns are encoded in parallel, on as many threads as there are processors. The order of rows
//! is preserved. A row group is buffered in memory until it is full. It is then uploaded while the
//! next row group is encoded.

use std::io::Write;
use std::sync::{Arc, LazyLock};

use arrow::array::{Array, ArrayRef, RecordBatch};
use arrow::datatypes::{FieldRef, SchemaRef};
use bytes::Bytes;
use futures::future::try_join_all;
use iceberg::spec::{DataContentType, DataFile, DataFileBuilder, DataFileFormat, Struct};
use parking_lot::Mutex;
use parquet::arrow::ArrowSchemaConverter;
use parquet::arrow::arrow_writer::{
    ArrowColumnChunk, ArrowColumnWriter, ArrowRowGroupWriterFactory, compute_leaves,
};
use parquet::basic::{Compression, ZstdLevel};
use parquet::errors::ParquetError;
use parquet::file::properties::{EnabledStatistics, WriterProperties};
use parquet::file::writer::SerializedFileWriter;

use crate::column_metrics::{NanCounts, count_nans, describe_columns};
use crate::storage::{Storage, Upload};
use crate::{Error, Result};

/// Minimum number of values in a batch for parallel encoding. For smaller batches, threads cost
/// more than they save.
const PARALLEL_VALUES_MIN: usize = 1 << 16;

/// Maximum number of rows per encoding step. After each step, the row group's size is checked.
const ENCODED_ROWS_MAX: usize = 1 << 16;

/// Limits of a row group.
#[derive(Debug, Clone, Copy)]
pub(crate) struct RowGroupLimits {
    pub(crate) rows: usize,
    pub(crate) bytes: usize,
}

/// Properties shared by all files of one write.
#[derive(Debug)]
pub(crate) struct WriteConfig {
    schema: SchemaRef,
    properties: Arc<WriterProperties>,
    limits: RowGroupLimits,
    threads: usize,
    /// The id of the table's sort order; `None` if the rows are not sorted.
    order_id: Option<i32>,
}

impl WriteConfig {
    pub(crate) fn new(
        schema: SchemaRef,
        limits: RowGroupLimits,
        order_id: Option<i32>,
    ) -> Result<Self> {
        let level = ZstdLevel::try_new(1).map_err(internal)?;
        let properties = WriterProperties::builder()
            .set_compression(Compression::ZSTD(level))
            .set_statistics_enabled(EnabledStatistics::Page)
            .set_created_by(concat!("headwater ", env!("CARGO_PKG_VERSION")).to_owned())
            .build();
        let properties = Arc::new(properties);
        Ok(WriteConfig { schema, properties, limits, threads: *THREADS, order_id })
    }
}

impl WriteConfig {
    /// Returns the schema of the files.
    pub(crate) fn schema(&self) -> SchemaRef {
        self.schema.clone()
    }
}

/// Number of columns that are encoded in parallel. The number is cached, because finding it out
/// takes a dozen system calls.
static THREADS: LazyLock<usize> =
    LazyLock::new(|| std::thread::available_parallelism().map_or(1, std::num::NonZero::get));

fn internal(error: impl std::fmt::Display) -> Error {
    Error::internal("written", error)
}

/// Encoded bytes that have not been uploaded.
#[derive(Debug, Clone, Default)]
struct EncodedBytes(Arc<Mutex<Vec<u8>>>);

impl Write for EncodedBytes {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// The row group that is being filled.
struct RowGroup {
    /// One writer per leaf column, in order. Empty while encoding jobs have the writers.
    writers: Vec<ArrowColumnWriter>,
    rows: usize,
}

/// A top-level column to encode, with the writers of its leaf columns.
struct ColumnEncodeTask {
    position: usize,
    field: FieldRef,
    column: ArrayRef,
    writers: Vec<ArrowColumnWriter>,
}

/// A data file to which rows can be written.
pub(crate) struct FileWriter {
    config: Arc<WriteConfig>,
    partition: Struct,
    upload: Upload,
    encoded: EncodedBytes,
    file: SerializedFileWriter<EncodedBytes>,
    factory: ArrowRowGroupWriterFactory,
    /// The number of leaf columns of each top-level column.
    leaves: Vec<usize>,
    group: Option<RowGroup>,
    groups: usize,
    nans: NanCounts,
    rows: u64,
}

impl FileWriter {
    /// Starts a file. Nothing is uploaded before the first row group is full.
    pub(crate) fn new(
        config: Arc<WriteConfig>,
        storage: Arc<Storage>,
        location: String,
        partition: Struct,
    ) -> Result<Self> {
        let upload = Upload::new(storage, location);
        let encoded = EncodedBytes::default();
        let parquet_schema =
            ArrowSchemaConverter::new().convert(&config.schema).map_err(internal)?;
        let root = parquet_schema.root_schema_ptr();
        let file = SerializedFileWriter::new(encoded.clone(), root, config.properties.clone())
            .map_err(internal)?;
        let factory = ArrowRowGroupWriterFactory::new(&file, config.schema.clone());
        let mut leaves = vec![0; config.schema.fields().len()];
        for leaf in 0..parquet_schema.num_columns() {
            leaves[parquet_schema.get_column_root_idx(leaf)] += 1;
        }
        let nans = NanCounts::new();
        Ok(FileWriter {
            config,
            partition,
            upload,
            encoded,
            file,
            factory,
            leaves,
            group: None,
            groups: 0,
            nans,
            rows: 0,
        })
    }

    /// Returns a lower bound of the size that the file would have if it were closed now, in bytes.
    pub(crate) fn size(&self) -> u64 {
        let group = self.group.as_ref().map_or(0, RowGroup::encoded_bytes);
        (self.file.bytes_written() + group) as u64
    }

    /// Returns the memory used by the current row group, in bytes.
    pub(crate) fn memory(&self) -> usize {
        self.group
            .as_ref()
            .map_or(0, |group| group.writers.iter().map(ArrowColumnWriter::memory_size).sum())
    }

    /// Writes rows of the table's schema.
    pub(crate) async fn write(&mut self, batch: &RecordBatch) -> Result<()> {
        count_nans(batch, &mut self.nans);
        self.rows += batch.num_rows() as u64;
        let mut first = 0;
        while first < batch.num_rows() {
            let capacity =
                self.config.limits.rows - self.group.as_ref().map_or(0, |group| group.rows);
            let rows = capacity.min(ENCODED_ROWS_MAX).min(batch.num_rows() - first);
            self.encode(&batch.slice(first, rows)).await?;
            first += rows;
            if self.group.as_ref().is_some_and(|group| group.is_full(self.config.limits)) {
                self.flush().await?;
            }
        }
        Ok(())
    }

    async fn encode(&mut self, batch: &RecordBatch) -> Result<()> {
        let group = match &mut self.group {
            Some(group) => group,
            none => {
                let writers = self.factory.create_column_writers(self.groups).map_err(internal)?;
                none.insert(RowGroup { writers, rows: 0 })
            }
        };
        group.rows += batch.num_rows();
        let mut writers = std::mem::take(&mut group.writers).into_iter();
        let columns = self.config.schema.fields().iter().zip(batch.columns()).zip(&self.leaves);
        let jobs =
            columns.enumerate().map(|(position, ((field, column), leaves))| ColumnEncodeTask {
                position,
                field: field.clone(),
                column: column.clone(),
                writers: writers.by_ref().take(*leaves).collect(),
            });
        let jobs: Vec<ColumnEncodeTask> = jobs.collect();
        let done = if batch.num_rows() * jobs.len() < PARALLEL_VALUES_MIN {
            run_jobs(jobs)?
        } else {
            run_parallel(jobs, self.config.threads).await?
        };
        group.writers = done.into_iter().flat_map(|job| job.writers).collect();
        Ok(())
    }

    /// Closes the current row group and uploads it.
    pub(crate) async fn flush(&mut self) -> Result<()> {
        let Some(group) = self.group.take() else { return Ok(()) };
        self.groups += 1;
        let large = group.encoded_bytes() >= PARALLEL_VALUES_MIN;
        let chunks = if large {
            let closing = tokio::task::spawn_blocking(move || close_writers(group.writers));
            closing.await.map_err(internal)?
        } else {
            close_writers(group.writers)
        };
        let mut row_group = self.file.next_row_group().map_err(internal)?;
        for chunk in chunks.map_err(internal)? {
            chunk.append_to_row_group(&mut row_group).map_err(internal)?;
        }
        row_group.close().map_err(internal)?;
        self.upload_encoded().await
    }

    async fn upload_encoded(&mut self) -> Result<()> {
        let bytes = std::mem::take(&mut *self.encoded.0.lock());
        self.upload.put(Bytes::from(bytes)).await
    }

    /// Aborts the upload of the file and discards its content.
    pub(crate) async fn abort(self) {
        self.upload.abort().await;
    }

    /// Closes the file and returns its manifest entry.
    pub(crate) async fn close(
        mut self,
        schema: &iceberg::spec::Schema,
        spec_id: i32,
    ) -> Result<DataFile> {
        self.flush().await?;
        let metadata = self.file.finish().map_err(internal)?;
        let bytes = self.file.bytes_written() as u64;
        self.upload_encoded().await?;
        let location = self.upload.location().to_owned();
        self.upload.finish().await?;
        let offsets = metadata.row_groups().iter().filter_map(|group| {
            let first = group.columns().first()?;
            Some(first.dictionary_page_offset().unwrap_or_else(|| first.data_page_offset()))
        });
        let mut builder = DataFileBuilder::default();
        builder
            .content(DataContentType::Data)
            .file_path(location)
            .file_format(DataFileFormat::Parquet)
            .partition(self.partition)
            .partition_spec_id(spec_id)
            .record_count(self.rows)
            .file_size_in_bytes(bytes)
            .split_offsets(Some(offsets.collect()));
        if let Some(order) = self.config.order_id {
            builder.sort_order_id(order);
        }
        describe_columns(&mut builder, &metadata, schema, self.nans);
        builder.build().map_err(internal)
    }
}

impl RowGroup {
    fn encoded_bytes(&self) -> usize {
        self.writers.iter().map(ArrowColumnWriter::get_estimated_total_bytes).sum()
    }

    fn is_full(&self, limits: RowGroupLimits) -> bool {
        self.rows >= limits.rows || self.encoded_bytes() >= limits.bytes
    }
}

fn close_writers(writers: Vec<ArrowColumnWriter>) -> Result<Vec<ArrowColumnChunk>, ParquetError> {
    writers.into_iter().map(ArrowColumnWriter::close).collect()
}

fn run_jobs(mut jobs: Vec<ColumnEncodeTask>) -> Result<Vec<ColumnEncodeTask>> {
    for job in &mut jobs {
        let leaves = compute_leaves(&job.field, &job.column).map_err(internal)?;
        for (writer, leaf) in job.writers.iter_mut().zip(leaves) {
            writer.write(&leaf).map_err(internal)?;
        }
    }
    Ok(jobs)
}

/// Distributes jobs over threads and waits for all jobs. The largest jobs are assigned first, each
/// to the thread with the least work.
async fn run_parallel(
    mut jobs: Vec<ColumnEncodeTask>,
    threads: usize,
) -> Result<Vec<ColumnEncodeTask>> {
    jobs.sort_by_cached_key(|job| std::cmp::Reverse(job.column.get_array_memory_size()));
    let mut queues: Vec<(usize, Vec<ColumnEncodeTask>)> =
        (0..threads.max(1)).map(|_| (0, Vec::new())).collect();
    for job in jobs {
        if let Some((load, queue)) = queues.iter_mut().min_by_key(|(load, _)| *load) {
            *load += job.column.get_array_memory_size();
            queue.push(job);
        }
    }
    let threads = queues.into_iter().map(|(_, queue)| async move {
        tokio::task::spawn_blocking(move || run_jobs(queue)).await.map_err(internal)?
    });
    let mut done: Vec<ColumnEncodeTask> =
        try_join_all(threads).await?.into_iter().flatten().collect();
    done.sort_by_key(|job| job.position);
    Ok(done)
}
