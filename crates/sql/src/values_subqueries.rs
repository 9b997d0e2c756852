//! VALUES with subqueries, rewritten because the planner supports subqueries only in select lists.

use sqlparser::ast::{Expr, Ident, Query, SelectItem, SetExpr, SetOperator, SetQuantifier, Values};

use crate::change::{QueryClauses, query_of};
use crate::error::{Error, Result};
use crate::expression::{ExpressionNode, children};

/// Maximum number of rows with a subquery in one statement. Each of these rows becomes a query, and
/// the depth of the plan grows with the number of queries.
const SUBQUERIES_MAX: usize = 300;

/// Splits a VALUES query with subqueries into several queries, which together return its rows. Does
/// not split a query with a clause that applies to all rows, such as ORDER BY.
pub fn parts(mut query: Query) -> Result<Vec<Query>> {
    if query.order_by.is_some() || query.limit_clause.is_some() {
        return Ok(vec![query]);
    }
    let SetExpr::Values(values) = &mut *query.body else { return Ok(vec![query]) };
    let Some(parts) = rows(values)? else { return Ok(vec![query]) };
    let part = |body| Query { body: Box::new(body), ..query.clone() };
    Ok(parts.into_iter().map(part).collect())
}

/// Returns the rows as queries, in order: consecutive rows without a subquery form one VALUES, and
/// each row with a subquery becomes a SELECT. Returns `None` if no row has a subquery.
fn rows(values: &mut Values) -> Result<Option<Vec<SetExpr>>> {
    let held = values.rows.iter_mut().map(|row| row.content.iter_mut().any(contains_subquery));
    let held: Vec<bool> = held.collect();
    if !held.contains(&true) {
        return Ok(None);
    }
    if held.iter().filter(|holds| **holds).count() > SUBQUERIES_MAX {
        return Err(Error::Invalid {
            message: format!("more than {SUBQUERIES_MAX} rows of VALUES have a subquery"),
            hint: Some(
                "Write the rows as a SELECT from the tables that the subqueries read.".to_owned(),
            ),
            position: None,
        });
    }
    let mut parts = Vec::new();
    for (row, holds) in std::iter::zip(std::mem::take(&mut values.rows), held) {
        match parts.last_mut() {
            _ if holds => parts.push(select(row.content)),
            Some(SetExpr::Values(before)) => before.rows.push(row),
            _ => parts.push(SetExpr::Values(Values { rows: vec![row], ..values.clone() })),
        }
    }
    Ok(Some(parts))
}

/// Replaces VALUES by a UNION if a row has a subquery.
pub fn rewrite_values(body: &mut SetExpr) -> Result<()> {
    let SetExpr::Values(values) = body else { return Ok(()) };
    let Some(parts) = rows(values)? else { return Ok(()) };
    let union = parts.into_iter().reduce(|left, right| SetExpr::SetOperation {
        op: SetOperator::Union,
        set_quantifier: SetQuantifier::All,
        left: Box::new(left),
        right: Box::new(right),
    });
    if let Some(union) = union {
        *body = union;
    }
    Ok(())
}

/// Returns `SELECT … AS column1, …`.
fn select(row: Vec<Expr>) -> SetExpr {
    let named = |(index, expr)| SelectItem::ExprWithAlias {
        expr,
        alias: Ident::with_quote('"', format!("column{}", index + 1)),
    };
    let projection = row.into_iter().enumerate().map(named).collect();
    *query_of(QueryClauses { projection, ..QueryClauses::default() }).body
}

fn contains_subquery(expr: &mut Expr) -> bool {
    let mut found = false;
    let visited = children(expr, &mut |node| {
        found |= match node {
            ExpressionNode::Query(_) => true,
            ExpressionNode::Expr(part) => contains_subquery(part),
            _ => false,
        };
        Ok(())
    });
    found || visited.is_err()
}
