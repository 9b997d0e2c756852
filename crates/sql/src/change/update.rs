//! Converts sqlparser's UPDATE to an [`UpdateStatement`].

use sqlparser::ast::{Ident, ObjectName, TableWithJoins, Update, UpdateTableFromKind, With};

use super::affected_rows_query::{
    QueryClauses, location_columns, returning, source, target, value,
};
use super::assignment::{AssignedColumn, assignments};
use crate::error::Result;
use crate::statement::SourceQuery;
use crate::unsupported_clauses::{empty, none};

/// An UPDATE statement.
#[derive(Debug, Clone)]
pub struct UpdateStatement {
    /// The table to update.
    pub table: ObjectName,
    /// Alias of the table, if one was written.
    pub alias: Option<Ident>,
    /// The assigned columns, in textual order.
    pub columns: Vec<AssignedColumn>,
    /// The query of RETURNING, if the statement has it.
    pub returning: Option<SourceQuery>,
    /// The query that returns the locations of the rows to update and the assigned values, in
    /// order.
    pub source: SourceQuery,
}

/// Converts an UPDATE statement. An unsupported part is an error that names the part.
pub fn row_update(update: Update, with: Option<With>) -> Result<UpdateStatement> {
    let Update {
        update_token: _,
        optimizer_hints,
        table,
        assignments: list,
        from,
        selection,
        returning: items,
        output,
        or,
        order_by,
        limit,
    } = update;
    empty(&optimizer_hints, "an optimizer hint")?;
    none(output.as_ref(), "OUTPUT")?;
    none(or.as_ref(), "UPDATE OR …")?;
    empty(&table.joins, "a join as the target of UPDATE")?;
    let target = target(table.relation, "UPDATE")?;
    let from = match from {
        None => Vec::new(),
        Some(UpdateTableFromKind::BeforeSet(from) | UpdateTableFromKind::AfterSet(from)) => from,
    };
    let (columns, values): (Vec<_>, Vec<_>) = assignments(list)?.into_iter().unzip();
    let mut projection = location_columns();
    projection.extend(values.into_iter().enumerate().map(|(index, expr)| value(index, expr)));
    let relation = TableWithJoins { relation: target.relation, joins: Vec::new() };
    let source = source(QueryClauses {
        with,
        projection,
        from: std::iter::once(relation).chain(from).collect(),
        selection,
        order_by,
        limit,
    })?;
    let (table, alias) = (target.table, target.alias);
    let returning = returning(items, alias.as_ref())?;
    Ok(UpdateStatement { table, alias, columns, returning, source })
}
