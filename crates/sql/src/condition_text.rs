//! Checks the text of a condition that is not part of a statement, such as a row filter. The text
//! could follow WHERE in a query of one table.

use sqlparser::ast::{Expr, Spanned};
use sqlparser::tokenizer::Token;

use crate::error::{Error, Result};
use crate::expression::{ExpressionNode, children};
use crate::parse::{parser, tokens};
use crate::table_name::span_start;

/// Checks that a text is a single condition on the columns of one row. The text may have no further
/// clauses, and the condition may not read other tables or rows.
pub fn check_condition(sql: &str) -> Result<()> {
    let mut parser = parser(tokens(sql)?);
    let mut condition = parser.parse_expr()?;
    let rest = parser.next_token();
    if rest.token != Token::EOF {
        return Err(Error::Syntax {
            message: format!("unexpected `{}` after the condition", rest.token),
            hint: None,
            position: span_start(rest.span),
        });
    }
    row_only(&mut condition)
}

fn row_only(expr: &mut Expr) -> Result<()> {
    let position = span_start(expr.span());
    let refuse = |what: &str| {
        let hint = "Write a condition over the columns of one row, without subqueries, window \
                    functions and aggregates.";
        let what = format!("{what} in a filter");
        Err(Error::Unsupported { what, hint: Some(hint.to_owned()), position })
    };
    children(expr, &mut |node| match node {
        ExpressionNode::Expr(expr) => row_only(expr),
        ExpressionNode::Query(_) => refuse("a subquery"),
        ExpressionNode::Over(_) => refuse("a window function"),
        ExpressionNode::Wildcard(_) => refuse("a count of rows"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(sql: &str, expected: &str) {
        let shown = check_condition(sql).map_or_else(|error| error.to_string(), |()| "good".into());
        assert_eq!(shown, expected, "`{sql}`");
    }

    #[test]
    fn a_condition_is_one_expression_over_one_row() {
        check("a > 1 AND b IN ('x', $y) -- or so", "good");
        check("a BETWEEN 1 AND 2 OR lower(b) LIKE 'x%'\n", "good");
        check("", "expected an expression, found the end");
        check("a >", "expected an expression, found the end");
        check("a > 1 ORDER BY b", "unexpected `ORDER` after the condition (line 1, column 7)");
        check("a > 1) OR (b = 2", "unexpected `)` after the condition (line 1, column 6)");
        check("a = 1; DROP TABLE t", "unexpected `;` after the condition (line 1, column 6)");
        check("1 = 1 UNION SELECT 2", "unexpected `UNION` after the condition (line 1, column 7)");
        for subquery in ["a IN (SELECT b FROM c)", "a = (SELECT 1)", "EXISTS (SELECT 1)"] {
            let error = check_condition(subquery).unwrap_err().to_string();
            assert!(error.starts_with("a subquery in a filter is not supported"), "{error}");
        }
        let window = check_condition("row_number() OVER () < 2").unwrap_err().to_string();
        assert!(window.starts_with("a window function in a filter"), "{window}");
    }
}
