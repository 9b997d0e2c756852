//! Casts of columns by which ORDER BY sorts, as in `SELECT id::text FROM t ORDER BY id`.
//!
//! DataFusion names a cast like its column, and adds a column by which it sorts to the select list.
//! The cast therefore needs another name in the plan. In the result, it has the column's name (see
//! [`OutputNames`](crate::OutputNames)).

use std::ops::ControlFlow;

use headwater_sql::name_match::equals_ignoring_case;
use sqlparser::ast::{Expr, OrderBy, OrderByKind, visit_expressions};

use crate::select_list::column_under;

/// Returns the names of the columns in the keys of an ORDER BY. Omits keys that are casts, because
/// such a key can be an item of the select list.
pub(crate) fn ordered_columns(order_by: &OrderBy) -> Vec<String> {
    let OrderByKind::Expressions(keys) = &order_by.kind else { return Vec::new() };
    let mut columns = Vec::new();
    for key in keys.iter().filter(|key| !is_cast(&key.expr)) {
        let _ = visit_expressions(&key.expr, |expr| {
            let column = match expr {
                Expr::Identifier(name) => Some(name),
                Expr::CompoundIdentifier(names) => names.last(),
                _ => None,
            };
            columns.extend(column.map(|name| name.value.clone()));
            ControlFlow::<()>::Continue(())
        });
    }
    columns
}

/// Returns the name of the column if an expression is a cast of one of the columns.
pub(crate) fn ordered_cast(expr: &Expr, columns: &[String]) -> Option<String> {
    let column = column_under(expr).filter(|_| is_cast(expr))?;
    let is_ordered = columns.iter().any(|ordered| equals_ignoring_case(ordered, &column.value));
    is_ordered.then(|| column.value.clone())
}

fn is_cast(expr: &Expr) -> bool {
    match expr {
        Expr::Cast { .. } | Expr::AtTimeZone { .. } => true,
        Expr::Nested(inner) => is_cast(inner),
        _ => false,
    }
}
