//! Descriptions of models: the docstring of a function, or the comments above a query.

use ruff_python_ast::{Expr, Stmt, StmtFunctionDef};

/// Maximum number of characters.
const LENGTH_MAX: usize = 4_000;

/// Returns the docstring of a function without its indentation; empty if there is none.
pub(crate) fn of_function(function: &StmtFunctionDef) -> String {
    let Some(Stmt::Expr(first)) = function.body.first() else { return String::new() };
    let Expr::StringLiteral(text) = &*first.value else { return String::new() };
    let text = text.value.to_str();
    let indents = text.lines().skip(1).filter(|line| !line.trim().is_empty());
    let indent = indents.map(|line| line.len() - line.trim_start().len()).min().unwrap_or(0);
    let line = |(index, line): (usize, &str)| {
        let rest = if index == 0 { line.trim_start() } else { line.get(indent..).unwrap_or("") };
        rest.trim_end().to_owned()
    };
    cut(&text.lines().enumerate().map(line).collect::<Vec<_>>().join("\n"))
}

/// Returns the comments above the first line of a query, without settings; empty if there are none.
pub(crate) fn of_comments(sql: &str) -> String {
    let above = sql.lines().map(str::trim);
    let above = above.take_while(|line| line.is_empty() || line.starts_with("--"));
    let comments = above.filter_map(|line| line.strip_prefix("--"));
    let comments = comments.map(|line| line.strip_prefix(' ').unwrap_or(line).trim_end());
    let is_setting = |line: &str| {
        let line = line.trim_start();
        ["headwater", "bauplan"].iter().any(|prefix| {
            line.strip_prefix(prefix).is_some_and(|rest| rest.trim_start().starts_with(':'))
        })
    };
    cut(&comments.filter(|line| !is_setting(line)).collect::<Vec<_>>().join("\n"))
}

fn cut(text: &str) -> String {
    text.trim().chars().take(LENGTH_MAX).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comments_above_the_query_are_its_description() {
        let check = |sql: &str, expected: &str| assert_eq!(of_comments(sql), expected, "{sql}");
        check("SELECT 1 -- no", "");
        check("-- headwater: name = x\nSELECT 1", "");
        check(
            "-- Sales by day.\n--\n--   Net of tax.\n-- bauplan : name = x\nSELECT 1",
            "Sales by day.\n\n  Net of tax.",
        );
        check("\n--Tight\n\n-- More\nSELECT 1\n-- below", "Tight\nMore");
    }
}
