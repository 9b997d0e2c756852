//! Casts of columns in the select list, as in `SELECT id::text FROM t ORDER BY id`.
//!
//! As in PostgreSQL, such a cast has the name of its column, and a key of ORDER BY that is only
//! this name sorts by the cast. A key that is another expression sorts by the column.
//!
//! DataFusion names a cast `t.id`, and adds a column by which it sorts to the select list. In the
//! plan, the cast therefore has an alias: the column's name, or an unused name if ORDER BY refers
//! to the column. In the result, it has the column's name (see
//! [`OutputNames`](crate::OutputNames)).

use std::ops::ControlFlow;

use headwater_sql::name_match::equals_ignoring_case;
use sqlparser::ast::{Expr, Ident, OrderBy, OrderByKind, Select, SelectItem, visit_expressions};

use crate::repeated_names::SelectedNames;
use crate::select_list::column_under;

/// Returns the names of the columns in the keys of an ORDER BY. Omits keys that are casts, because
/// such a key can be an item of the select list, and the keys at the positions `omitted`.
pub(crate) fn ordered_columns(order_by: &OrderBy, omitted: &[usize]) -> Vec<String> {
    let OrderByKind::Expressions(keys) = &order_by.kind else { return Vec::new() };
    let mut columns = Vec::new();
    for (place, key) in keys.iter().enumerate() {
        if is_cast(&key.expr) || omitted.contains(&place) {
            continue;
        }
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

/// Returns true if casts in the select list can have the names of their columns as aliases. In
/// HAVING, QUALIFY and the casts of ORDER BY, DataFusion would replace the column by the alias.
pub(crate) fn can_name_casts(select: &Select, order_by: Option<&OrderBy>) -> bool {
    let sorts_by_cast = order_by.is_some_and(|order_by| match &order_by.kind {
        OrderByKind::Expressions(keys) => keys.iter().any(|key| is_cast(&key.expr)),
        OrderByKind::All(_) => false,
    });
    select.having.is_none() && select.qualify.is_none() && !sorts_by_cast
}

/// The name of a cast in the plan.
pub(crate) enum CastName {
    /// The name of its column.
    Own(String),
    /// An unused name instead of the name of its column, because ORDER BY refers to the column.
    Unused(String),
}

/// Returns the name of an expression that was written as a cast of the column `written`. `ordered`
/// are the columns in ORDER BY. `None` if the expression keeps the name that DataFusion generates.
pub(crate) fn cast_name(
    expr: &Expr,
    written: Option<&Ident>,
    ordered: &[String],
    can_name: bool,
) -> Option<CastName> {
    let is_ordered = |name: &str| ordered.iter().any(|ordered| equals_ignoring_case(ordered, name));
    let column = column_under(expr).filter(|_| is_cast(expr));
    let name = match written {
        // The resolver may have replaced the column by an expression or by another column.
        Some(written) => column
            .filter(|column| equals_ignoring_case(&column.value, &written.value))
            .unwrap_or(written),
        None => column?,
    };
    let name = name.value.clone();
    if is_ordered(&name) {
        return Some(CastName::Unused(name));
    }
    (can_name && written.is_some()).then_some(CastName::Own(name))
}

/// Returns the column of a cast; `None` if the expression is not a cast of a column.
pub(crate) fn cast_column(expr: &Expr) -> Option<&Ident> {
    match expr {
        Expr::Cast { expr: inner, .. } => cast_column(inner).or_else(|| plain_column(inner)),
        Expr::Nested(inner) => cast_column(inner),
        _ => None,
    }
}

fn plain_column(expr: &Expr) -> Option<&Ident> {
    match expr {
        Expr::Identifier(name) => Some(name),
        Expr::CompoundIdentifier(names) => names.last(),
        Expr::Nested(inner) => plain_column(inner),
        _ => None,
    }
}

/// A key of ORDER BY that is the name of a cast in the select list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct CastKey {
    /// The position of the key in ORDER BY.
    pub(crate) key: usize,
    /// The position of the cast in the select list.
    pub(crate) item: usize,
}

/// Returns the keys of an ORDER BY that are the output name of exactly one item of the select list,
/// if this item is a cast. `names` are the columns that the wildcards of the select list select.
pub(crate) fn cast_keys(
    order_by: &OrderBy,
    items: &[SelectItem],
    names: &SelectedNames,
) -> Vec<CastKey> {
    let OrderByKind::Expressions(keys) = &order_by.kind else { return Vec::new() };
    let mut found = Vec::new();
    for (place, key) in keys.iter().enumerate() {
        let Expr::Identifier(name) = &key.expr else { continue };
        let is_named = |(_, item): &(usize, &SelectItem)| {
            output_column(item).is_some_and(|other| equals_ignoring_case(&other.value, &name.value))
        };
        let mut named = items.iter().enumerate().filter(is_named);
        if let (Some((index, SelectItem::UnnamedExpr(expr))), None) = (named.next(), named.next())
            && cast_column(expr).is_some()
            && !names.is_in_wildcard(&name.value)
        {
            found.push(CastKey { key: place, item: index });
        }
    }
    found
}

/// Replaces keys of an ORDER BY by the aliases of the casts that they name. Returns these aliases.
pub(crate) fn sort_by_casts(
    order_by: &mut OrderBy,
    items: &[SelectItem],
    cast_keys: &[CastKey],
) -> Vec<String> {
    let OrderByKind::Expressions(keys) = &mut order_by.kind else { return Vec::new() };
    let mut aliases = Vec::new();
    for CastKey { key, item } in cast_keys {
        if let Some(SelectItem::ExprWithAlias { alias, .. }) = items.get(*item) {
            keys[*key].expr = Expr::Identifier(alias.clone());
            aliases.push(alias.value.clone());
        }
    }
    aliases
}

/// Returns the output name of an item that is a column, a cast of a column, or has an alias.
fn output_column(item: &SelectItem) -> Option<&Ident> {
    match item {
        SelectItem::UnnamedExpr(expr) => cast_column(expr).or_else(|| plain_column(expr)),
        SelectItem::ExprWithAlias { alias, .. } => Some(alias),
        _ => None,
    }
}

fn is_cast(expr: &Expr) -> bool {
    match expr {
        Expr::Cast { .. } | Expr::AtTimeZone { .. } => true,
        Expr::Nested(inner) => is_cast(inner),
        _ => false,
    }
}
