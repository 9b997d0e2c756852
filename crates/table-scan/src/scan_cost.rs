//! The cost of a scan before it runs: files, rows and bytes, from the footers of the files.
//!
//! The cost counts only the row groups that the scan does not prune. Of these, it counts the
//! columns that the scan reads, and the page indexes of the columns in its conditions. The cost is
//! an upper bound: pruning by pages, by a limit and by run-time filters of joins is ignored.

use std::collections::{BTreeSet, HashSet};
use std::sync::Arc;

use arrow::datatypes::{FieldRef, Fields, Schema, SchemaRef};
use datafusion::common::Result;
use datafusion::datasource::listing::PartitionedFile;
use datafusion::datasource::physical_plan::parquet::{
    ParquetAccessPlan, RowGroupAccessPlanFilter, apply_file_schema_type_coercions,
};
use datafusion::datasource::physical_plan::{
    FileGroup, FileScanConfig, FileSource, ParquetFileMetrics, ParquetSource,
};
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_expr::utils::collect_columns;
use datafusion::physical_optimizer::pruning::PruningPredicateBuilder;
use datafusion::physical_plan::metrics::ExecutionPlanMetricsSet;
use futures::{StreamExt, TryStreamExt, stream};
use parquet::arrow::arrow_reader::{ArrowReaderMetadata, ArrowReaderOptions};
use parquet::file::metadata::{PageIndexPolicy, RowGroupMetaData};

/// Maximum number of footers that are read for a scan. All rows and bytes of the remaining files
/// count.
const FOOTERS_MAX: usize = 1_000;

/// Number of footers that are read at the same time.
const FOOTERS_AT_ONCE: usize = 16;

/// The maximum numbers of files, rows and bytes that a scan reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ScanCost {
    /// Number of files with at least one row group to read.
    pub files: u64,
    /// Number of rows in the row groups that the scan reads; `None` if it is unknown for a file.
    pub rows: Option<u64>,
    /// Compressed size of the columns that the scan reads, in bytes.
    pub bytes: u64,
}

impl Default for ScanCost {
    fn default() -> Self {
        ScanCost { files: 0, rows: Some(0), bytes: 0 }
    }
}

impl ScanCost {
    /// Adds the cost of another scan.
    pub fn add(&mut self, other: ScanCost) {
        self.files += other.files;
        self.rows = self.rows.zip(other.rows).map(|(rows, others)| rows + others);
        self.bytes += other.bytes;
    }
}

/// Returns the cost of a scan of Parquet files. Reads the footers of the files that are not cached.
pub async fn scan_cost(config: &FileScanConfig, source: &ParquetSource) -> Result<ScanCost> {
    let files = config.file_groups.iter().flat_map(FileGroup::files);
    // A file that is scanned in several ranges occurs several times, but counts once.
    let mut seen = HashSet::new();
    let files = files.filter(|file| seen.insert(&file.object_meta.location)).cloned();
    let costs =
        stream::iter(files.enumerate().collect::<Vec<_>>()).map(|(index, file)| async move {
            let known =
                if index < FOOTERS_MAX { footer_cost(config, source, &file).await? } else { None };
            Ok(known.unwrap_or_else(|| whole(&file)))
        });
    let add = |mut total: ScanCost, cost| async move {
        total.add(cost);
        Ok(total)
    };
    costs.buffer_unordered(FOOTERS_AT_ONCE).try_fold(ScanCost::default(), add).await
}

/// Returns the cost of a scan that reads all columns of a file.
fn whole(file: &PartitionedFile) -> ScanCost {
    let rows = file.statistics.as_ref().and_then(|known| known.num_rows.get_value().copied());
    ScanCost { files: 1, rows: rows.map(|rows| rows as u64), bytes: file.object_meta.size }
}

