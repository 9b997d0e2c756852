//! Aliases of the select list in the same select list and in WHERE: `SELECT a + 1 AS b, b * 2 AS c
//! FROM t WHERE b > 3`. A name that is not a column is replaced by the expression of the alias.
//!
//! As in Snowflake, Spark and DuckDB, a column takes precedence over an alias. In the select list,
//! only earlier aliases are visible.

use std::ops::ControlFlow;

use headwater_sql::name_match::{NameMatch, equals_ignoring_case};
use headwater_sql::table_name::span_start;
use headwater_sql::{Error, Result};
use sqlparser::ast::{Expr, Ident, SelectItem, visit_expressions};

use crate::name_scope::Scope;
use crate::{Resolver, function_name};

/// Maximum number of replacements in a statement. Aliases that use other aliases several times
/// would otherwise grow exponentially.
const REPLACEMENTS_MAX: usize = 1_000;

/// Functions that return a different value on each call, in addition to the volatile functions of
/// the session.
const VOLATILE: [&str; 4] = ["random", "rand", "uuid", "gen_random_uuid"];

/// An alias of the select list, with its expression before name resolution.
#[derive(Debug, Clone)]
pub struct SelectAlias {
    /// The alias as written.
    pub name: String,
    /// The expression that the alias stands for.
    pub expr: Expr,
}

impl SelectAlias {
    /// Returns the alias that a select list item defines.
    pub(crate) fn of(item: &SelectItem) -> Option<Self> {
        match item {
            SelectItem::ExprWithAlias { expr, alias } => {
                Some(SelectAlias { name: alias.value.clone(), expr: expr.clone() })
            }
            _ => None,
        }
    }
}

/// Returns the scope of the innermost query, skipping the scopes of lambdas; `None` if `name` is a
/// parameter of a lambda.
fn query_scope<'s>(scopes: &'s mut [Scope], name: &str) -> Option<&'s mut Scope> {
    for scope in scopes.iter_mut().rev() {
        if scope.parameters.iter().any(|parameter| equals_ignoring_case(parameter, name)) {
            return None;
        }
        if scope.parameters.is_empty() {
            return Some(scope);
        }
    }
    None
}

impl Resolver<'_> {
    /// Returns the resolved expression of the alias that a name refers to; `None` if it refers to
    /// no alias.
    pub(crate) fn select_alias(&mut self, ident: &Ident) -> Result<Option<Expr>> {
        let name = &ident.value;
        let Some(scope) = query_scope(&mut self.scopes.0, name) else { return Ok(None) };
        if scope.select_aliases.is_empty() || scope.is_open() {
            return Ok(None);
        }
        if !matches!(scope.resolve_unqualified(name), NameMatch::None) {
            return Ok(None);
        }
        let fits = |alias: &SelectAlias| equals_ignoring_case(&alias.name, name);
        let Some(place) = scope.select_aliases.iter().rposition(fits) else { return Ok(None) };
        let later = scope.select_aliases.split_off(place);
        let mut expr = later[0].expr.clone();
        let is_volatile = visit_expressions(&expr, |expr| match expr {
            Expr::Function(function) => {
                let name = function_name(function);
                let is_volatile =
                    VOLATILE.contains(&name.as_str()) || (self.functions.is_volatile)(&name);
                if is_volatile { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
            }
            _ => ControlFlow::Continue(()),
        });
        self.replacements += 1;
        if is_volatile.is_break() || self.replacements > REPLACEMENTS_MAX {
            return Err(Error::Unsupported {
                what: format!("the alias `{name}` in the same SELECT"),
                hint: Some("Compute the value in a subquery.".to_owned()),
                position: span_start(ident.span),
            });
        }
        let resolved = self.expr(&mut expr);
        if let Some(scope) = query_scope(&mut self.scopes.0, name) {
            scope.select_aliases.extend(later);
        }
        resolved.map(|()| Some(expr))
    }
}
