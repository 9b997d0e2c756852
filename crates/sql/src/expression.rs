//! The supported expressions and their parts.
//!
//! [`children`] is the only list of supported expressions. Every pass over the syntax tree uses it,
//! so that each pass rejects unsupported expressions with an error that contains their name.

use sqlparser::ast::{
    AccessExpr, BinaryOperator, CastKind, DataType, Expr, Function, FunctionArg, FunctionArgExpr,
    FunctionArgumentClause, FunctionArgumentList, FunctionArguments, Ident, Interval, ObjectName,
    ObjectNamePart, OrderByExpr, Query, Spanned, Subscript, Value, WindowFrame, WindowFrameBound,
    WindowSpec, WindowType,
};

use crate::data_type::{UnsupportedType, find_unsupported_type, normalize_types};
use crate::error::{Error, Result};
use crate::table_name::{position, span_start};
use crate::unsupported_clauses::{none, ordering};

/// Name of the function for `a AT TIME ZONE b`.
pub const AT_TIME_ZONE: &str = "at_time_zone";

/// Name of the function for `a SIMILAR TO b`.
pub const SIMILAR_TO: &str = "similar_to";

/// Name of the function for `a ->> b`.
pub const JSON_TEXT: &str = "json_extract_string";

/// Name of the function for `a -> b`.
pub const JSON_PART: &str = "json_extract";

/// Name of the function for `a #> b`.
pub const JSON_PATH_PART: &str = "json_at_path";

/// Name of the function for `a #>> b`.
pub const JSON_PATH_TEXT: &str = "json_at_path_text";

/// Name of the function for `a ? b`.
pub const JSON_EXISTS: &str = "json_exists";

/// Name of the function that checks that no two new rows of an INSERT have the same key.
pub const UNIQUE_KEY: &str = "\0unique";

/// Name of the function for `text[1:2]` and `list[1:2]`.
pub const SLICE: &str = "slice_of";

