//! The optimizer rule that changes the order of joins.

use std::sync::Arc;

use datafusion::common::Result;
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::logical_expr::{Expr, LogicalPlan, LogicalPlanBuilder};
use datafusion::optimizer::optimizer::ApplyOrder;
use datafusion::optimizer::{OptimizerConfig, OptimizerRule};

use crate::early_aggregation::EarlyAggregationRule;
use crate::estimate::estimate;
use crate::greedy::{JoinTree, cost, order};
use crate::inner_join_tree::{InnerJoinTree, is_inner_join};

/// Minimum cost of the query's own join order, in estimated rows. Cheaper queries keep this order.
const COST_MIN: f64 = 100_000.0;

/// Maximum ratio of the new cost to the old cost. Estimates are rough, so a small gain does not
/// justify another order.
const COST_RATIO_MAX: f64 = 0.6;

/// Rules of an optimizer.
type OptimizerRules = Vec<Arc<dyn OptimizerRule + Send + Sync>>;

/// Adds [`JoinOrderRule`] and [`EarlyAggregationRule`] to DataFusion's rules, after the rule that
/// pushes filters below the joins, and before rules that insert projections between joins.
pub fn with_cost_based_rules(mut rules: OptimizerRules) -> OptimizerRules {
    let filters = rules.iter().position(|rule| rule.name() == "push_down_filter");
    let at = filters.map_or(rules.len(), |at| at + 1);
    let added: [Arc<dyn OptimizerRule + Send + Sync>; 2] =
        [Arc::new(JoinOrderRule), Arc::new(EarlyAggregationRule)];
    rules.splice(at..at, added);
    rules
}

/// Reorders inner joins by their estimated cost.
#[derive(Debug, Default)]
pub struct JoinOrderRule;

impl OptimizerRule for JoinOrderRule {
    fn name(&self) -> &'static str {
        "join_order"
    }

    /// `None`: the rule traverses the plan itself, because adjacent joins must be reordered
    /// together.
    fn apply_order(&self) -> Option<ApplyOrder> {
        None
    }

    fn rewrite(
        &self,
        plan: LogicalPlan,
        _: &dyn OptimizerConfig,
    ) -> Result<Transformed<LogicalPlan>> {
        reorder(plan)
    }
}

/// Reorders the inner joins in a plan. Adjacent inner joins are reordered together.
fn reorder(plan: LogicalPlan) -> Result<Transformed<LogicalPlan>> {
    if !is_inner_join(&plan) {
        return plan.map_children(reorder);
    }
    let plan = Arc::new(plan);
    let Some(mut cluster) = InnerJoinTree::of(&plan) else {
        return Arc::unwrap_or_clone(plan).map_children(reorder);
    };
    let mut has_changed = false;
    for relation in &mut cluster.relations {
        let reordered = reorder(Arc::unwrap_or_clone(Arc::clone(relation)))?;
        has_changed |= reordered.transformed;
        *relation = Arc::new(reordered.data);
    }
    let estimates: Option<Vec<_>> =
        cluster.relations.iter().map(|relation| estimate(relation)).collect();
    let tree = estimates.and_then(|estimates| {
        let conditions = cluster.selectivities(&estimates);
        let before = cost(&cluster.tree, &estimates, &conditions);
        let tree = order(&estimates, &conditions);
        let after = cost(&tree, &estimates, &conditions);
        (before >= COST_MIN && after < before * COST_RATIO_MAX).then_some(tree)
    });
    match tree {
        Some(tree) => rebuilt(&plan, &cluster, &tree).map(Transformed::yes),
        None if has_changed => {
            let unchanged = cluster.tree.clone();
            rebuilt(&plan, &cluster, &unchanged).map(Transformed::yes)
        }
        None => Ok(Transformed::no(Arc::unwrap_or_clone(plan))),
    }
}

/// Joins the relations in a new order, and projects them to the columns of the old plan.
fn rebuilt(old: &LogicalPlan, cluster: &InnerJoinTree, tree: &JoinTree) -> Result<LogicalPlan> {
    let joined = cluster.plan(tree)?;
    let columns = old.schema().columns();
    if joined.schema().columns() == columns {
        return Ok(joined);
    }
    LogicalPlanBuilder::from(joined).project(columns.into_iter().map(Expr::Column))?.build()
}
