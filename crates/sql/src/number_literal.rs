//! Number literals with all their digits. The planner reads literals with a decimal point as
//! floating-point numbers, which lose digits. For example, the floating-point number that is
//! nearest to 1.005 is less than 1.005.

use sqlparser::ast::{Expr, Query, SelectItem, SetExpr, UnaryOperator, Value};

/// Maximum number of digits with which the planner reads an integer exactly.
const DIGITS_OF_INTEGERS: usize = 15;

/// Replaces a literal with a decimal point or many digits by a text literal, which is later cast to
/// a decimal.
pub fn decimal_literal_to_text(expr: &mut Expr) {
    let digits = |text: &String| text.bytes().filter(u8::is_ascii_digit).count();
    let is_inexact = |text: &String| text.contains('.') || digits(text) > DIGITS_OF_INTEGERS;
    if let Some(text) = digits_of(expr).filter(is_inexact) {
        *expr = Expr::value(Value::SingleQuotedString(text));
    }
}

/// Applies [`decimal_literal_to_text`] to the columns of a SELECT that are assigned to decimals.
/// The argument of `is_decimal` is the index of the column. A SELECT with a wildcard is not
/// changed.
pub fn exact_columns(query: &mut Query, is_decimal: impl Fn(usize) -> bool) {
    let SetExpr::Select(select) = &mut *query.body else { return };
    let is_plain = |item: &SelectItem| {
        matches!(item, SelectItem::UnnamedExpr(_) | SelectItem::ExprWithAlias { .. })
    };
    if select.distinct.is_some() || !select.projection.iter().all(is_plain) {
        return;
    }
    for (index, item) in select.projection.iter_mut().enumerate() {
        if let SelectItem::UnnamedExpr(expr) | SelectItem::ExprWithAlias { expr, .. } = item
            && is_decimal(index)
        {
            decimal_literal_to_text(expr);
        }
    }
}

/// Returns a number literal with its sign as text; `None` if it has an exponent or is not a number.
fn digits_of(expr: &Expr) -> Option<String> {
    match expr {
        Expr::Nested(inner) | Expr::UnaryOp { op: UnaryOperator::Plus, expr: inner } => {
            digits_of(inner)
        }
        Expr::UnaryOp { op: UnaryOperator::Minus, expr: inner } => {
            let positive = digits_of(inner).filter(|text| !text.starts_with('-'))?;
            Some(format!("-{positive}"))
        }
        Expr::Value(value) => match &value.value {
            Value::Number(text, _) => {
                let plain = text.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
                plain.then(|| text.clone())
            }
            _ => None,
        },
        _ => None,
    }
}
