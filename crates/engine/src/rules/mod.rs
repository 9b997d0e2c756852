//! Where what DataFusion makes of a query is not what SQL says: rules that put it right.
//!
//! Functions are rewritten while the types of a plan are found, the analyzer's rules come once they are
//! known, and the optimizer's are DataFusion's own, some of them guarded.

mod days;
mod guarded;
mod interval;
mod map_value;
mod membership;
mod not_in_list;
mod one_row;
mod overflow;
mod round;

use std::sync::Arc;

use datafusion::common::Result;
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::logical_expr::expr_rewriter::{FunctionRewrite, NamePreserver};
use datafusion::logical_expr::{Expr, LogicalPlan};
use datafusion::optimizer::AnalyzerRule;

pub(crate) use self::guarded::rules as optimizer;
use crate::timestamps::Microseconds;

/// The rewrites of functions.
pub(crate) fn functions() -> [Arc<dyn FunctionRewrite + Send + Sync>; 3] {
    [Arc::new(round::Places), Arc::new(map_value::ReadMaps), Arc::new(Microseconds)]
}

/// The analyzer's rules, in their order.
pub(crate) fn analyzer() -> [Arc<dyn AnalyzerRule + Send + Sync>; 6] {
    [
        Arc::new(one_row::OneRow),
        Arc::new(interval::CompareLengths),
        Arc::new(membership::Membership),
        Arc::new(days::CountDays),
        Arc::new(overflow::CheckOverflow),
        Arc::new(not_in_list::SayNotInList),
    ]
}

/// The plan with each of its values as `rewrite` makes it, under the name that it had.
fn rewrite_values(
    plan: LogicalPlan,
    mut rewrite: impl FnMut(Expr) -> Result<Transformed<Expr>>,
) -> Result<Transformed<LogicalPlan>> {
    let names = NamePreserver::new(&plan);
    plan.map_expressions(|expr| rewrite_value(expr, &names, &mut rewrite))
}

/// Grouping sets have no name; what they are made of has.
fn rewrite_value(
    value: Expr,
    names: &NamePreserver,
    rewrite: &mut dyn FnMut(Expr) -> Result<Transformed<Expr>>,
) -> Result<Transformed<Expr>> {
    if matches!(value, Expr::GroupingSet(_)) {
        return value.map_children(|part| rewrite_value(part, names, rewrite));
    }
    let name = names.save(&value);
    Ok(rewrite(value)?.update_data(|value| name.restore(value)))
}
