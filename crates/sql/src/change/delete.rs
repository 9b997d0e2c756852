//! Converts sqlparser's DELETE to a [`DeleteStatement`].

use sqlparser::ast::{Delete, FromTable, Ident, ObjectName, TableWithJoins, With};

use super::affected_rows_query::{
    QueryClauses, location_columns, returning, single, source, target,
};
use crate::error::{Error, Result};
use crate::statement::SourceQuery;
use crate::unsupported_clauses::{empty, none};

/// A DELETE statement.
#[derive(Debug, Clone)]
pub struct DeleteStatement {
    /// The table to delete from.
    pub table: ObjectName,
    /// Alias of the table, if one was written.
    pub alias: Option<Ident>,
    /// The query that returns the locations of the rows to delete.
    pub source: SourceQuery,
    /// The query of RETURNING, if the statement has it.
    pub returning: Option<SourceQuery>,
    /// True if the statement deletes all rows.
    pub everything: bool,
}

/// Converts a DELETE statement. An unsupported part is an error that names the part.
pub fn row_delete(delete: Delete, with: Option<With>) -> Result<DeleteStatement> {
    let Delete {
        delete_token: _,
        optimizer_hints,
        tables,
        from,
        using,
        selection,
        returning: items,
        output,
        order_by,
        limit,
    } = delete;
    empty(&optimizer_hints, "an optimizer hint")?;
    empty(&tables, "DELETE of several tables")?;
    none(output.as_ref(), "OUTPUT")?;
    if matches!(from, FromTable::WithoutKeyword(_)) && selection.is_none() && limit.is_none() {
        // Reject `DELETE t` without a condition: the user probably forgot the condition, and all
        // rows would be deleted.
        return Err(Error::Invalid {
            message: "DELETE has neither FROM nor WHERE".to_owned(),
            hint: Some("Write `DELETE FROM TABLE` to remove all rows.".to_owned()),
            position: None,
        });
    }
    let (FromTable::WithFromKeyword(from) | FromTable::WithoutKeyword(from)) = from;
    let target = target(single(from, "DELETE")?, "DELETE")?;
    let using = using.unwrap_or_default();
    let everything = using.is_empty() && selection.is_none() && limit.is_none();
    let relation = TableWithJoins { relation: target.relation, joins: Vec::new() };
    let from: Vec<TableWithJoins> = std::iter::once(relation).chain(using).collect();
    let returning = returning(items, target.alias.as_ref())?;
    let source = source(QueryClauses {
        with,
        projection: location_columns(),
        from,
        selection,
        order_by,
        limit,
    })?;
    let (table, alias) = (target.table, target.alias);
    Ok(DeleteStatement { table, alias, source, returning, everything })
}
