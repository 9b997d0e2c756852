//! Finds the position of a constant that cannot be cast, for errors that contain only the
//! constant's value.
//!
//! DataFusion reports such constants during execution, without positions. So a failed statement is
//! parsed again, and its casts of constants are evaluated one by one.

use std::ops::ControlFlow;

use datafusion::sql::sqlparser::ast::{Expr, Spanned, Value, visit_expressions};
use datafusion::sql::sqlparser::keywords::Keyword;
use datafusion::sql::sqlparser::tokenizer::{Token, TokenWithSpan};

use headwater_sql::parse::{parser, tokens};
use headwater_sql::table_name::span_start;
use headwater_sql::{array_elements, is_keyword};

use crate::error::{Error, Position};
use crate::planner;
use headwater_sql_functions::error_text::clean;

/// Adds the position of the constant that caused an error, if the statement contains it.
pub(crate) fn locate(error: Error, sql: &str) -> Error {
    match error {
        Error::Value { message, position: None } => {
            let position = tokens(sql).ok().and_then(|tokens| find_literal(tokens, &message));
            Error::Value { message, position }
        }
        other => other,
    }
}

fn find_literal(tokens: Vec<TokenWithSpan>, message: &str) -> Option<Position> {
    let casts = tokens.iter().any(|token| {
        matches!(token.token, Token::DoubleColon) || is_keyword(&token.token, Keyword::CAST)
    });
    if !casts && let Some(place) = quoted_literal_position(&tokens, message) {
        return Some(place);
    }
    let statements = parser(tokens).parse_statements().ok()?;
    let found = visit_expressions(&statements, |expr| match failed_cast(expr, message) {
        Some(place) => ControlFlow::Break(place),
        None => ControlFlow::Continue(()),
    });
    found.break_value()
}

/// Returns the position of the string literal that the message quotes, or of the array in text that
/// contains the quoted element; `None` if no literal or several literals match.
fn quoted_literal_position(tokens: &[TokenWithSpan], message: &str) -> Option<Position> {
    let is_in_message = |text: &String| !text.is_empty() && message.contains(&format!("'{text}'"));
    let mut quoted = tokens.iter().filter(|token| match &token.token {
        Token::SingleQuotedString(text) => {
            let elements = array_elements(text).unwrap_or_default();
            is_in_message(text) || elements.iter().flatten().any(is_in_message)
        }
        _ => false,
    });
    let one = quoted.next()?;
    quoted.next().is_none().then(|| span_start(one.span)).flatten()
}

/// Returns the position of a constant if `expr` casts the constant, and this cast fails with the
/// given message.
fn failed_cast(expr: &Expr, message: &str) -> Option<Position> {
    let constant = match expr {
        Expr::Cast { expr, .. } => matches!(&**expr, Expr::Value(_)),
        Expr::TypedString(literal) => matches!(literal.value.value, Value::SingleQuotedString(_)),
        _ => false,
    };
    if !constant {
        return None;
    }
    let error = planner::constant(expr.clone(), None).err()?;
    let reason = clean(&error.strip_backtrace());
    let root = clean(&error.find_root().strip_backtrace());
    let is_it = message.contains(&reason) || message.contains(&root);
    is_it.then(|| span_start(expr.span())).flatten()
}
