//! The optimizer rule that aggregates rows before a join.
//!
//! The sums of a fact table by a column of a dimension need not join each row of the fact table.
//! The rule first aggregates the fact table by the join's keys, and then joins one row for each
//! key. It replaces `SELECT d.name, sum(f.x) FROM f JOIN d ON f.k = d.k GROUP BY d.name` by
//! `SELECT d.name, sum(p.s) FROM (SELECT k, sum(x) AS s FROM f GROUP BY k) p JOIN d ON p.k = d.k
//! GROUP BY d.name`. This is correct for any number of matches, because all rows of one key have
//! the same matches. The plan changes only if its estimated cost becomes far lower.
//!
//! DataFusion 55 has no such rule. Upstream: no issue found (November 2026)

use std::collections::BTreeSet;
use std::sync::Arc;

use arrow::datatypes::DataType;
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::common::{Column, DFSchema, ExprSchema, Result};
use datafusion::logical_expr::{
    Aggregate, Expr, ExprSchemable, GroupingSet, Join, LogicalPlan, LogicalPlanBuilder,
};
use datafusion::optimizer::optimizer::ApplyOrder;
use datafusion::optimizer::{OptimizerConfig, OptimizerRule};

use crate::estimate::{RelationEstimate, estimate};
use crate::inner_join_tree::is_inner_join;
use crate::split_aggregates::SplitAggregates;

/// Minimum rows of the aggregated input of the join.
const ROWS_MIN: f64 = 100_000.0;

/// Maximum ratio of the new cost to the old cost. Estimates are rough, so a small gain does not
/// justify another plan.
const COST_RATIO_MAX: f64 = 0.6;

/// Minimum ratio of the join's rows to the rows of the aggregated input. A more selective join
/// should come first, because it also filters the scan of this input.
const SELECTIVITY_MIN: f64 = 0.5;

/// Cost of a new group: its values are stored, sent to another thread, stored again and joined. A
/// row of an existing group only adds to its sums.
const GROUP_COST: f64 = 4.0;

/// Cost of a text, list or other value of variable length in a group key. A number has the cost 1.
const TEXT_COST: f64 = 3.0;

/// Aggregates one input of an inner join before the join.
#[derive(Debug, Default)]
pub struct EarlyAggregationRule;

impl OptimizerRule for EarlyAggregationRule {
    fn name(&self) -> &'static str {
        "early_aggregation"
    }

    fn apply_order(&self) -> Option<ApplyOrder> {
        Some(ApplyOrder::BottomUp)
    }

    fn rewrite(
        &self,
        plan: LogicalPlan,
        config: &dyn OptimizerConfig,
    ) -> Result<Transformed<LogicalPlan>> {
        let LogicalPlan::Aggregate(aggregate) = &plan else { return Ok(Transformed::no(plan)) };
        let Some(join) = joined_input(&aggregate.input) else { return Ok(Transformed::no(plan)) };
        Ok(match early(aggregate, join, config)? {
            Some(early) => Transformed::yes(early),
            None => Transformed::no(plan),
        })
    }
}

/// Returns the inner join whose rows are aggregated, also below a projection that only selects
/// columns.
fn joined_input(input: &LogicalPlan) -> Option<&Join> {
    match input {
        LogicalPlan::Join(join) if is_inner_join(input) => Some(join),
        LogicalPlan::Projection(projection)
            if projection.expr.iter().all(|expr| matches!(expr, Expr::Column(_))) =>
        {
            joined_input(&projection.input)
        }
        _ => None,
    }
}

/// The input of a join that is aggregated first.
struct AggregatedInput<'a> {
    plan: &'a Arc<LogicalPlan>,
    is_left: bool,
    /// The columns by which the input is aggregated.
    keys: Vec<Column>,
}

