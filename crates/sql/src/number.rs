//! Number literals with all their digits. The planner reads literals with a decimal point as
//! floating-point numbers, which lose digits.

use sqlparser::ast::{Expr, UnaryOperator, Value};

/// Decimal digits that a double always preserves.
const DIGITS_OF_FLOATS: usize = 15;

/// Replaces a literal with more digits by text, which is later cast to a decimal.
pub fn exact(expr: &mut Expr) {
    let digits = |text: &String| text.bytes().filter(u8::is_ascii_digit).count();
    if let Some(text) = digits_of(expr).filter(|text| digits(text) > DIGITS_OF_FLOATS) {
        *expr = Expr::value(Value::SingleQuotedString(text));
    }
}

/// Returns the digits, the point and the sign of a number; none if it has an exponent or is not a
/// number.
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
