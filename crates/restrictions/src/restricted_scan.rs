//! The barrier in an execution plan: the scan of a restricted table.

use std::fmt;
use std::sync::Arc;

use arrow::array::{RecordBatch, RecordBatchOptions};
use arrow::datatypes::SchemaRef;
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::common::{DataFusionError, Result, internal_err};
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_expr::{EquivalenceProperties, PhysicalExpr};
use datafusion::physical_plan::metrics::{
    BaselineMetrics, Count, ExecutionPlanMetricsSet, Metric, MetricValue, MetricsSet,
};
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::{
    DisplayAs, DisplayFormatType, ExecutionPlan, ExecutionPlanProperties, Partitioning,
    PlanProperties,
};
use futures::StreamExt;

/// Metric with the number of bytes that a scan has read.
const BYTES_SCANNED: &str = "bytes_scanned";

/// Metric with the number of bytes that a scan did not read, because their columns were in memory.
const BYTES_CACHED: &str = "bytes_cached";

/// A function that replaces an error from below the barrier with an error that reveals no hidden
/// values. Its first argument is the name of the table.
pub(crate) type RedactError = fn(&str, DataFusionError) -> DataFusionError;

/// The scan of a restricted table.
///
/// The scan is a leaf of the plan. The optimiser and EXPLAIN cannot access the plan, filters, order
/// or statistics below the scan.
#[derive(Debug)]
pub(crate) struct RestrictedScanExec {
    scan: Arc<dyn ExecutionPlan>,
    label: Arc<str>,
    conceal: RedactError,
    properties: Arc<PlanProperties>,
    metrics: ExecutionPlanMetricsSet,
}

impl RestrictedScanExec {
    /// Creates a scan that returns the first columns of `scan`, with the names of the columns of
    /// `schema`.
    pub(crate) fn new(
        scan: Arc<dyn ExecutionPlan>,
        schema: SchemaRef,
        label: Arc<str>,
        conceal: RedactError,
    ) -> Self {
        let below = scan.properties();
        let properties = PlanProperties::new(
            EquivalenceProperties::new(schema),
            Partitioning::UnknownPartitioning(scan.output_partitioning().partition_count()),
            below.emission_type,
            below.boundedness,
        );
        let metrics = ExecutionPlanMetricsSet::new();
        RestrictedScanExec { scan, label, conceal, properties: Arc::new(properties), metrics }
    }
}

/// Returns the scan below the barrier of a restricted table; `None` for other plans.
///
/// Use the scan only for the number of bytes that it reads, which is also in the metrics. All other
/// properties of the scan can reveal hidden rows.
pub fn hidden_scan(plan: &dyn ExecutionPlan) -> Option<&dyn ExecutionPlan> {
    plan.downcast_ref::<RestrictedScanExec>().map(|barrier| barrier.scan.as_ref())
}

impl DisplayAs for RestrictedScanExec {
    fn fmt_as(&self, _: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RestrictedScanExec: table={}", self.label)
    }
}

impl ExecutionPlan for RestrictedScanExec {
    fn name(&self) -> &'static str {
        "RestrictedScanExec"
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        &self.properties
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        Vec::new()
    }

    fn apply_expressions(
        &self,
        _: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> Result<TreeNodeRecursion>,
    ) -> Result<TreeNodeRecursion> {
        Ok(TreeNodeRecursion::Continue)
    }

    fn with_new_children(
        self: Arc<Self>,
        children: Vec<Arc<dyn ExecutionPlan>>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        if children.is_empty() {
            Ok(self)
        } else {
            internal_err!("a restricted scan has no inputs")
        }
    }

    fn execute(
        &self,
        partition: usize,
        context: Arc<TaskContext>,
    ) -> Result<SendableRecordBatchStream> {
        let (label, conceal) = (Arc::clone(&self.label), self.conceal);
        let rows = self.scan.execute(partition, context).map_err(|error| conceal(&label, error))?;
        let schema = Arc::clone(self.properties.equivalence_properties().schema());
        let baseline = BaselineMetrics::new(&self.metrics, partition);
        let named = Arc::clone(&schema);
        let rows = rows.map(move |batch| {
            let batch = batch.and_then(|batch| renamed(&batch, &named));
            let batch = batch.map_err(|error| conceal(&label, error))?;
            baseline.record_output(batch.num_rows());
            Ok(batch)
        });
        Ok(Box::pin(RecordBatchStreamAdapter::new(schema, rows)))
    }

    /// Returns the number of visible rows, and the bytes read to produce them.
    fn metrics(&self) -> Option<MetricsSet> {
        let mut metrics = self.metrics.clone_inner();
        for name in [BYTES_SCANNED, BYTES_CACHED] {
            let count = Count::new();
            count.add(sum_of(name, self.scan.as_ref()));
            let bytes = MetricValue::Count { name: name.into(), count };
            metrics.push(Arc::new(Metric::new(bytes, None)));
        }
        Some(metrics)
    }
}

/// Returns the sum of a metric over the operators of a plan.
fn sum_of(name: &str, plan: &dyn ExecutionPlan) -> usize {
    let own = plan.metrics().and_then(|metrics| metrics.sum_by_name(name));
    let own = own.map_or(0, |value| value.as_usize());
    own + plan.children().iter().map(|child| sum_of(name, child.as_ref())).sum::<usize>()
}

/// Returns the first columns of a batch, with the names of the columns of a schema.
fn renamed(batch: &RecordBatch, schema: &SchemaRef) -> Result<RecordBatch> {
    let columns = batch.columns().iter().take(schema.fields().len()).cloned().collect();
    let options = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
    Ok(RecordBatch::try_new_with_options(Arc::clone(schema), columns, &options)?)
}