/// Returns the plan that aggregates one input of the join first; `None` if this is impossible or
/// not worthwhile.
fn early(
    aggregate: &Aggregate,
    join: &Join,
    config: &dyn OptimizerConfig,
) -> Result<Option<LogicalPlan>> {
    if aggregate.group_expr.is_empty()
        || !compared_exprs(aggregate, join).all(depends_only_on_columns)
        || SplitAggregates::has_column_in(&join.schema)
    {
        return Ok(None);
    }
    let Some(registry) = config.function_registry() else { return Ok(None) };
    let Some(joined) = estimate(&aggregate.input) else { return Ok(None) };
    let Some(split) = SplitAggregates::of(aggregate, &joined, registry)? else { return Ok(None) };
    let mut best: Option<(f64, AggregatedInput<'_>)> = None;
    for (plan, is_left) in [(&join.left, true), (&join.right, false)] {
        let schema = plan.schema();
        if !split.arguments().iter().all(|column| schema.has_column(column)) {
            continue;
        }
        let Some(keys) = keys(aggregate, join, schema) else { continue };
        let input = AggregatedInput { plan, is_left, keys };
        let Some(cost) = relative_cost(aggregate, join, &input, &joined) else { continue };
        if cost < best.as_ref().map_or(COST_RATIO_MAX, |(best, _)| *best) {
            best = Some((cost, input));
        }
    }
    best.map(|(_, input)| rebuilt(aggregate, join, input, split)).transpose()
}

/// Returns the join's conditions and the group keys. Rows of one input for which all of them are
/// equal are exchangeable.
fn compared_exprs<'a>(aggregate: &'a Aggregate, join: &'a Join) -> impl Iterator<Item = &'a Expr> {
    let conditions = join.on.iter().flat_map(|(left, right)| [left, right]);
    conditions.chain(&join.filter).chain(&aggregate.group_expr)
}

/// Returns true if an expression has the same value for all rows with equal columns. A volatile
/// function, such as `random()` or a function in Python, must be evaluated for each row.
fn depends_only_on_columns(expr: &Expr) -> bool {
    let depends_on_more = |node: &Expr| {
        let is_query = matches!(
            node,
            Expr::ScalarSubquery(_)
                | Expr::InSubquery(_)
                | Expr::Exists(_)
                | Expr::SetComparison(_)
                | Expr::OuterReferenceColumn(..)
        );
        Ok(is_query || node.is_volatile_node())
    };
    !expr.exists(depends_on_more).unwrap_or(true)
}

/// Returns the columns of one input of a join by which it must be aggregated: those in the join's
/// conditions and in the group keys. Returns `None` if there are none, or if equal values of a
/// column are not exchangeable, as 0.0 and -0.0.
fn keys(aggregate: &Aggregate, join: &Join, schema: &DFSchema) -> Option<Vec<Column>> {
    let columns: BTreeSet<Column> = compared_exprs(aggregate, join)
        .flat_map(|expr| expr.column_refs())
        .filter(|column| schema.has_column(column))
        .cloned()
        .collect();
    let is_exchangeable = |column: &Column| {
        let data_type = schema.data_type(column);
        data_type.is_ok_and(|data_type| !data_type.is_floating() && !data_type.is_nested())
    };
    let fits = !columns.is_empty() && columns.iter().all(is_exchangeable);
    fits.then(|| columns.into_iter().collect())
}

/// Returns the estimated ratio of the cost of the plan that aggregates an input first to the cost
/// of the given plan; `None` if an estimate is missing, or if the join removes many rows. The unit
/// of the cost is one hashed number.
fn relative_cost(
    aggregate: &Aggregate,
    join: &Join,
    AggregatedInput { plan, keys, .. }: &AggregatedInput<'_>,
    joined: &RelationEstimate,
) -> Option<f64> {
    let input = estimate(plan)?;
    let share = joined.rows / input.rows.max(1.0);
    if input.rows < ROWS_MIN || share < SELECTIVITY_MIN {
        return None;
    }
    let key_cost: f64 = keys.iter().map(|key| column_cost(plan.schema(), key)).sum();
    let group_cost = grouping_cost(&aggregate.group_expr, join);
    let groups = distinct_rows(&input, keys)?;
    let before = input.rows + joined.rows * group_cost;
    let after = input.rows * key_cost + groups * (GROUP_COST + share * group_cost);
    Some(after / before)
}

/// Returns the estimated number of combinations of values of the columns.
fn distinct_rows(input: &RelationEstimate, columns: &[Column]) -> Option<f64> {
    let counts: Option<Vec<f64>> = columns.iter().map(|column| input.distinct(column)).collect();
    Some(counts?.into_iter().product::<f64>().min(input.rows))
}

fn column_cost(schema: &DFSchema, column: &Column) -> f64 {
    schema.data_type(column).map_or(TEXT_COST, value_cost)
}

fn value_cost(data_type: &DataType) -> f64 {
    let is_short = data_type.is_numeric() || data_type.is_temporal();
    if is_short || *data_type == DataType::Boolean { 1.0 } else { TEXT_COST }
}

/// Returns the cost of one row in the group keys of an aggregate. Each grouping set hashes each
/// key.
fn grouping_cost(exprs: &[Expr], join: &Join) -> f64 {
    let cost = |expr: &Expr| expr.get_type(&join.schema).map_or(TEXT_COST, |it| value_cost(&it));
    let of_all = |exprs: &[Expr]| exprs.iter().map(cost).sum::<f64>();
    let one = |expr: &Expr| match expr {
        Expr::GroupingSet(GroupingSet::Rollup(exprs)) => (exprs.len() + 1) as f64 * of_all(exprs),
        Expr::GroupingSet(GroupingSet::Cube(exprs)) => {
            2_f64.powi(i32::try_from(exprs.len()).unwrap_or(i32::MAX)) * of_all(exprs)
        }
        Expr::GroupingSet(sets @ GroupingSet::GroupingSets(lists)) => {
            let distinct = sets.distinct_expr().into_iter();
            lists.len() as f64 * distinct.map(cost).sum::<f64>()
        }
        expr => cost(expr),
    };
    exprs.iter().map(one).sum()
}

/// Aggregates one input of the join by its keys, joins the groups, and aggregates them to the old
/// plan's groups and columns.
fn rebuilt(
    aggregate: &Aggregate,
    join: &Join,
    AggregatedInput { plan, is_left, keys }: AggregatedInput<'_>,
    split: SplitAggregates,
) -> Result<LogicalPlan> {
    let keys = keys.into_iter().map(Expr::Column).collect();
    let partial = Aggregate::try_new(Arc::clone(plan), keys, split.partial)?;
    let partial = Arc::new(LogicalPlan::Aggregate(partial));
    let (left, right) = if is_left {
        (partial, Arc::clone(&join.right))
    } else {
        (Arc::clone(&join.left), partial)
    };
    let joined = Join::try_new(
        left,
        right,
        join.on.clone(),
        join.filter.clone(),
        join.join_type,
        join.join_constraint,
        join.null_equality,
        join.null_aware,
    )?;
    let joined = Arc::new(LogicalPlan::Join(joined));
    let whole = Aggregate::try_new(joined, aggregate.group_expr.clone(), split.whole)?;
    let groups = aggregate.schema.fields().len() - aggregate.aggr_expr.len();
    let mut outputs = aggregate.schema.columns().into_iter();
    let mut exprs: Vec<Expr> = outputs.by_ref().take(groups).map(Expr::Column).collect();
    exprs.extend(
        split
            .results
            .into_iter()
            .zip(outputs)
            .map(|(result, output)| result.alias_qualified(output.relation, output.name)),
    );
    LogicalPlanBuilder::from(LogicalPlan::Aggregate(whole)).project(exprs)?.build()
}
