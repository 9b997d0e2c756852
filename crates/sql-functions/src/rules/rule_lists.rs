//! The lists of this crate's rules, and the traversal of plans that the rules share.

use std::sync::Arc;

use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::common::{DFSchema, Result};
use datafusion::logical_expr::expr_rewriter::{FunctionRewrite, NamePreserver};
use datafusion::logical_expr::utils::merge_schema;
use datafusion::logical_expr::{Expr, LogicalPlan};
use datafusion::optimizer::AnalyzerRule;
use headwater_sql_library::TextCastRewrite;

use crate::casts_to_text::NestedToTextRewrite;
use crate::timestamps::{MicrosecondComparisonRewrite, add_seconds};

/// Returns the rewrites that run during type resolution.
pub(crate) fn functions() -> [Arc<dyn FunctionRewrite + Send + Sync>; 6] {
    [
        Arc::new(TextCastRewrite),
        Arc::new(NestedToTextRewrite),
        Arc::new(super::round::RoundPlacesRewrite),
        Arc::new(super::map_value::MapAccessRewrite),
        Arc::new(MicrosecondComparisonRewrite),
        Arc::new(super::round_casts::RoundCastsRewrite),
    ]
}

/// Returns the analyzer rules, in order.
pub(crate) fn analyzer() -> [Arc<dyn AnalyzerRule + Send + Sync>; 10] {
    let rules: [(_, Rewrite); 10] = [
        ("quantified_comparison", super::quantified_comparison::rewrite),
        ("scalar_subquery", super::scalar_subquery::rewrite),
        ("compare_lengths", super::interval_comparison::rewrite),
        ("membership", super::in_and_exists::rewrite),
        ("date_diff", super::date_subtraction::rewrite),
        ("check_overflow", super::integer_overflow::rewrite),
        ("round_division", super::decimal_division::rewrite),
        ("add_seconds", |plan| rewrite_parts(plan, add_seconds)),
        ("say_not_in_list", super::not_in_list::rewrite),
        ("normalize_comparison", super::normalize_comparison::rewrite),
    ];
    rules.map(|(name, rewrite)| Arc::new(PlanNodeRule { name, rewrite }) as _)
}

type Rewrite = fn(LogicalPlan) -> Result<Transformed<LogicalPlan>>;

/// An analyzer rule that visits each node of a plan, including its subqueries.
#[derive(Debug)]
struct PlanNodeRule {
    name: &'static str,
    rewrite: Rewrite,
}

impl AnalyzerRule for PlanNodeRule {
    fn name(&self) -> &'static str {
        self.name
    }

    fn analyze(&self, plan: LogicalPlan, _config: &ConfigOptions) -> Result<LogicalPlan> {
        Ok(plan.transform_up_with_subqueries(self.rewrite)?.data)
    }
}

/// Rewrites every expression of a plan, including nested expressions. `rewrite` also receives the
/// schema of the columns that the expression can use. Output names are kept.
pub(super) fn rewrite_parts(
    plan: LogicalPlan,
    rewrite: impl Fn(Expr, &DFSchema) -> Transformed<Expr>,
) -> Result<Transformed<LogicalPlan>> {
    let schema = merge_schema(&plan.inputs());
    rewrite_values(plan, |value| value.transform_up(|part| Ok(rewrite(part, &schema))))
}

/// Rewrites each top-level expression of a plan. Output names are kept.
pub(super) fn rewrite_values(
    plan: LogicalPlan,
    mut rewrite: impl FnMut(Expr) -> Result<Transformed<Expr>>,
) -> Result<Transformed<LogicalPlan>> {
    let names = NamePreserver::new(&plan);
    plan.map_expressions(|expr| rewrite_value(expr, &names, &mut rewrite))
}

/// Rewrites an expression of a plan and keeps its output name. A grouping set has no name, so its
/// expressions are rewritten individually.
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
