//! Rewrites expressions that the planner does not support or interprets differently.

use std::ops::ControlFlow;

use sqlparser::ast::{
    AccessExpr, BinaryOperator, CharacterLength, DataType, Expr, Function, FunctionArg,
    FunctionArgExpr, FunctionArguments, ObjectName, ObjectNamePart, Subscript, UnaryOperator,
    Value, ValueWithSpan, visit_expressions,
};

use crate::array_text::expand_quantified;
use crate::ast_builders::{binary, joined, name, number, text};
use crate::expression::{SIMILAR_TO, SLICE, call};
use crate::foreign_operators::in_list;
use crate::interval_product;
use crate::interval_text::with_units;

/// Maximum size of the copies of an operand, as SQL, that are compared with the elements of a list.
const COPIED_BYTES_MAX: usize = 16 << 20;

/// Rewrites an expression for the planner. For example, `SIMILAR TO` becomes a function call, and
/// `RLIKE` becomes `~`. A cast to `VARCHAR(n)` truncates the text, and `LIKE ANY` becomes several
/// `LIKE`.
pub fn rewrite_for_planner(expr: &mut Expr) {
    match expr {
        Expr::SimilarTo { negated, expr: text, pattern, escape_char } => {
            let escape = escape_char.take().map_or(Value::Null, |escape| escape.value);
            let arguments = vec![(**text).clone(), (**pattern).clone(), Expr::value(escape)];
            let matches = call(SIMILAR_TO, arguments);
            *expr = if *negated { not(matches) } else { matches };
        }
        Expr::RLike { negated, expr: text, pattern, regexp: _ } => {
            let op = if *negated {
                BinaryOperator::PGRegexNotMatch
            } else {
                BinaryOperator::PGRegexMatch
            };
            *expr = Expr::BinaryOp { left: text.clone(), op, right: pattern.clone() };
        }
        Expr::Like { .. } | Expr::ILike { .. } => expand_like_any(expr),
        Expr::AnyOp { .. } | Expr::AllOp { .. } => expand_quantified(expr),
        Expr::InUnnest { expr: value, array_expr, negated } => {
            *expr = in_list((**value).clone(), (**array_expr).clone(), *negated);
        }
        Expr::Collate { expr: inner, .. } => *expr = (**inner).clone(),
        Expr::UnaryOp { op: UnaryOperator::Minus, .. } => negative_power(expr),
        Expr::Value(ValueWithSpan { value, .. }) => {
            if let Value::UnicodeStringLiteral(text) | Value::NationalStringLiteral(text) = value {
                *value = Value::SingleQuotedString(std::mem::take(text));
            }
        }
        Expr::CompoundFieldAccess { .. } => fields_and_slices(expr),
        Expr::Function(function) => {
            if let Some(fields) = packed(function) {
                *expr = call("named_struct", fields);
            }
        }
        Expr::Interval(interval) if interval.leading_field.is_none() => {
            interval_units(&mut interval.value);
        }
        Expr::BinaryOp { left, op: BinaryOperator::Multiply, right } => {
            if let Some(product) = interval_product::product(left, right) {
                *expr = product;
            }
        }
        Expr::BinaryOp { left, op: BinaryOperator::Divide, right } => {
            if let Some(quotient) = interval_product::quotient(left, right) {
                *expr = quotient;
            }
        }
        Expr::Cast { .. } => cast(expr),
        _ => {}
    }
}

fn not(expr: Expr) -> Expr {
    Expr::UnaryOp { op: UnaryOperator::Not, expr: Box::new(Expr::Nested(Box::new(expr))) }
}

/// Adds units to the text of an interval, if it contains a time as in `2 days 03:04:05`.
fn interval_units(value: &mut Expr) {
    if let Expr::Value(ValueWithSpan { value: Value::SingleQuotedString(text), .. }) = value
        && let Some(units) = with_units(text)
    {
        *text = units;
    }
}

