//! The DataFusion table provider for a table at one snapshot.

use std::collections::HashMap;
use std::sync::{Arc, OnceLock};

use arrow::datatypes::{Fields, Schema, SchemaRef};
use async_trait::async_trait;
use datafusion::catalog::{Session, TableProvider};
use datafusion::common::{DataFusionError, Result, Statistics, project_schema};
use datafusion::datasource::physical_plan::{FileScanConfigBuilder, ParquetSource};
use datafusion::datasource::source::DataSourceExec;
use datafusion::datasource::table_schema::TableSchema;
use datafusion::logical_expr::{Expr, TableProviderFilterPushDown, TableType};
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::empty::EmptyExec;
use headwater_tables::{ScanPlan, foreign_column};

use crate::delete_filter::{DeletedRows, LiveRowsExec};
use crate::field_id_adapter::FieldIdAdapterFactory;
use crate::file_groups::balance;
use crate::file_scan::file_source;
use crate::position_columns::{file_field, row_field, with_positions};
use crate::pruning::prune;
use crate::row_lineage::{RowLineageExec, is_lineage, with_lineage};
use crate::scan_environment::ScanEnvironment;
use crate::statistics::of_scan;
use crate::string_views::view_schema;

/// Minimum number of scanned columns at which a scan for a statement that changes rows filters the
/// rows while it decodes them. Most columns are then decoded only for the matching rows, which are
/// usually few.
const CHANGED_COLUMNS_MIN: usize = 6;

/// A table at one snapshot.
#[derive(Debug)]
pub struct LakeTable {
    schema: SchemaRef,
    plan: ScanPlan,
    environment: ScanEnvironment,
    positions: bool,
    /// For each file of the plan, true if scans skip it. Set by [`LakeTable::skip_files`].
    skipped: OnceLock<Vec<bool>>,
    /// Statistics of all columns, computed when the optimizer first requests them.
    statistics: OnceLock<Option<Statistics>>,
}

impl LakeTable {
    /// Creates a provider for the files of a snapshot.
    pub fn new(plan: ScanPlan, environment: ScanEnvironment) -> Self {
        LakeTable {
            schema: view_schema(plan.schema()),
            plan,
            environment,
            positions: false,
            skipped: OnceLock::new(),
            statistics: OnceLock::new(),
        }
    }

    /// Creates a provider that adds the row lineage columns at the end.
    pub fn with_lineage(plan: ScanPlan, environment: ScanEnvironment) -> Self {
        let schema = with_lineage(&view_schema(plan.schema()));
        LakeTable { schema, ..LakeTable::new(plan, environment) }
    }

    /// Creates a provider with two additional columns, `FILE` and `ROW`: the number of each row's
    /// file in the plan, and the index of the row in that file.
    pub fn with_positions(plan: ScanPlan, environment: ScanEnvironment) -> Self {
        let schema = with_positions(&view_schema(plan.schema()));
        LakeTable { schema, positions: true, ..LakeTable::new(plan, environment) }
    }

    /// Makes later scans skip the files whose entry in `files` is true. The caller needs no rows of
    /// these files: its statement changes all rows of each file in the same way, without reading
    /// them.
    pub fn skip_files(&self, files: Vec<bool>) {
        let _ = self.skipped.set(files);
    }

    /// Returns the columns of the files and, if `positions` is set, the two position columns.
    fn file_schema(&self, positions: bool) -> TableSchema {
        let own = self.own_columns();
        let fields: Fields = self.schema.fields().iter().take(own).cloned().collect();
        let file = Schema::new_with_metadata(fields, self.schema.metadata().clone());
        if !positions {
            return TableSchema::from(Arc::new(file));
        }
        TableSchema::builder(Arc::new(file))
            .with_table_partition_cols(vec![file_field()])
            .with_virtual_columns(vec![row_field()])
            .build()
    }

    /// Returns the number of columns without the two position columns.
    fn own_columns(&self) -> usize {
        self.schema.fields().len() - if self.positions { 2 } else { 0 }
    }

    /// Returns the number of each file in a pruned plan. The number of a file is its index in the
    /// plan before pruning.
    fn numbers(&self, plan: &ScanPlan) -> Vec<i32> {
        let all = self.plan.files().iter().enumerate();
        let all = all.map(|(number, file)| (Arc::as_ptr(file), number as i32));
        let all: HashMap<_, _> = all.collect();
        plan.files().iter().filter_map(|file| all.get(&Arc::as_ptr(file)).copied()).collect()
    }

    /// Returns a plan with the first files, as many as are needed for `limit` rows. A file with
    /// deletes counts as a file without rows.
    fn first_files(plan: ScanPlan, limit: usize) -> ScanPlan {
        let mut rows = 0_u64;
        let keep: Vec<bool> = plan
            .files()
            .iter()
            .map(|file| {
                let needed = rows < limit as u64;
                rows += if file.has_deletes() { 0 } else { file.rows };
                needed
            })
            .collect();
        if keep.iter().all(|keep| *keep) { plan } else { plan.retain(&keep) }
    }
}

