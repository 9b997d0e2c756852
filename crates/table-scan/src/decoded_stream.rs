//! Reads a file, and takes columns from the cache of decoded columns.
//!
//! For each row group, the columns that are not cached are decoded in one pass, and combined with
//! the cached columns batch by batch. Columns that should be kept are added to the cache after the
//! last batch of the row group. If the stream is dropped or fails before, the cache keeps nothing.

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::Arc;

use arrow::array::{ArrayRef, Int64Array, RecordBatch, RecordBatchOptions};
use arrow::datatypes::{Schema, SchemaRef};
use datafusion::common::{Result, internal_err};
use datafusion::datasource::listing::PartitionedFile;
use datafusion::datasource::physical_plan::ParquetFileMetrics;
use datafusion::physical_expr::projection::Projector;
use datafusion::physical_plan::metrics::{Count, MetricBuilder};
use futures::StreamExt;
use futures::stream::{self, BoxStream};
use parquet::DecodeResult;
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::ParquetRecordBatchReader;
use parquet::arrow::async_reader::AsyncFileReader;
use parquet::arrow::push_decoder::ParquetPushDecoderBuilder;
use parquet::file::metadata::ColumnChunkMetaData;

use crate::decoded_cache::ColumnFill;
use crate::decoded_column::DecodedColumn;
use crate::decoded_scan::{DecodedScan, FileColumns, SelectedRowGroup};
use crate::row_group_pruning::RowGroupPruning;

/// The read of one file.
pub(crate) struct DecodedStream {
    scan: Arc<DecodedScan>,
    file: PartitionedFile,
    columns: FileColumns,
    pruning: RowGroupPruning,
    row_groups: VecDeque<SelectedRowGroup>,
    current: Option<RowGroupRead>,
    /// Reader of the columns that are not cached, created when first needed.
    reader: Option<Box<dyn AsyncFileReader + Send>>,
    /// Schema of the batches before the projection.
    schema: SchemaRef,
    projector: Projector,
    metrics: ParquetFileMetrics,
    bytes_cached: Count,
}

/// The read of one row group.
struct RowGroupRead {
    schema: SchemaRef,
    columns: Vec<ColumnRead>,
    /// The columns that are not cached; `None` if all columns are cached.
    decoder: Option<ParquetRecordBatchReader>,
    /// Number of rows that the decoder has returned.
    decoded_rows: usize,
    /// Number of rows in the row group.
    rows: usize,
    /// The rows that are still to be returned, if all columns are cached.
    ranges: VecDeque<Range<usize>>,
    /// Index of the row group's first row in the file; `None` if the scan does not read indexes.
    first_row: Option<i64>,
    batch_rows: usize,
}

/// The read of one column in a row group.
enum ColumnRead {
    Cached(Arc<DecodedColumn>),
    /// The values are decoded, and collected for the cache if they should be kept.
    Decoded(Option<ColumnFill>),
}

impl DecodedStream {
    /// Creates the read of a file, without row groups.
    pub(crate) fn new(
        scan: Arc<DecodedScan>,
        file: PartitionedFile,
        columns: FileColumns,
        pruning: RowGroupPruning,
    ) -> Result<Self> {
        let fields = columns.columns.keys().map(|column| &columns.schema.fields()[*column]);
        let fields: Vec<_> = fields.chain(&columns.row_numbers).cloned().collect();
        let schema = Arc::new(Schema::new(fields));
        let projector = columns.projection.make_projector(&schema)?;
        let path = file.object_meta.location.to_string();
        let metrics = ParquetFileMetrics::new(scan.partition, &path, &scan.metrics);
        pruning.add_metrics(&metrics);
        let builder = MetricBuilder::new(&scan.metrics).with_new_label("filename", path);
        let bytes_cached = builder.counter("bytes_cached", scan.partition);
        Ok(DecodedStream {
            scan,
            file,
            columns,
            pruning,
            row_groups: VecDeque::new(),
            current: None,
            reader: None,
            schema,
            projector,
            metrics,
            bytes_cached,
        })
    }

    /// Sets the row groups to read.
    #[must_use]
    pub(crate) fn over(self, row_groups: Vec<SelectedRowGroup>) -> Self {
        DecodedStream { row_groups: row_groups.into(), ..self }
    }

