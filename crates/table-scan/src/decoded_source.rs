//! The source of Parquet files that takes decoded columns from the cache.
//!
//! [`DecodedSource`] wraps the Parquet source of DataFusion, and leaves the planning to it:
//! filters, projections, sort orders and statistics. When a file is opened, [`DecodedScan::open`]
//! chooses whether the columns of the cache are used. If not, the wrapped source reads the file.

use std::fmt;
use std::sync::Arc;

use arrow::array::RecordBatch;
use datafusion::common::Result;
use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::datasource::listing::PartitionedFile;
use datafusion::datasource::physical_plan::{
    FileOpener, FileScanConfig, FileSource, ParquetFileReaderFactory, ParquetSource,
};
use datafusion::datasource::table_schema::TableSchema;
use datafusion::physical_expr::projection::ProjectionExprs;
use datafusion::physical_expr::{EquivalenceProperties, PhysicalExpr, PhysicalSortExpr};
use datafusion::physical_plan::filter_pushdown::FilterPushdownPropagation;
use datafusion::physical_plan::metrics::ExecutionPlanMetricsSet;
use datafusion::physical_plan::{DisplayFormatType, SortOrderPushdownResult};
use datafusion_datasource::morsel::{Morsel, MorselPlan, MorselPlanner, Morselizer};
use futures::stream::BoxStream;
use object_store::ObjectStore;

use crate::decoded_cache::DecodedCache;
use crate::decoded_scan::DecodedScan;

/// A source of Parquet files that uses the cache of decoded columns.
#[derive(Clone)]
pub(crate) struct DecodedSource {
    /// The Parquet source.
    pub plain: Arc<dyn FileSource>,
    /// The cache.
    pub cache: DecodedCache,
    /// The reader of the files.
    pub reader: Arc<dyn ParquetFileReaderFactory>,
    /// Maximum number of rows of a batch; `None` before DataFusion sets it.
    pub batch_rows: Option<usize>,
    /// True if the Parquet source reads files and row groups in the order of a sort.
    pub is_sorted: bool,
}

impl DecodedSource {
    /// Creates a source that wraps a Parquet source.
    pub(crate) fn new(
        plain: ParquetSource,
        cache: DecodedCache,
        reader: Arc<dyn ParquetFileReaderFactory>,
    ) -> Self {
        let plain: Arc<dyn FileSource> = Arc::new(plain);
        DecodedSource { plain, cache, reader, batch_rows: None, is_sorted: false }
    }

    fn wrap(&self, plain: Arc<dyn FileSource>) -> Arc<dyn FileSource> {
        Arc::new(DecodedSource { plain, ..self.clone() })
    }
}

impl FileSource for DecodedSource {
    fn create_file_opener(
        &self,
        store: Arc<dyn ObjectStore>,
        config: &FileScanConfig,
        partition: usize,
    ) -> Result<Arc<dyn FileOpener>> {
        self.plain.create_file_opener(store, config, partition)
    }

    fn create_morselizer(
        &self,
        store: Arc<dyn ObjectStore>,
        config: &FileScanConfig,
        partition: usize,
    ) -> Result<Box<dyn Morselizer>> {
        let plain = self.plain.create_morselizer(store, config, partition)?;
        let Some(scan) = DecodedScan::new(self, config, partition)? else { return Ok(plain) };
        Ok(Box::new(DecodedMorselizer { plain: Arc::from(plain), scan: Arc::new(scan) }))
    }

    fn table_schema(&self) -> &TableSchema {
        self.plain.table_schema()
    }

    fn with_batch_size(&self, batch_size: usize) -> Arc<dyn FileSource> {
        let plain = self.plain.with_batch_size(batch_size);
        Arc::new(DecodedSource { plain, batch_rows: Some(batch_size), ..self.clone() })
    }

    fn filter(&self) -> Option<Arc<dyn PhysicalExpr>> {
        self.plain.filter()
    }

    fn projection(&self) -> Option<&ProjectionExprs> {
        self.plain.projection()
    }

    fn metrics(&self) -> &ExecutionPlanMetricsSet {
        self.plain.metrics()
    }

    fn file_type(&self) -> &str {
        self.plain.file_type()
    }

    fn fmt_extra(&self, kind: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.plain.fmt_extra(kind, f)
    }

