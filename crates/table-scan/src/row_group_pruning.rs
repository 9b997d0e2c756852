//! Prunes the row groups and pages of one file by their bounds, as the Parquet source does.
//!
//! Filters of joins and sorts can change while a scan runs. Before a row group is read, its bounds
//! are compared with the current filters again.

use std::ops::Range;
use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use datafusion::common::Result;
use datafusion::datasource::listing::PartitionedFile;
use datafusion::datasource::physical_plan::ParquetFileMetrics;
use datafusion::datasource::physical_plan::parquet::{
    PagePruningAccessPlanFilter, ParquetAccessPlan, RowGroupAccess, RowGroupAccessPlanFilter,
};
use datafusion::physical_expr::utils::collect_columns;
use datafusion::physical_expr::{DynamicFilterTracker, DynamicFilterTracking, PhysicalExpr};
use datafusion::physical_optimizer::pruning::{
    FilePruner, PruningPredicate, PruningPredicateBuilder,
};
use datafusion::physical_plan::metrics::{Count, ExecutionPlanMetricsSet, PruningMetrics};
use parquet::arrow::arrow_reader::{ArrowReaderOptions, RowSelection};
use parquet::arrow::async_reader::AsyncFileReader;
use parquet::file::metadata::{PageIndexPolicy, ParquetMetaData, RowGroupMetaData};

use crate::decoded_scan::{DecodedScan, FileColumns, PruningOptions, SelectedRowGroup};
use crate::scan_cost::page_index_bytes;

/// The pruning of one file.
pub(crate) struct RowGroupPruning {
    options: PruningOptions,
    schema: SchemaRef,
    predicate: Option<Arc<dyn PhysicalExpr>>,
    /// The predicate as conditions on bounds, with the filters of joins and sorts that were current
    /// when it was built.
    bounds: Option<Arc<PruningPredicate>>,
    /// The conditions on the bounds of pages.
    pages: Option<PagePruningAccessPlanFilter>,
    tracking: DynamicFilterTracking,
    /// True if the filters of joins and sorts changed after the first pruning.
    has_changed: bool,
    footer: Arc<ParquetMetaData>,
    /// Metrics of the pruning, which are not part of the scan's metrics.
    counted: ParquetFileMetrics,
}

/// Returns true if the bounds of a file in the manifests exclude all of its rows.
pub(crate) fn file_is_pruned(
    predicate: Option<&Arc<dyn PhysicalExpr>>,
    schema: &SchemaRef,
    file: &PartitionedFile,
) -> Result<bool> {
    let Some(predicate) = predicate else { return Ok(false) };
    match FilePruner::try_new(Arc::clone(predicate), schema, file, Count::new()) {
        Some(mut pruner) => pruner.should_prune(),
        None => Ok(false),
    }
}

impl RowGroupPruning {
    /// Prepares the pruning of a file.
    pub(crate) fn new(scan: &DecodedScan, columns: &FileColumns) -> Self {
        let predicate = columns.predicate.clone();
        // Subscribe to changes before the first pruning, so that no change is missed.
        let tracking = match &predicate {
            Some(predicate) => DynamicFilterTracking::classify(predicate),
            None => DynamicFilterTracking::Static,
        };
        let pages = predicate.as_ref().filter(|_| scan.options.pages).map(|predicate| {
            PagePruningAccessPlanFilter::new(predicate, Arc::clone(&columns.schema))
        });
        let metrics = ExecutionPlanMetricsSet::new();
        let path: &str = columns.file.path.as_ref();
        let mut pruning = RowGroupPruning {
            options: scan.options,
            schema: Arc::clone(&columns.schema),
            predicate,
            bounds: None,
            pages: pages.filter(|pages| pages.filter_number() > 0),
            tracking,
            has_changed: false,
            footer: Arc::clone(columns.footer.metadata()),
            counted: ParquetFileMetrics::new(scan.partition, path, &metrics),
        };
        pruning.build();
        pruning
    }

    /// Converts the predicate with the current filters to conditions on bounds.
    fn build(&mut self) {
        let Some(predicate) = &self.predicate else { return };
        let builder = PruningPredicateBuilder::new().with_file_schema(Arc::clone(&self.schema));
        let builder = builder.with_max_in_list_size(self.options.in_list_max);
        self.bounds = builder.build(Arc::clone(predicate));
    }

    /// Returns the row groups in the range of a file that can contain matching rows.
    pub(crate) fn left_by_bounds(&self, file: &PartitionedFile) -> RowGroupAccessPlanFilter {
        let groups = self.footer.row_groups();
        let mut left = RowGroupAccessPlanFilter::new(ParquetAccessPlan::new_all(groups.len()));
        if let Some(range) = &file.range {
            left.prune_by_range(groups, range);
        }
        if self.bounds.is_some() && self.options.row_groups {
            self.prune_by_bounds(&mut left);
        } else {
            let count = left.remaining_row_group_count();
            self.counted.row_groups_pruned_statistics.add_matched(count);
        }
        left
    }

    fn prune_by_bounds(&self, left: &mut RowGroupAccessPlanFilter) {
        let Some(bounds) = &self.bounds else { return };
        let (columns, groups) =
            (self.footer.file_metadata().schema_descr(), self.footer.row_groups());
        left.prune_by_statistics(&self.schema, columns, groups, bounds, &self.counted);
    }

