//! Lookups in the conditions of joins: `JOIN a ON a.attrelid = (SELECT c.oid FROM pg_class c …)`.
//!
//! The planner supports no correlated subquery there. A lookup in a catalog finds at most one row,
//! so the join reads the tables of the subquery instead: `JOIN (a JOIN pg_class c ON a.attrelid =
//! c.oid) ON …`. `TypeORM` reads the columns of tables in this way.

use std::iter::once;
use std::ops::ControlFlow;

use sqlparser::ast::{
    BinaryOperator, Expr, Join, JoinConstraint, JoinOperator, Select, SelectItem, TableFactor,
    TableWithJoins, visit_expressions,
};

use crate::catalog_tables::CatalogTable;
use crate::empty_tables::{is_aggregate, is_grouped};
use crate::pg_catalog;
use crate::translate::{boolean, is_catalog, parts, select_of};

/// Joins the tables of lookups in the join conditions of a SELECT. Returns true if there is one.
pub(crate) fn join_tables(select: &mut Select) -> bool {
    // A wildcard would also return the columns of the joined tables.
    if select.projection.iter().any(|item| matches!(item, SelectItem::Wildcard(_))) {
        return false;
    }
    let relations = select
        .from
        .iter()
        .flat_map(|from| once(&from.relation).chain(from.joins.iter().map(|join| &join.relation)));
    let mut names: Vec<String> = relations.filter_map(name_of).collect();
    let mut is_changed = false;
    for join in select.from.iter_mut().flat_map(|from| &mut from.joins) {
        is_changed |= join_lookup(join, &mut names);
    }
    is_changed
}

/// Joins the tables of the first lookup in the condition of a join. `names` are the names of all
/// relations of the SELECT.
fn join_lookup(join: &mut Join, names: &mut Vec<String>) -> bool {
    let (JoinOperator::Join(JoinConstraint::On(condition))
    | JoinOperator::Inner(JoinConstraint::On(condition))
    | JoinOperator::Left(JoinConstraint::On(condition))
    | JoinOperator::LeftOuter(JoinConstraint::On(condition))) = &mut join.join_operator
    else {
        return false;
    };
    let Some(own) = name_of(&join.relation) else { return false };
    let Some(lookup) = take_lookup(condition, &own, names) else { return false };
    names.extend(lookup.names);
    let joined = Join {
        relation: nested(lookup.from),
        global: false,
        join_operator: JoinOperator::Inner(JoinConstraint::On(lookup.equality)),
    };
    let relation = join.relation.clone();
    join.relation = nested(TableWithJoins { relation, joins: vec![joined] });
    true
}

/// Returns joined tables as one relation, in parentheses. A single table needs no parentheses.
fn nested(tables: TableWithJoins) -> TableFactor {
    if tables.joins.is_empty() {
        return tables.relation;
    }
    TableFactor::NestedJoin { table_with_joins: Box::new(tables), alias: None }
}

/// A lookup of the value of a column in catalog tables.
struct Lookup {
    from: TableWithJoins,
    /// The names of the tables.
    names: Vec<String>,
    /// The comparison of the column with the value that is looked up.
    equality: Expr,
    /// The condition of the subquery.
    condition: Expr,
}

impl Lookup {
    /// Returns the lookup in `column = subquery`; `None` if the expressions have another form.
    /// `own` is the name of the relation that must have the column.
    fn of(column: &Expr, subquery: &Expr, own: &str, names: &[String]) -> Option<Self> {
        let Expr::CompoundIdentifier(parts) = column else { return None };
        if !parts.first()?.value.eq_ignore_ascii_case(own) {
            return None;
        }
        let Expr::Subquery(query) = subquery else { return None };
        let has_clauses = query.with.is_some()
            || query.order_by.is_some()
            || query.limit_clause.is_some()
            || query.fetch.is_some();
        let select = select_of(query).filter(|_| !has_clauses)?;
        let [from] = select.from.as_slice() else { return None };
        let [item @ SelectItem::UnnamedExpr(value)] = select.projection.as_slice() else {
            return None;
        };
        if is_grouped(select) || select.having.is_some() || is_aggregate(item) {
            return None;
        }
        let tables = once(&from.relation).chain(from.joins.iter().map(|join| &join.relation));
        let tables = tables.map(catalog_table).collect::<Option<Vec<String>>>()?;
        let is_new = tables.iter().all(|table| !names.contains(table));
        let condition = select.selection.clone().unwrap_or_else(|| boolean(true));
        if !is_new || !is_qualified(value) || !is_qualified(&condition) {
            return None;
        }
        let equality = Expr::BinaryOp {
            left: Box::new(column.clone()),
            op: BinaryOperator::Eq,
            right: Box::new(value.clone()),
        };
        Some(Lookup { from: from.clone(), names: tables, equality, condition })
    }
}