    fn supports_repartitioning(&self) -> bool {
        self.plain.supports_repartitioning()
    }

    fn try_pushdown_filters(
        &self,
        filters: Vec<Arc<dyn PhysicalExpr>>,
        config: &ConfigOptions,
    ) -> Result<FilterPushdownPropagation<Arc<dyn FileSource>>> {
        let pushed = self.plain.try_pushdown_filters(filters, config)?;
        Ok(FilterPushdownPropagation {
            filters: pushed.filters,
            updated_node: pushed.updated_node.map(|plain| self.wrap(plain)),
        })
    }

    fn try_pushdown_sort(
        &self,
        order: &[PhysicalSortExpr],
        properties: &EquivalenceProperties,
    ) -> Result<SortOrderPushdownResult<Arc<dyn FileSource>>> {
        let pushed = self.plain.try_pushdown_sort(order, properties)?;
        let is_sorted = matches!(pushed, SortOrderPushdownResult::Inexact { .. }) || self.is_sorted;
        let sorted = DecodedSource { is_sorted, ..self.clone() };
        Ok(pushed.map(|plain| sorted.wrap(plain)))
    }

    fn reorder_files(&self, files: Vec<PartitionedFile>) -> Vec<PartitionedFile> {
        self.plain.reorder_files(files)
    }

    fn try_pushdown_projection(
        &self,
        projection: &ProjectionExprs,
    ) -> Result<Option<Arc<dyn FileSource>>> {
        let pushed = self.plain.try_pushdown_projection(projection)?;
        Ok(pushed.map(|plain| self.wrap(plain)))
    }

    fn apply_expressions(
        &self,
        f: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> Result<TreeNodeRecursion>,
    ) -> Result<TreeNodeRecursion> {
        self.plain.apply_expressions(f)
    }
}

/// Opens the files of one partition of a scan.
struct DecodedMorselizer {
    plain: Arc<dyn Morselizer>,
    scan: Arc<DecodedScan>,
}

impl fmt::Debug for DecodedMorselizer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DecodedMorselizer").field("plain", &self.plain).finish_non_exhaustive()
    }
}

impl Morselizer for DecodedMorselizer {
    /// Plans the read of a file. The first read of columns is left to the Parquet source.
    fn plan_file(&self, file: PartitionedFile) -> Result<Box<dyn MorselPlanner>> {
        let known = self.scan.record_read(&file);
        if !known.contains(&true) {
            return self.plain.plan_file(file);
        }
        let (plain, scan) = (Arc::clone(&self.plain), Arc::clone(&self.scan));
        Ok(Box::new(DecodedPlanner { plain, scan, file, known }))
    }
}

/// Chooses how a file is read.
struct DecodedPlanner {
    plain: Arc<dyn Morselizer>,
    scan: Arc<DecodedScan>,
    file: PartitionedFile,
    /// For each expression of the projection, true if its columns were read before.
    known: Vec<bool>,
}

impl fmt::Debug for DecodedPlanner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let path = &self.file.object_meta.location;
        f.debug_struct("DecodedPlanner").field("file", path).finish_non_exhaustive()
    }
}

impl MorselPlanner for DecodedPlanner {
    fn plan(self: Box<Self>) -> Result<Option<MorselPlan>> {
        let DecodedPlanner { plain, scan, file, known } = *self;
        let planning = async move {
            let opened = scan.open(&file, &known).await?;
            let planner: Box<dyn MorselPlanner> = match opened {
                Some(stream) => Box::new(StreamPlanner(stream.into_batches())),
                None => plain.plan_file(file)?,
            };
            Ok(planner)
        };
        Ok(Some(MorselPlan::new().with_pending_planner(planning)))
    }
}

/// A file whose batches can be read.
struct StreamPlanner(BoxStream<'static, Result<RecordBatch>>);

impl fmt::Debug for StreamPlanner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StreamPlanner").finish_non_exhaustive()
    }
}

impl MorselPlanner for StreamPlanner {
    fn plan(self: Box<Self>) -> Result<Option<MorselPlan>> {
        let morsel: Box<dyn Morsel> = self;
        Ok(Some(MorselPlan::new().with_morsels(vec![morsel])))
    }
}

impl Morsel for StreamPlanner {
    fn into_stream(self: Box<Self>) -> BoxStream<'static, Result<RecordBatch>> {
        self.0
    }
}
