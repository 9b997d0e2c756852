//! Recognizes expressions whose evaluation can fail.
//!
//! An expression that cannot fail can be evaluated for rows for which the query's own plan does not
//! evaluate it, such as rows that a join removes. Any other expression could then fail for a row
//! that does not belong to the result.

use arrow::datatypes::{DECIMAL128_MAX_PRECISION, DataType};
use datafusion::common::tree_node::TreeNode;
use datafusion::common::{DFSchema, Result, ScalarValue};
use datafusion::logical_expr::expr::ScalarFunction;
use datafusion::logical_expr::{BinaryExpr, Expr, ExprSchemable, Operator};

/// Name of the function that replaces the operator `/` of decimals.
const DIVIDE: &str = "divide";

/// Returns true if the evaluation of an expression can fail, for example by an overflow. Also
/// returns true for all functions except the division of decimals, because nothing is known about
/// them.
pub fn can_fail(expr: &Expr, schema: &DFSchema) -> Result<bool> {
    expr.exists(|node| node_can_fail(node, schema))
}

/// Returns true if an expression can fail although its operands do not.
fn node_can_fail(node: &Expr, schema: &DFSchema) -> Result<bool> {
    Ok(match node {
        Expr::Column(_)
        | Expr::Literal(..)
        | Expr::Alias(_)
        | Expr::TryCast(_)
        | Expr::Case(_)
        | Expr::Not(_)
        | Expr::IsNull(_)
        | Expr::IsNotNull(_)
        | Expr::IsTrue(_)
        | Expr::IsFalse(_)
        | Expr::IsNotTrue(_)
        | Expr::IsNotFalse(_)
        | Expr::Between(_)
        | Expr::InList(_) => false,
        Expr::Cast(cast) => {
            !converts_every_value(&cast.expr.get_type(schema)?, cast.field.data_type())
        }
        Expr::BinaryExpr(BinaryExpr { op, right, .. }) => match op {
            Operator::Eq
            | Operator::NotEq
            | Operator::Lt
            | Operator::LtEq
            | Operator::Gt
            | Operator::GtEq
            | Operator::IsDistinctFrom
            | Operator::IsNotDistinctFrom
            | Operator::And
            | Operator::Or => false,
            Operator::Plus | Operator::Minus | Operator::Multiply => {
                !has_every_result(&node.get_type(schema)?)
            }
            Operator::Divide => !has_every_result(&node.get_type(schema)?) || !is_nonzero(right),
            _ => true,
        },
        Expr::ScalarFunction(ScalarFunction { func, args }) if func.name() == DIVIDE => {
            !has_every_result(&node.get_type(schema)?) || !args.get(1).is_some_and(is_nonzero)
        }
        _ => true,
    })
}

/// Returns true if a type has a value for each result of `+`, `-` and `*`, and for each quotient
/// whose divisor is not zero. The result of decimals has enough digits unless its precision is
/// limited.
fn has_every_result(result: &DataType) -> bool {
    match result {
        DataType::Decimal128(precision, _) => *precision < DECIMAL128_MAX_PRECISION,
        result => result.is_floating(),
    }
}

/// Returns true for a constant other than zero.
fn is_nonzero(divisor: &Expr) -> bool {
    let Expr::Literal(value, _) = divisor else { return false };
    ScalarValue::new_zero(&value.data_type()).is_ok_and(|zero| zero != *value)
}

/// Returns true if a cast succeeds for each value.
fn converts_every_value(from: &DataType, to: &DataType) -> bool {
    match to {
        _ if from == to => true,
        DataType::Float64 => from.is_numeric(),
        DataType::Decimal128(..) => {
            digits(from).zip(digits(to)).is_some_and(|(from, to)| from.0 <= to.0 && from.1 <= to.1)
        }
        _ => {
            let is_wider = from.primitive_width() < to.primitive_width();
            from.is_integer() && to.is_signed_integer() && is_wider
        }
    }
}

/// Returns the largest number of digits before and after the decimal point; `None` for types other
/// than integers and decimals.
fn digits(data_type: &DataType) -> Option<(i8, i8)> {
    Some(match data_type {
        DataType::Int8 | DataType::UInt8 => (3, 0),
        DataType::Int16 | DataType::UInt16 => (5, 0),
        DataType::Int32 | DataType::UInt32 => (10, 0),
        DataType::Int64 => (19, 0),
        DataType::UInt64 => (20, 0),
        DataType::Decimal128(precision, scale) => (i8::try_from(*precision).ok()? - *scale, *scale),
        _ => return None,
    })
}
