//! Subqueries that always return exactly one row, because they aggregate without groups.
//!
//! DataFusion plans EXISTS and IN as semi joins, which find no row if the input of the subquery is
//! empty. This rule replaces EXISTS with a single-row subquery by a constant, and IN by a
//! comparison with the subquery's row.
//!
//! Upstream: <https://github.com/apache/datafusion/issues/24960>

use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::common::{Result, not_impl_err};
use datafusion::logical_expr::expr::{Exists, InSubquery};
use datafusion::logical_expr::{Expr, LogicalPlan, Operator, binary_expr, lit};

use super::rewrite_values;

/// Returns the plan with single-row subqueries replaced.
pub(super) fn rewrite(plan: LogicalPlan) -> Result<Transformed<LogicalPlan>> {
    rewrite_values(plan, |value| value.transform_up(rewrite_expr))
}

fn rewrite_expr(expr: Expr) -> Result<Transformed<Expr>> {
    match expr {
        Expr::Exists(Exists { subquery, negated }) => {
            match rows(&subquery.subquery) {
                Cardinality::One => return Ok(Transformed::yes(lit(!negated))),
                Cardinality::OneAtMost if !subquery.outer_ref_columns.is_empty() => {
                    return not_impl_err!(
                        "EXISTS with a correlated aggregate subquery that has HAVING or LIMIT"
                    );
                }
                _ => {}
            }
            Ok(Transformed::no(Expr::Exists(Exists { subquery, negated })))
        }
        Expr::InSubquery(InSubquery { expr, subquery, negated })
            if !subquery.outer_ref_columns.is_empty() =>
        {
            match rows(&subquery.subquery) {
                Cardinality::One => {
                    let operator = if negated { Operator::NotEq } else { Operator::Eq };
                    let row = Expr::ScalarSubquery(subquery);
                    Ok(Transformed::yes(binary_expr(*expr, operator, row)))
                }
                Cardinality::OneAtMost => not_impl_err!(
                    "IN with a correlated aggregate subquery that has HAVING or LIMIT"
                ),
                Cardinality::Any => {
                    let kept = InSubquery { expr, subquery, negated };
                    Ok(Transformed::no(Expr::InSubquery(kept)))
                }
            }
        }
        other => Ok(Transformed::no(other)),
    }
}

/// The number of rows of a query.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Cardinality {
    One,
    OneAtMost,
    Any,
}

fn rows(plan: &LogicalPlan) -> Cardinality {
    match plan {
        LogicalPlan::Projection(projection) => rows(&projection.input),
        LogicalPlan::SubqueryAlias(alias) => rows(&alias.input),
        LogicalPlan::Sort(sort) => rows(&sort.input),
        LogicalPlan::Aggregate(aggregate) if aggregate.group_expr.is_empty() => Cardinality::One,
        LogicalPlan::Filter(filter) if rows(&filter.input) != Cardinality::Any => {
            Cardinality::OneAtMost
        }
        LogicalPlan::Limit(limit) if rows(&limit.input) != Cardinality::Any => {
            Cardinality::OneAtMost
        }
        _ => Cardinality::Any,
    }
}
