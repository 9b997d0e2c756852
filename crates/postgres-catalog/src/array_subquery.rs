//! Arrays of the rows of a subquery: `ARRAY(SELECT …)`, which becomes the aggregate `array_agg`.
//!
//! The array has the order of the subquery. If the subquery has a clause that selects or groups
//! rows, such as LIMIT, the aggregate reads the result of the subquery.

use sqlparser::ast::{
    Distinct, Expr, Ident, OrderBy, OrderByExpr, OrderByKind, Query, Select, SelectItem, SetExpr,
    Value,
};

use crate::empty_tables::{is_aggregate, is_empty, is_grouped};
use crate::translate::parse;

/// The name of the column with the array's elements, if the aggregate reads the result of the
/// subquery.
const ELEMENT: &str = "element";

/// Returns a replacement for `ARRAY(SELECT …)`; `None` if the form of the subquery is not known.
pub(crate) fn aggregate(query: &Query) -> Option<Expr> {
    if is_empty(query) {
        return parse("CAST(NULL AS VARCHAR[])");
    }
    let mut query = query.clone();
    let keys = match query.order_by.take().map(|order| order.kind) {
        None => Vec::new(),
        Some(OrderByKind::Expressions(keys)) => keys,
        Some(OrderByKind::All(_)) => return None,
    };
    let is_limited = query.limit_clause.is_some() || query.fetch.is_some();
    let SetExpr::Select(select) = &mut *query.body else { return None };
    let (element, alias) = match select.projection.as_slice() {
        [SelectItem::UnnamedExpr(expr)] => (expr.clone(), None),
        [SelectItem::ExprWithAlias { expr, alias }] => (expr.clone(), Some(alias.clone())),
        _ => return None,
    };
    let with_expression = |key: OrderByExpr| {
        if is_element(&key.expr, alias.as_ref()) {
            OrderByExpr { expr: element.clone(), ..key }
        } else {
            key
        }
    };
    let keys: Vec<OrderByExpr> = keys.into_iter().map(with_expression).collect();
    if is_limited || computes_rows(select) {
        return of_result(query, &element, keys);
    }
    select.projection = vec![SelectItem::UnnamedExpr(parse(&array_agg(&element, &keys))?)];
    Some(Expr::Subquery(Box::new(query)))
}

/// Returns true if a sort key is the position or the alias of the only column.
fn is_element(key: &Expr, alias: Option<&Ident>) -> bool {
    match key {
        Expr::Value(value) => {
            matches!(&value.value, Value::Number(position, _) if position == "1")
        }
        Expr::Identifier(name) => alias.is_some_and(|alias| alias.value == name.value),
        _ => false,
    }
}

/// Returns true if the result of a SELECT has other rows than its tables, because the SELECT
/// groups, aggregates or removes duplicates.
fn computes_rows(select: &Select) -> bool {
    is_grouped(select)
        || select.having.is_some()
        || select.distinct.is_some()
        || select.projection.iter().any(is_aggregate)
}

/// Returns an aggregate over the result of a query. The sort keys become columns of the query, so
/// that the aggregate can sort by them: it does not keep the order of its input.
fn of_result(mut query: Query, element: &Expr, keys: Vec<OrderByExpr>) -> Option<Expr> {
    let SetExpr::Select(select) = &mut *query.body else { return None };
    if matches!(select.distinct, Some(Distinct::On(_))) {
        return None;
    }
    let column = |expr: Expr, name: &str| SelectItem::ExprWithAlias { expr, alias: quoted(name) };
    select.projection = vec![column(element.clone(), ELEMENT)];
    let mut order = Vec::with_capacity(keys.len());
    for (index, key) in keys.into_iter().enumerate() {
        let OrderByExpr { expr, options, with_fill } = key;
        let name = if expr == *element {
            ELEMENT.to_owned()
        } else if select.distinct.is_some() {
            // With DISTINCT, PostgreSQL also rejects a sort key that is not in the select list.
            return None;
        } else {
            let name = format!("key{index}");
            select.projection.push(column(expr, &name));
            name
        };
        order.push(OrderByExpr { expr: Expr::Identifier(quoted(&name)), options, with_fill });
    }
    let aggregate = array_agg(&Expr::Identifier(quoted(ELEMENT)), &order);
    if !order.is_empty() {
        let kind = OrderByKind::Expressions(order);
        query.order_by = Some(OrderBy { kind, interpolate: None });
    }
    parse(&format!("(SELECT {aggregate} FROM ({query}) AS \"elements\")"))
}

fn quoted(name: &str) -> Ident {
    Ident::with_quote('"', name)
}

/// Returns the text of a call of `array_agg` that collects `element` in this order.
fn array_agg(element: &Expr, order: &[OrderByExpr]) -> String {
    if order.is_empty() {
        return format!("array_agg({element})");
    }
    let order: Vec<String> = order.iter().map(ToString::to_string).collect();
    format!("array_agg({element} ORDER BY {})", order.join(", "))
}
