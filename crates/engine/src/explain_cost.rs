//! EXPLAIN COST: the files, rows, bytes and money that a query would read, one row for each table.
//!
//! The query is planned and not executed. The numbers are upper bounds, from the plan after pruning
//! and the footers of its files. The files of a function such as `read_csv` also have a row, named
//! by their paths. `rows` is null if the number of rows of a file is unknown.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{Float64Array, Int64Array, RecordBatch, StringArray};
use arrow::datatypes::{DataType, Field, Schema};
use datafusion::common::Result as PlanResult;
use datafusion::datasource::physical_plan::{FileGroup, FileScanConfig};
use datafusion::datasource::source::DataSourceExec;
use datafusion::physical_plan::ExecutionPlan;
use headwater_lake::CommitView;
use headwater_model::{Action, Usage};
use headwater_restrictions::hidden_scan;
use headwater_sql::statement::SourceQuery;
use headwater_sql_python::without_calls;
use headwater_table_scan::{ScanCost, parquet_source, scan_cost, stored_costs};

use crate::error::Result;
use crate::plan_executor::{self, ExecutableStatement};
use crate::plan_output;
use crate::session::Session;
use crate::statement_result::StatementResult;

/// Name of the last row, which has the sums.
const TOTAL: &str = "total";

/// The cost of the scans of one table.
#[derive(Debug, Clone, Copy, Default)]
struct TableCost {
    cost: ScanCost,
    /// True if a row filter applies to the table. The numbers of files and rows are then not shown,
    /// because they include hidden rows.
    restricted: bool,
}

/// A scan of table files in a plan.
#[derive(Debug)]
struct PlannedScan {
    /// Path of the first file in the object store.
    path: String,
    cost: TableCost,
}

impl Session {
    /// Runs EXPLAIN COST: a row for each table, and a row with the sums.
    pub(crate) async fn explain_cost(&self, source: SourceQuery) -> Result<StatementResult> {
        let view = self.view().await?;
        let (run, plan, _) = self.planned(source).await?;
        let (metrics, limits) = (Arc::clone(&run.metrics), run.limits);
        let plan = without_calls(plan).map_err(|error| limits.explain(&error))?;
        let (state, runtime) = (Arc::clone(&run.state), Arc::clone(&run.runtime));
        let stored = stored_costs(&plan).map_err(|error| limits.explain(&error))?;
        let own = Arc::clone(&metrics);
        let statement = ExecutableStatement { state, runtime, plan, metrics: own, lazy: true };
        let planning = async move {
            let plan = plan_executor::physical(&statement).await?;
            let mut scans = Vec::new();
            Box::pin(add_scans(plan.as_ref(), false, &mut scans)).await?;
            Ok(scans)
        };
        let scans = plan_executor::plan_on(self.engine.threads()?, planning).await;
        let scans = scans.map_err(|error| limits.explain(&error))?;
        let mut tables: BTreeMap<Option<String>, TableCost> = BTreeMap::new();
        let views: Vec<CommitView> = metrics.views().into_iter().chain([view]).collect();
        let folders = if scans.is_empty() { Vec::new() } else { self.folders(&views).await? };
        for PlannedScan { path, cost } in scans {
            let found = folders.iter().find(|(folder, _)| path.starts_with(folder));
            let table = tables.entry(found.map(|(_, name)| name.clone())).or_default();
            table.cost.add(cost.cost);
            table.restricted |= cost.restricted;
        }
        for (name, cost) in stored {
            tables.entry(Some(name)).or_default().cost.add(cost);
        }
        let batch = self.cost_rows(tables).map_err(headwater_lake::Error::from)?;
        Ok(plan_output::of_batch(batch, metrics))
    }

    /// Returns the folder and the name of each table that the session may read. A scan is assigned
    /// to a table by its folder.
    async fn folders(&self, views: &[CommitView]) -> Result<Vec<(String, String)>> {
        let mut folders = Vec::new();
        for view in views {
            for (name, entry) in view.list(None).await? {
                if !self.lists(Action::Select, &entry.object(&name)) {
                    continue;
                }
                let Ok(path) = view.lake().tables().path_of(&entry.metadata_location) else {
                    continue;
                };
                if let Some((folder, _)) = path.as_ref().rsplit_once("/metadata/") {
                    folders.push((format!("{folder}/"), name.to_string()));
                }
            }
        }
        Ok(folders)
    }

    fn cost_rows(
        &self,
        tables: BTreeMap<Option<String>, TableCost>,
    ) -> std::result::Result<RecordBatch, arrow::error::ArrowError> {
        let mut total = TableCost::default();
        for table in tables.values() {
            total.cost.add(table.cost);
            total.restricted |= table.restricted;
        }
        let mut rows: Vec<(Option<String>, TableCost)> = tables.into_iter().collect();
        rows.push((Some(TOTAL.to_owned()), total));
        let number = |value: u64| i64::try_from(value).unwrap_or(i64::MAX);
        let shown = |of: fn(&ScanCost) -> Option<u64>| -> Int64Array {
            let shown = rows.iter().map(|(_, row)| of(&row.cost).filter(|_| !row.restricted));
            shown.map(|value| value.map(number)).collect()
        };
        let bytes: Int64Array = rows.iter().map(|(_, row)| Some(number(row.cost.bytes))).collect();
        let rates = &self.options.rates;
        let price = |bytes_read: u64| rates.cost(&Usage { bytes_read, ..Usage::default() });
        let cost: Float64Array = rows.iter().map(|(_, row)| Some(price(row.cost.bytes))).collect();
        let currency: StringArray = rows.iter().map(|_| Some(rates.currency.as_str())).collect();
        let names: StringArray = rows.iter().map(|(name, _)| name.as_deref()).collect();
        let schema = Schema::new(vec![
            Field::new("table", DataType::Utf8, true),
            Field::new("files", DataType::Int64, true),
            Field::new("rows", DataType::Int64, true),
            Field::new("bytes", DataType::Int64, false),
            Field::new("cost", DataType::Float64, false),
            Field::new("currency", DataType::Utf8, false),
        ]);
        RecordBatch::try_new(
            Arc::new(schema),
            vec![
                Arc::new(names),
                Arc::new(shown(|cost| Some(cost.files))),
                Arc::new(shown(|cost| cost.rows)),
                Arc::new(bytes),
                Arc::new(cost),
                Arc::new(currency),
            ],
        )
    }
}

/// Adds the scans of table files in a plan to `scans`.
async fn add_scans(
    plan: &dyn ExecutionPlan,
    restricted: bool,
    scans: &mut Vec<PlannedScan>,
) -> PlanResult<()> {
    if let Some(hidden) = hidden_scan(plan) {
        return Box::pin(add_scans(hidden, true, scans)).await;
    }
    let config = plan
        .downcast_ref::<DataSourceExec>()
        .and_then(|scan| scan.data_source().downcast_ref::<FileScanConfig>());
    if let Some(config) = config
        && let Some(source) = parquet_source(config.file_source())
    {
        let mut files = config.file_groups.iter().flat_map(FileGroup::files);
        let path = files.next().map(|file| file.object_meta.location.to_string());
        let cost = TableCost { cost: scan_cost(config, source).await?, restricted };
        scans.push(PlannedScan { path: path.unwrap_or_default(), cost });
    }
    for child in plan.children() {
        Box::pin(add_scans(child.as_ref(), restricted, scans)).await?;
    }
    Ok(())
}
