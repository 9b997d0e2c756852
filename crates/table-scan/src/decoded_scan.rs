//! Chooses whether the columns of a file are taken from the cache of decoded columns.
//!
//! The cache is used if a column of the file is read for the second time, or if enough columns are
//! cached. A scan with the cache decodes only the columns that are not cached, but all their pages.
//! The Parquet source decodes all columns, but only the pages that can contain matching rows. If a
//! scan has a limit, then the cache is used only if it contains all columns.

use std::collections::{BTreeMap, HashMap};
use std::ops::Range;
use std::sync::Arc;

use arrow::datatypes::{FieldRef, Schema, SchemaRef};
use datafusion::common::stats::Precision;
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::common::{ColumnStatistics, Result, ScalarValue};
use datafusion::datasource::listing::PartitionedFile;
use datafusion::datasource::physical_plan::parquet::apply_file_schema_type_coercions;
use datafusion::datasource::physical_plan::{
    FileScanConfig, ParquetFileReaderFactory, ParquetSource,
};
use datafusion::datasource::table_schema::TableSchema;
use datafusion::physical_expr::expressions::Column;
use datafusion::physical_expr::projection::ProjectionExprs;
use datafusion::physical_expr::simplifier::PhysicalExprSimplifier;
use datafusion::physical_expr::utils::collect_columns;
use datafusion::physical_expr::{DynamicFilterTracking, PhysicalExpr, ScalarFunctionExpr};
use datafusion::physical_expr_adapter::{
    PhysicalExprAdapterFactory, replace_columns_with_literals,
};
use datafusion::physical_plan::metrics::{ExecutionPlanMetricsSet, MetricBuilder};
use parquet::arrow::RowNumber;
use parquet::arrow::arrow_reader::{ArrowReaderMetadata, ArrowReaderOptions};
use parquet::file::metadata::{ColumnChunkMetaData, PageIndexPolicy, ParquetMetaData};

use crate::column_cache::FileKey;
use crate::decoded_cache::DecodedCache;
use crate::decoded_column::ColumnKey;
use crate::decoded_source::DecodedSource;
use crate::decoded_stream::DecodedStream;
use crate::row_group_pruning::{RowGroupPruning, file_is_pruned};
use crate::scan_cost::appended;

/// No column is decoded to keep it if the bounds of pages exclude more than this share of the rows.
const EXCLUDED_SHARE_MAX: f64 = 0.5;

/// Functions that the Parquet source replaces when it opens a file: those that depend on the file,
/// and the access to a field of a struct, for which the source decodes only this field.
const FUNCTIONS_OF_SOURCE: [&str; 3] = ["file_row_index", "get_field", "input_file_name"];

/// The scan of files in one partition of a plan.
pub(crate) struct DecodedScan {
    pub cache: DecodedCache,
    pub reader: Arc<dyn ParquetFileReaderFactory>,
    pub partition: usize,
    /// Maximum number of rows of a batch.
    pub batch_rows: usize,
    pub metrics: ExecutionPlanMetricsSet,
    /// Schema of the batches.
    pub output_schema: SchemaRef,
    pub options: PruningOptions,
    adapter: Arc<dyn PhysicalExprAdapterFactory>,
    table: TableSchema,
    projection: ProjectionExprs,
    predicate: Option<Arc<dyn PhysicalExpr>>,
    read_columns: ReadColumns,
    /// True if the scan has a limit, or belongs to a sort with a limit.
    reads_few_rows: bool,
}

/// The columns of the files that a projection reads.
struct ReadColumns {
    /// The names of the columns in the table.
    names: Vec<String>,
    /// For each expression of the projection, the indexes of its columns in `names`.
    expressions: Vec<Vec<usize>>,
}

