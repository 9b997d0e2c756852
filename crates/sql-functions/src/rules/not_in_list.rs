//! `x NOT IN (1, 2)` where `x` is null: unknown, where DataFusion alone may say that it holds.
//!
//! Its optimizer puts lists together: `x NOT IN (1) OR x NOT IN (2)` becomes `true`, and `x NOT IN
//! (1, NULL) AND x IN (2)` becomes `x IN (2)`, whatever nulls there are; and it makes lists of `x =
//! 1 OR x = 2` itself.
//!
//! A condition does not tell unknown from false: there a list under a NOT holds where its opposite
//! is false; said so, the optimizer leaves it as it is. NOTs are brought down to the lists first,
//! because under a NOT unknown and false are told apart. They are in every other value, too, where
//! lists are therefore kept apart by a function that the optimizer does not look into.
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

/// The plan that says so.
pub(super) fn rewrite(plan: LogicalPlan) -> Result<Transformed<LogicalPlan>> {
    if let LogicalPlan::Join(mut join) = plan {
        join.filter = join.filter.map(|filter| hold(filter, false)).transpose()?;
        return Ok(Transformed::yes(LogicalPlan::Join(join)));
    }
    let is_condition = matches!(plan, LogicalPlan::Filter(_));
    rewrite_values(plan, |value| {
        Ok(Transformed::yes(if is_condition { hold(value, false)? } else { apart(value)? }))
    })
}

/// A condition that holds where this one does, or where its opposite does.
fn hold(condition: Expr, opposite: bool) -> Result<Expr> {
    let held = match condition {
        Expr::Not(inner) => hold(*inner, !opposite)?,
        Expr::BinaryExpr(BinaryExpr { left, op: op @ (Operator::And | Operator::Or), right }) => {
            let op = match (op, opposite) {
                (Operator::And, true) => Operator::Or,
                (Operator::Or, true) => Operator::And,
                (op, _) => op,
            };
            let (left, right) = (hold(*left, opposite)?, hold(*right, opposite)?);
            Expr::BinaryExpr(BinaryExpr { left: Box::new(left), op, right: Box::new(right) })
        }
        Expr::InList(InList { expr, list, negated }) => {
            let inside = apart(Expr::InList(InList { expr, list, negated: false }))?;
            if negated == opposite { inside } else { Expr::IsFalse(Box::new(inside)) }
        }
        other if opposite => Expr::Not(Box::new(apart(other)?)),
        other => apart(other)?,
    };
    Ok(held)
}

/// A value with the lists in it kept apart, and with what of it is a condition as that.
fn apart(value: Expr) -> Result<Expr> {
    let kept = match value {
        Expr::IsTrue(condition) => Expr::IsTrue(Box::new(hold(*condition, false)?)),
        Expr::IsNotTrue(condition) => Expr::IsNotTrue(Box::new(hold(*condition, false)?)),
        Expr::Case(Case { expr: None, when_then_expr, else_expr }) => {
            let cases = when_then_expr
                .into_iter()
                .map(|(when, then)| Ok((Box::new(hold(*when, false)?), Box::new(apart(*then)?))));
            let when_then_expr = cases.collect::<Result<_>>()?;
            let else_expr = else_expr.map(|value| apart(*value).map(Box::new)).transpose()?;
            Expr::Case(Case { expr: None, when_then_expr, else_expr })
        }
        Expr::AggregateFunction(AggregateFunction { func, mut params }) => {
            params.filter = params.filter.map(|it| hold(*it, false).map(Box::new)).transpose()?;
            params.args = params.args.into_iter().map(apart).collect::<Result<_>>()?;
            Expr::AggregateFunction(AggregateFunction { func, params })
        }
        Expr::BinaryExpr(BinaryExpr { left, op: op @ (Operator::And | Operator::Or), right }) => {
            let side = |side: Expr| -> Result<Box<Expr>> {
                let within = apart(side)?;
                let joins = op == Operator::Or && is_list(&within);
                Ok(Box::new(if joins { within } else { veiled(within) }))
            };
            Expr::BinaryExpr(BinaryExpr { left: side(*left)?, op, right: side(*right)? })
        }
        other => other.map_children(|child| Ok(Transformed::yes(apart(child)?)))?.data,
    };
    Ok(kept)
}

/// Whether all that a value is made of are lists under OR, which may be put together.
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

/// The value, behind a function that gives it back, where the optimizer may make a list of it.
fn veiled(value: Expr) -> Expr {
    let may_be_list = matches!(
        value,
        Expr::InList(_)
            | Expr::Not(_)
            | Expr::BinaryExpr(BinaryExpr { op: Operator::Eq | Operator::NotEq, .. })
    );
    if may_be_list || is_list(&value) { VEIL.call(vec![value]) } else { value }
}

static VEIL: LazyLock<ScalarUDF> =
    LazyLock::new(|| ScalarUDF::from(OpaqueUdf(Signature::any(1, Volatility::Immutable))));

/// A function that gives its argument back.
#[derive(Debug, PartialEq, Eq, Hash)]
struct OpaqueUdf(Signature);

impl ScalarUDFImpl for OpaqueUdf {
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
