//! Queries of catalog tables that are always empty, such as the tables of indexes and triggers.
//!
//! A SELECT that joins such a table always returns no rows. This module replaces it by a SELECT
//! that has the same columns and does not use PostgreSQL's functions.

use std::ops::ControlFlow;

use sqlparser::ast::{
    BinaryOperator, Expr, GroupByExpr, JoinOperator, Query, Select, SelectItem, SetExpr,
    TableFactor, TableWithJoins, Value, Visit, Visitor,
};

use crate::catalog_tables::CatalogTable;
use crate::translate::{is_catalog, null, parse, parts, select_of};

/// Aggregate functions, which return one row even if there are no input rows.
const AGGREGATES: [&str; 12] = [
    "count",
    "max",
    "min",
    "sum",
    "avg",
    "array_agg",
    "string_agg",
    "json_agg",
    "json_object_agg",
    "bool_or",
    "bool_and",
    "any_value",
];

/// Replaces each SELECT in a query if this SELECT certainly returns no rows. Returns true if a
/// SELECT was replaced.
pub(crate) fn fold_query(query: &mut Query) -> bool {
    let changed = fold(&mut query.body);
    if changed && is_empty(query) {
        query.order_by = None;
    }
    changed
}

fn fold(body: &mut SetExpr) -> bool {
    match body {
        SetExpr::Select(select)
            if !is_cleared(select) && has_no_rows(select) && has_named_columns(select) =>
        {
            clear(select);
            true
        }
        SetExpr::SetOperation { left, right, .. } => {
            let left = fold(left);
            fold(right) || left
        }
        _ => false,
    }
}

/// Returns true if a query certainly returns no rows.
pub(crate) fn is_empty(query: &Query) -> bool {
    is_empty_body(&query.body)
}

fn is_empty_body(body: &SetExpr) -> bool {
    match body {
        SetExpr::Select(select) => is_cleared(select) || has_no_rows(select),
        SetExpr::SetOperation { left, right, .. } => is_empty_body(left) && is_empty_body(right),
        SetExpr::Query(query) => is_empty(query),
        _ => false,
    }
}

fn is_cleared(select: &Select) -> bool {
    let is_false = |condition: &Expr| match condition {
        Expr::Value(value) => value.value == Value::Boolean(false),
        _ => false,
    };
    select.from.is_empty() && select.selection.as_ref().is_some_and(is_false)
}

/// Returns true for a condition that can never hold, because it requires an access control list
/// (`…acl`), and all access control lists are null.
fn is_never(condition: &Expr) -> bool {
    match condition {
        Expr::BinaryOp { left, op: BinaryOperator::And, right } => {
            is_never(left) || is_never(right)
        }
        Expr::Nested(inner) => is_never(inner),
        Expr::IsNotNull(column) => column.to_string().ends_with("acl"),
        _ => false,
    }
}

/// Returns true for the literal null, with or without parentheses and casts.
pub(crate) fn is_null(expr: &Expr) -> bool {
    match expr {
        Expr::Value(value) => value.value == Value::Null,
        Expr::Nested(inner) | Expr::Cast { expr: inner, .. } => is_null(inner),
        _ => false,
    }
}

fn has_no_rows(select: &Select) -> bool {
    (select.from.iter().any(joins_nothing) || select.selection.as_ref().is_some_and(is_never))
        && (is_grouped(select) || !select.projection.iter().any(is_aggregate))
}

/// Returns true for a SELECT without wildcards, whose columns are therefore known.
fn has_named_columns(select: &Select) -> bool {
    let is_named = |item: &SelectItem| {
        matches!(item, SelectItem::UnnamedExpr(_) | SelectItem::ExprWithAlias { .. })
    };
    select.projection.iter().all(is_named)
}

/// Returns true for a SELECT with GROUP BY.
pub(crate) fn is_grouped(select: &Select) -> bool {
    match &select.group_by {
        GroupByExpr::All(_) => true,
        GroupByExpr::Expressions(expressions, _) => !expressions.is_empty(),
    }
}

/// Returns true if a select list item contains an aggregate, not counting subqueries.
pub(crate) fn is_aggregate(item: &SelectItem) -> bool {
    item.visit(&mut AggregateFinder { depth: 0 }).is_break()
}

/// Finds aggregates outside of subqueries.
struct AggregateFinder {
    depth: usize,
}

impl Visitor for AggregateFinder {
    type Break = ();

    fn pre_visit_query(&mut self, _: &Query) -> ControlFlow<()> {
        self.depth += 1;
        ControlFlow::Continue(())
    }

    fn post_visit_query(&mut self, _: &Query) -> ControlFlow<()> {
        self.depth -= 1;
        ControlFlow::Continue(())
    }

    fn pre_visit_expr(&mut self, expr: &Expr) -> ControlFlow<()> {
        let is_aggregate = match expr {
            Expr::Function(function) => parts(&function.name)
                .last()
                .is_some_and(|name| AGGREGATES.iter().any(|one| name.eq_ignore_ascii_case(one))),
            _ => false,
        };
        if is_aggregate && self.depth == 0 {
            return ControlFlow::Break(());
        }
        ControlFlow::Continue(())
    }
}

fn joins_nothing(from: &TableWithJoins) -> bool {
    let keeps_right = |operator: &JoinOperator| {
        matches!(
            operator,
            JoinOperator::Right(_) | JoinOperator::RightOuter(_) | JoinOperator::FullOuter(_)
        )
    };
    if from.joins.iter().any(|join| keeps_right(&join.join_operator)) {
        return false;
    }
    let is_inner = |operator: &JoinOperator| {
        matches!(
            operator,
            JoinOperator::Join(_) | JoinOperator::Inner(_) | JoinOperator::CrossJoin(_)
        )
    };
    let mut inner = from.joins.iter().filter(|join| is_inner(&join.join_operator));
    is_empty_factor(&from.relation) || inner.any(|join| is_empty_factor(&join.relation))
}