/// Options for the pruning of row groups and pages.
#[derive(Debug, Clone, Copy)]
pub(crate) struct PruningOptions {
    /// True to prune row groups by their bounds.
    pub row_groups: bool,
    /// True to prune pages by their bounds.
    pub pages: bool,
    /// Maximum length of an `IN` list that is compared with bounds.
    pub in_list_max: usize,
}

/// The projection and the predicate of a scan.
struct ScanExpressions {
    projection: ProjectionExprs,
    predicate: Option<Arc<dyn PhysicalExpr>>,
}

/// The columns of a file that a scan reads.
pub(crate) struct FileColumns {
    /// Identity of the file in the cache.
    pub file: Arc<FileKey>,
    /// The footer, with the types that the scan uses.
    pub footer: ArrowReaderMetadata,
    /// Schema of the file with the types that the scan uses.
    pub schema: SchemaRef,
    /// For each leaf of the file, the index of its top-level column, ascending.
    pub leaves: Vec<usize>,
    /// Indexes of the top-level columns that the scan reads, ascending. The value is true if the
    /// column is kept in the cache.
    pub columns: BTreeMap<usize, bool>,
    /// The column with the indexes of the rows, if the scan reads it.
    pub row_numbers: Option<FieldRef>,
    /// The projection, in terms of `columns`, followed by `row_numbers`.
    pub projection: ProjectionExprs,
    /// The predicate, in terms of the schema.
    pub predicate: Option<Arc<dyn PhysicalExpr>>,
}

/// A row group that a scan reads.
pub(crate) struct SelectedRowGroup {
    /// Index in the file.
    pub index: usize,
    /// The rows that can match the predicate; `None` for all rows.
    pub rows: Option<Vec<Range<usize>>>,
}

impl DecodedScan {
    /// Creates the scan of a partition; `None` if its columns cannot be taken from the cache.
    pub(crate) fn new(
        source: &DecodedSource,
        config: &FileScanConfig,
        partition: usize,
    ) -> Result<Option<Self>> {
        let plain = &source.plain;
        let (Some(parquet), Some(projection), Some(batch_rows), Some(adapter)) = (
            plain.downcast_ref::<ParquetSource>(),
            plain.projection(),
            source.batch_rows,
            config.expr_adapter_factory.as_ref(),
        ) else {
            return Ok(None);
        };
        let options = &parquet.table_parquet_options().global;
        let (table, predicate) = (plain.table_schema().clone(), plain.filter());
        let filters_rows = options.pushdown_filters && predicate.is_some();
        if filters_rows || options.coerce_int96.is_some() || !has_only_row_numbers(&table) {
            return Ok(None);
        }
        // A sort with a limit passes a filter to the scan, which excludes more rows as it runs.
        let is_top = source.is_sorted
            && predicate.as_ref().is_some_and(|predicate| {
                DynamicFilterTracking::classify(predicate).contains_dynamic_filter()
            });
        for expr in projection.expr_iter() {
            if expr.exists(|node| Ok(is_of_source(node)))? {
                return Ok(None);
            }
        }
        Ok(Some(DecodedScan {
            cache: source.cache.clone(),
            reader: Arc::clone(&source.reader),
            partition,
            batch_rows,
            metrics: plain.metrics().clone(),
            output_schema: Arc::new(projection.project_schema(table.table_schema())?),
            options: PruningOptions {
                row_groups: options.pruning,
                pages: options.enable_page_index,
                in_list_max: parquet.max_in_list_size(),
            },
            adapter: Arc::clone(adapter),
            projection: projection.clone(),
            predicate,
            read_columns: ReadColumns::new(projection, &table),
            reads_few_rows: config.limit.is_some() || is_top,
            table,
        }))
    }

