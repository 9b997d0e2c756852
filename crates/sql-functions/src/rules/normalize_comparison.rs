//! Rewrites `9 = t.id` as `t.id = 9`.
//!
//! In every pass, the optimizer copies a condition on a join column to the other side of the join.
//! DataFusion recognizes a copy as a duplicate only if both conditions have the same form. It
//! treats `9 = s.id` and `s.id = 9` as contradictory conditions, and the query then returns no
//! rows.
//!
//! Upstream: <https://github.com/apache/datafusion/pull/24763>

use datafusion::common::tree_node::Transformed;
use datafusion::common::{DFSchema, Result};
use datafusion::logical_expr::{BinaryExpr, Expr, LogicalPlan};

use super::rewrite_parts;

/// Returns the plan in which every comparison with a constant has the column on the left.
pub(super) fn rewrite(plan: LogicalPlan) -> Result<Transformed<LogicalPlan>> {
    rewrite_parts(plan, column_on_left)
}

fn column_on_left(expr: Expr, _: &DFSchema) -> Transformed<Expr> {
    match expr {
        Expr::BinaryExpr(BinaryExpr { left, op, right })
            if !left.any_column_refs() && right.any_column_refs() =>
        {
            match op.swap() {
                Some(op) => {
                    let (left, right) = (right, left);
                    Transformed::yes(Expr::BinaryExpr(BinaryExpr { left, op, right }))
                }
                None => Transformed::no(Expr::BinaryExpr(BinaryExpr { left, op, right })),
            }
        }
        other => Transformed::no(other),
    }
}
