//! Builds the queries that DELETE, UPDATE and MERGE run to find the affected rows.

use sqlparser::ast::helpers::attached_token::AttachedToken;
use sqlparser::ast::{
    Expr, GroupByExpr, Ident, LimitClause, ObjectName, OrderBy, OrderByExpr, OrderByKind, Query,
    Select, SelectFlavor, SelectItem, SetExpr, TableAlias, TableFactor, TableWithJoins, With,
};

use crate::error::{Error, Result};

use crate::ast_builders::{name, table};
use crate::statement::SourceQuery;
use crate::unsupported_clauses::{empty, none, plain_table};

/// The column with the number of the data file in the scan plan. User columns cannot contain a NUL
/// character.
pub const FILE: &str = "\0f";

/// The column with the row's position in its data file, from 0.
pub const ROW: &str = "\0r";

/// The name of the changed table in the query. No other relation can have this name.
pub const TARGET: &str = "\0t";

/// The table that a statement changes, and its representation in the FROM clause of the query.
pub(super) struct ChangeTarget {
    pub table: ObjectName,
    pub alias: Option<Ident>,
    pub relation: TableFactor,
}

/// Returns the changed table of a statement.
pub(super) fn target(factor: TableFactor, statement: &str) -> Result<ChangeTarget> {
    plain_table(&factor)?;
    let TableFactor::Table { name, alias, args, version, .. } = factor else {
        return Err(Error::unsupported(format!("{statement} of anything but a table")));
    };
    none(args.as_ref(), &format!("arguments after the table of {statement}"))?;
    none(version.as_ref(), &format!("a version after the table of {statement}"))?;
    let columns = alias.as_ref().map_or(&[][..], |alias| &alias.columns[..]);
    empty(columns, &format!("a list of columns after the table of {statement}"))?;
    let relation = target_relation(alias.clone());
    Ok(ChangeTarget { table: name, alias: alias.map(|alias| alias.name), relation })
}

/// Returns the FROM item of the changed table in the query.
fn target_relation(alias: Option<TableAlias>) -> TableFactor {
    table(ObjectName::from(vec![name(TARGET)]), alias)
}

/// Returns the query of a RETURNING clause. When the engine runs it, the table [`TARGET`] contains
/// only the changed rows.
pub(crate) fn returning(
    items: Option<Vec<SelectItem>>,
    alias: Option<&Ident>,
) -> Result<Option<SourceQuery>> {
    let Some(projection) = items else { return Ok(None) };
    let alias = alias.map(|name| TableAlias {
        explicit: true,
        name: name.clone(),
        columns: Vec::new(),
        at: None,
    });
    let relation = target_relation(alias);
    let from = vec![TableWithJoins { relation, joins: Vec::new() }];
    source(QueryClauses { projection, from, ..QueryClauses::default() }).map(Some)
}

/// Returns the only table of a FROM list; fails if there are several tables or joins.
pub(super) fn single(mut from: Vec<TableWithJoins>, statement: &str) -> Result<TableFactor> {
    match (from.pop(), from.is_empty()) {
        (Some(TableWithJoins { relation, joins }), true) => {
            empty(&joins, &format!("a join as the target of {statement}"))?;
            Ok(relation)
        }
        _ => Err(Error::unsupported(format!("{statement} of several tables"))),
    }
}

/// Returns the columns that identify the location of a row.
pub(super) fn location_columns() -> Vec<SelectItem> {
    [FILE, ROW].map(|name| SelectItem::UnnamedExpr(column(name))).into()
}

/// Returns a reference to a column that is not in the table but added by the statement or the scan.
pub(super) fn column(name: &str) -> Expr {
    Expr::Identifier(Ident::with_quote('"', name))
}

/// Returns a select list item for a value, under a unique alias.
pub(super) fn value(index: usize, expr: Expr) -> SelectItem {
    SelectItem::ExprWithAlias { expr, alias: Ident::with_quote('"', format!("\0v{index}")) }
}

