//! Converts sqlparser's INSERT to an [`InsertStatement`].

use sqlparser::ast::{
    Expr, Ident, Insert, ObjectName, ObjectNamePart, Query, SelectItem, SetExpr, TableObject, With,
};

use crate::change::returning;
use crate::error::{Error, Result};
use crate::statement::SourceQuery;
use crate::table_name::idents;
use crate::unsupported_clauses::{empty, none, unset};
use headwater_sql_tokens::BY_NAME;

/// An INSERT statement.
#[derive(Debug)]
pub struct InsertStatement {
    /// Target table.
    pub table: ObjectName,
    /// Listed columns; empty without a list.
    pub columns: Vec<Ident>,
    /// True if the new rows replace existing rows: all rows in the partitions of the new rows, or
    /// all rows of an unpartitioned table.
    pub overwrite: bool,
    /// The query of RETURNING, if the statement has it.
    pub returning: Option<SourceQuery>,
    /// Query that returns the rows to insert.
    pub source: SourceQuery,
    /// The INSERT without its query. The engine adds the query again to plan the statement.
    pub statement: Insert,
}

/// Converts an INSERT statement. An unsupported part is an error that names the part.
pub fn new_rows(mut insert: Insert, with: Option<With>) -> Result<InsertStatement> {
    let mut source = insert.source.take();
    if let (Some(source), Some(with)) = (&mut source, with) {
        none(source.with.as_ref(), "WITH before INSERT and inside it")?;
        source.with = Some(with);
    }
    let mut statement = insert.clone();
    statement.returning = None;
    let Insert {
        insert_token: _,
        optimizer_hints,
        or,
        ignore,
        into: _,
        table,
        table_alias,
        columns,
        overwrite,
        source: _,
        assignments,
        partitioned,
        after_columns,
        has_table_keyword: _,
        on,
        returning: items,
        output,
        replace_into,
        priority,
        insert_alias,
        settings,
        format_clause,
        multi_table_insert_type,
        multi_table_into_clauses,
        multi_table_when_clauses,
        multi_table_else_clause,
    } = insert;
    empty(&optimizer_hints, "an optimizer hint")?;
    none(or.as_ref(), "INSERT OR …")?;
    unset(ignore, "INSERT IGNORE")?;
    none(table_alias.as_ref(), "an alias in INSERT")?;
    empty(&assignments, "INSERT … SET")?;
    none(partitioned.as_ref(), "PARTITION (…) in INSERT")?;
    empty(&after_columns, "columns after PARTITION (…)")?;
    none(on.as_ref(), "ON CONFLICT or ON DUPLICATE KEY")?;
    unset(overwrite && items.is_some(), "RETURNING in INSERT OVERWRITE")?;
    none(output.as_ref(), "OUTPUT")?;
    unset(replace_into, "REPLACE INTO")?;
    none(priority.as_ref(), "INSERT with a priority")?;
    none(insert_alias.as_ref(), "AS in INSERT")?;
    none(settings.as_ref(), "SETTINGS")?;
    none(format_clause.as_ref(), "FORMAT")?;
    none(multi_table_insert_type.as_ref(), "INSERT into several tables")?;
    empty(&multi_table_into_clauses, "INSERT into several tables")?;
    empty(&multi_table_when_clauses, "INSERT into several tables")?;
    none(multi_table_else_clause.as_ref(), "INSERT into several tables")?;
    let TableObject::TableName(table) = table else {
        return Err(Error::unsupported("INSERT into anything but a table"));
    };
    let Some(source) = source else { return Err(Error::unsupported("INSERT without rows")) };
    if columns.as_slice().first().is_some_and(is_by_name) {
        statement.columns.clear();
    }
    let columns = match columns.as_slice() {
        [only] if is_by_name(only) => names_of(&source)?,
        _ => column_list(columns)?,
    };
    let (source, returning) = (SourceQuery::new(source)?, returning(items, None)?);
    Ok(InsertStatement { table, columns, overwrite, returning, source, statement })
}

/// Returns true for [`BY_NAME`], the column name that marks INSERT … BY NAME.
fn is_by_name(column: &ObjectName) -> bool {
    matches!(column.0.as_slice(), [ObjectNamePart::Identifier(name)] if name.value == BY_NAME)
}

/// Returns the names of a query's columns, for INSERT … BY NAME.
fn names_of(query: &Query) -> Result<Vec<Ident>> {
    let name = |item: &SelectItem| match item {
        SelectItem::ExprWithAlias { alias, .. } => Some(alias.clone()),
        SelectItem::UnnamedExpr(Expr::Identifier(name)) => Some(name.clone()),
        SelectItem::UnnamedExpr(Expr::CompoundIdentifier(names)) => names.last().cloned(),
        _ => None,
    };
    let names = match &*query.body {
        SetExpr::Select(select) => select.projection.iter().map(name).collect(),
        _ => None,
    };
    names.ok_or_else(|| Error::Unsupported {
        what: "BY NAME of columns without a name in the SELECT".to_owned(),
        hint: Some("Write each column with its name: `SELECT a, b + 1 AS b`.".to_owned()),
        position: None,
    })
}

fn column_list(columns: Vec<ObjectName>) -> Result<Vec<Ident>> {
    let single = |name: ObjectName| match idents(&name)?.as_slice() {
        [one] => Ok((*one).clone()),
        _ => Err(Error::unsupported(format!("`{name}` in a list of columns"))),
    };
    columns.into_iter().map(single).collect()
}
