//! Rewrites expressions that the planner would interpret differently.

use sqlparser::ast::{BinaryOperator, CharacterLength, DataType, Expr, UnaryOperator, Value};

use crate::expression::{SIMILAR_TO, call};

/// Rewrites `SIMILAR TO` as a call of its function, a cast to `VARCHAR(n)` as one that truncates
/// the text, and `RLIKE` as `~`.
pub fn respell(expr: &mut Expr) {
    match expr {
        Expr::SimilarTo { negated, expr: text, pattern, escape_char } => {
            let escape = escape_char.take().map_or(Value::Null, |escape| escape.value);
            let arguments = vec![(**text).clone(), (**pattern).clone(), Expr::value(escape)];
            let matches = call(SIMILAR_TO, arguments);
            *expr = if *negated {
                Expr::UnaryOp { op: UnaryOperator::Not, expr: Box::new(matches) }
            } else {
                matches
            };
        }
        Expr::RLike { negated, expr: text, pattern, regexp: _ } => {
            let op = if *negated {
                BinaryOperator::PGRegexNotMatch
            } else {
                BinaryOperator::PGRegexMatch
            };
            *expr = Expr::BinaryOp { left: text.clone(), op, right: pattern.clone() };
        }
        Expr::Cast { data_type, .. } => {
            if let Some(length) = take_length(data_type) {
                let length = Expr::value(Value::Number(length.to_string(), false));
                *expr = call("left", vec![expr.clone(), length]);
            }
        }
        _ => {}
    }
}

/// Removes the length from a text type and returns it.
fn take_length(data_type: &mut DataType) -> Option<u64> {
    match data_type {
        DataType::Varchar(length @ Some(CharacterLength::IntegerLength { .. })) => {
            match length.take() {
                Some(CharacterLength::IntegerLength { length, .. }) => Some(length),
                _ => None,
            }
        }
        _ => None,
    }
}