    /// Records that the scan reads a part of a file. Returns, for each expression of the
    /// projection, true if the expression reads only columns that were read before.
    pub(crate) fn record_read(&self, file: &PartitionedFile) -> Vec<bool> {
        let start = file.range.as_ref().map_or(0, |range| range.start);
        let ReadColumns { names, expressions } = &self.read_columns;
        let reads: Vec<(i64, &str)> = names.iter().map(|name| (start, name.as_str())).collect();
        let known = self.cache.record_reads(&file_key(file), &reads);
        let is_known = |columns: &Vec<usize>| {
            !columns.is_empty() && columns.iter().all(|column| known[*column])
        };
        expressions.iter().map(is_known).collect()
    }

    /// Opens a file. Returns `None` if the Parquet source should read the file. `known` is the
    /// result of [`DecodedScan::record_read`].
    pub(crate) async fn open(
        self: &Arc<Self>,
        file: &PartitionedFile,
        known: &[bool],
    ) -> Result<Option<DecodedStream>> {
        let expressions = self.with_constants(file)?;
        if file_is_pruned(expressions.predicate.as_ref(), self.table.file_schema(), file)? {
            return Ok(None);
        }
        // The metrics of the scan must not include this reader, because the Parquet source may read
        // the file.
        let unused = ExecutionPlanMetricsSet::new();
        let hint = file.metadata_size_hint;
        let mut reader = self.reader.create_reader(self.partition, file.clone(), hint, &unused)?;
        let options = ArrowReaderOptions::new().with_page_index_policy(PageIndexPolicy::Skip);
        let footer = reader.get_metadata(Some(&options)).await?;
        let Some(columns) = self.columns(file, footer, expressions, known)? else {
            return Ok(None);
        };
        let mut pruning = RowGroupPruning::new(self, &columns);
        let left = pruning.left_by_bounds(file);
        let all_cached = left.row_group_indexes().all(|group| self.has_all(&columns, group));
        if !all_cached {
            if self.reads_few_rows || pruning.has_bloom_filters(&left) {
                return Ok(None);
            }
            self.count_read(file, pruning.load_pages(&mut reader, &left).await?);
        }
        let (row_groups, excluded) = pruning.selected(left);
        let is_useful = all_cached || self.is_useful(&columns, &row_groups, excluded);
        if row_groups.is_empty() || !is_useful {
            return Ok(None);
        }
        let stream = DecodedStream::new(Arc::clone(self), file.clone(), columns, pruning)?;
        Ok(Some(stream.over(row_groups)))
    }

    /// Replaces the columns that have one value in all rows of a file by this value, as the Parquet
    /// source does.
    fn with_constants(&self, file: &PartitionedFile) -> Result<ScanExpressions> {
        let fields = self.table.table_partition_cols().iter();
        let parts = fields
            .zip(&file.partition_values)
            .map(|(field, value)| (field.name().clone(), value.clone()));
        let values: HashMap<String, ScalarValue> =
            constants(file, self.table.file_schema()).into_iter().chain(parts).collect();
        let replaced = |expr| replace_columns_with_literals(expr, &values);
        Ok(ScanExpressions {
            projection: self.projection.clone().try_map_exprs(replaced)?,
            predicate: self.predicate.clone().map(replaced).transpose()?,
        })
    }

