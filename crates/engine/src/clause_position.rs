//! Finds the clause that caused an error without a position: ORDER BY or GROUP BY with a column
//! number, LIMIT, OFFSET, WHERE, a function call, or a comparison of text with a number.
//!
//! DataFusion reports these errors without positions, so the failed statement is parsed again. An
//! error gets a position only if exactly one clause of the statement matches its message.

use std::ops::ControlFlow;

use datafusion::sql::sqlparser::ast::{
    BinaryOperator, Expr, GroupByExpr, LimitClause, OrderByKind, Query, Select, Spanned, Value,
    Visit, Visitor,
};
use datafusion::sql::sqlparser::tokenizer::Span;
use headwater_sql::parse::{parser, tokens};
use headwater_sql::table_name::span_start;

use crate::error::{Error, SqlError};

/// The clause that caused an error.
#[derive(Clone, Copy)]
enum Clause<'m> {
    /// A column number in ORDER BY.
    OrderBy(&'m str),
    /// A column number in GROUP BY.
    GroupBy(&'m str),
    Limit,
    Offset,
    Where,
    /// A call of a function.
    Call(&'m str),
    /// A comparison of a text with a number.
    Comparison,
}

/// Adds the position and a hint to an error, if exactly one clause can have caused the error.
pub(crate) fn locate(error: Error, sql: &str) -> Error {
    match error {
        Error::Sql(SqlError::Invalid { message, hint, position: None }) => {
            let Some((clause, text, advice)) = described(&message) else {
                return Error::Sql(SqlError::Invalid { message, hint, position: None });
            };
            let position = find_clause(sql, clause);
            let hint = hint.or_else(|| advice.map(str::to_owned));
            Error::Sql(SqlError::Invalid { message: text, hint, position })
        }
        Error::Value { message, position: None } if message.starts_with("cannot cast string") => {
            match find_clause(sql, Clause::Comparison) {
                position @ Some(_) => {
                    let hint = "Compare text with text, as in `name = '5'`, or cast the text.";
                    Error::Sql(SqlError::Invalid { message, hint: Some(hint.into()), position })
                }
                None => Error::Value { message, position: None },
            }
        }
        other => other,
    }
}

/// Returns the clause that an error message refers to, the message to show to the user, and a hint.
fn described(message: &str) -> Option<(Clause<'_>, String, Option<&'static str>)> {
    const POSITIONS: Option<&str> = Some("Write the position or the name of a selected column.");
    let after = |prefix: &str| message.strip_prefix(prefix);
    if let Some((number, columns)) = after("order by column out of bounds, specified: ")
        .and_then(|rest| rest.split_once(", max: "))
    {
        let text = format!("ORDER BY position {number} is not one of the {columns} columns");
        return Some((Clause::OrderBy(number), text, POSITIONS));
    }
    if let Some((number, rest)) = after("cannot find column with position ")
        .and_then(|rest| rest.split_once(" in SELECT clause"))
    {
        let columns = rest.rsplit(' ').next().unwrap_or_default();
        let text = format!("GROUP BY position {number} is not one of the {columns} columns");
        return Some((Clause::GroupBy(number), text, POSITIONS));
    }
    for (name, clause) in [("LIMIT", Clause::Limit), ("OFFSET", Clause::Offset)] {
        let prefix = format!("expected {name} to be an integer or null, but got ");
        if let Some(sql_type) = after(&prefix) {
            let text = format!("{name} takes an integer, not {sql_type}");
            return Some((clause, text, Some("Write a number without quotes.")));
        }
    }
    if let Some(rest) = after("cannot create filter with non-boolean predicate ") {
        let sql_type = rest.rsplit(' ').next().unwrap_or_default();
        let text = format!("WHERE takes a condition, not {sql_type}");
        return Some((Clause::Where, text, Some("Compare the value, as in `n > 0`.")));
    }
    let call = after("no signature of the function accepts `")?;
    let (name, _) = call.split_once('(')?;
    Some((Clause::Call(name), message.to_owned(), None))
}

/// Returns the position of a clause, if exactly one clause of the statement matches.
fn find_clause(sql: &str, clause: Clause<'_>) -> Option<crate::error::Position> {
    let statements = parser(tokens(sql).ok()?).parse_statements().ok()?;
    let mut finder = ClauseFinder { clause, found: Vec::new() };
    let _ = statements.visit(&mut finder);
    match finder.found.as_slice() {
        [one] => span_start(*one),
        _ => None,
    }
}

/// Collects the positions of the matching clauses.
struct ClauseFinder<'m> {
    clause: Clause<'m>,
    found: Vec<Span>,
}

impl Visitor for ClauseFinder<'_> {
    type Break = ();

    fn pre_visit_query(&mut self, query: &Query) -> ControlFlow<()> {
        match (self.clause, &query.order_by, &query.limit_clause) {
            (Clause::OrderBy(number), Some(order), _) => {
                if let OrderByKind::Expressions(keys) = &order.kind {
                    let keys = keys.iter().map(|key| &key.expr);
                    self.found.extend(keys.filter(|key| is_number(key, number)).map(Spanned::span));
                }
            }
            (Clause::Limit, _, Some(limit)) => match limit {
                LimitClause::LimitOffset { limit, .. } => {
                    self.found.extend(limit.iter().map(Spanned::span));
                }
                LimitClause::OffsetCommaLimit { limit, .. } => self.found.push(limit.span()),
            },
            (Clause::Offset, _, Some(limit)) => match limit {
                LimitClause::LimitOffset { offset, .. } => {
                    self.found.extend(offset.iter().map(|offset| offset.value.span()));
                }
                LimitClause::OffsetCommaLimit { offset, .. } => self.found.push(offset.span()),
            },
            _ => {}
        }
        ControlFlow::Continue(())
    }

    fn pre_visit_select(&mut self, select: &Select) -> ControlFlow<()> {
        match (self.clause, &select.group_by) {
            (Clause::GroupBy(number), GroupByExpr::Expressions(keys, _)) => {
                let keys = keys.iter().filter(|key| is_number(key, number));
                self.found.extend(keys.map(Spanned::span));
            }
            (Clause::Where, _) => self.found.extend(select.selection.iter().map(Spanned::span)),
            _ => {}
        }
        ControlFlow::Continue(())
    }

    fn pre_visit_expr(&mut self, expr: &Expr) -> ControlFlow<()> {
        let is_fit = match (self.clause, expr) {
            (Clause::Call(name), Expr::Function(function)) => {
                function.name.to_string().eq_ignore_ascii_case(name)
            }
            (Clause::Comparison, Expr::BinaryOp { left, op, right }) => {
                is_comparison(op) && (is_any_number(left) != is_any_number(right))
            }
            (Clause::Comparison, Expr::InList { list, .. }) => list.iter().any(is_any_number),
            (Clause::Comparison, Expr::Between { low, .. }) => is_any_number(low),
            // The cast may have caused the error instead of a comparison, so the position is
            // unknown.
            (Clause::Comparison, Expr::Cast { .. }) => {
                self.found.clear();
                return ControlFlow::Break(());
            }
            _ => false,
        };
        if is_fit {
            self.found.push(expr.span());
        }
        ControlFlow::Continue(())
    }
}

fn is_comparison(operator: &BinaryOperator) -> bool {
    use BinaryOperator::{Eq, Gt, GtEq, Lt, LtEq, NotEq};
    matches!(operator, Eq | NotEq | Lt | LtEq | Gt | GtEq)
}

fn is_any_number(expr: &Expr) -> bool {
    matches!(expr, Expr::Value(value) if matches!(value.value, Value::Number(..)))
}

fn is_number(expr: &Expr, number: &str) -> bool {
    matches!(expr, Expr::Value(value)
        if matches!(&value.value, Value::Number(text, _) if *text == number))
}
