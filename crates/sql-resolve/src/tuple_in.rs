//! Rewrites `(a, b) IN (SELECT …)` in a condition, because the planner does not support it. The
//! result is EXISTS with a comparison of all values, or NOT EXISTS under NOT.

use headwater_sql::change::{QueryClauses, query_of};
use sqlparser::ast::{
    BinaryOperator, Expr, Ident, Query, SelectItem, TableAlias, TableAliasColumnDef, TableFactor,
    TableWithJoins, UnaryOperator, Value,
};

/// Alias that the rewrite gives to the subquery.
const QUERY: &str = "\0q";

/// Rewrites all tuple comparisons with IN in a condition whose names are resolved.
pub(crate) fn rewrite(condition: &mut Expr) {
    walk(condition, false);
}

/// Visits the operands of logical operators. `negated` is true under an odd number of NOTs.
fn walk(expr: &mut Expr, negated: bool) {
    match expr {
        Expr::Nested(inner) => walk(inner, negated),
        Expr::UnaryOp { op: UnaryOperator::Not, expr: inner } => walk(inner, !negated),
        Expr::BinaryOp { left, op: BinaryOperator::And | BinaryOperator::Or, right } => {
            walk(left, negated);
            walk(right, negated);
        }
        Expr::InSubquery { expr: tuple, subquery, negated: not } => {
            let Expr::Tuple(values) = &mut **tuple else { return };
            let columns: Vec<Ident> = (0..values.len()).map(column).collect();
            let Some(equal) = equal(&columns, std::mem::take(values)) else { return };
            let holds = if *not == negated { equal } else { Expr::IsNotFalse(Box::new(equal)) };
            *expr = Expr::Exists { subquery: rows(subquery, columns, holds), negated: *not };
        }
        _ => {}
    }
}

fn column(index: usize) -> Ident {
    Ident::with_quote('"', format!("\0c{index}"))
}

/// Returns `(c0 = a AND c1 = b …)` for the columns `c0`, `c1` … and the values `a`, `b` …
fn equal(columns: &[Ident], values: Vec<Expr>) -> Option<Expr> {
    let pairs = columns.iter().zip(values);
    let pairs = pairs
        .map(|(column, value)| binary(Expr::Identifier(column.clone()), BinaryOperator::Eq, value));
    let all = pairs.reduce(|left, right| binary(left, BinaryOperator::And, right))?;
    Some(Expr::Nested(Box::new(all)))
}

fn binary(left: Expr, op: BinaryOperator, right: Expr) -> Expr {
    Expr::BinaryOp { left: Box::new(left), op, right: Box::new(right) }
}

/// Returns `SELECT 1 FROM (subquery) AS q (c0, c1 …) WHERE holds`.
fn rows(subquery: &Query, columns: Vec<Ident>, holds: Expr) -> Box<Query> {
    let column = |name| TableAliasColumnDef { name, data_type: None };
    let relation = TableFactor::Derived {
        lateral: false,
        subquery: Box::new(subquery.clone()),
        alias: Some(TableAlias {
            explicit: true,
            name: Ident::with_quote('"', QUERY),
            columns: columns.into_iter().map(column).collect(),
            at: None,
        }),
        sample: None,
    };
    let from = vec![TableWithJoins { relation, joins: Vec::new() }];
    let one = Expr::value(Value::Number("1".to_owned(), false));
    let projection = vec![SelectItem::UnnamedExpr(one)];
    Box::new(query_of(QueryClauses {
        projection,
        from,
        selection: Some(holds),
        ..QueryClauses::default()
    }))
}
