//! Parameters of a statement: `$name`, `$1`, and `?`, where the n-th `?` is `$n`.
//!
//! Values are bound in the syntax tree as literals of their types, never as SQL text. Each literal
//! keeps the position of its parameter, so that errors refer to the original text.

use std::collections::BTreeMap;
use std::ops::ControlFlow;

use serde_json::Value as Json;
use sqlparser::ast::{
    Array, CastKind, DataType, ExactNumberInfo, Expr, Ident, SelectItem, SetExpr, Statement,
    UnaryOperator, Value, ValueWithSpan, VisitMut, VisitorMut, visit_expressions,
};
use sqlparser::parser::Parser;
use sqlparser::tokenizer::{Span, Token};

use crate::dialect::HeadwaterDialect;
use crate::error::{Error, NO_VALUE, Position, Result};
use crate::parse::{syntax, tokens};
use crate::table_name::span_start;

/// Values of parameters by name, without the dollar sign. The n-th `?` has the name `n`.
pub type Parameters = BTreeMap<String, Json>;

/// A parameter that a statement uses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Parameter {
    /// The name, without the dollar sign.
    pub name: String,
    /// Position of its first use in the text.
    pub position: Option<Position>,
    /// True if the parameter is written as `?`.
    pub is_unnamed: bool,
}

/// Returns the `$name` parameters of a text without duplicates, in order. The text need not be a
/// complete statement.
pub fn placeholders(sql: &str) -> Result<Vec<(String, Position)>> {
    let mut found: Vec<(String, Position)> = Vec::new();
    for token in tokens(sql)? {
        let Token::Placeholder(text) = &token.token else { continue };
        let name = text.strip_prefix('$').filter(|name| !name.is_empty());
        if let (Some(name), Some(position)) = (name, span_start(token.span))
            && !found.iter().any(|(known, _)| known == name)
        {
            found.push((name.to_owned(), position));
        }
    }
    Ok(found)
}

/// Replaces each `?` in a statement by a numbered parameter. Returns the distinct parameters, in
/// the order of the text.
pub fn collect(statement: &mut impl VisitMut) -> Result<Vec<Parameter>> {
    let mut collector = PlaceholderCollector::default();
    let _ = statement.visit(&mut collector);
    collector.numbered.sort_by_key(|span| (span.start.line, span.start.column));
    let mut numbering = PlaceholderNumbering(collector.numbered);
    if !numbering.0.is_empty() {
        let _ = statement.visit(&mut numbering);
    }
    let unnamed = numbering.0.iter().enumerate();
    let unnamed = unnamed.map(|(index, span)| ((index + 1).to_string(), *span));
    let mut found: Vec<(String, Span)> = collector.named;
    if let (Some((name, span)), false) = (found.first(), numbering.0.is_empty()) {
        return Err(Error::Invalid {
            message: format!("the statement has both `?` and `${name}`"),
            hint: Some("Give all parameters names, or none.".to_owned()),
            position: span_start(*span),
        });
    }
    found.extend(unnamed);
    found.sort_by_key(|(_, span)| (span.start.line, span.start.column));
    let mut parameters: Vec<Parameter> = Vec::new();
    for (name, span) in found {
        if name.starts_with([':', '@']) {
            return Err(Error::Unsupported {
                what: format!("the parameter `{name}`"),
                hint: Some(format!("Write `${}`.", name.trim_start_matches([':', '@']))),
                position: span_start(span),
            });
        }
        if parameters.iter().all(|known| known.name != name) {
            let is_unnamed = numbering.0.contains(&span);
            parameters.push(Parameter { name, position: span_start(span), is_unnamed });
        }
    }
    Ok(parameters)
}

/// Names each column of a query that is only a parameter after the parameter, such as `$1`.
/// Otherwise, the bound value would become the column's name.
pub fn name_columns(statement: &mut Statement) {
    if let Statement::Query(query) = statement {
        name_columns_of(&mut query.body, placeholder_of);
    }
}

/// Names each column of a query that contains parameters after its text, so that casts of the
/// parameters do not change the name.
pub fn keep_column_names(statement: &mut Statement) {
    if let Statement::Query(query) = statement {
        name_columns_of(&mut query.body, text_with_placeholder);
    }
}

