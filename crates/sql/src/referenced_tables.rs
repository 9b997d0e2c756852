//! Lists the tables and functions that a query refers to, without a catalog.

use headwater_model::RefSpec;

use crate::called_functions::{CalledFunction, called_functions};
use crate::error::Result;
use crate::parse::parse;
use crate::table_name::ParsedTableName;
use crate::time_travel::ConstantEvaluator;

/// A table that a query refers to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TableRef {
    /// Namespace, if one was written.
    pub namespace: Option<String>,
    /// Table name.
    pub name: String,
    /// Ref, if one was written: `"flights@dev"`.
    pub reference: Option<RefSpec>,
    /// Line of the first reference, from 1.
    pub line: u64,
    /// Column of the first reference, from 1.
    pub column: u64,
}

/// The tables and functions that a query refers to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QueryReferences {
    /// The tables, as [`parents`] returns them.
    pub tables: Vec<TableRef>,
    /// The functions that the query calls, without duplicates.
    pub functions: Vec<CalledFunction>,
}

/// Returns the tables that a query refers to, without duplicates, in the order of the text. Common
/// table expressions are excluded. Tables read at an earlier time or snapshot are also excluded,
/// because no run of a pipeline can change their rows. Unsupported clauses and statements other
/// than queries are errors. `constants` evaluates the expressions in table versions.
pub fn parents(sql: &str, constants: &ConstantEvaluator<'_>) -> Result<Vec<TableRef>> {
    Ok(references(sql, constants)?.tables)
}

/// Returns the tables and functions that a query refers to. Fails like [`parents`].
pub fn references(sql: &str, constants: &ConstantEvaluator<'_>) -> Result<QueryReferences> {
    let source = parse(sql)?.into_query()?;
    let functions = called_functions(source.query());
    let mut tables: Vec<TableRef> = Vec::new();
    let earlier = |table: &ParsedTableName| table.back.is_some() || table.snapshot.is_some();
    let (_, mentions) = source.into_parts(constants)?;
    for mention in mentions.into_iter().filter(|mention| !earlier(&mention.table)) {
        let table = TableRef {
            namespace: mention.table.namespace,
            name: mention.table.name,
            reference: mention.table.reference,
            line: mention.position.map_or(1, |position| position.line),
            column: mention.position.map_or(1, |position| position.column),
        };
        let same = |other: &TableRef| {
            (&other.namespace, &other.name, &other.reference)
                == (&table.namespace, &table.name, &table.reference)
        };
        if !tables.iter().any(same) {
            tables.push(table);
        }
    }
    tables.sort_by_key(|table| (table.line, table.column));
    Ok(QueryReferences { tables, functions })
}
