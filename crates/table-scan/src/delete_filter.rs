//! Removes the rows that delete files mark as deleted from a scan.
//!
//! The scan below this operator adds two columns with the position of each row: its file and its
//! index. The delete files of a data file are read when the first rows of the data file arrive. So
//! a query that needs few rows reads few delete files.

use std::fmt;
use std::sync::Arc;

use arrow::array::{AsArray, BooleanArray, BooleanBufferBuilder, RecordBatch};
use arrow::compute::filter_record_batch;
use arrow::datatypes::{Int32Type, Int64Type, SchemaRef};
use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::common::{DataFusionError, Result, Statistics, internal_err};
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_expr::projection::ProjectionMapping;
use datafusion::physical_plan::execution_plan::{CardinalityEffect, EvaluationType};
use datafusion::physical_plan::filter_pushdown::{
    ChildPushdownResult, FilterDescription, FilterPushdownPhase, FilterPushdownPropagation,
};
use datafusion::physical_plan::statistics::{ChildStats, StatisticsArgs};
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::{DisplayAs, DisplayFormatType, ExecutionPlan, PlanProperties};
use futures::TryStreamExt;
use headwater_sql::change::{FILE, ROW};
use headwater_tables::{DataFile, Positions, Tables};
use tokio::sync::OnceCell;

/// The deleted rows of one data file, loaded when they are first needed; `None` if no row is
/// deleted.
type FileDeletions = OnceCell<Option<Arc<Positions>>>;

/// The deleted rows of the data files of one scan, loaded on demand.
#[derive(Debug)]
pub(crate) struct DeletedRows {
    tables: Tables,
    /// Data files with their deleted rows, in the order of the file numbers.
    files: Vec<(Arc<DataFile>, FileDeletions)>,
}

impl DeletedRows {
    /// Creates the value for the data files of a scan, without reading delete files. The number of
    /// a file is its index.
    pub(crate) fn new(tables: Tables, files: &[Arc<DataFile>]) -> Self {
        let files = files.iter().map(|file| (Arc::clone(file), OnceCell::new())).collect();
        DeletedRows { tables, files }
    }

    async fn of(&self, number: i32) -> Result<Option<&Positions>> {
        let Some((file, gone)) = usize::try_from(number).ok().and_then(|n| self.files.get(n))
        else {
            return internal_err!("a row is in file {number}, which was not scanned");
        };
        let read = || async { self.tables.deletes().deleted(file).await };
        let gone = gone.get_or_try_init(read).await;
        let gone = gone.map_err(|error| DataFusionError::External(Box::new(error)))?;
        Ok(gone.as_deref())
    }
}

/// An operator that drops deleted rows, and returns only the first columns of its input.
#[derive(Debug)]
pub(crate) struct LiveRowsExec {
    input: Arc<dyn ExecutionPlan>,
    gone: Arc<DeletedRows>,
    columns: usize,
    properties: Arc<PlanProperties>,
}

impl LiveRowsExec {
    /// Wraps a scan that includes the columns [`FILE`] and [`ROW`]. Only the first `columns`
    /// columns are returned.
    pub(crate) fn new(
        input: Arc<dyn ExecutionPlan>,
        gone: Arc<DeletedRows>,
        columns: usize,
    ) -> Result<Self> {
        let kept: Vec<usize> = (0..columns).collect();
        let schema: SchemaRef = Arc::new(input.schema().project(&kept)?);
        let below = input.properties();
        // Keep the sort order of the input, because operators above may depend on it.
        let mapping = ProjectionMapping::from_indices(&kept, &input.schema())?;
        let properties = PlanProperties::new(
            below.equivalence_properties().project(&mapping, schema),
            below.output_partitioning().clone(),
            below.emission_type,
            below.boundedness,
        );
        let properties = properties
            .with_evaluation_type(EvaluationType::Lazy)
            .with_scheduling_type(below.scheduling_type);
        Ok(LiveRowsExec { input, gone, columns, properties: Arc::new(properties) })
    }
}

impl DisplayAs for LiveRowsExec {
    fn fmt_as(&self, _: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("LiveRowsExec")
    }
}

