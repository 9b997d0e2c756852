//! Expressions of row filters and column masks.
//!
//! An expression may use columns of its table, scalar functions, `current_user` and
//! `is_member('role')`. Subqueries are not allowed: on a branch, a user could change the tables
//! that a subquery reads, and so see more rows.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::ControlFlow;

use sqlparser::ast::{
    Expr, Function, FunctionArg, FunctionArgExpr, FunctionArguments, Ident, Query, Value, Visit,
    Visitor, visit_expressions_mut,
};
use sqlparser::tokenizer::Token;

use headwater_sql::alter_table::expected;
use headwater_sql::parse::{parser, syntax, tokens, too_complex};
use headwater_sql::{Error, Result};
use headwater_sql_tokens::check_complexity;

/// Names of the function that returns the user.
const CURRENT_USER: [&str; 3] = ["current_user", "session_user", "user"];

/// Name of the function that checks membership in a role.
const IS_MEMBER: &str = "is_member";

/// A parsed expression.
#[derive(Debug, Clone)]
pub struct RestrictionExpression {
    expr: Expr,
    columns: BTreeSet<String>,
}

impl RestrictionExpression {
    /// Parses an expression. Fails if it contains an unsupported element.
    pub fn parse(text: &str) -> Result<Self> {
        let tokens = tokens(text)?;
        check_complexity(&tokens).map_err(too_complex)?;
        let mut parser = parser(tokens);
        let expr = parser.parse_expr().map_err(syntax)?;
        if parser.peek_token_ref().token != Token::EOF {
            return Err(expected(&parser, "the end of the expression").into());
        }
        let mut checked = ColumnCollector::default();
        if let ControlFlow::Break(error) = expr.visit(&mut checked) {
            return Err(error);
        }
        Ok(RestrictionExpression { expr, columns: checked.columns })
    }

    /// Returns the columns, as written.
    pub fn columns(&self) -> impl Iterator<Item = &str> {
        self.columns.iter().map(String::as_str)
    }

    /// Returns the expression as SQL for one user. `columns` maps each column name as written to
    /// its current name. `members` contains the user and its roles.
    pub fn bind(
        &self,
        columns: &BTreeMap<String, String>,
        user: &str,
        members: &BTreeSet<String>,
    ) -> String {
        let mut expr = self.expr.clone();
        let rename = |ident: &mut Ident| {
            if let Some(name) = columns.get(&ident.value) {
                *ident = Ident::with_quote('"', name.replace('"', "\"\""));
            }
        };
        let _ = visit_expressions_mut(&mut expr, |expr| {
            match expr {
                _ if is_current_user(expr) => *expr = text(user),
                Expr::Identifier(ident) => rename(ident),
                Expr::CompoundIdentifier(parts) => parts.iter_mut().take(1).for_each(rename),
                Expr::Function(function) => {
                    if let Some(role) = role_of(function) {
                        *expr = Expr::value(Value::Boolean(members.contains(role)));
                    }
                }
                _ => {}
            }
            ControlFlow::<()>::Continue(())
        });
        expr.to_string()
    }
}

fn text(text: &str) -> Expr {
    Expr::value(Value::SingleQuotedString(text.replace('\'', "''")))
}

/// Collects the columns of an expression, and stops at the first unsupported element.
#[derive(Default)]
struct ColumnCollector {
    columns: BTreeSet<String>,
}

impl Visitor for ColumnCollector {
    type Break = Error;

    fn pre_visit_query(&mut self, _: &Query) -> ControlFlow<Error> {
        let hint = "Use columns of the table, `current_user` and `is_member('role')`.";
        ControlFlow::Break(unsupported("a subquery", hint))
    }