    /// Finds the columns of a file that the scan reads; `None` if there are none.
    fn columns(
        &self,
        file: &PartitionedFile,
        footer: Arc<ParquetMetaData>,
        expressions: ScanExpressions,
        known: &[bool],
    ) -> Result<Option<FileColumns>> {
        let mut options = ArrowReaderOptions::new();
        let mut metadata = ArrowReaderMetadata::try_new(Arc::clone(&footer), options.clone())?;
        let table = self.table.file_schema();
        if let Some(coerced) = apply_file_schema_type_coercions(table, metadata.schema()) {
            options = options.with_schema(Arc::new(coerced));
            metadata = ArrowReaderMetadata::try_new(footer, options)?;
        }
        let schema = Arc::clone(metadata.schema());
        let virtual_columns = self.table.virtual_columns();
        let all = appended(&schema, virtual_columns);
        let adapter = self.adapter.create(appended(table, virtual_columns), Arc::clone(&all))?;
        let projection = expressions.projection.try_map_exprs(|expr| adapter.rewrite(expr))?;
        let mut columns: BTreeMap<usize, bool> = BTreeMap::new();
        let mut row_numbers = None;
        for (expr, known) in projection.expr_iter().zip(known) {
            for column in collect_columns(&expr) {
                if column.index() < schema.fields().len() {
                    *columns.entry(column.index()).or_insert(false) |= *known;
                } else {
                    row_numbers = virtual_columns.first().cloned();
                }
            }
        }
        if columns.is_empty() {
            return Ok(None);
        }
        let simplifier = PhysicalExprSimplifier::new(&all);
        let adapted = |expr| simplifier.simplify(adapter.rewrite(expr)?);
        let predicate = expressions.predicate.map(adapted).transpose()?;
        let positions = columns.keys().enumerate().map(|(position, index)| (*index, position));
        let positions: HashMap<usize, usize> = positions.collect();
        // The column with the indexes of the rows follows the other columns.
        let position = |index: usize| positions.get(&index).copied().unwrap_or(columns.len());
        let projection = projection.try_map_exprs(|expr| moved_columns(expr, &position))?;
        let parquet = metadata.parquet_schema();
        let leaves = (0..parquet.num_columns()).map(|leaf| parquet.get_column_root_idx(leaf));
        let leaves: Vec<usize> = leaves.collect();
        Ok(Some(FileColumns {
            file: Arc::new(file_key(file)),
            footer: metadata,
            schema,
            leaves,
            columns,
            row_numbers,
            projection,
            predicate,
        }))
    }

    /// Returns true if all columns of a row group are cached.
    fn has_all(&self, columns: &FileColumns, row_group: usize) -> bool {
        columns.columns.keys().all(|column| self.has(columns, row_group, *column))
    }

    /// Returns true if a column is decoded for the cache, or if the columns that are not cached
    /// take less time to decode than the pages of all columns that the Parquet source decodes.
    /// `excluded` is the share of the rows that the bounds of pages exclude.
    fn is_useful(
        &self,
        columns: &FileColumns,
        row_groups: &[SelectedRowGroup],
        excluded: f64,
    ) -> bool {
        let (mut all, mut decoded, mut keeps_any) = (0_u64, 0_u64, false);
        for row_group in row_groups.iter().map(|row_group| row_group.index) {
            for (column, keeps) in &columns.columns {
                let size = ColumnChunkMetaData::uncompressed_size;
                let bytes = columns.bytes(row_group, *column, size);
                all = all.saturating_add(bytes);
                if !self.has(columns, row_group, *column) {
                    decoded = decoded.saturating_add(bytes);
                    keeps_any |= *keeps;
                }
            }
        }
        keeps_any && excluded <= EXCLUDED_SHARE_MAX
            || (decoded as f64) < all as f64 * (1.0 - excluded)
    }

    fn has(&self, columns: &FileColumns, row_group: usize, column: usize) -> bool {
        let data_type = columns.schema.field(column).data_type();
        self.cache.contains(&columns.key(row_group, column), data_type)
    }

    /// Adds to the number of bytes that the scan has read from a file.
    fn count_read(&self, file: &PartitionedFile, bytes: u64) {
        if bytes > 0 {
            let path = file.object_meta.location.to_string();
            let builder = MetricBuilder::new(&self.metrics).with_new_label("filename", path);
            builder.counter("bytes_scanned", self.partition).add(bytes as usize);
        }
    }
}

impl ReadColumns {
    fn new(projection: &ProjectionExprs, table: &TableSchema) -> Self {
        let (mut indexes, mut expressions) = (HashMap::new(), Vec::new());
        for expr in projection.expr_iter() {
            let mut columns = Vec::new();
            for name in file_columns(&expr, table) {
                let next = indexes.len();
                columns.push(*indexes.entry(name).or_insert(next));
            }
            expressions.push(columns);
        }
        let mut names = vec![String::new(); indexes.len()];
        for (name, index) in indexes {
            names[index] = name;
        }
        ReadColumns { names, expressions }
    }
}