/// Returns the cost of scanning one file, computed from its footer; `None` if the scan has no
/// reader factory for footers.
async fn footer_cost(
    config: &FileScanConfig,
    source: &ParquetSource,
    file: &PartitionedFile,
) -> Result<Option<ScanCost>> {
    let Some(factory) = source.parquet_file_reader_factory() else { return Ok(None) };
    let metrics = ExecutionPlanMetricsSet::new();
    let mut reader = factory.create_reader(0, file.clone(), None, &metrics)?;
    let options = ArrowReaderOptions::new().with_page_index_policy(PageIndexPolicy::Skip);
    let footer = reader.get_metadata(Some(&options)).await?;
    let footer = ArrowReaderMetadata::try_new(footer, options)?;
    let scan = FileScan::new(config, source, footer.schema())?;
    let groups = footer.metadata().row_groups();
    let mut left = RowGroupAccessPlanFilter::new(ParquetAccessPlan::new_all(groups.len()));
    if let Some(predicate) = &scan.predicate {
        let builder = PruningPredicateBuilder::new().with_file_schema(Arc::clone(&scan.schema));
        let builder = builder.with_max_in_list_size(source.max_in_list_size());
        if let Some(predicate) = builder.build(Arc::clone(predicate)) {
            let counted = ParquetFileMetrics::new(0, file.object_meta.location.as_ref(), &metrics);
            let columns = footer.parquet_schema();
            left.prune_by_statistics(&scan.schema, columns, groups, &predicate, &counted);
        }
    }
    let (mut cost, mut rows) = (ScanCost::default(), 0);
    for group in left.row_group_indexes().map(|index| &groups[index]) {
        cost.files = 1;
        rows += u64::try_from(group.num_rows()).unwrap_or(0);
        for (leaf, column) in group.columns().iter().enumerate() {
            let root = footer.parquet_schema().get_column_root_idx(leaf);
            if scan.columns.contains(&root) {
                cost.bytes += u64::try_from(column.compressed_size()).unwrap_or(0);
            }
            if scan.filtered.contains(&root) {
                let filter = column.bloom_filter_length().unwrap_or(0);
                cost.bytes += u64::try_from(filter).unwrap_or(0);
            }
        }
    }
    if cost.files > 0 && !scan.filtered.is_empty() {
        cost.bytes += page_index_bytes(groups);
    }
    Ok(Some(ScanCost { rows: Some(rows), ..cost }))
}

/// Returns the size in bytes of all page indexes of a file. The scan reads them together.
pub(crate) fn page_index_bytes(groups: &[RowGroupMetaData]) -> u64 {
    let columns = groups.iter().flat_map(RowGroupMetaData::columns);
    let lengths = columns.map(|column| {
        let (index, offsets) = (column.column_index_length(), column.offset_index_length());
        i64::from(index.unwrap_or(0)) + i64::from(offsets.unwrap_or(0))
    });
    u64::try_from(lengths.sum::<i64>()).unwrap_or(0)
}

/// The scan of one file: columns and condition, expressed in the file's own columns.
struct FileScan {
    schema: SchemaRef,
    predicate: Option<Arc<dyn PhysicalExpr>>,
    /// Positions of the top-level columns that are read.
    columns: BTreeSet<usize>,
    /// Positions of the top-level columns in the conditions, whose page indexes are read.
    filtered: BTreeSet<usize>,
}

impl FileScan {
    fn new(config: &FileScanConfig, source: &ParquetSource, schema: &SchemaRef) -> Result<Self> {
        let table = source.table_schema();
        let schema = match apply_file_schema_type_coercions(table.file_schema(), schema) {
            Some(coerced) => Arc::new(coerced),
            None => Arc::clone(schema),
        };
        let count = schema.fields().len();
        let (logical, physical) = (
            appended(table.file_schema(), table.virtual_columns()),
            appended(&schema, table.virtual_columns()),
        );
        let factory = config.expr_adapter_factory.as_ref();
        let adapter = factory.map(|factory| factory.create(logical, physical)).transpose()?;
        let adapted = |expr: Arc<dyn PhysicalExpr>| match &adapter {
            Some(adapter) => adapter.rewrite(expr),
            None => Ok(expr),
        };
        let options = &source.table_parquet_options().global;
        let predicate = source.filter().map(adapted).transpose()?;
        let used = |expr: &Arc<dyn PhysicalExpr>| -> Vec<usize> {
            let found = collect_columns(expr).into_iter().map(|column| column.index());
            found.filter(|index| *index < count).collect()
        };
        let filtered: BTreeSet<usize> = predicate.iter().flat_map(used).collect();
        let mut columns = BTreeSet::new();
        if options.pushdown_filters {
            columns.extend(filtered.iter().copied());
        }
        match source.projection() {
            Some(projection) => {
                for one in projection.iter() {
                    columns.extend(used(&adapted(Arc::clone(&one.expr))?));
                }
            }
            None => columns.extend(0..count),
        }
        let predicate = predicate.filter(|_| options.pruning);
        Ok(FileScan { schema, predicate, columns, filtered })
    }
}

/// Returns a schema with further columns at its end.
pub(crate) fn appended(schema: &SchemaRef, columns: &Fields) -> SchemaRef {
    if columns.is_empty() {
        return Arc::clone(schema);
    }
    let all: Vec<FieldRef> = schema.fields().iter().chain(columns.iter()).cloned().collect();
    Arc::new(Schema::new_with_metadata(all, schema.metadata().clone()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sum_with_an_unknown_number_of_rows_is_unknown() {
        let mut total = ScanCost::default();
        total.add(ScanCost { files: 1, rows: Some(2), bytes: 3 });
        assert_eq!(total, ScanCost { files: 1, rows: Some(2), bytes: 3 });
        total.add(ScanCost { files: 1, rows: None, bytes: 4 });
        assert_eq!(total, ScanCost { files: 2, rows: None, bytes: 7 });
    }
}
