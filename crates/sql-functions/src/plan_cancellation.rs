//! Makes plans cancellable.
//!
//! A Tokio task can be aborted only at an await point where it yields. DataFusion's scans yield
//! every few batches, but a join can produce millions of batches from one input batch. Therefore,
//! each node that can output more rows than its input also yields. A join may evaluate its
//! condition for hours between two output batches, so the condition checks a flag.

use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use datafusion::arrow::array::RecordBatch;
use datafusion::arrow::datatypes::{FieldRef, Schema};
use datafusion::common::tree_node::{Transformed, TransformedResult, TreeNode};
use datafusion::common::{DataFusionError, Result};
use datafusion::logical_expr::ColumnarValue;
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::coop::CooperativeExec;
use datafusion::physical_plan::joins::utils::JoinFilter;
use datafusion::physical_plan::joins::{
    HashJoinExec, NestedLoopJoinExec, NestedLoopJoinExecBuilder,
};
use datafusion::physical_plan::unnest::UnnestExec;

/// A flag that cancels a plan; cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct CancellationFlag(Arc<AtomicBool>);

impl CancellationFlag {
    /// Requests cancellation of the plan.
    pub fn set(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    fn check(&self) -> Result<()> {
        if self.0.load(Ordering::Relaxed) {
            return Err(DataFusionError::Execution("the statement was stopped".to_owned()));
        }
        Ok(())
    }
}

/// Returns an equivalent plan that ends soon after `stop` is set or its task is aborted.
pub fn cancellable(
    plan: Arc<dyn ExecutionPlan>,
    stop: &CancellationFlag,
) -> Result<Arc<dyn ExecutionPlan>> {
    let wrap = |plan: Arc<dyn ExecutionPlan>| {
        if plan.children().len() < 2 && plan.downcast_ref::<UnnestExec>().is_none() {
            return Ok(Transformed::no(plan));
        }
        let plan = with_asking_condition(plan, stop)?;
        Ok(Transformed::yes(Arc::new(CooperativeExec::new(plan)) as _))
    };
    plan.transform_up(wrap).data()
}

/// Wraps the condition of a join so that its evaluation checks the flag for each batch. Other plans
/// are not changed.
fn with_asking_condition(
    plan: Arc<dyn ExecutionPlan>,
    stop: &CancellationFlag,
) -> Result<Arc<dyn ExecutionPlan>> {
    if let Some(join) = plan.downcast_ref::<NestedLoopJoinExec>()
        && let Some(filter) = join.filter()
    {
        let asking = NestedLoopJoinExecBuilder::from(join).with_filter(Some(asking(filter, stop)));
        return Ok(Arc::new(asking.build()?));
    }
    if let Some(join) = plan.downcast_ref::<HashJoinExec>()
        && let Some(filter) = join.filter()
    {
        return join.builder().with_filter(Some(asking(filter, stop))).build_exec();
    }
    Ok(plan)
}

fn asking(filter: &JoinFilter, stop: &CancellationFlag) -> JoinFilter {
    let condition =
        CancellableFilter { condition: Arc::clone(filter.expression()), stop: stop.clone() };
    let columns = filter.column_indices().to_vec();
    JoinFilter::new(Arc::new(condition), columns, Arc::clone(filter.schema()))
}

/// Join condition that fails once its plan is cancelled.
#[derive(Debug)]
struct CancellableFilter {
    condition: Arc<dyn PhysicalExpr>,
    stop: CancellationFlag,
}

impl PartialEq for CancellableFilter {
    fn eq(&self, other: &Self) -> bool {
        self.condition == other.condition.clone()
    }
}

impl Eq for CancellableFilter {}

impl Hash for CancellableFilter {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.condition.hash(state);
    }
}

impl fmt::Display for CancellableFilter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.condition.fmt(f)
    }
}

impl PhysicalExpr for CancellableFilter {
    fn return_field(&self, input_schema: &Schema) -> Result<FieldRef> {
        self.condition.return_field(input_schema)
    }

    fn evaluate(&self, batch: &RecordBatch) -> Result<ColumnarValue> {
        self.stop.check()?;
        self.condition.evaluate(batch)
    }

    fn children(&self) -> Vec<&Arc<dyn PhysicalExpr>> {
        vec![&self.condition]
    }

    fn with_new_children(
        self: Arc<Self>,
        mut children: Vec<Arc<dyn PhysicalExpr>>,
    ) -> Result<Arc<dyn PhysicalExpr>> {
        let condition = children.swap_remove(0);
        Ok(Arc::new(CancellableFilter { condition, stop: self.stop.clone() }))
    }

    fn fmt_sql(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.condition.fmt_sql(f)
    }
}