impl ExecutionPlan for LiveRowsExec {
    fn name(&self) -> &'static str {
        "LiveRowsExec"
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        &self.properties
    }

    fn maintains_input_order(&self) -> Vec<bool> {
        vec![true]
    }

    fn benefits_from_input_partitioning(&self) -> Vec<bool> {
        vec![false]
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        vec![&self.input]
    }

    fn apply_expressions(
        &self,
        _: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> Result<TreeNodeRecursion>,
    ) -> Result<TreeNodeRecursion> {
        Ok(TreeNodeRecursion::Continue)
    }

    fn with_new_children(
        self: Arc<Self>,
        mut children: Vec<Arc<dyn ExecutionPlan>>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let (Some(input), true) = (children.pop(), children.is_empty()) else {
            return internal_err!("the filter of live rows needs exactly one input");
        };
        Ok(Arc::new(LiveRowsExec::new(input, Arc::clone(&self.gone), self.columns)?))
    }

    fn execute(
        &self,
        partition: usize,
        context: Arc<TaskContext>,
    ) -> Result<SendableRecordBatchStream> {
        let input = self.input.execute(partition, context)?;
        let (gone, columns) = (Arc::clone(&self.gone), self.columns);
        let file = input.schema().index_of(FILE)?;
        let row = input.schema().index_of(ROW)?;
        let live = input.try_filter_map(move |batch| {
            let gone = Arc::clone(&gone);
            async move {
                let batch = live_rows(&batch, &gone, file, row).await?;
                let kept = (0..columns).collect::<Vec<_>>();
                Ok((batch.num_rows() > 0).then_some(batch.project(&kept)?))
            }
        });
        let schema = Arc::clone(self.properties.equivalence_properties().schema());
        Ok(Box::pin(RecordBatchStreamAdapter::new(schema, live)))
    }

    fn child_stats_requests(&self, partition: Option<usize>) -> Vec<ChildStats> {
        vec![ChildStats::At(partition)]
    }

    /// Returns the statistics of the scan, all marked as inexact.
    fn statistics_from_inputs(
        &self,
        input: &[Arc<Statistics>],
        _: &StatisticsArgs,
    ) -> Result<Arc<Statistics>> {
        let mut statistics = input[0].as_ref().clone().to_inexact();
        statistics.column_statistics.truncate(self.columns);
        Ok(Arc::new(statistics))
    }

    fn cardinality_effect(&self) -> CardinalityEffect {
        CardinalityEffect::LowerEqual
    }

    fn gather_filters_for_pushdown(
        &self,
        _: FilterPushdownPhase,
        parent_filters: Vec<Arc<dyn PhysicalExpr>>,
        _: &ConfigOptions,
    ) -> Result<FilterDescription> {
        FilterDescription::from_children(parent_filters, &self.children())
    }

    fn handle_child_pushdown_result(
        &self,
        _: FilterPushdownPhase,
        result: ChildPushdownResult,
        _: &ConfigOptions,
    ) -> Result<FilterPushdownPropagation<Arc<dyn ExecutionPlan>>> {
        Ok(FilterPushdownPropagation::if_all(result))
    }
}

/// Returns the rows of a batch that are not deleted. `file` and `row` are the indexes of the
/// position columns.
async fn live_rows(
    batch: &RecordBatch,
    gone: &DeletedRows,
    file: usize,
    row: usize,
) -> Result<RecordBatch> {
    let files = batch.column(file).as_primitive_opt::<Int32Type>();
    let rows = batch.column(row).as_primitive_opt::<Int64Type>();
    let (Some(files), Some(rows)) = (files, rows) else {
        return internal_err!("the columns with the positions of rows have the wrong types");
    };
    let (files, rows) = (files.values(), rows.values());
    let mut live = BooleanBufferBuilder::new(batch.num_rows());
    let mut first = 0;
    while first < files.len() {
        let number = files[first];
        let end = first + files[first..].iter().take_while(|other| **other == number).count();
        match gone.of(number).await? {
            None => live.append_n(end - first, true),
            Some(gone) => append(&mut live, gone, &rows[first..end]),
        }
        first = end;
    }
    let live = BooleanArray::from(live.finish());
    if live.true_count() == live.len() {
        return Ok(batch.clone());
    }
    Ok(filter_record_batch(batch, &live)?)
}

/// Appends one bit for each row of one data file: true if the row is not deleted. `rows` are the
/// indexes of the rows in the file, and `gone` the indexes of the deleted rows. `rows` is usually
/// ascending; at an index lower than the previous one, the search in `gone` restarts.
fn append(live: &mut BooleanBufferBuilder, gone: &Positions, rows: &[i64]) {
    let mut next = gone.from(rows.first().map_or(0, |row| *row as u64)).peekable();
    let mut last = i64::MIN;
    for row in rows {
        if *row < last {
            next = gone.from(*row as u64).peekable();
        }
        last = *row;
        while next.peek().is_some_and(|gone| *gone < *row as u64) {
            next.next();
        }
        live.append(next.peek() != Some(&(*row as u64)));
    }
}