fn name_columns_of(body: &mut SetExpr, name_of: fn(&Expr) -> Option<String>) {
    match body {
        SetExpr::Select(select) => {
            let mut named: Vec<String> = Vec::new();
            for item in &mut select.projection {
                if let SelectItem::UnnamedExpr(expr) = item
                    && let Some(name) = name_of(expr)
                {
                    // Make the names distinct, because DataFusion rejects a query with duplicate
                    // column names.
                    let alias = match named.iter().filter(|known| **known == name).count() {
                        0 => Ident::with_quote('"', name.as_str()),
                        repeats => Ident::with_quote('"', format!("{name}_{}", repeats + 1)),
                    };
                    named.push(name);
                    *item = SelectItem::ExprWithAlias { expr: expr.clone(), alias };
                }
            }
        }
        SetExpr::Query(query) => name_columns_of(&mut query.body, name_of),
        SetExpr::SetOperation { left, .. } => name_columns_of(left, name_of),
        _ => {}
    }
}

/// Returns the name of the placeholder if the expression is only a placeholder, or a cast of one.
fn placeholder_of(expr: &Expr) -> Option<String> {
    match expr {
        Expr::Value(ValueWithSpan { value: Value::Placeholder(name), .. }) => Some(name.clone()),
        Expr::Cast { expr, .. } => placeholder_of(expr),
        _ => None,
    }
}

/// Returns the text of an expression that contains placeholders; `None` for other expressions. For
/// a placeholder or a cast of one, returns only the placeholder's name.
fn text_with_placeholder(expr: &Expr) -> Option<String> {
    let visited = visit_expressions(expr, |part| match part {
        Expr::Value(ValueWithSpan { value: Value::Placeholder(_), .. }) => ControlFlow::Break(()),
        _ => ControlFlow::Continue(()),
    });
    placeholder_of(expr).or_else(|| visited.is_break().then(|| expr.to_string()))
}

/// Replaces the parameters of a statement by literals.
pub fn bind(statement: &mut impl VisitMut, values: &Parameters) -> Result<()> {
    match statement.visit(&mut ParameterBinder { values }) {
        ControlFlow::Break(error) => Err(*error),
        ControlFlow::Continue(()) => Ok(()),
    }
}

/// Casts parameters to SQL types. A parameter in a position where the syntax requires a literal,
/// such as `DATE $day`, is not cast.
pub fn cast(statement: &mut impl VisitMut, types: &BTreeMap<String, String>) -> Result<()> {
    let parse = |(name, text): (&String, &String)| {
        let parser = Parser::new(&HeadwaterDialect).try_with_sql(text);
        let data_type = parser.and_then(|mut parser| parser.parse_data_type());
        data_type.map(|data_type| (format!("${name}"), data_type)).map_err(syntax)
    };
    let types = types.iter().map(parse).collect::<Result<BTreeMap<_, _>>>()?;
    let _ = statement.visit(&mut PlaceholderCasts(types));
    Ok(())
}

/// Returns the error for a parameter without a value.
pub fn no_value(parameter: &Parameter) -> Error {
    let Parameter { name, position, .. } = parameter.clone();
    Error::Parameter { name, reason: NO_VALUE, position }
}

/// Collects the placeholders of a statement.
#[derive(Default)]
struct PlaceholderCollector {
    named: Vec<(String, Span)>,
    /// Positions of the `?` placeholders.
    numbered: Vec<Span>,
}

impl VisitorMut for PlaceholderCollector {
    type Break = ();

    fn pre_visit_value(&mut self, value: &mut ValueWithSpan) -> ControlFlow<()> {
        if let Value::Placeholder(text) = &value.value {
            match text.strip_prefix('$') {
                Some(name) => self.named.push((name.to_owned(), value.span)),
                None if text == "?" => self.numbered.push(value.span),
                None => self.named.push((text.clone(), value.span)),
            }
        }
        ControlFlow::Continue(())
    }
}

/// Visitor that renames each `?` to `$n`. Contains the positions of all `?`, in the order of the
/// text.
struct PlaceholderNumbering(Vec<Span>);

impl VisitorMut for PlaceholderNumbering {
    type Break = ();

    fn pre_visit_value(&mut self, value: &mut ValueWithSpan) -> ControlFlow<()> {
        let ValueWithSpan { value, span } = value;
        if let Value::Placeholder(text) = value
            && text == "?"
            && let Some(index) = self.0.iter().position(|known| known == span)
        {
            *text = format!("${}", index + 1);
        }
        ControlFlow::Continue(())
    }
}

/// Visitor that casts each placeholder whose name is in the map to the type in the map.
struct PlaceholderCasts(BTreeMap<String, DataType>);

impl VisitorMut for PlaceholderCasts {
    type Break = ();