impl FileColumns {
    /// Returns the identity of a column in a row group.
    pub(crate) fn key(&self, row_group: usize, column: usize) -> ColumnKey {
        ColumnKey { file: Arc::clone(&self.file), row_group, column }
    }

    /// Returns the size of a top-level column in a row group, summed over its leaves.
    pub(crate) fn bytes(
        &self,
        row_group: usize,
        column: usize,
        size: impl Fn(&ColumnChunkMetaData) -> i64,
    ) -> u64 {
        let first = self.leaves.partition_point(|root| *root < column);
        let end = self.leaves.partition_point(|root| *root <= column);
        let chunks = self.footer.metadata().row_group(row_group).columns().get(first..end);
        let sizes = chunks.unwrap_or_default().iter().map(|leaf| u64::try_from(size(leaf)));
        sizes.fold(0_u64, |sum, bytes| sum.saturating_add(bytes.unwrap_or(0)))
    }
}

fn file_key(file: &PartitionedFile) -> FileKey {
    FileKey { path: file.object_meta.location.clone(), bytes: file.object_meta.size }
}

/// Returns true if the only column that the reader computes, if any, is the index of the row.
fn has_only_row_numbers(table: &TableSchema) -> bool {
    let computed = table.virtual_columns();
    computed.len() <= 1
        && computed.iter().all(|field| field.has_valid_extension_type::<RowNumber>())
}

/// Returns the columns that, by the exact bounds in the manifests, have one value in all rows of a
/// file, with this value.
fn constants(file: &PartitionedFile, schema: &Schema) -> Vec<(String, ScalarValue)> {
    let Some(statistics) = &file.statistics else { return Vec::new() };
    let columns = schema.fields().iter().zip(&statistics.column_statistics);
    let constant = |(field, column): (&FieldRef, &ColumnStatistics)| {
        let Precision::Exact(nulls) = column.null_count else { return None };
        let value = match (&column.min_value, &column.max_value) {
            (Precision::Exact(min), Precision::Exact(max)) if nulls == 0 && min == max => {
                min.cast_to(field.data_type()).ok()?
            }
            _ if statistics.num_rows == Precision::Exact(nulls) => {
                ScalarValue::try_new_null(field.data_type()).ok()?
            }
            _ => return None,
        };
        Some((field.name().clone(), value))
    };
    columns.filter_map(constant).collect()
}

/// Returns true for a function that the Parquet source replaces.
fn is_of_source(expr: &Arc<dyn PhysicalExpr>) -> bool {
    let function = expr.downcast_ref::<ScalarFunctionExpr>();
    function.is_some_and(|function| FUNCTIONS_OF_SOURCE.contains(&function.name()))
}

/// Returns the names of the columns of the files that an expression reads.
fn file_columns(expr: &Arc<dyn PhysicalExpr>, table: &TableSchema) -> Vec<String> {
    let columns = collect_columns(expr).into_iter().map(|column| column.name().to_owned());
    columns.filter(|name| table.file_schema().field_with_name(name).is_ok()).collect()
}

/// Changes the indexes of the columns in an expression.
fn moved_columns(
    expr: Arc<dyn PhysicalExpr>,
    position: &impl Fn(usize) -> usize,
) -> Result<Arc<dyn PhysicalExpr>> {
    let moved = expr.transform_up(|node| {
        let Some(column) = node.downcast_ref::<Column>() else {
            return Ok(Transformed::no(node));
        };
        let moved = Column::new(column.name(), position(column.index()));
        Ok(Transformed::yes(Arc::new(moved) as Arc<dyn PhysicalExpr>))
    })?;
    Ok(moved.data)
}