fn is_empty_factor(factor: &TableFactor) -> bool {
    match factor {
        TableFactor::Table { name, .. } => match parts(name).as_slice() {
            [namespace, name] => is_empty_table(namespace, name) || is_of_options(factor),
            [name] => is_empty_table(crate::pg_catalog::NAMESPACE, name),
            _ => false,
        },
        TableFactor::UNNEST { .. } | TableFactor::Function { .. } => is_of_options(factor),
        TableFactor::Derived { subquery, .. } => is_empty(subquery),
        TableFactor::NestedJoin { table_with_joins, .. } => joins_nothing(table_with_joins),
        _ => false,
    }
}

fn is_empty_table(namespace: &str, name: &str) -> bool {
    CatalogTable::find(namespace, name).is_some_and(|table| table.is_always_empty)
}

/// Returns true for a call of `unnest` on the options of a table. Options are always null, so this
/// `unnest` returns no rows.
fn is_of_options(factor: &TableFactor) -> bool {
    let text = factor.to_string().to_ascii_lowercase();
    text.contains("unnest(") && text.contains("options")
}

/// Replaces a SELECT with one that has the same columns and no rows.
fn clear(select: &mut Select) {
    for item in &mut select.projection {
        match item {
            SelectItem::ExprWithAlias { expr, .. } => *expr = null(),
            SelectItem::UnnamedExpr(expr) => {
                let alias = sqlparser::ast::Ident::with_quote('"', column_name(expr));
                *item = SelectItem::ExprWithAlias { expr: null(), alias };
            }
            _ => {}
        }
    }
    select.from.clear();
    select.selection = Some(Expr::value(Value::Boolean(false)));
    select.group_by = GroupByExpr::Expressions(Vec::new(), Vec::new());
    select.having = None;
    select.distinct = None;
}

/// Returns the name that PostgreSQL gives to the column of an expression.
pub(crate) fn column_name(expr: &Expr) -> String {
    match expr {
        Expr::Identifier(name) => name.value.clone(),
        Expr::CompoundIdentifier(names) => {
            names.last().map(|name| name.value.clone()).unwrap_or_default()
        }
        Expr::Function(function) => {
            parts(&function.name).last().unwrap_or(&"?column?").to_ascii_lowercase()
        }
        Expr::Cast { expr, data_type, .. } => match column_name(expr).as_str() {
            "?column?" => {
                let name = data_type.to_string().to_ascii_lowercase();
                name.rsplit('.').next().unwrap_or_default().trim_matches('"').to_owned()
            }
            name => name.to_owned(),
        },
        Expr::Nested(inner) | Expr::Collate { expr: inner, .. } => column_name(inner),
        Expr::Case { .. } => "case".to_owned(),
        Expr::Exists { .. } => "exists".to_owned(),
        Expr::Subquery(query) => match select_of(query).map(|select| &*select.projection) {
            Some([SelectItem::UnnamedExpr(expr)]) => column_name(expr),
            Some([SelectItem::ExprWithAlias { alias, .. }]) => alias.value.clone(),
            _ => "?column?".to_owned(),
        },
        _ => "?column?".to_owned(),
    }
}

/// Returns a replacement for a scalar subquery: null if the subquery certainly returns no rows. For
/// a lookup in a catalog, selects `max` of the value, so that the planner knows that there is one
/// row; a lookup finds at most one row, so the value does not change.
pub(crate) fn scalar(query: &mut Query) -> Option<Expr> {
    if is_empty(query) {
        return Some(null());
    }
    let SetExpr::Select(select) = &mut *query.body else { return None };
    let reads_catalog = select.from.iter().any(|from| {
        matches!(&from.relation, TableFactor::Table { name, .. }
            if parts(name).first().is_some_and(|first| is_catalog(first)))
    });
    let [item] = select.projection.as_mut_slice() else { return None };
    if !reads_catalog || is_aggregate(item) || query.limit_clause.is_some() {
        return None;
    }
    let (SelectItem::UnnamedExpr(expr) | SelectItem::ExprWithAlias { expr, .. }) = item else {
        return None;
    };
    *expr = parse(&format!("max({expr})"))?;
    Some(Expr::Subquery(Box::new(query.clone())))
}

#[cfg(test)]
mod tests {
    use crate::translate::{ConnectionProperties, translate};

    #[test]
    fn subqueries_with_wildcards_can_be_empty() {
        // Django's list of indexes.
        let sql = "SELECT indexname, array_agg(attname ORDER BY arridx), s2.attoptions FROM ( \
            SELECT c2.relname AS indexname, idx.*, attr.attname, c2.reloptions AS attoptions \
            FROM ( SELECT * FROM pg_index i, unnest(i.indkey, i.indoption) WITH ORDINALITY \
            koi(key, option, arridx) ) idx LEFT JOIN pg_class c2 ON idx.indexrelid = c2.oid \
            LEFT JOIN pg_attribute attr ON attr.attnum = idx.key ) s2 \
            GROUP BY indexname, attoptions";
        let found = translate(sql, &ConnectionProperties::default()).expect(sql).expect(sql);
        let expected = "SELECT NULL AS \"indexname\", NULL AS \"array_agg\", NULL AS \
                        \"attoptions\" WHERE false";
        assert_eq!(found.sql, expected);
    }
}
