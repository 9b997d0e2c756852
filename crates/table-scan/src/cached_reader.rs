//! Readers of Parquet files that use the cache of scanned columns.
//!
//! The reader in `CachedReaderFactory::footers` reads the footers of the files, and has a separate
//! cache for footers. The metric `bytes_scanned` counts only bytes that were read from the object
//! store; `bytes_cached` counts the other bytes.

use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use datafusion::datasource::listing::PartitionedFile;
use datafusion::datasource::physical_plan::ParquetFileReaderFactory;
use datafusion::physical_plan::metrics::{Count, ExecutionPlanMetricsSet, MetricBuilder};
use futures::FutureExt;
use futures::future::BoxFuture;
use object_store::ObjectStore;
use object_store::path::Path;
use parquet::arrow::arrow_reader::ArrowReaderOptions;
use parquet::arrow::async_reader::AsyncFileReader;
use parquet::errors::{ParquetError, Result};
use parquet::file::metadata::ParquetMetaData;

use crate::column_cache::{CachedRead, ColumnCache, FileKey, ReadFuture};

/// Factory of readers of data files.
#[derive(Debug)]
pub(crate) struct CachedReaderFactory {
    /// Factory of the readers of footers.
    pub footers: Arc<dyn ParquetFileReaderFactory>,
    /// The store with the data files.
    pub store: Arc<dyn ObjectStore>,
    /// The cache that all readers share.
    pub columns: ColumnCache,
}

impl ParquetFileReaderFactory for CachedReaderFactory {
    fn create_reader(
        &self,
        partition_index: usize,
        partitioned_file: PartitionedFile,
        metadata_size_hint: Option<usize>,
        metrics: &ExecutionPlanMetricsSet,
    ) -> datafusion::common::Result<Box<dyn AsyncFileReader + Send>> {
        let counter = |name: &'static str| {
            let location = partitioned_file.object_meta.location.to_string();
            let builder = MetricBuilder::new(metrics).with_new_label("filename", location);
            builder.counter(name, partition_index)
        };
        let (scanned, cached) = (counter("bytes_scanned"), counter("bytes_cached"));
        let path = partitioned_file.object_meta.location.clone();
        let file = Arc::new(FileKey { path, bytes: partitioned_file.object_meta.size });
        let footer = self.footers.create_reader(
            partition_index,
            partitioned_file,
            metadata_size_hint,
            metrics,
        )?;
        let (store, columns) = (Arc::clone(&self.store), self.columns.clone());
        Ok(Box::new(CachedReader { footer, store, columns, file, scanned, cached }))
    }
}

/// Reader of one data file.
struct CachedReader {
    footer: Box<dyn AsyncFileReader + Send>,
    store: Arc<dyn ObjectStore>,
    columns: ColumnCache,
    file: Arc<FileKey>,
    scanned: Count,
    cached: Count,
}

impl CachedReader {
    fn read(&self, ranges: Vec<Range<u64>>) -> BoxFuture<'static, Result<Vec<Bytes>>> {
        let (store, file) = (Arc::clone(&self.store), Arc::clone(&self.file));
        let columns = self.columns.clone();
        let (scanned, cached) = (self.scanned.clone(), self.cached.clone());
        async move {
            let path = file.path.clone();
            let read = move |wanted: Vec<Range<u64>>| -> ReadFuture {
                read_ranges(Arc::clone(&store), path.clone(), wanted).boxed()
            };
            let found: CachedRead = columns.read(&file, &ranges, read).await?;
            scanned.add(found.bytes_read as usize);
            cached.add(found.bytes_cached as usize);
            Ok(found.ranges)
        }
        .boxed()
    }
}

/// Reads ranges of a file from the object store.
async fn read_ranges(
    store: Arc<dyn ObjectStore>,
    path: Path,
    ranges: Vec<Range<u64>>,
) -> Result<Vec<Bytes>> {
    let read = store.get_ranges(&path, &ranges).await;
    read.map_err(|error| ParquetError::External(Box::new(error)))
}

impl AsyncFileReader for CachedReader {
    fn get_bytes(&mut self, range: Range<u64>) -> BoxFuture<'_, Result<Bytes>> {
        let reading = self.read(vec![range]);
        async move {
            let bytes = reading.await?.pop();
            bytes.ok_or_else(|| ParquetError::General("a range was not read".to_owned()))
        }
        .boxed()
    }

    fn get_byte_ranges(&mut self, ranges: Vec<Range<u64>>) -> BoxFuture<'_, Result<Vec<Bytes>>> {
        self.read(ranges)
    }

    fn get_metadata<'a>(
        &'a mut self,
        options: Option<&'a ArrowReaderOptions>,
    ) -> BoxFuture<'a, Result<Arc<ParquetMetaData>>> {
        self.footer.get_metadata(options)
    }
}
