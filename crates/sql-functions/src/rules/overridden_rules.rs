//! Rules of DataFusion's optimizer, each skipped for the plans that it would make incorrect.
//!
//! Upstream: <https://github.com/apache/datafusion/issues/11748> for conditions without columns; no
//! issue found (November 2026) for joins in which null equals null. An earlier bug of that rule was
//! fixed in <https://github.com/apache/datafusion/pull/16356>

use std::sync::Arc;

use super::decorrelation::DecorrelationRule;
use datafusion::common::tree_node::{Transformed, TreeNodeRecursion};
use datafusion::common::{JoinType, NullEquality, Result};
use datafusion::logical_expr::utils::split_conjunction;
use datafusion::logical_expr::{Aggregate, Expr, Filter, LogicalPlan};
use datafusion::optimizer::optimizer::ApplyOrder;
use datafusion::optimizer::{Optimizer, OptimizerConfig, OptimizerRule};

/// Returns DataFusion's rules and [`DecorrelationRule`]. Rules that can be incorrect are wrapped.
pub fn rules() -> Vec<Arc<dyn OptimizerRule + Send + Sync>> {
    let guarded = |rule: Arc<dyn OptimizerRule + Send + Sync>| {
        let errs: fn(&LogicalPlan) -> bool = match rule.name() {
            "eliminate_cross_join" => joins_nulls,
            "push_down_filter" => filters_all_or_none,
            _ => return rule,
        };
        Arc::new(ConditionalRule { rule, errs }) as _
    };
    let mut rules: Vec<_> = Optimizer::new().rules.into_iter().map(guarded).collect();
    let last = rules.iter().rposition(|rule| rule.name() == "decorrelate_lateral_join");
    rules.insert(last.map_or(rules.len(), |last| last + 1), Arc::new(DecorrelationRule));
    rules
}

/// A rule of DataFusion, and a function that returns true for plans for which the rule is skipped.
#[derive(Debug)]
struct ConditionalRule {
    rule: Arc<dyn OptimizerRule + Send + Sync>,
    errs: fn(&LogicalPlan) -> bool,
}

impl OptimizerRule for ConditionalRule {
    fn name(&self) -> &str {
        self.rule.name()
    }

    fn apply_order(&self) -> Option<ApplyOrder> {
        self.rule.apply_order()
    }

    fn rewrite(
        &self,
        plan: LogicalPlan,
        config: &dyn OptimizerConfig,
    ) -> Result<Transformed<LogicalPlan>> {
        if (self.errs)(&plan) { Ok(Transformed::no(plan)) } else { self.rule.rewrite(plan, config) }
    }
}

/// Returns true for an inner join in which null equals null. DataFusion's rule would merge this
/// join with other joins and lose the setting that null equals null.
fn joins_nulls(plan: &LogicalPlan) -> bool {
    let is_one = |plan: &LogicalPlan| match plan {
        LogicalPlan::Join(join) => {
            join.join_type == JoinType::Inner && join.null_equality == NullEquality::NullEqualsNull
        }
        _ => false,
    };
    let mut found = false;
    let looked = plan.apply_with_subqueries(|plan| {
        found |= is_one(plan);
        Ok(TreeNodeRecursion::Continue)
    });
    found || looked.is_err()
}

/// Returns true for a filter whose condition has no columns, over an aggregation that always
/// returns one row. DataFusion's rule would push the condition below the aggregation, which would
/// then return its row even if the condition is false.
fn filters_all_or_none(plan: &LogicalPlan) -> bool {
    let (mut plan, mut reads_none) = (plan, false);
    while let LogicalPlan::Filter(Filter { predicate, input, .. }) = plan {
        reads_none |= split_conjunction(predicate).iter().any(|one| one.column_refs().is_empty());
        plan = input;
    }
    let LogicalPlan::Aggregate(Aggregate { group_expr, .. }) = plan else { return false };
    let has_empty_group =
        group_expr.is_empty() || group_expr.iter().any(|one| matches!(one, Expr::GroupingSet(_)));
    reads_none && has_empty_group
}
