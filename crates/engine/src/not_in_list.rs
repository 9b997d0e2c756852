//! `x NOT IN (1, 2)` where `x` is null: unknown, where DataFusion alone may say that it holds.
//!
//! Its optimizer puts lists together: `x NOT IN (1) OR x NOT IN (2)` becomes `true`, and
//! `x NOT IN (1, NULL) AND x IN (2)` becomes `x IN (2)`, whatever nulls there are. In a condition, which does
//! not tell unknown from false, a list under a NOT holds where its opposite is false; said so, the optimizer
//! leaves it as it is. NOTs are brought down to the lists first, because under a NOT unknown and false are
//! told apart.

use datafusion::common::Result;
use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::logical_expr::expr::{Case, InList};
use datafusion::logical_expr::expr_rewriter::NamePreserver;
use datafusion::logical_expr::{BinaryExpr, Expr, LogicalPlan, Operator};
use datafusion::optimizer::AnalyzerRule;

/// The rule that says so.
#[derive(Debug)]
pub(crate) struct SayNotInList;

impl AnalyzerRule for SayNotInList {
    fn name(&self) -> &'static str {
        "say_not_in_list"
    }

    fn analyze(&self, plan: LogicalPlan, _config: &ConfigOptions) -> Result<LogicalPlan> {
        Ok(plan.transform_up_with_subqueries(say_in_plan)?.data)
    }
}

fn say_in_plan(plan: LogicalPlan) -> Result<Transformed<LogicalPlan>> {
    let plan = match plan {
        LogicalPlan::Join(mut join) => {
            join.filter = join.filter.map(|filter| hold(filter, false));
            LogicalPlan::Join(join)
        }
        other => other,
    };
    let is_condition = matches!(plan, LogicalPlan::Filter(_));
    let names = NamePreserver::new(&plan);
    plan.map_expressions(|expr| {
        if !has_list(&expr)? {
            return Ok(Transformed::no(expr));
        }
        let name = names.save(&expr);
        let expr = if is_condition { hold(expr, false) } else { expr };
        let said = expr.transform_up(|expr| Ok(say_within(expr)))?;
        Ok(Transformed::yes(name.restore(said.data)))
    })
}

/// Whether there is anything to say.
fn has_list(expr: &Expr) -> Result<bool> {
    expr.exists(|expr| Ok(matches!(expr, Expr::InList(_))))
}

/// What of an expression is a condition wherever it stands.
fn say_within(expr: Expr) -> Transformed<Expr> {
    match expr {
        Expr::IsTrue(condition) => {
            Transformed::yes(Expr::IsTrue(Box::new(hold(*condition, false))))
        }
        Expr::IsNotTrue(condition) => {
            Transformed::yes(Expr::IsNotTrue(Box::new(hold(*condition, false))))
        }
        Expr::Case(Case { expr: None, when_then_expr, else_expr }) => {
            let cases = when_then_expr.into_iter();
            let cases = cases.map(|(when, then)| (Box::new(hold(*when, false)), then));
            let case = Case { expr: None, when_then_expr: cases.collect(), else_expr };
            Transformed::yes(Expr::Case(case))
        }
        other => Transformed::no(other),
    }
}

/// A condition that holds where this one does, or where its opposite does.
fn hold(condition: Expr, opposite: bool) -> Expr {
    match condition {
        Expr::Not(inner) => hold(*inner, !opposite),
        Expr::BinaryExpr(BinaryExpr { left, op, right })
            if matches!(op, Operator::And | Operator::Or) =>
        {
            let op = match (op, opposite) {
                (Operator::And, true) => Operator::Or,
                (Operator::Or, true) => Operator::And,
                (op, _) => op,
            };
            let (left, right) = (hold(*left, opposite), hold(*right, opposite));
            Expr::BinaryExpr(BinaryExpr { left: Box::new(left), op, right: Box::new(right) })
        }
        Expr::InList(InList { expr, list, negated }) => {
            let inside = Expr::InList(InList { expr, list, negated: false });
            if negated == opposite { inside } else { Expr::IsFalse(Box::new(inside)) }
        }
        other if opposite => Expr::Not(Box::new(other)),
        other => other,
    }
}