    /// Returns the batches of the file.
    pub(crate) fn into_batches(self) -> BoxStream<'static, Result<RecordBatch>> {
        let batches = stream::try_unfold(self, |mut state| async move {
            let batch = state.next_batch().await;
            batch.map(|batch| batch.map(|batch| (batch, state)))
        });
        batches.boxed()
    }

    async fn next_batch(&mut self) -> Result<Option<RecordBatch>> {
        loop {
            if let Some(read) = &mut self.current {
                if let Some(batch) = read.next_batch()? {
                    return self.projected(&batch).map(Some);
                }
                self.current = None;
            }
            let Some(row_group) = self.row_groups.pop_front() else { return Ok(None) };
            if self.rows(row_group.index) == 0 {
                continue;
            }
            if self.pruning.excludes(row_group.index) {
                self.metrics.row_groups_pruned_dynamic_filter.add(1);
                continue;
            }
            self.current = Some(self.open(row_group).await?);
        }
    }

    /// Applies the projection of the scan to a batch.
    fn projected(&self, batch: &RecordBatch) -> Result<RecordBatch> {
        let projected = self.projector.project_batch(batch)?;
        let schema = &self.scan.output_schema;
        if self.projector.output_schema() == schema {
            return Ok(projected);
        }
        // The metadata or the nullability of the file's columns differs.
        let options = RecordBatchOptions::new().with_row_count(Some(projected.num_rows()));
        let columns = projected.columns().to_vec();
        Ok(RecordBatch::try_new_with_options(Arc::clone(schema), columns, &options)?)
    }

    /// Starts the read of a row group.
    async fn open(&mut self, row_group: SelectedRowGroup) -> Result<RowGroupRead> {
        let index = row_group.index;
        let (mut columns, mut missing) = (Vec::new(), Vec::new());
        for (column, keeps) in &self.columns.columns {
            let data_type = self.columns.schema.field(*column).data_type();
            let key = self.columns.key(index, *column);
            if let Some(cached) = self.scan.cache.get(&key, data_type) {
                let bytes =
                    self.columns.bytes(index, *column, ColumnChunkMetaData::compressed_size);
                self.bytes_cached.add(bytes as usize);
                columns.push(ColumnRead::Cached(cached));
                continue;
            }
            let bytes = self.columns.bytes(index, *column, ColumnChunkMetaData::uncompressed_size);
            let fill = if *keeps { self.scan.cache.fill(key, data_type, bytes) } else { None };
            columns.push(ColumnRead::Decoded(fill));
            missing.push(*column);
        }
        let rows = self.rows(index);
        let mut ranges = VecDeque::new();
        let decoder = if missing.is_empty() {
            match row_group.rows {
                Some(selected) => ranges.extend(selected),
                None => ranges.push_back(0..rows),
            }
            None
        } else {
            Some(self.decoder(index, missing).await?)
        };
        let first_row: i64 = (0..index).map(|before| self.rows(before) as i64).sum();
        Ok(RowGroupRead {
            schema: Arc::clone(&self.schema),
            columns,
            decoder,
            decoded_rows: 0,
            rows,
            ranges,
            first_row: self.columns.row_numbers.as_ref().map(|_| first_row),
            batch_rows: self.scan.batch_rows.max(1),
        })
    }

    /// Reads some columns of a row group, and returns the decoder of their values.
    async fn decoder(
        &mut self,
        row_group: usize,
        columns: Vec<usize>,
    ) -> Result<ParquetRecordBatchReader> {
        let mut reader = if let Some(reader) = self.reader.take() {
            reader
        } else {
            let (hint, file) = (self.file.metadata_size_hint, self.file.clone());
            let (partition, metrics) = (self.scan.partition, &self.scan.metrics);
            self.scan.reader.create_reader(partition, file, hint, metrics)?
        };
        let footer = self.columns.footer.clone();
        let mask = ProjectionMask::roots(footer.parquet_schema(), columns);
        let mut decoder = ParquetPushDecoderBuilder::new_with_metadata(footer)
            .with_projection(mask)
            .with_row_groups(vec![row_group])
            .with_batch_size(self.scan.batch_rows)
            .build()?;
        loop {
            match decoder.try_next_reader()? {
                DecodeResult::NeedsData(ranges) => {
                    let bytes = reader.get_byte_ranges(ranges.clone()).await?;
                    decoder.push_ranges(ranges, bytes)?;
                }
                DecodeResult::Data(batches) => {
                    self.reader = Some(reader);
                    return Ok(batches);
                }
                DecodeResult::Finished => {
                    return internal_err!("the reader returned no rows of a row group");
                }
            }
        }
    }

    /// Returns the number of rows in a row group.
    fn rows(&self, row_group: usize) -> usize {
        self.columns.footer.metadata().row_group(row_group).num_rows() as usize
    }
}