    /// Returns true if the Parquet source would compare values with bloom filters.
    pub(crate) fn has_bloom_filters(&self, left: &RowGroupAccessPlanFilter) -> bool {
        let Some(bounds) = &self.bounds else { return false };
        let roots: Vec<usize> = bounds
            .literal_columns()
            .iter()
            .filter_map(|name| self.schema.index_of(name).ok())
            .collect();
        self.any_leaf(left, &roots, |group, leaf| {
            group.column(leaf).bloom_filter_offset().is_some()
        })
    }

    /// Returns true if `test` is true for a leaf of one of these top-level columns, in one of the
    /// row groups that are left.
    fn any_leaf(
        &self,
        left: &RowGroupAccessPlanFilter,
        roots: &[usize],
        test: impl Fn(&RowGroupMetaData, usize) -> bool,
    ) -> bool {
        let columns = self.footer.file_metadata().schema_descr();
        let mut groups = left.row_group_indexes().map(|index| self.footer.row_group(index));
        groups.any(|group| {
            let mut leaves = 0..columns.num_columns();
            leaves
                .any(|leaf| roots.contains(&columns.get_column_root_idx(leaf)) && test(group, leaf))
        })
    }

    /// Reads the bounds of pages, if the predicate has conditions on them and they are not cached.
    /// Returns the number of bytes that were read.
    pub(crate) async fn load_pages(
        &mut self,
        reader: &mut Box<dyn AsyncFileReader + Send>,
        left: &RowGroupAccessPlanFilter,
    ) -> Result<u64> {
        let is_loaded =
            self.footer.column_index().is_some() && self.footer.offset_index().is_some();
        let (Some(predicate), true) = (&self.predicate, self.pages.is_some() && !is_loaded) else {
            return Ok(0);
        };
        let roots = collect_columns(predicate).into_iter().map(|column| column.index());
        let roots: Vec<usize> = roots.collect();
        let has_pages = self.any_leaf(left, &roots, |group, leaf| {
            let column = group.column(leaf);
            column.column_index_offset().is_some() && column.offset_index_offset().is_some()
        });
        if !has_pages {
            return Ok(0);
        }
        let options = ArrowReaderOptions::new().with_page_index_policy(PageIndexPolicy::Optional);
        self.footer = reader.get_metadata(Some(&options)).await?;
        Ok(page_index_bytes(self.footer.row_groups()))
    }

    /// Returns the row groups to read, with the rows that can match the predicate by the bounds of
    /// pages. Also returns the share of rows that these bounds exclude.
    pub(crate) fn selected(&self, left: RowGroupAccessPlanFilter) -> (Vec<SelectedRowGroup>, f64) {
        let rows_of = |index: usize| self.footer.row_group(index).num_rows() as usize;
        let all: usize = left.row_group_indexes().map(rows_of).sum();
        let mut plan = left.build();
        if let Some(pages) = &self.pages {
            let columns = self.footer.file_metadata().schema_descr();
            plan = pages.prune_plan_with_page_index(
                plan,
                &self.schema,
                columns,
                &self.footer,
                &self.counted,
            );
        }
        let (mut row_groups, mut rows) = (Vec::new(), 0);
        for (index, access) in plan.into_inner().into_iter().enumerate() {
            let selected = match access {
                RowGroupAccess::Skip => continue,
                RowGroupAccess::Scan => None,
                RowGroupAccess::Selection(selection) => Some(ranges(&selection)),
            };
            rows += match &selected {
                Some(selected) => selected.iter().map(Range::len).sum::<usize>(),
                None => rows_of(index),
            };
            row_groups.push(SelectedRowGroup { index, rows: selected });
        }
        (row_groups, 1.0 - rows as f64 / all.max(1) as f64)
    }

    /// Returns true if filters that changed after the first pruning exclude a row group.
    pub(crate) fn excludes(&mut self, row_group: usize) -> bool {
        if self.tracking.watcher().is_some_and(DynamicFilterTracker::changed) {
            self.has_changed = true;
            self.build();
        }
        if !self.has_changed || !self.options.row_groups {
            return false;
        }
        let mut plan = ParquetAccessPlan::new_none(self.footer.num_row_groups());
        plan.scan(row_group);
        let mut left = RowGroupAccessPlanFilter::new(plan);
        self.prune_by_bounds(&mut left);
        left.remaining_row_group_count() == 0
    }

    /// Adds the metrics of the first pruning to the metrics of a scan.
    pub(crate) fn add_metrics(&self, scan: &ParquetFileMetrics) {
        let add = |from: &PruningMetrics, to: &PruningMetrics| {
            to.add_pruned(from.pruned());
            to.add_matched(from.matched());
            to.add_fully_matched(from.fully_matched());
        };
        let counted = &self.counted;
        scan.files_ranges_pruned_statistics.add_matched(1);
        add(&counted.row_groups_pruned_statistics, &scan.row_groups_pruned_statistics);
        add(&counted.page_index_rows_pruned, &scan.page_index_rows_pruned);
        add(&counted.page_index_pages_pruned, &scan.page_index_pages_pruned);
    }
}

/// Returns the selected rows of a row group.
fn ranges(selection: &RowSelection) -> Vec<Range<usize>> {
    let (mut ranges, mut row) = (Vec::new(), 0);
    for selector in selection.iter() {
        let end = row + selector.row_count;
        if !selector.skip && selector.row_count > 0 {
            ranges.push(row..end);
        }
        row = end;
    }
    ranges
}
