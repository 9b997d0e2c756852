//! Comparisons with microsecond timestamps: the other operand is cast to microseconds. DataFusion
//! would cast both operands to nanoseconds.
//!
//! An integer that is cast to a timestamp counts seconds, regardless of the precision. In
//! DataFusion, an integer counts seconds only for nanosecond timestamps.
//!
//! Upstream: no issue found (November 2026); DataFusion coerces mixed units to the finer unit on
//! purpose, <https://github.com/apache/datafusion/pull/22759>

use arrow::datatypes::{DataType, TimeUnit};
use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::Transformed;
use datafusion::common::{DFSchema, Result};
use datafusion::logical_expr::expr::{Between, Case, InList, ScalarFunction};
use datafusion::logical_expr::expr_rewriter::FunctionRewrite;
use datafusion::logical_expr::{BinaryExpr, Cast, Expr, ExprSchemable, Operator, TryCast};

/// Functions that compare or choose between their arguments, and return one of them.
const CHOOSING: [&str; 6] = ["coalesce", "greatest", "ifnull", "least", "nullif", "nvl"];

/// The rewrite of comparisons. It runs before type coercion.
#[derive(Debug)]
pub(crate) struct MicrosecondComparisonRewrite;

impl FunctionRewrite for MicrosecondComparisonRewrite {
    fn name(&self) -> &'static str {
        "microseconds"
    }

    fn rewrite(
        &self,
        mut expr: Expr,
        schema: &DFSchema,
        _: &ConfigOptions,
    ) -> Result<Transformed<Expr>> {
        let changed = match &mut expr {
            Expr::BinaryExpr(BinaryExpr { left, op, right }) => match op {
                Operator::Minus => alike(&mut [left, right], schema, is_date),
                Operator::Eq
                | Operator::NotEq
                | Operator::Lt
                | Operator::LtEq
                | Operator::Gt
                | Operator::GtEq
                | Operator::IsDistinctFrom
                | Operator::IsNotDistinctFrom => alike(&mut [left, right], schema, is_text_or_date),
                _ => false,
            },
            Expr::Between(Between { expr, low, high, .. }) => {
                alike(&mut [expr, low, high], schema, is_text_or_date)
            }
            Expr::InList(InList { expr, list, .. }) => {
                let mut parts: Vec<&mut Expr> = vec![expr];
                parts.extend(list);
                alike(&mut parts, schema, is_text_or_date)
            }
            Expr::Case(Case { when_then_expr, else_expr, .. }) => {
                let mut parts: Vec<&mut Expr> =
                    when_then_expr.iter_mut().map(|(_, then)| &mut **then).collect();
                parts.extend(else_expr.as_deref_mut());
                alike(&mut parts, schema, is_text_or_date)
            }
            Expr::ScalarFunction(ScalarFunction { func, args })
                if CHOOSING.contains(&func.name()) =>
            {
                alike(&mut args.iter_mut().collect::<Vec<_>>(), schema, is_text_or_date)
            }
            Expr::Cast(Cast { expr, field }) => {
                seconds(expr, field.data_type(), schema, |expr, to| Expr::Cast(Cast::new(expr, to)))
            }
            Expr::TryCast(TryCast { expr, field }) => {
                seconds(expr, field.data_type(), schema, |expr, to| {
                    Expr::TryCast(TryCast::new(expr, to))
                })
            }
            _ => false,
        };
        Ok(if changed { Transformed::yes(expr) } else { Transformed::no(expr) })
    }
}

/// Casts the other operands to microseconds, if at least one operand is a timestamp with
/// microseconds and none has nanoseconds.
fn alike(
    parts: &mut [&mut Expr],
    schema: &DFSchema,
    may_become_one: fn(&DataType) -> bool,
) -> bool {
    let types = parts.iter().map(|part| part.get_type(schema)).collect::<Result<Vec<_>>>();
    let Ok(types) = types else { return false };
    let coarse = |data_type: &DataType| match data_type {
        DataType::Timestamp(unit, zone) if *unit != TimeUnit::Nanosecond => Some(zone.clone()),
        _ => None,
    };
    let Some(zone) = types.iter().find_map(coarse) else { return false };
    let fits = |it: &DataType| coarse(it).is_some() || it.is_null() || may_become_one(it);
    if !types.iter().all(fits) {
        return false;
    }
    let to = DataType::Timestamp(TimeUnit::Microsecond, zone);
    let mut changed = false;
    for (part, data_type) in std::iter::zip(parts, &types) {
        if coarse(data_type).is_none() && !data_type.is_null() {
            let value = std::mem::take(&mut **part);
            **part = Expr::Cast(Cast::new(Box::new(value), to.clone()));
            changed = true;
        }
    }
    changed
}

fn is_date(data_type: &DataType) -> bool {
    *data_type == DataType::Date32
}

fn is_text_or_date(data_type: &DataType) -> bool {
    data_type.is_string() || is_date(data_type)
}

/// Rewrites a cast of an integer to a timestamp so that the integer counts seconds.
fn seconds(
    number: &mut Box<Expr>,
    to: &DataType,
    schema: &DFSchema,
    cast: fn(Box<Expr>, DataType) -> Expr,
) -> bool {
    let DataType::Timestamp(TimeUnit::Microsecond | TimeUnit::Millisecond, zone) = to else {
        return false;
    };
    if !number.get_type(schema).is_ok_and(|from| from.is_integer()) {
        return false;
    }
    let whole = cast(Box::new(std::mem::take(&mut **number)), DataType::Int64);
    **number = cast(Box::new(whole), DataType::Timestamp(TimeUnit::Second, zone.clone()));
    true
}