    // Runs after the visit of the children. In a visit before it, the placeholder in the new cast
    // would be visited and cast again.
    fn post_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<()> {
        if let Expr::Value(ValueWithSpan { value: Value::Placeholder(name), .. }) = expr
            && let Some(data_type) = self.0.get(name)
        {
            *expr = Expr::Cast {
                kind: CastKind::Cast,
                expr: Box::new(expr.clone()),
                data_type: data_type.clone(),
                array: false,
                format: None,
            };
        }
        ControlFlow::Continue(())
    }
}

struct ParameterBinder<'a> {
    values: &'a Parameters,
}

impl ParameterBinder<'_> {
    fn literal(&self, placeholder: &str, span: Span) -> Result<Expr, Box<Error>> {
        let name = placeholder.trim_start_matches('$');
        let wrong =
            |reason| Error::Parameter { name: name.to_owned(), reason, position: span_start(span) };
        let value = self.values.get(name).ok_or_else(|| wrong(NO_VALUE))?;
        literal(value, span).ok_or_else(|| Box::new(wrong("is not a single value")))
    }
}

impl VisitorMut for ParameterBinder<'_> {
    type Break = Box<Error>;

    fn pre_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<Box<Error>> {
        if let Expr::Value(ValueWithSpan { value: Value::Placeholder(name), span }) = expr {
            match self.literal(name, *span) {
                Ok(literal) => *expr = literal,
                Err(error) => return ControlFlow::Break(error),
            }
        }
        ControlFlow::Continue(())
    }

    /// Binds parameters in positions where the syntax requires a literal, such as `DATE $day`.
    fn pre_visit_value(&mut self, value: &mut ValueWithSpan) -> ControlFlow<Box<Error>> {
        let Value::Placeholder(name) = &value.value else { return ControlFlow::Continue(()) };
        match self.literal(name, value.span) {
            Ok(Expr::Value(literal)) => *value = literal,
            Ok(_) => {
                return ControlFlow::Break(Box::new(Error::Parameter {
                    name: name.trim_start_matches('$').to_owned(),
                    reason: "must be text here",
                    position: span_start(value.span),
                }));
            }
            Err(error) => return ControlFlow::Break(error),
        }
        ControlFlow::Continue(())
    }
}