impl RowGroupRead {
    /// Returns the next batch; `None` at the end of the row group.
    fn next_batch(&mut self) -> Result<Option<RecordBatch>> {
        let Some(decoder) = &mut self.decoder else { return self.next_cached() };
        if let Some(decoded) = decoder.next() {
            return self.combined(&decoded?).map(Some);
        }
        self.decoder = None;
        self.keep_columns()?;
        Ok(None)
    }

    /// Returns the next rows of the selected ranges. A batch ends at the end of a chunk, so that no
    /// values are copied.
    fn next_cached(&mut self) -> Result<Option<RecordBatch>> {
        let Some(range) = self.ranges.front_mut() else { return Ok(None) };
        let first = range.start;
        let mut count = range.len().min(self.batch_rows);
        if let Some(ColumnRead::Cached(column)) = self.columns.first() {
            count = count.min(column.rows_in_chunk(first));
        }
        if count == 0 {
            return internal_err!("a cached column has fewer rows than its row group");
        }
        range.start += count;
        if range.start >= range.end {
            self.ranges.pop_front();
        }
        let mut arrays = Vec::with_capacity(self.schema.fields().len());
        for column in &self.columns {
            let ColumnRead::Cached(column) = column else {
                return internal_err!("a column of a cached row group is not cached");
            };
            arrays.push(column.slice(first, count)?);
        }
        self.batch(arrays, first, count).map(Some)
    }

    /// Combines decoded values with the cached values of the same rows.
    fn combined(&mut self, decoded: &RecordBatch) -> Result<RecordBatch> {
        let (first, count) = (self.decoded_rows, decoded.num_rows());
        let mut chunks = decoded.columns().iter();
        let mut arrays = Vec::with_capacity(self.schema.fields().len());
        for column in &mut self.columns {
            let fill = match column {
                ColumnRead::Cached(column) => {
                    arrays.push(column.slice(first, count)?);
                    continue;
                }
                ColumnRead::Decoded(fill) => fill,
            };
            let Some(chunk) = chunks.next() else {
                return internal_err!("the reader did not return all columns");
            };
            if fill.as_mut().is_some_and(|fill| !fill.push(chunk)) {
                *fill = None;
            }
            arrays.push(Arc::clone(chunk));
        }
        self.decoded_rows += count;
        self.batch(arrays, first, count)
    }

    /// Keeps the decoded columns after their last rows.
    fn keep_columns(&mut self) -> Result<()> {
        if self.decoded_rows != self.rows {
            let (decoded, rows) = (self.decoded_rows, self.rows);
            return internal_err!("the reader returned {decoded} of {rows} rows of a row group");
        }
        for column in &mut self.columns {
            if let ColumnRead::Decoded(fill) = column
                && let Some(fill) = fill.take()
            {
                fill.finish();
            }
        }
        Ok(())
    }

    /// Creates a batch of rows. Adds the column with the indexes of the rows.
    fn batch(&self, mut arrays: Vec<ArrayRef>, first: usize, count: usize) -> Result<RecordBatch> {
        if let Some(first_row) = self.first_row {
            let from = first_row + first as i64;
            let rows = Int64Array::from_iter_values(from..from + count as i64);
            arrays.push(Arc::new(rows));
        }
        let options = RecordBatchOptions::new().with_row_count(Some(count));
        Ok(RecordBatch::try_new_with_options(Arc::clone(&self.schema), arrays, &options)?)
    }
}