    fn pre_visit_expr(&mut self, expr: &Expr) -> ControlFlow<Error> {
        let hint = "Use columns of the table, scalar functions, `current_user` and `is_member`.";
        match expr {
            _ if is_current_user(expr) => {}
            Expr::Identifier(ident) => drop(self.columns.insert(ident.value.clone())),
            Expr::CompoundIdentifier(parts) => {
                self.columns.extend(parts.first().map(|part| part.value.clone()));
            }
            Expr::Value(value) if matches!(value.value, Value::Placeholder(_)) => {
                return ControlFlow::Break(unsupported("a parameter", hint));
            }
            Expr::Wildcard(_) | Expr::QualifiedWildcard(..) => {
                return ControlFlow::Break(unsupported("`*`", hint));
            }
            Expr::Lambda(_) => return ControlFlow::Break(unsupported("a lambda function", hint)),
            Expr::Function(function) if function.over.is_some() => {
                return ControlFlow::Break(unsupported("a window function", hint));
            }
            Expr::Function(function)
                if is_named(function, IS_MEMBER) && role_of(function).is_none() =>
            {
                let hint = "Write the name of a role as text: `is_member('analyst')`.";
                return ControlFlow::Break(unsupported("this argument of `is_member`", hint));
            }
            _ => {}
        }
        ControlFlow::Continue(())
    }
}

fn unsupported(what: &str, hint: &str) -> Error {
    let what = format!("{what} in a row filter or column mask");
    Error::Unsupported { what, hint: Some(hint.to_owned()), position: None }
}

fn is_named(function: &Function, name: &str) -> bool {
    function.name.to_string().eq_ignore_ascii_case(name)
}

/// Returns true for `current_user`, with or without parentheses.
fn is_current_user(expr: &Expr) -> bool {
    match expr {
        Expr::Identifier(ident) => {
            let is_word = |name: &str| ident.value.eq_ignore_ascii_case(name);
            ident.quote_style.is_none() && CURRENT_USER.iter().take(2).any(|name| is_word(name))
        }
        Expr::Function(function) => {
            let has_arguments = match &function.args {
                FunctionArguments::None => false,
                FunctionArguments::List(list) => !list.args.is_empty(),
                FunctionArguments::Subquery(_) => true,
            };
            !has_arguments && CURRENT_USER.iter().any(|name| is_named(function, name))
        }
        _ => false,
    }
}

/// Returns the role that a call of `is_member` names; `None` for other calls.
fn role_of(function: &Function) -> Option<&str> {
    let FunctionArguments::List(list) = &function.args else { return None };
    let [FunctionArg::Unnamed(FunctionArgExpr::Expr(Expr::Value(value)))] = list.args.as_slice()
    else {
        return None;
    };
    match &value.value {
        Value::SingleQuotedString(role) if is_named(function, IS_MEMBER) => Some(role),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bound(text: &str) -> String {
        let parsed = match RestrictionExpression::parse(text) {
            Ok(parsed) => parsed,
            Err(error) => return error.to_string(),
        };
        let columns = parsed.columns().map(|name| (name.to_owned(), format!("{name}\"2")));
        let members = ["ana".to_owned(), "eu".to_owned()].into();
        parsed.bind(&columns.collect(), "a'na", &members)
    }

    #[test]
    fn a_user_its_roles_and_the_names_of_columns_are_bound() {
        for (text, expected) in [
            ("region = 'EU'", r#""region""2" = 'EU'"#),
            ("a.b > 1 OR \"c\" IS NULL", r#""a""2".b > 1 OR "c""2" IS NULL"#),
            ("owner = current_user", r#""owner""2" = 'a''na'"#),
            ("is_member('eu') AND NOT is_member('us')", "true AND NOT false"),
        ] {
            assert_eq!(bound(text), expected, "{text}");
        }
    }

    #[test]
    fn other_tables_parameters_and_windows_are_rejected() {
        for (text, what) in [
            ("a IN (SELECT 1)", "a subquery"),
            ("EXISTS (SELECT 1)", "a subquery"),
            ("(SELECT max(a) FROM t) > 1", "a subquery"),
            ("a = $1", "a parameter"),
            ("a = ?", "a parameter"),
            ("row_number() OVER () = 1", "a window function"),
            ("is_member(a)", "this argument of `is_member`"),
            ("is_member()", "this argument of `is_member`"),
        ] {
            let expected = format!("{what} in a row filter or column mask is not supported");
            assert_eq!(bound(text), expected, "{text}");
        }
        for text in ["", "a = ", "a = 1; DROP TABLE t", "a = 1) OR (true"] {
            RestrictionExpression::parse(text).expect_err(text);
        }
    }
}