/// Rewrites a cast to `VARCHAR(n)` so that it truncates the text, and a cast to JSON so that it
/// checks the text.
fn cast(expr: &mut Expr) {
    let Expr::Cast { data_type, expr: inner, .. } = expr else { return };
    if let DataType::Interval { .. } = data_type {
        interval_units(inner);
        return;
    }
    if let DataType::JSON | DataType::JSONB = data_type {
        *expr = call("parse_json", vec![(**inner).clone()]);
    } else if let Some(length) = take_length(data_type) {
        *expr = call("left", vec![expr.clone(), number(length)]);
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

/// Rewrites `a LIKE ANY (b, c)` as `(a LIKE b OR a LIKE c)`, and `LIKE ALL` with AND.
fn expand_like_any(expr: &mut Expr) {
    let (Expr::Like { any, pattern, expr: operand, .. }
    | Expr::ILike { any, pattern, expr: operand, .. }) = expr
    else {
        return;
    };
    let (op, patterns) = match (&**pattern, *any) {
        (Expr::Tuple(patterns), true) => (BinaryOperator::Or, patterns.clone()),
        (Expr::Nested(pattern), true) => match &**pattern {
            Expr::Array(list) => (BinaryOperator::Or, list.elem.clone()),
            pattern => (BinaryOperator::Or, vec![pattern.clone()]),
        },
        (Expr::Array(list), true) => (BinaryOperator::Or, list.elem.clone()),
        (Expr::Function(function), false) if is_all(&function.name) => {
            let Some(patterns) = plain_arguments(function) else { return };
            (BinaryOperator::And, patterns)
        }
        _ => return,
    };
    if patterns.is_empty() || !can_copy(operand, patterns.len()) {
        return;
    }
    // The copies of the comparison must not contain the list.
    *any = false;
    **pattern = Expr::value(Value::Null);
    let one = |new: Expr| {
        let mut one = expr.clone();
        if let Expr::Like { pattern, .. } | Expr::ILike { pattern, .. } = &mut one {
            **pattern = new;
        }
        one
    };
    if let Some(all) = joined(patterns.into_iter().map(one).collect(), &op) {
        *expr = Expr::Nested(Box::new(all));
    }
}

/// Returns true if an operand can be copied for each element of a list. An operand that has itself
/// such a list, or that is long, could make the statement too large for the memory.
pub(crate) fn can_copy(operand: &Expr, count: usize) -> bool {
    if count <= 1 {
        return true;
    }
    let is_list = |expr: &Expr| match expr {
        Expr::AnyOp { .. } | Expr::AllOp { .. } => ControlFlow::Break(()),
        Expr::Like { any, pattern, .. } | Expr::ILike { any, pattern, .. }
            if *any || matches!(&**pattern, Expr::Function(list) if is_all(&list.name)) =>
        {
            ControlFlow::Break(())
        }
        _ => ControlFlow::Continue(()),
    };
    visit_expressions(operand, is_list).is_continue()
        && operand.to_string().len().saturating_mul(count) <= COPIED_BYTES_MAX
}

fn is_all(name: &ObjectName) -> bool {
    matches!(name.0.as_slice(), [ObjectNamePart::Identifier(name)]
        if name.quote_style.is_none() && name.value.eq_ignore_ascii_case("all"))
}

fn plain_arguments(function: &Function) -> Option<Vec<Expr>> {
    let FunctionArguments::List(list) = &function.args else { return None };
    let plain = |argument: &FunctionArg| match argument {
        FunctionArg::Unnamed(FunctionArgExpr::Expr(expr)) => Some(expr.clone()),
        _ => None,
    };
    list.args.iter().map(plain).collect()
}

/// Rewrites `-a ** b`, which was parsed as `-(a ** b)`, as `(-a) ** b`, as in PostgreSQL.
fn negative_power(expr: &mut Expr) {
    let Expr::UnaryOp { expr: inner, .. } = expr else { return };
    let Expr::Function(function) = &**inner else { return };
    let is_power = function.name == ObjectName::from(vec![name("power")]);
    let Some([base, exponent]) =
        plain_arguments(function).and_then(|it| <[Expr; 2]>::try_from(it).ok())
    else {
        return;
    };
    if is_power {
        let base = Expr::UnaryOp { op: UnaryOperator::Minus, expr: Box::new(base) };
        *expr = call("power", vec![base, exponent]);
    }
}

/// Rewrites `value.field` as `value['field']` if the value is not a plain name, slices as function
/// calls, and `[OFFSET(0)]` as `[1]`.
fn fields_and_slices(expr: &mut Expr) {
    let Expr::CompoundFieldAccess { root, access_chain } = expr else { return };
    if let Expr::Identifier(_) | Expr::CompoundIdentifier(_) = **root {
    } else {
        for access in access_chain.iter_mut() {
            if let AccessExpr::Dot(Expr::Identifier(field)) = access {
                let index = text(&field.value);
                *access = AccessExpr::Subscript(Subscript::Index { index });
            }
        }
    }
    for access in access_chain.iter_mut() {
        if let AccessExpr::Subscript(Subscript::Index { index }) = access {
            position(index);
        }
    }
    let is_slice = |access: &AccessExpr| {
        matches!(access, AccessExpr::Subscript(Subscript::Slice { stride: None, .. }))
    };
    let Some(place) = access_chain.iter().position(is_slice) else { return };
    let after = access_chain.split_off(place + 1);
    let Some(AccessExpr::Subscript(Subscript::Slice { lower_bound, upper_bound, .. })) =
        access_chain.pop()
    else {
        return;
    };
    let value = if access_chain.is_empty() { (**root).clone() } else { expr.clone() };
    let bounds =
        [lower_bound.unwrap_or_else(|| number(1)), upper_bound.unwrap_or_else(|| number(-1))];
    let [lower, upper] = bounds;
    let slice = call(SLICE, vec![value, lower, upper]);
    *expr = if after.is_empty() {
        slice
    } else {
        Expr::CompoundFieldAccess { root: Box::new(slice), access_chain: after }
    };
}

/// Rewrites `OFFSET(n)` and `ORDINAL(n)` in brackets as a position that counts from 1.
fn position(index: &mut Expr) {
    let Expr::Function(function) = index else { return };
    let base = match function.name.to_string().to_lowercase().as_str() {
        "offset" | "safe_offset" => 1,
        "ordinal" | "safe_ordinal" => 0,
        _ => return,
    };
    if let Some([place]) = plain_arguments(function).and_then(|it| <[Expr; 1]>::try_from(it).ok()) {
        let place = Expr::Nested(Box::new(place));
        *index = binary(place, BinaryOperator::Plus, number(base));
    }
}

/// Returns the arguments of `named_struct` for `struct_pack(a := 1)` and `STRUCT(1 AS a)`.
fn packed(function: &Function) -> Option<Vec<Expr>> {
    let written = function.name.to_string().to_lowercase();
    if !matches!(written.as_str(), "struct_pack" | "struct" | "row") {
        return None;
    }
    let FunctionArguments::List(list) = &function.args else { return None };
    let mut fields = Vec::new();
    for argument in &list.args {
        match argument {
            FunctionArg::Named { name, arg: FunctionArgExpr::Expr(value), .. } => {
                fields.extend([text(&name.value), value.clone()]);
            }
            FunctionArg::ExprNamed {
                name: Expr::Identifier(name),
                arg: FunctionArgExpr::Expr(value),
                ..
            } => fields.extend([text(&name.value), value.clone()]),
            _ => return None,
        }
    }
    (!fields.is_empty()).then_some(fields)
}

#[cfg(test)]
mod tests {
    use sqlparser::parser::Parser;

    use super::*;
    use crate::dialect::HeadwaterDialect;

    #[test]
    fn operands_with_lists_are_not_copied() {
        let check = |sql: &str, count: usize, expected: bool| {
            let parser = Parser::new(&HeadwaterDialect).try_with_sql(sql);
            let operand = parser.expect("tokens").parse_expr().expect(sql);
            assert_eq!(can_copy(&operand, count), expected, "{count} copies of {sql}");
        };
        check("a || 'text'", 10_000, true);
        check("a || 'text'", COPIED_BYTES_MAX, false);
        check("f(x > ANY('{1,2}'))", 2, false);
        check("f(x > ANY('{1,2}'))", 1, true);
        check("(SELECT x = ALL('{1}')) + 1", 2, false);
    }
}
