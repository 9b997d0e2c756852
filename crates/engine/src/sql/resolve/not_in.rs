//! `x NOT IN (SELECT …)` where DataFusion takes nulls for values: under OR, and where the left side is
//! a constant. There it becomes what it means: no row is equal, none is null, and `x` is null only
//! where there are no rows.
//!
//! What comes of it is never null; a condition does not tell null from false.

use datafusion::sql::sqlparser::ast::{
    BinaryOperator, Expr, Ident, Query, SelectItem, TableAlias, TableAliasColumnDef, TableFactor,
    TableWithJoins, UnaryOperator, Value,
};

use crate::sql::change::{Parts, query_of};
use crate::sql::expression::{Node, children};

/// The name of the subquery, and of its column.
const QUERY: &str = "\0q";
const COLUMN: &str = "\0c";

/// Rewrites what needs it in a condition whose names are resolved.
pub(super) fn rewrite(condition: &mut Expr) {
    walk(condition, true, false);
}

/// Goes through the operators of logic. `alone` says that an expression stands in a list of conditions
/// that all must hold, `negated` that it stands under an odd number of NOTs.
fn walk(expr: &mut Expr, alone: bool, negated: bool) {
    match expr {
        Expr::Nested(inner) => walk(inner, alone, negated),
        Expr::UnaryOp { op: UnaryOperator::Not, expr: inner } => walk(inner, alone, !negated),
        Expr::BinaryOp { left, op, right }
            if matches!(op, BinaryOperator::And | BinaryOperator::Or) =>
        {
            let splits = (*op == BinaryOperator::And) != negated;
            walk(left, alone && splits, negated);
            walk(right, alone && splits, negated);
        }
        Expr::InSubquery { expr: value, subquery, negated: not }
            if *not != negated && !(alone && names_a_column(&mut value.clone())) =>
        {
            let none = not_in(value, subquery);
            let not_none =
                |none| Expr::UnaryOp { op: UnaryOperator::Not, expr: Box::new(Expr::Nested(none)) };
            *expr = if *not { Expr::Nested(Box::new(none)) } else { not_none(Box::new(none)) };
        }
        _ => {}
    }
}

fn names_a_column(expr: &mut Expr) -> bool {
    match expr {
        Expr::Identifier(_) | Expr::CompoundIdentifier(_) => true,
        other => {
            let mut found = false;
            let visited = children(other, &mut |node| {
                if let Node::Expr(part) = node {
                    found |= names_a_column(part);
                }
                Ok(())
            });
            found || visited.is_err()
        }
    }
}

fn not_in(value: &Expr, subquery: &Query) -> Expr {
    let column = || Expr::Identifier(Ident::with_quote('"', COLUMN));
    let count = || SelectItem::UnnamedExpr(count_all());
    let one = SelectItem::UnnamedExpr(number("1"));
    let equal = binary(column(), BinaryOperator::Eq, value.clone());
    let no_equal = Expr::Exists { subquery: select(one, subquery, Some(equal)), negated: true };
    let null = Expr::IsNull(Box::new(column()));
    let no_null = none_of(select(count(), subquery, Some(null)));
    let empty = none_of(select(count(), subquery, None));
    let set = Expr::IsNotNull(Box::new(value.clone()));
    let comparable = Expr::Nested(Box::new(binary(set, BinaryOperator::Or, empty)));
    binary(binary(no_equal, BinaryOperator::And, no_null), BinaryOperator::And, comparable)
}

/// `SELECT item FROM (subquery) AS q (c) [WHERE …]`
fn select(item: SelectItem, subquery: &Query, selection: Option<Expr>) -> Box<Query> {
    let column = TableAliasColumnDef { name: Ident::with_quote('"', COLUMN), data_type: None };
    let relation = TableFactor::Derived {
        lateral: false,
        subquery: Box::new(subquery.clone()),
        alias: Some(TableAlias {
            explicit: true,
            name: Ident::with_quote('"', QUERY),
            columns: vec![column],
            at: None,
        }),
        sample: None,
    };
    let from = vec![TableWithJoins { relation, joins: Vec::new() }];
    Box::new(query_of(Parts { projection: vec![item], from, selection, ..Parts::default() }))
}

fn none_of(count: Box<Query>) -> Expr {
    binary(Expr::Subquery(count), BinaryOperator::Eq, number("0"))
}

fn number(text: &str) -> Expr {
    Expr::value(Value::Number(text.to_owned(), false))
}

fn binary(left: Expr, op: BinaryOperator, right: Expr) -> Expr {
    Expr::BinaryOp { left: Box::new(left), op, right: Box::new(right) }
}

/// `count(*)`
fn count_all() -> Expr {
    use datafusion::sql::sqlparser::ast::{
        Function, FunctionArg, FunctionArgExpr, FunctionArgumentList, FunctionArguments, ObjectName,
    };
    Expr::Function(Function {
        name: ObjectName::from(vec![Ident::new("count")]),
        uses_odbc_syntax: false,
        parameters: FunctionArguments::None,
        args: FunctionArguments::List(FunctionArgumentList {
            duplicate_treatment: None,
            args: vec![FunctionArg::Unnamed(FunctionArgExpr::Wildcard)],
            clauses: Vec::new(),
        }),
        filter: None,
        null_treatment: None,
        over: None,
        within_group: Vec::new(),
    })
}