/// Returns a JSON value as a literal at a position. Integers stay integers; other numbers become
/// doubles. Returns `None` for objects, also within arrays.
fn literal(value: &Json, span: Span) -> Option<Expr> {
    let of = |value: Value| Expr::Value(ValueWithSpan { value, span });
    let number = |digits: String| of(Value::Number(digits, false));
    Some(match value {
        Json::Null => of(Value::Null),
        Json::Bool(truth) => of(Value::Boolean(*truth)),
        Json::String(text) => of(Value::SingleQuotedString(text.clone())),
        Json::Number(value) => match (value.as_i64(), value.as_u64(), value.as_f64()) {
            (Some(whole), _, _) if whole < 0 => Expr::Nested(Box::new(Expr::UnaryOp {
                op: UnaryOperator::Minus,
                expr: Box::new(number(whole.unsigned_abs().to_string())),
            })),
            (Some(whole), _, _) => number(whole.to_string()),
            (None, Some(whole), _) => number(whole.to_string()),
            (None, None, Some(real)) => Expr::Cast {
                kind: CastKind::Cast,
                expr: Box::new(of(Value::SingleQuotedString(format!("{real:?}")))),
                data_type: DataType::Double(ExactNumberInfo::None),
                array: false,
                format: None,
            },
            (None, None, None) => return None,
        },
        Json::Array(items) => Expr::Array(Array {
            elem: items.iter().map(|item| literal(item, span)).collect::<Option<_>>()?,
            named: true,
        }),
        Json::Object(_) => return None,
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::prepared_statement::PreparedStatement;

    fn check(sql: &str, expected: &str) {
        let values = [
            ("city", json!("O'Hare")),
            ("n", json!(-5)),
            ("rate", json!(0.5)),
            ("on", json!(true)),
            ("list", json!([1, "a", null])),
            ("object", json!([{"a": 1}])),
            ("1", json!("first")),
            ("2", json!(i64::MIN)),
        ];
        let values = values.into_iter().map(|(key, value)| (key.to_owned(), value)).collect();
        let bound = PreparedStatement::parse(sql).and_then(|prepared| prepared.bind(&values));
        let shown = bound.map_or_else(|error| error.to_string(), |bound| bound.to_string());
        assert_eq!(shown, expected, "{sql}");
    }

    #[test]
    fn parameters_become_literals_of_their_types() {
        check("SELECT 1 -$n", "SELECT 1 - (-5)");
        check(
            "SELECT 1 WHERE ä = $city AND b > $rate",
            "SELECT 1 WHERE ä = 'O''Hare' AND b > CAST('0.5' AS DOUBLE)",
        );
        check("SELECT $on,\n  $n", "SELECT true AS \"$on\", (-5) AS \"$n\"");
        check("SELECT '$n' -- $n\n, $n", "SELECT '$n', (-5) AS \"$n\"");
        check("SELECT DATE $1, $1 + 1", "SELECT DATE 'first', 'first' + 1");
        check(
            "SELECT (SELECT ? FROM t LIMIT ?)",
            "SELECT (SELECT 'first' FROM t LIMIT (-9223372036854775808))",
        );
        check(
            "SELECT a FROM t ORDER BY ? || (SELECT ?)",
            "SELECT a FROM t ORDER BY 'first' || (SELECT (-9223372036854775808))",
        );
        check("INSERT INTO t VALUES ($1)", "INSERT INTO t VALUES ('first')");
        check("UPDATE t SET a = $1", "UPDATE t SET a = 'first'");
    }

    #[test]
    fn columns_that_are_only_a_parameter_have_its_name() {
        check("SELECT ?, ?", "SELECT 'first' AS \"$1\", (-9223372036854775808) AS \"$2\"");
        check("SELECT $on, $on", "SELECT true AS \"$on\", true AS \"$on_2\"");
        check("SELECT $city AS c, a FROM t", "SELECT 'O''Hare' AS c, a FROM t");
        check(
            "SELECT CAST($1 AS DATE) UNION SELECT $1",
            "SELECT CAST('first' AS DATE) AS \"$1\" UNION SELECT 'first'",
        );
        check("SELECT a FROM (SELECT $on) AS t (a)", "SELECT a FROM (SELECT true) AS t (a)");
    }

    #[test]
    fn parameters_are_cast_to_types() {
        let types = BTreeMap::from([("1".to_owned(), "DECIMAL(3, 2)".to_owned())]);
        let values = BTreeMap::from([("1".to_owned(), json!("1.50"))]);
        let bound = PreparedStatement::parse("SELECT $1 + 1")
            .and_then(|prepared| prepared.with_casts(&types));
        let bound = bound.and_then(|prepared| prepared.bind(&values));
        assert_eq!(bound.unwrap().to_string(), "SELECT CAST('1.50' AS DECIMAL(3,2)) + 1");
    }

    #[test]
    fn declared_types_do_not_change_column_names() {
        let types = BTreeMap::from([("1".to_owned(), "BIGINT".to_owned())]);
        let described = PreparedStatement::parse("SELECT $1, $1 + a, $2, b FROM t LIMIT $1")
            .and_then(|prepared| prepared.with_declared_types(&types));
        assert_eq!(
            described.unwrap().to_string(),
            "SELECT CAST($1 AS BIGINT) AS \"$1\", CAST($1 AS BIGINT) + a AS \"$1 + a\", \
             $2 AS \"$2\", b FROM t LIMIT $1"
        );
    }

    #[test]
    fn text_of_a_parameter_is_never_parsed() {
        let values = BTreeMap::from([("p".to_owned(), json!("'; DROP TABLE t; --"))]);
        let bound =
            PreparedStatement::parse("SELECT $p").and_then(|prepared| prepared.bind(&values));
        assert_eq!(bound.unwrap().to_string(), "SELECT '''; DROP TABLE t; --' AS \"$p\"");
    }

    #[test]
    fn a_parameter_without_a_single_value_is_an_error_with_its_position() {
        check("SELECT\n $nothing", "parameter `$nothing` has no value (line 2, column 2)");
        check("SELECT $list", "SELECT ARRAY[1, 'a', NULL] AS \"$list\"");
        check("SELECT $object", "parameter `$object` is not a single value (line 1, column 8)");
        check("SELECT DATE $n", "parameter `$n` must be text here (line 1, column 13)");
        check("SELECT ?, ?, ?", "parameter `$3` has no value (line 1, column 14)");
        check("SELECT ?, $n", "the statement has both `?` and `$n` (line 1, column 11)");
        check("SELECT :n", "the parameter `:n` is not supported (line 1, column 8)");
    }

    #[test]
    fn placeholders_are_listed_once() {
        let names = placeholders("SELECT $a, $b, '$c', $a").unwrap();
        let names: Vec<&str> = names.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names, ["a", "b"]);
        let prepared = PreparedStatement::parse("SELECT $a, $b, '$c', $a").unwrap();
        let names: Vec<&str> = prepared.parameters().iter().map(|one| one.name.as_str()).collect();
        assert_eq!(names, ["a", "b"]);
    }
}