#[async_trait]
impl TableProvider for LakeTable {
    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }

    fn table_type(&self) -> TableType {
        TableType::Base
    }

    fn statistics(&self) -> Option<Statistics> {
        let columns: Vec<usize> = (0..self.own_columns()).collect();
        let compute = || of_scan(&self.plan, &self.schema, &columns).ok().map(|(total, _)| total);
        self.statistics.get_or_init(compute).clone()
    }

    /// Declares all filters as inexact: the scan uses filters only to prune files, row groups and
    /// pages. DataFusion filters the rows of the scan again.
    fn supports_filters_pushdown(
        &self,
        filters: &[&Expr],
    ) -> Result<Vec<TableProviderFilterPushDown>> {
        Ok(vec![TableProviderFilterPushDown::Inexact; filters.len()])
    }

    async fn scan(
        &self,
        session: &dyn Session,
        projection: Option<&Vec<usize>>,
        filters: &[Expr],
        limit: Option<usize>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        check_columns(&self.schema, projection)?;
        let mut plan = match self.skipped.get() {
            Some(skipped) => {
                self.plan.retain(&skipped.iter().map(|skip| !skip).collect::<Vec<_>>())
            }
            None => self.plan.clone(),
        };
        plan = prune(&plan, &self.schema, filters, session)?;
        if let (Some(limit), true) = (limit, filters.is_empty()) {
            plan = Self::first_files(plan, limit);
        }
        if plan.files().is_empty() {
            return Ok(Arc::new(EmptyExec::new(project_schema(&self.schema, projection)?)));
        }
        let columns = match projection {
            Some(columns) => columns.clone(),
            None => (0..self.schema.fields().len()).collect(),
        };
        let lineage = columns.iter().any(|column| is_lineage(&self.schema.fields()[*column]));
        if !plan.has_deletes() && !lineage {
            return self.scan_files(session, &plan, columns, limit, self.positions);
        }
        let own = self.own_columns();
        let (wanted, mut read) = (columns.len(), columns);
        for place in [own, own + 1] {
            if !read.contains(&place) {
                read.push(place);
            }
        }
        let all = read.len();
        let mut scan = self.scan_files(session, &plan, read, None, true)?;
        if plan.has_deletes() {
            let gone = DeletedRows::new(self.environment.tables.clone(), self.plan.files());
            let kept = if lineage { all } else { wanted };
            scan = Arc::new(LiveRowsExec::new(scan, Arc::new(gone), kept)?);
        }
        if lineage {
            scan = Arc::new(RowLineageExec::over(scan, self.plan.files(), wanted)?);
        }
        Ok(scan)
    }
}

impl LakeTable {
    /// Plans a scan of some columns, including the columns `FILE` and `ROW` if `positions` is set.
    fn scan_files(
        &self,
        session: &dyn Session,
        plan: &ScanPlan,
        columns: Vec<usize>,
        limit: Option<usize>,
        positions: bool,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let table = self.file_schema(positions);
        let (total, files) = of_scan(plan, table.table_schema(), &columns)?;
        let partitions = session.config().target_partitions();
        let options = session.config_options();
        // The Parquet reader applies filters incorrectly if the fields of a struct column differ
        // between files.
        let fields = table.table_schema().fields();
        let has_nested = columns.iter().any(|&column| fields[column].data_type().is_nested());
        let changes = self.positions && columns.len() >= CHANGED_COLUMNS_MIN && !has_nested;
        let numbers = positions.then(|| self.numbers(plan));
        let mut parquet = session.default_table_options().parquet;
        if may_contain_nan(plan, table.table_schema(), &columns) {
            parquet.global.pruning = false;
            parquet.global.enable_page_index = false;
        }
        let source = ParquetSource::new(table)
            .with_table_parquet_options(parquet)
            .with_pushdown_filters(options.execution.parquet.pushdown_filters || changes)
            .with_parquet_file_reader_factory(Arc::clone(&self.environment.reader));
        let source = file_source(&self.environment, source, self.positions);
        let config = FileScanConfigBuilder::new(self.environment.url.clone(), source)
            .with_file_groups(balance(plan.files(), files, numbers.as_deref(), partitions))
            .with_statistics(total)
            .with_projection_indices(Some(columns))?
            .with_limit(limit)
            .with_expr_adapter(Some(Arc::new(FieldIdAdapterFactory)))
            .build();
        Ok(DataSourceExec::from_data_source(config))
    }
}

/// Returns true if one of these columns may contain NaN. Comparisons order NaN above every number,
/// but NaN is never a bound in Parquet. So pruning by bounds within files would lose rows with NaN.
fn may_contain_nan(plan: &ScanPlan, schema: &Schema, columns: &[usize]) -> bool {
    let fields = columns.iter().filter_map(|&column| schema.fields().get(column));
    let floats = fields.filter(|field| field.data_type().is_floating());
    floats.into_iter().any(|field| plan.may_contain_nan(field.name()))
}

/// Rejects columns whose types only other engines can read.
fn check_columns(schema: &SchemaRef, projection: Option<&Vec<usize>>) -> Result<()> {
    let wanted = |place: usize| projection.is_none_or(|columns| columns.contains(&place));
    let fields = schema.fields().iter().enumerate().filter(|(place, _)| wanted(*place));
    match fields.map(|(_, field)| foreign_column(field)).find_map(|found| found) {
        None => Ok(()),
        Some((column, data_type)) => {
            let error = headwater_tables::Error::Unread { column, data_type };
            Err(DataFusionError::External(Box::new(error)))
        }
    }
}
