//! Operators and conditions of PostgreSQL, as conditions in Headwater's dialect.

use sqlparser::ast::{
    BinaryOperator, CaseWhen, DataType, Expr, FunctionArguments, Ident, Value, ValueWithSpan,
};

use crate::translate::{boolean, null, parts};
use crate::types::PgType;

/// Kinds of types that a lake does not have, as values of `pg_type.typtype`: composite types,
/// domains, enums, ranges and multiranges.
const MISSING_KINDS: [&str; 5] = ["c", "d", "e", "r", "m"];

/// Returns true for the columns of `pg_type` that refer to functions, such as `typinput`.
pub(crate) fn is_function(expr: &Expr) -> bool {
    let name = match expr {
        Expr::Identifier(name) => Some(name),
        Expr::CompoundIdentifier(names) => names.last(),
        _ => None,
    };
    let known = ["typinput", "typoutput", "typreceive", "typsend"];
    name.is_some_and(|name| known.contains(&name.value.as_str()))
}

pub(crate) fn is_zero(expr: &Expr) -> bool {
    matches!(expr, Expr::Value(value)
        if matches!(&value.value, Value::Number(digits, _) if digits == "0"))
}

/// Returns true for a backslash, the default escape character of LIKE.
pub(crate) fn is_backslash(value: &ValueWithSpan) -> bool {
    value.value == Value::SingleQuotedString("\\".to_owned())
}

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
        Expr::Cast { expr, data_type: data_type @ DataType::Array(_), .. } => {
            let mut found = in_list(left, expr, negated)?;
            if data_type.to_string().eq_ignore_ascii_case("regtype[]") {
                use_oids(&mut found);
            }
            return Some(found);
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

/// Replaces the names of types in a list by the OIDs of the types.
fn use_oids(list: &mut Expr) {
    let Expr::InList { list, .. } = list else { return };
    for item in list {
        let Expr::Value(value) = item else { continue };
        let Value::SingleQuotedString(name) = &value.value else { continue };
        if let Some(pg_type) = PgType::from_name(name) {
            value.value = Value::Number(pg_type.oid().to_string(), false);
        }
    }
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

/// Changes an expression that is the column `proc.oid` to `proc.proname`. Returns false for any
/// other expression. Used for comparisons with a column such as `typreceive`, which contains the
/// name of the function.
pub(crate) fn name_function(expr: &mut Expr) -> bool {
    let column = match expr {
        Expr::Identifier(name) => Some(name),
        Expr::CompoundIdentifier(names) => names.last_mut(),
        _ => None,
    };
    match column {
        Some(name) if name.value == "oid" => {
            *name = Ident::new("proname");
            true
        }
        _ => false,
    }
}

/// Replaces `x = ANY (ARRAY(SELECT …))` by `x IN (SELECT …)`, and returns true.
///
/// The roles that PostgreSQL predefines, such as `pg_signal_backend`, do not exist. A comparison
/// with such a name is false, because pgAdmin's list of roles is a query that cannot be planned.
pub(crate) fn in_subquery(expr: &mut Expr) -> bool {
    let Expr::AnyOp { left, compare_op: BinaryOperator::Eq, right, .. } = expr else {
        return false;
    };
    let mut list = &**right;
    while let Expr::Nested(inner) = list {
        list = inner;
    }
    let Expr::Function(function) = list else { return false };
    let FunctionArguments::Subquery(query) = &function.args else { return false };
    if !parts(&function.name).last().is_some_and(|name| name.eq_ignore_ascii_case("array")) {
        return false;
    }
    let is_predefined = match &**left {
        Expr::Value(value) => match &value.value {
            Value::SingleQuotedString(text) => text.starts_with("pg_"),
            _ => false,
        },
        _ => false,
    };
    *expr = if is_predefined {
        boolean(false)
    } else {
        Expr::InSubquery { expr: left.clone(), subquery: query.clone(), negated: false }
    };
    true
}

#[cfg(test)]
mod tests {
    use crate::translate::{ConnectionProperties, translate};

    fn check(sql: &str, expected: &str) {
        let found = translate(sql, &ConnectionProperties::default()).expect(sql);
        assert_eq!(found.expect(sql).sql, expected);
    }

    #[test]
    fn functions_are_compared_by_name() {
        check(
            "SELECT p.proname FROM pg_type t LEFT JOIN pg_proc p ON p.oid = t.typreceive",
            "SELECT p.proname FROM pg_catalog.pg_type t LEFT JOIN pg_catalog.pg_proc p ON \
             p.proname = t.typreceive",
        );
        check(
            "SELECT oid FROM pg_type WHERE typinput = 'array_in'::regproc",
            "SELECT oid FROM pg_catalog.pg_type WHERE typinput = CAST('array_in' AS VARCHAR)",
        );
    }

    #[test]
    fn lists_of_types_are_compared_by_oid() {
        check(
            "SELECT attname FROM pg_attribute WHERE atttypid = ANY ('{int,int8}'::regtype[])",
            "SELECT attname FROM pg_catalog.pg_attribute WHERE atttypid IN (23, 20)",
        );
    }

    #[test]
    fn arrays_of_subqueries_are_subqueries() {
        check(
            "SELECT relname FROM pg_class WHERE oid = ANY (ARRAY(SELECT attrelid FROM \
             pg_attribute))",
            "SELECT relname FROM pg_catalog.pg_class WHERE oid IN (SELECT attrelid FROM \
             pg_catalog.pg_attribute)",
        );
        check(
            "SELECT 'pg_monitor' = ANY (ARRAY(SELECT rolname FROM pg_roles)) AS x",
            "SELECT false AS x",
        );
    }
}
