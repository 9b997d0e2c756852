//! Makes `x NOT IN (1, 2)` null if `x` is null; DataFusion's optimizer may turn it into true.
//!
//! The optimizer combines conditions with lists, and ignores that they can be null. `x NOT IN (1)
//! OR x NOT IN (2)` becomes `true`, and `x NOT IN (1, NULL) AND x IN (2)` becomes `x IN (2)`. The
//! optimizer also turns `x = 1 OR x = 2` into a list.
//!
//! In a condition, null counts as false, so a negated list is rewritten as `(x IN …) IS FALSE`,
//! which the optimizer does not combine. NOTs are pushed down to the lists first, because null and
//! false differ under NOT. In expressions that are not conditions, null and false also differ, so
//! the lists are wrapped in a function that the optimizer cannot look into.
//!
//! Upstream: <https://github.com/apache/datafusion/pull/24258>

use std::sync::LazyLock;

use arrow::datatypes::DataType;
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::common::{Result, internal_err};
use datafusion::logical_expr::expr::{AggregateFunction, Case, InList};
use datafusion::logical_expr::{
    BinaryExpr, ColumnarValue, Expr, LogicalPlan, Operator, ScalarFunctionArgs, ScalarUDF,
    ScalarUDFImpl, Signature, Volatility,
};

use super::rewrite_values;

/// Rewrites the NOT IN lists of a plan.
pub(super) fn rewrite(plan: LogicalPlan) -> Result<Transformed<LogicalPlan>> {
    if let LogicalPlan::Join(mut join) = plan {
        join.filter = join.filter.map(|filter| rewrite_condition(filter, false)).transpose()?;
        return Ok(Transformed::yes(LogicalPlan::Join(join)));
    }
    let is_condition = matches!(plan, LogicalPlan::Filter(_));
    rewrite_values(plan, |value| {
        Ok(Transformed::yes(if is_condition {
            rewrite_condition(value, false)?
        } else {
            rewrite_value(value)?
        }))
    })
}

/// Returns a condition that is true for the same rows as `condition`. If `opposite` is true,
/// returns a condition that is true for the same rows as NOT `condition`.
fn rewrite_condition(condition: Expr, opposite: bool) -> Result<Expr> {
    let held = match condition {
        Expr::Not(inner) => rewrite_condition(*inner, !opposite)?,
        Expr::BinaryExpr(BinaryExpr { left, op: op @ (Operator::And | Operator::Or), right }) => {
            let op = match (op, opposite) {
                (Operator::And, true) => Operator::Or,
                (Operator::Or, true) => Operator::And,
                (op, _) => op,
            };
            let (left, right) =
                (rewrite_condition(*left, opposite)?, rewrite_condition(*right, opposite)?);
            Expr::BinaryExpr(BinaryExpr { left: Box::new(left), op, right: Box::new(right) })
        }
        Expr::InList(InList { expr, list, negated }) => {
            let inside = rewrite_value(Expr::InList(InList { expr, list, negated: false }))?;
            if negated == opposite { inside } else { Expr::IsFalse(Box::new(inside)) }
        }
        other if opposite => Expr::Not(Box::new(rewrite_value(other)?)),
        other => rewrite_value(other)?,
    };
    Ok(held)
}

/// Rewrites an expression that is not a condition: wraps its IN lists, and rewrites the conditions
/// that it contains, such as those of CASE.
fn rewrite_value(value: Expr) -> Result<Expr> {
    let kept = match value {
        Expr::IsTrue(condition) => Expr::IsTrue(Box::new(rewrite_condition(*condition, false)?)),
        Expr::IsNotTrue(condition) => {
            Expr::IsNotTrue(Box::new(rewrite_condition(*condition, false)?))
        }
        Expr::Case(Case { expr: None, when_then_expr, else_expr }) => {
            let cases = when_then_expr.into_iter().map(|(when, then)| {
                Ok((Box::new(rewrite_condition(*when, false)?), Box::new(rewrite_value(*then)?)))
            });
            let when_then_expr = cases.collect::<Result<_>>()?;
            let else_expr =
                else_expr.map(|value| rewrite_value(*value).map(Box::new)).transpose()?;
            Expr::Case(Case { expr: None, when_then_expr, else_expr })
        }
        Expr::AggregateFunction(AggregateFunction { func, mut params }) => {
            params.filter =
                params.filter.map(|it| rewrite_condition(*it, false).map(Box::new)).transpose()?;
            params.args = params.args.into_iter().map(rewrite_value).collect::<Result<_>>()?;
            Expr::AggregateFunction(AggregateFunction { func, params })
        }
        Expr::BinaryExpr(BinaryExpr { left, op: op @ (Operator::And | Operator::Or), right }) => {
            let side = |side: Expr| -> Result<Box<Expr>> {
                let within = rewrite_value(side)?;
                let joins = op == Operator::Or && is_list(&within);
                Ok(Box::new(if joins { within } else { wrap_opaque(within) }))
            };
            Expr::BinaryExpr(BinaryExpr { left: side(*left)?, op, right: side(*right)? })
        }
        other => other.map_children(|child| Ok(Transformed::yes(rewrite_value(child)?)))?.data,
    };
    Ok(kept)
}

/// Returns true for an IN list, for an equality, and for several of these joined by OR. The
/// optimizer may combine such expressions to one list.
fn is_list(value: &Expr) -> bool {
    match value {
        Expr::InList(list) => !list.negated,
        Expr::BinaryExpr(BinaryExpr { op: Operator::Eq, .. }) => true,
        Expr::BinaryExpr(BinaryExpr { left, op: Operator::Or, right }) => {
            is_list(left) && is_list(right)
        }
        _ => false,
    }
}

/// Wraps an expression in the opaque function if it is an IN list, or if the optimizer could
/// combine it with one.
fn wrap_opaque(value: Expr) -> Expr {
    let may_be_list = matches!(
        value,
        Expr::InList(_)
            | Expr::Not(_)
            | Expr::BinaryExpr(BinaryExpr { op: Operator::Eq | Operator::NotEq, .. })
    );
    if may_be_list || is_list(&value) { VEIL.call(vec![value]) } else { value }
}

static VEIL: LazyLock<ScalarUDF> = LazyLock::new(|| {
    ScalarUDF::from(OpaqueIdentityFunction(Signature::any(1, Volatility::Immutable)))
});

/// Function that returns its argument. The optimizer does not combine its argument with other
/// expressions.
#[derive(Debug, PartialEq, Eq, Hash)]
struct OpaqueIdentityFunction(Signature);

impl ScalarUDFImpl for OpaqueIdentityFunction {
    fn name(&self) -> &'static str {
        "value"
    }

    fn signature(&self) -> &Signature {
        &self.0
    }

    fn return_type(&self, arguments: &[DataType]) -> Result<DataType> {
        Ok(arguments.first().cloned().unwrap_or(DataType::Null))
    }

    fn invoke_with_args(&self, arguments: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let Ok([value]) = <[ColumnarValue; 1]>::try_from(arguments.args) else {
            return internal_err!("`value` takes one value");
        };
        Ok(value)
    }
}