/// Replaces the first lookup in a condition by the condition of its subquery, and returns it.
fn take_lookup(condition: &mut Expr, own: &str, names: &[String]) -> Option<Lookup> {
    match condition {
        Expr::Nested(inner) => take_lookup(inner, own, names),
        Expr::BinaryOp { left, op: BinaryOperator::And, right } => {
            take_lookup(left, own, names).or_else(|| take_lookup(right, own, names))
        }
        Expr::BinaryOp { left, op: BinaryOperator::Eq, right } => {
            let lookup = Lookup::of(left, right, own, names)
                .or_else(|| Lookup::of(right, left, own, names))?;
            *condition = Expr::Nested(Box::new(lookup.condition.clone()));
            Some(lookup)
        }
        _ => None,
    }
}

/// Returns the name by which columns refer to a relation, in lower case.
fn name_of(relation: &TableFactor) -> Option<String> {
    let name = match relation {
        TableFactor::Table { alias: Some(alias), .. }
        | TableFactor::Derived { alias: Some(alias), .. } => alias.name.value.as_str(),
        TableFactor::Table { name, .. } => parts(name).last().copied()?,
        _ => return None,
    };
    Some(name.to_ascii_lowercase())
}

/// Returns the name by which columns refer to a catalog table; `None` for any other relation.
fn catalog_table(relation: &TableFactor) -> Option<String> {
    let TableFactor::Table { name, args: None, .. } = relation else { return None };
    let is_known = match parts(name).as_slice() {
        [name] => CatalogTable::find(pg_catalog::NAMESPACE, name).is_some(),
        [namespace, name] => is_catalog(namespace) && CatalogTable::find(namespace, name).is_some(),
        _ => false,
    };
    if is_known { name_of(relation) } else { None }
}

/// Returns true if all columns of an expression have a qualifier. The tables of the subquery are
/// then not mistaken for other tables of the query.
fn is_qualified(expr: &Expr) -> bool {
    let check = |part: &Expr| match part {
        Expr::Identifier(_) | Expr::Subquery(_) => ControlFlow::Break(()),
        _ => ControlFlow::Continue(()),
    };
    visit_expressions(expr, check).is_continue()
}

#[cfg(test)]
mod tests {
    use crate::translate::{ConnectionProperties, translate};

    fn check(sql: &str, expected: &str) {
        let found = translate(sql, &ConnectionProperties::default()).expect(sql);
        assert_eq!(found.expect(sql).sql, expected);
    }

    #[test]
    fn the_tables_of_a_lookup_are_joined() {
        check(
            "SELECT columns.* FROM information_schema.columns LEFT JOIN pg_attribute AS a \
             ON a.attname = columns.column_name AND a.attrelid = (SELECT c.oid FROM pg_class AS c \
             LEFT JOIN pg_namespace AS n ON n.oid = c.relnamespace \
             WHERE c.relname = columns.table_name AND n.nspname = columns.table_schema)",
            "SELECT columns.* FROM information_schema.columns LEFT JOIN \
             (pg_catalog.pg_attribute AS a INNER JOIN (pg_catalog.pg_class AS c \
             LEFT JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace) \
             ON a.attrelid = c.oid) ON a.attname = columns.column_name AND \
             (c.relname = columns.table_name AND n.nspname = columns.table_schema)",
        );
        check(
            "SELECT t.typname FROM pg_attribute a JOIN pg_type t ON (SELECT c.reltype FROM \
             pg_class c WHERE c.oid = a.attrelid) = t.oid",
            "SELECT t.typname FROM pg_catalog.pg_attribute a JOIN (pg_catalog.pg_type t \
             INNER JOIN pg_catalog.pg_class c ON t.oid = c.reltype) ON (c.oid = a.attrelid)",
        );
    }

    #[test]
    fn other_subqueries_remain() {
        for sql in [
            "SELECT * FROM pg_attribute a JOIN pg_class t ON t.oid = \
             (SELECT c.oid FROM pg_class c)",
            "SELECT t.oid FROM pg_attribute a JOIN pg_class t ON t.oid = (SELECT oid FROM pg_type)",
            "SELECT t.oid FROM pg_attribute a JOIN pg_class t ON t.oid = \
             (SELECT a.oid FROM pg_type a)",
            "SELECT t.oid FROM pg_attribute a JOIN pg_class t ON a.attrelid = \
             (SELECT c.oid FROM pg_class c)",
        ] {
            let found = translate(sql, &ConnectionProperties::default()).expect(sql).expect(sql);
            assert!(!found.sql.contains("INNER JOIN"), "{}", found.sql);
        }
    }
}
