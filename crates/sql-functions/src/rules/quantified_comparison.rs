//! Rewrites `x > ANY (SELECT …)` and `x > ALL (SELECT …)` as comparisons with the extremes.
//!
//! DataFusion compares each row of the subquery with an outer reference to `x`. If the subquery
//! reads the table of `x`, DataFusion resolves `x` to the subquery's own column, and the result is
//! wrong. DataFusion also rejects these comparisons in a select list. A comparison with the
//! smallest or the largest value of the subquery has the same result, and these values are computed
//! only once. `= ANY` and `<> ALL` become `IN` and `NOT IN`.

use std::sync::Arc;

use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::common::{Column, Result, ScalarValue};
use datafusion::functions_aggregate::expr_fn::{count, max, min};
use datafusion::logical_expr::expr::{InSubquery, SetComparison, SetQuantifier};
use datafusion::logical_expr::{
    Expr, LogicalPlan, LogicalPlanBuilder, Operator, Subquery, binary_expr, lit, not, when,
};

use super::rewrite_values;

/// Name of the column with a subquery's smallest or largest value; the NUL character avoids
/// collisions with user names.
const VALUE: &str = "\0quantified";

/// Rewrites all quantified comparisons of a plan. Types must be known.
pub(super) fn rewrite(plan: LogicalPlan) -> Result<Transformed<LogicalPlan>> {
    rewrite_values(plan, |value| {
        value.transform_up(|part| match part {
            Expr::SetComparison(comparison) => Ok(Transformed::yes(compare(comparison)?)),
            other => Ok(Transformed::no(other)),
        })
    })
}

/// Returns the comparison as an expression that is true, false or null.
fn compare(comparison: SetComparison) -> Result<Expr> {
    let SetComparison { expr, subquery, op, quantifier } = comparison;
    let is_any = quantifier == SetQuantifier::Any;
    if op == if is_any { Operator::Eq } else { Operator::NotEq } {
        return Ok(Expr::InSubquery(InSubquery { expr, subquery, negated: !is_any }));
    }
    let column = Expr::Column(Column::from(subquery.subquery.schema().qualified_field(0)));
    let smallest = aggregate(&subquery, min(column.clone()))?;
    let largest = aggregate(&subquery, max(column.clone()))?;
    let with = |extreme: Expr| binary_expr(expr.as_ref().clone(), op, extreme);
    let decided = match op {
        Operator::Gt | Operator::GtEq if is_any => with(smallest),
        Operator::Lt | Operator::LtEq if is_any => with(largest),
        Operator::Gt | Operator::GtEq => with(largest),
        Operator::Lt | Operator::LtEq => with(smallest),
        // `x <> ANY` is false only if all rows equal `x`, that is, if the smallest and the largest
        // value do.
        Operator::NotEq if is_any => with(smallest).or(with(largest)),
        Operator::Eq if !is_any => with(smallest).and(with(largest)),
        _ => return Ok(Expr::SetComparison(SetComparison { expr, subquery, op, quantifier })),
    };
    let rows = aggregate(&subquery, count(lit(1_i64)))?;
    let values = aggregate(&subquery, count(column))?;
    let unknown = expr.is_null().or(rows.clone().gt(values));
    let decides = if is_any { decided } else { not(decided) };
    when(rows.eq(lit(0_i64)), lit(!is_any))
        .when(decides, lit(is_any))
        .when(unknown, lit(ScalarValue::Boolean(None)))
        .otherwise(lit(!is_any))
}

/// Returns a scalar subquery that aggregates the rows of the subquery `query`.
fn aggregate(query: &Subquery, value: Expr) -> Result<Expr> {
    let Subquery { subquery, outer_ref_columns, spans } = query.clone();
    let plan = LogicalPlanBuilder::from(Arc::unwrap_or_clone(subquery));
    let plan = plan.aggregate(Vec::<Expr>::new(), vec![value])?;
    let column =
        plan.schema().columns().into_iter().map(|column| Expr::Column(column).alias(VALUE));
    let plan = plan.project(column.collect::<Vec<_>>())?.build()?;
    Ok(Expr::ScalarSubquery(Subquery { subquery: Arc::new(plan), outer_ref_columns, spans }))
}