/// Adds columns of a relation to the select list. The alias of each column is a NUL character,
/// `prefix` and the index.
pub fn add_columns(query: &mut Query, relation: &Ident, columns: &[String], prefix: char) {
    let SetExpr::Select(select) = &mut *query.body else { return };
    for (index, name) in columns.iter().enumerate() {
        let path = vec![relation.clone(), Ident::with_quote('"', name)];
        select.projection.push(SelectItem::ExprWithAlias {
            expr: Expr::CompoundIdentifier(path),
            alias: Ident::with_quote('"', format!("\0{prefix}{index}")),
        });
    }
}

/// The clauses of a query.
#[derive(Default)]
pub struct QueryClauses {
    /// The WITH clause.
    pub with: Option<With>,
    /// The select list.
    pub projection: Vec<SelectItem>,
    /// The FROM clause.
    pub from: Vec<TableWithJoins>,
    /// The WHERE condition.
    pub selection: Option<Expr>,
    /// The ORDER BY keys.
    pub order_by: Vec<OrderByExpr>,
    /// The LIMIT.
    pub limit: Option<Expr>,
}

/// Checks a query, and returns it with the tables to which it refers, except the changed table.
pub(super) fn source(parts: QueryClauses) -> Result<SourceQuery> {
    Ok(SourceQuery::new(Box::new(query_of(parts)))?.without(TARGET))
}

/// Builds a query from its clauses.
pub fn query_of(parts: QueryClauses) -> Query {
    let QueryClauses { with, projection, from, selection, order_by, limit } = parts;
    let select = Select {
        select_token: AttachedToken::empty(),
        optimizer_hints: Vec::new(),
        distinct: None,
        select_modifiers: None,
        top: None,
        top_before_distinct: false,
        projection,
        exclude: None,
        into: None,
        from,
        lateral_views: Vec::new(),
        prewhere: None,
        selection,
        connect_by: Vec::new(),
        group_by: GroupByExpr::Expressions(Vec::new(), Vec::new()),
        cluster_by: Vec::new(),
        distribute_by: Vec::new(),
        sort_by: Vec::new(),
        having: None,
        named_window: Vec::new(),
        qualify: None,
        window_before_qualify: false,
        value_table_mode: None,
        flavor: SelectFlavor::Standard,
    };
    let order_by = (!order_by.is_empty())
        .then_some(OrderBy { kind: OrderByKind::Expressions(order_by), interpolate: None });
    let limit_clause = limit.map(|limit| LimitClause::LimitOffset {
        limit: Some(limit),
        offset: None,
        limit_by: Vec::new(),
    });
    Query {
        with,
        body: Box::new(SetExpr::Select(Box::new(select))),
        order_by,
        limit_clause,
        fetch: None,
        locks: Vec::new(),
        for_clause: None,
        settings: None,
        format_clause: None,
        pipe_operators: Vec::new(),
    }
}

/// Separates a statement from its WITH clause, which sqlparser parses as a query around the
/// statement.
pub fn split_with_clause(query: Query) -> Result<(Option<With>, SetExpr)> {
    let Query {
        with,
        body,
        order_by,
        limit_clause,
        fetch,
        locks,
        for_clause,
        settings,
        format_clause,
        pipe_operators,
    } = query;
    none(order_by.as_ref(), "ORDER BY after a statement that writes")?;
    none(limit_clause.as_ref(), "LIMIT after a statement that writes")?;
    none(fetch.as_ref(), "FETCH after a statement that writes")?;
    empty(&locks, "FOR UPDATE after a statement that writes")?;
    none(for_clause.as_ref(), "FOR after a statement that writes")?;
    none(settings.as_ref(), "SETTINGS")?;
    none(format_clause.as_ref(), "FORMAT")?;
    empty(&pipe_operators, "the pipe operator `|>`")?;
    Ok((with, *body))
}
