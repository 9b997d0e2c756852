//! `9 = t.id` as `t.id = 9`.
//!
//! A condition of a join that holds for equal columns of both sides is put before each of them, and
//! again in every round of the optimizer. DataFusion takes two equal conditions for one where they
//! are written alike, and for two that exclude each other where the first is `9 = s.id` and the
//! second `s.id = 9`: no row would be left.
//!
//! Upstream: <https://github.com/apache/datafusion/pull/24763>

use datafusion::common::tree_node::Transformed;
use datafusion::common::{DFSchema, Result};
use datafusion::logical_expr::{BinaryExpr, Expr, LogicalPlan};

use super::rewrite_parts;

/// The plan with what has columns on the left of comparisons with what has none.
pub(super) fn rewrite(plan: LogicalPlan) -> Result<Transformed<LogicalPlan>> {
    rewrite_parts(plan, turn)
}

fn turn(expr: Expr, _: &DFSchema) -> Transformed<Expr> {
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
