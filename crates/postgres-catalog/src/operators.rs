//! Operators and conditions of PostgreSQL, as conditions in Headwater's dialect.

use sqlparser::ast::{BinaryOperator, CaseWhen, DataType, Expr, Value};

use crate::translate::{boolean, null};

/// Kinds of types that a lake does not have, as values of `pg_type.typtype`: composite types,
/// domains, enums, ranges and multiranges.
const MISSING_KINDS: [&str; 5] = ["c", "d", "e", "r", "m"];

/// Returns the plain operator for `OPERATOR(pg_catalog.~)`.
pub(crate) fn plain_operator(operator: &BinaryOperator) -> Option<BinaryOperator> {
    let BinaryOperator::PGCustomBinaryOperator(names) = operator else { return None };
    Some(match names.last()?.as_str() {
        "~" => BinaryOperator::PGRegexMatch,
        "~*" => BinaryOperator::PGRegexIMatch,
        "!~" => BinaryOperator::PGRegexNotMatch,
        "!~*" => BinaryOperator::PGRegexNotIMatch,
        "=" => BinaryOperator::Eq,
        "<>" => BinaryOperator::NotEq,
        "~~" => BinaryOperator::PGLikeMatch,
        "+" => BinaryOperator::Plus,
        _ => return None,
    })
}

/// Converts `left = ANY (ARRAY[…])` and `left = ANY ('{…}')` to `left IN (…)`.
pub(crate) fn in_list(left: &Expr, right: &Expr, negated: bool) -> Option<Expr> {
    let list = match right {
        Expr::Nested(inner) => return in_list(left, inner, negated),
        Expr::Cast { expr, data_type: DataType::Array(_), .. } => {
            return in_list(left, expr, negated);
        }
        Expr::Array(array) => array.elem.clone(),
        Expr::Value(value) => {
            let Value::SingleQuotedString(text) = &value.value else { return None };
            let items = text.strip_prefix('{')?.strip_suffix('}')?;
            let items = items.split(',').filter(|item| !item.is_empty());
            items.map(|item| Expr::value(Value::SingleQuotedString(item.to_owned()))).collect()
        }
        _ => return None,
    };
    if list.is_empty() {
        return Some(boolean(negated));
    }
    Some(Expr::InList { expr: Box::new(left.clone()), list, negated })
}

/// Returns true for a condition such as `t.typtype = 'd'`, which no type satisfies.
pub(crate) fn is_missing_kind(left: &Expr, right: &Expr) -> bool {
    let column = match left {
        Expr::Identifier(name) => Some(name),
        Expr::CompoundIdentifier(names) => names.last(),
        _ => None,
    };
    let kind = match right {
        Expr::Value(value) => match &value.value {
            Value::SingleQuotedString(text) => text.as_str(),
            _ => return false,
        },
        _ => return false,
    };
    column.is_some_and(|name| name.value == "typtype") && MISSING_KINDS.contains(&kind)
}

/// Returns the condition that replaces those of [`is_missing_kind`]. The parentheses distinguish it
/// from a condition that the client wrote.
pub(crate) fn never() -> Expr {
    Expr::Nested(Box::new(boolean(false)))
}

/// Returns the result of a CASE whose conditions are all [`never`]; `None` for other CASE
/// expressions.
///
/// The subqueries in such branches cannot always be planned: asyncpg reads the columns of composite
/// types and the base types of domains in this way.
pub(crate) fn only_else(conditions: &[CaseWhen], else_result: Option<&Expr>) -> Option<Expr> {
    let never = never();
    let is_never = |when: &CaseWhen| when.condition == never;
    conditions.iter().all(is_never).then(|| else_result.cloned().unwrap_or_else(null))
}