/// A direct part of an expression, which [`children`] passes to its visitor.
pub enum ExpressionNode<'a> {
    /// A nested expression.
    Expr(&'a mut Expr),
    /// A subquery within the expression.
    Query(&'a mut Query),
    /// The window of a window function.
    Over(&'a mut WindowType),
    /// The table in `count(t.*)`.
    Wildcard(&'a mut ObjectName),
}

/// Function that [`children`] calls for each direct part of an expression.
pub type NodeVisitor<'v> = dyn FnMut(ExpressionNode<'_>) -> Result<()> + 'v;

/// Visits the direct children of an expression; rejects unsupported expressions.
///
/// A chain of binary operators counts as one expression: `a OR b OR c` has the children a, b and c.
pub fn children(expr: &mut Expr, visit: &mut NodeVisitor<'_>) -> Result<()> {
    normalize_types(expr);
    match expr {
        Expr::BinaryOp { .. } => operator_chain(expr, visit),
        Expr::Identifier(_)
        | Expr::CompoundIdentifier(_)
        | Expr::Value(_)
        | Expr::TypedString(_)
        | Expr::Wildcard(_) => Ok(()),
        Expr::QualifiedWildcard(name, _) => visit(ExpressionNode::Wildcard(name)),
        Expr::IsFalse(inner)
        | Expr::IsNotFalse(inner)
        | Expr::IsTrue(inner)
        | Expr::IsNotTrue(inner)
        | Expr::IsNull(inner)
        | Expr::IsNotNull(inner)
        | Expr::IsUnknown(inner)
        | Expr::IsNotUnknown(inner)
        | Expr::Nested(inner)
        | Expr::UnaryOp { expr: inner, .. }
        | Expr::Extract { expr: inner, .. }
        | Expr::Ceil { expr: inner, .. }
        | Expr::Floor { expr: inner, .. }
        | Expr::Named { expr: inner, .. } => visit(ExpressionNode::Expr(inner)),
        Expr::IsDistinctFrom(left, right)
        | Expr::IsNotDistinctFrom(left, right)
        | Expr::AnyOp { left, right, .. }
        | Expr::AllOp { left, right, .. } => {
            visit(ExpressionNode::Expr(left))?;
            visit(ExpressionNode::Expr(right))
        }
        Expr::InUnnest { expr, array_expr: list, .. } => {
            visit(ExpressionNode::Expr(expr))?;
            visit(ExpressionNode::Expr(list))
        }
        Expr::Collate { expr, collation } => {
            byte_order(collation)?;
            visit(ExpressionNode::Expr(expr))
        }
        Expr::Like { expr, pattern, .. }
        | Expr::ILike { expr, pattern, .. }
        | Expr::SimilarTo { expr, pattern, .. }
        | Expr::RLike { expr, pattern, .. } => {
            visit(ExpressionNode::Expr(expr))?;
            visit(ExpressionNode::Expr(pattern))
        }
        Expr::Position { expr, r#in } => {
            visit(ExpressionNode::Expr(expr))?;
            visit(ExpressionNode::Expr(r#in))
        }
        Expr::AtTimeZone { timestamp, time_zone } => {
            visit(ExpressionNode::Expr(timestamp))?;
            visit(ExpressionNode::Expr(time_zone))
        }
        Expr::Between { expr, low, high, .. } => {
            visit(ExpressionNode::Expr(expr))?;
            visit(ExpressionNode::Expr(low))?;
            visit(ExpressionNode::Expr(high))
        }
        Expr::InList { expr, list, .. } => {
            visit(ExpressionNode::Expr(expr))?;
            all(list, visit)
        }
        Expr::InSubquery { expr, subquery, .. } => {
            visit(ExpressionNode::Expr(expr))?;
            visit(ExpressionNode::Query(subquery))
        }
        Expr::Exists { subquery, .. } | Expr::Subquery(subquery) => {
            visit(ExpressionNode::Query(subquery))
        }
        Expr::Cast { kind, expr, data_type, array, format } => {
            refuse_char(data_type)?;
            refuse_if(*array, "CAST to an ARRAY")?;
            none(format.as_ref(), "CAST with FORMAT")?;
            match kind {
                CastKind::Cast | CastKind::DoubleColon | CastKind::TryCast | CastKind::SafeCast => {
                    visit(ExpressionNode::Expr(expr))
                }
            }
        }
        Expr::Interval(interval) => visit(ExpressionNode::Expr(&mut interval.value)),
        Expr::Array(array) => all(&mut array.elem, visit),
        Expr::Tuple(values) | Expr::Struct { values, .. } => all(values, visit),
        Expr::GroupingSets(sets) | Expr::Cube(sets) | Expr::Rollup(sets) => {
            sets.iter_mut().try_for_each(|set| all(set, visit))
        }
        Expr::Lambda(lambda) => {
            let typed = lambda.params.iter().any(|parameter| parameter.data_type.is_some());
            refuse_if(typed, "types on the parameters of a lambda")?;
            visit(ExpressionNode::Expr(&mut lambda.body))
        }
        other => compound_children(other, visit),
    }
}

/// Visits the children of an expression that can have many children. Called by [`children`].
fn compound_children(expr: &mut Expr, visit: &mut NodeVisitor<'_>) -> Result<()> {
    match expr {
        Expr::Case { operand, conditions, else_result, .. } => {
            option(operand.as_deref_mut(), visit)?;
            for when in conditions {
                visit(ExpressionNode::Expr(&mut when.condition))?;
                visit(ExpressionNode::Expr(&mut when.result))?;
            }
            option(else_result.as_deref_mut(), visit)
        }
        Expr::Substring { expr, substring_from, substring_for, .. } => {
            visit(ExpressionNode::Expr(expr))?;
            option(substring_from.as_deref_mut(), visit)?;
            option(substring_for.as_deref_mut(), visit)
        }
        Expr::Trim { expr, trim_what, trim_characters, .. } => {
            visit(ExpressionNode::Expr(expr))?;
            option(trim_what.as_deref_mut(), visit)?;
            trim_characters.iter_mut().try_for_each(|characters| all(characters, visit))
        }
        Expr::Overlay { expr, overlay_what, overlay_from, overlay_for } => {
            visit(ExpressionNode::Expr(expr))?;
            visit(ExpressionNode::Expr(overlay_what))?;
            visit(ExpressionNode::Expr(overlay_from))?;
            option(overlay_for.as_deref_mut(), visit)
        }
        Expr::Dictionary(fields) => {
            fields.iter_mut().try_for_each(|field| visit(ExpressionNode::Expr(&mut field.value)))
        }
        Expr::Map(map) => map.entries.iter_mut().try_for_each(|entry| {
            visit(ExpressionNode::Expr(&mut entry.key))?;
            visit(ExpressionNode::Expr(&mut entry.value))
        }),
        Expr::CompoundFieldAccess { root, access_chain } => {
            visit(ExpressionNode::Expr(root))?;
            access_chain.iter_mut().try_for_each(|access| field_access(access, visit))
        }
        Expr::Function(function) => function_parts(function, visit),
        refused => Err(Error::unsupported(name_of(refused))),
    }
}

/// Visits the operands of a chain of binary operators without recursion.
fn operator_chain(expr: &mut Expr, visit: &mut NodeVisitor<'_>) -> Result<()> {
    let mut current = expr;
    loop {
        function_for_operator(current);
        let Expr::BinaryOp { left, op, right } = current else { break };
        operator(op, left)?;
        visit(ExpressionNode::Expr(right))?;
        current = left;
    }
    visit(ExpressionNode::Expr(current))
}

/// Replaces an operator by a call of the function that implements it, such as `->` by a call of
/// [`JSON_PART`].
fn function_for_operator(expr: &mut Expr) {
    let Expr::BinaryOp { left, op, right } = expr else { return };
    let function = match op {
        BinaryOperator::Arrow => JSON_PART,
        BinaryOperator::LongArrow => JSON_TEXT,
        BinaryOperator::HashArrow => JSON_PATH_PART,
        BinaryOperator::HashLongArrow => JSON_PATH_TEXT,
        BinaryOperator::PGStartsWith => "starts_with",
        _ => return,
    };
    *expr = call(function, vec![(**left).clone(), (**right).clone()]);
}

/// Rejects a collation unless it orders texts by their bytes, as `C` does.
fn byte_order(collation: &ObjectName) -> Result<()> {
    let written = collation.to_string();
    let name = written.trim_matches('"').to_lowercase();
    if matches!(name.as_str(), "c" | "posix" | "binary" | "ucs_basic" | "utf8_binary") {
        return Ok(());
    }
    Err(Error::Unsupported {
        what: format!("COLLATE {written}"),
        hint: Some(
            "Text is ordered by its bytes; to ignore case, compare `lower(text)`.".to_owned(),
        ),
        position: position(collation),
    })
}

/// Rejects an unsupported operator.
fn operator(op: &BinaryOperator, left: &Expr) -> Result<()> {
    use BinaryOperator as Op;
    let hint = match op {
        Op::Plus
        | Op::Minus
        | Op::Multiply
        | Op::Divide
        | Op::Modulo
        | Op::PGExp
        | Op::Gt
        | Op::GtEq
        | Op::Lt
        | Op::LtEq
        | Op::Eq
        | Op::NotEq
        | Op::Spaceship
        | Op::And
        | Op::Or
        | Op::StringConcat
        | Op::ArrowAt
        | Op::AtArrow
        | Op::BitwiseAnd
        | Op::BitwiseOr
        | Op::DuckIntegerDivide
        | Op::Xor
        | Op::PGBitwiseXor
        | Op::PGBitwiseShiftLeft
        | Op::PGBitwiseShiftRight
        | Op::PGRegexMatch
        | Op::PGRegexIMatch
        | Op::PGRegexNotMatch
        | Op::PGRegexNotIMatch
        | Op::PGLikeMatch
        | Op::PGILikeMatch
        | Op::PGNotLikeMatch
        | Op::PGNotILikeMatch => return Ok(()),
        // `^` is the power operator in PostgreSQL and DuckDB, but XOR in MySQL and BigQuery.
        Op::BitwiseXor => Some("Write `a ** b` for a power, or `xor(a, b)`."),
        _ => None,
    };
    Err(Error::Unsupported {
        what: format!("the operator `{op}`"),
        hint: hint.map(str::to_owned),
        position: span_start(left.span()),
    })
}

fn field_access(access: &mut AccessExpr, visit: &mut NodeVisitor<'_>) -> Result<()> {
    match access {
        // Do not visit this identifier: it names a struct field, not a column, and the planner
        // resolves it.
        AccessExpr::Dot(Expr::Identifier(_)) => Ok(()),
        AccessExpr::Dot(inner) => visit(ExpressionNode::Expr(inner)),
        AccessExpr::Subscript(Subscript::Index { index }) => visit(ExpressionNode::Expr(index)),
        AccessExpr::Subscript(Subscript::Slice { lower_bound, upper_bound, stride }) => {
            option(lower_bound.as_mut(), visit)?;
            option(upper_bound.as_mut(), visit)?;
            option(stride.as_mut(), visit)
        }
    }
}

fn function_parts(function: &mut Function, visit: &mut NodeVisitor<'_>) -> Result<()> {
    let Function {
        name,
        uses_odbc_syntax,
        parameters,
        args,
        filter,
        null_treatment: _,
        over,
        within_group,
    } = function;
    refuse_if(*uses_odbc_syntax, "{fn …}")?;
    if is_columns(name) {
        return Ok(());
    }
    if !matches!(parameters, FunctionArguments::None) {
        return Err(Error::unsupported(format!("`{name}` with two lists of arguments")));
    }
    arguments(args, visit)?;
    option(filter.as_deref_mut(), visit)?;
    order(within_group, visit)?;
    over.as_mut().map_or(Ok(()), |over| visit(ExpressionNode::Over(over)))
}

fn arguments(arguments: &mut FunctionArguments, visit: &mut NodeVisitor<'_>) -> Result<()> {
    let list = match arguments {
        FunctionArguments::None => return Ok(()),
        FunctionArguments::Subquery(query) => return visit(ExpressionNode::Query(query)),
        FunctionArguments::List(list) => list,
    };
    list.args.iter_mut().try_for_each(|argument| argument_parts(argument, visit))?;
    for clause in &mut list.clauses {
        match clause {
            FunctionArgumentClause::IgnoreOrRespectNulls(_) => {}
            FunctionArgumentClause::OrderBy(keys) => order(keys, visit)?,
            refused => {
                return Err(Error::unsupported(format!(
                    "`{refused}` in the arguments of a function"
                )));
            }
        }
    }
    Ok(())
}

/// Visits the parts of a function argument.
pub fn argument_parts(argument: &mut FunctionArg, visit: &mut NodeVisitor<'_>) -> Result<()> {
    let value = match argument {
        FunctionArg::Unnamed(value) | FunctionArg::Named { arg: value, .. } => value,
        FunctionArg::ExprNamed { .. } => {
            return Err(Error::unsupported("an argument whose name is an expression"));
        }
    };
    match value {
        FunctionArgExpr::Expr(expr) => visit(ExpressionNode::Expr(expr)),
        FunctionArgExpr::QualifiedWildcard(name) => visit(ExpressionNode::Wildcard(name)),
        FunctionArgExpr::Wildcard => Ok(()),
        FunctionArgExpr::WildcardWithOptions(_) => {
            Err(Error::unsupported("a wildcard with options as an argument"))
        }
    }
}

/// Visits the expressions of a window definition. The definition may also name another window to
/// extend; this name is not an expression, and is not visited.
pub fn window(spec: &mut WindowSpec, visit: &mut NodeVisitor<'_>) -> Result<()> {
    let WindowSpec { window_name: _, partition_by, order_by, window_frame } = spec;
    all(partition_by, visit)?;
    order(order_by, visit)?;
    let Some(WindowFrame { units: _, start_bound, end_bound }) = window_frame else {
        return Ok(());
    };
    for bound in std::iter::once(start_bound).chain(end_bound) {
        match bound {
            WindowFrameBound::CurrentRow => {}
            WindowFrameBound::Preceding(distance) | WindowFrameBound::Following(distance) => {
                if let Some(Expr::Interval(interval)) = distance.as_deref_mut() {
                    quote_number(interval);
                }
                option(distance.as_deref_mut(), visit)?;
            }
        }
    }
    Ok(())
}

/// Writes the number of an interval as text: `INTERVAL 3 DAYS` as `INTERVAL '3' DAYS`. DataFusion
/// accepts only text in the bound of a window frame.
///
/// Upstream: no issue found (November 2026)
fn quote_number(interval: &mut Interval) {
    if let Expr::Value(value) = &mut *interval.value
        && let Value::Number(digits, _) = &value.value
    {
        value.value = Value::SingleQuotedString(digits.clone());
    }
}

/// Visits the expressions of an ORDER BY.
pub fn order(keys: &mut [OrderByExpr], visit: &mut NodeVisitor<'_>) -> Result<()> {
    for key in keys {
        ordering(key)?;
        visit(ExpressionNode::Expr(&mut key.expr))?;
    }
    Ok(())
}

fn all(exprs: &mut [Expr], visit: &mut NodeVisitor<'_>) -> Result<()> {
    exprs.iter_mut().try_for_each(|expr| visit(ExpressionNode::Expr(expr)))
}

fn option(expr: Option<&mut Expr>, visit: &mut NodeVisitor<'_>) -> Result<()> {
    expr.map_or(Ok(()), |expr| visit(ExpressionNode::Expr(expr)))
}

fn refuse_if(found: bool, what: &str) -> Result<()> {
    if found { Err(Error::unsupported(what)) } else { Ok(()) }
}

/// Rejects a cast to CHAR(n), or to a type that contains VARCHAR(n).
fn refuse_char(data_type: &mut DataType) -> Result<()> {
    if let DataType::Varchar(_) | DataType::String(_) = data_type {
        return Ok(());
    }
    match find_unsupported_type(data_type) {
        Some(UnsupportedType { written, instead: "VARCHAR" }) => Err(Error::Unsupported {
            what: format!("a cast to `{written}`"),
            hint: Some("Write `VARCHAR`, or truncate the text with `left(text, n)`.".to_owned()),
            position: None,
        }),
        _ => Ok(()),
    }
}

/// Returns true for `COLUMNS(…)`, whose argument selects columns by name.
pub fn is_columns(name: &ObjectName) -> bool {
    matches!(name.0.last(), Some(ObjectNamePart::Identifier(name))
        if name.quote_style.is_none() && name.value.eq_ignore_ascii_case("columns"))
}

/// Creates a call of the function with exactly this name.
pub fn call(function: &str, arguments: Vec<Expr>) -> Expr {
    let argument = |value| FunctionArg::Unnamed(FunctionArgExpr::Expr(value));
    Expr::Function(Function {
        name: ObjectName::from(vec![Ident::with_quote('"', function)]),
        uses_odbc_syntax: false,
        parameters: FunctionArguments::None,
        args: FunctionArguments::List(FunctionArgumentList {
            duplicate_treatment: None,
            args: arguments.into_iter().map(argument).collect(),
            clauses: Vec::new(),
        }),
        filter: None,
        null_treatment: None,
        over: None,
        within_group: Vec::new(),
    })
}

/// Returns the name of an unsupported expression, for messages.
fn name_of(expr: &Expr) -> String {
    let name = match expr {
        Expr::IsNormalized { .. } => "IS NORMALIZED",
        Expr::Convert { .. } => "CONVERT",
        Expr::Prefixed { .. } => "a literal with a prefix",
        Expr::MatchAgainst { .. } => "MATCH … AGAINST",
        Expr::OuterJoin(_) => "the outer join operator `(+)`",
        Expr::Prior(_) => "PRIOR",
        Expr::MemberOf(_) => "MEMBER OF",
        Expr::JsonAccess { .. } => "access to JSON by `:`",
        other => return format!("`{other}`"),
    };
    name.to_owned()
}
