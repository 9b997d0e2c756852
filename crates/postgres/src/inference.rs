//! Types of the parameters of UPDATE and DELETE. The engine infers parameter types only for
//! queries.

use sqlparser::ast::{Expr, FromTable, Statement, Value};
use sqlparser::dialect::PostgreSqlDialect;
use sqlparser::parser::Parser;

/// Returns a query over the expressions of an UPDATE or DELETE, so that the engine infers the types
/// of its parameters. A value that consists only of a parameter is omitted, because it has the type
/// of its column.
pub fn typing_query(sql: &str) -> Option<String> {
    let statements = Parser::parse_sql(&PostgreSqlDialect {}, sql).ok()?;
    let (values, table, selection) = match statements.as_slice() {
        [Statement::Update(update)] if update.from.is_none() => {
            let values = update.assignments.iter().map(|assignment| &assignment.value);
            let values = values.filter(|value| !is_parameter(value)).cloned().collect();
            (values, update.table.to_string(), &update.selection)
        }
        [Statement::Delete(delete)] if delete.using.is_none() => match &delete.from {
            FromTable::WithFromKeyword(tables) | FromTable::WithoutKeyword(tables) => {
                (Vec::new(), tables.first()?.to_string(), &delete.selection)
            }
        },
        _ => return None,
    };
    let columns = values.iter().enumerate();
    let columns: Vec<String> =
        columns.map(|(index, value): (usize, &Expr)| format!("{value} AS value_{index}")).collect();
    let columns = if columns.is_empty() { "1".to_owned() } else { columns.join(", ") };
    let condition = selection.as_ref().map(|it| format!(" WHERE {it}")).unwrap_or_default();
    Some(format!("SELECT {columns} FROM {table}{condition}"))
}

fn is_parameter(value: &Expr) -> bool {
    matches!(value, Expr::Value(value) if matches!(value.value, Value::Placeholder(_)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn expressions_of_changes_are_those_of_the_query() {
        let check = |sql: &str, expected: Option<&str>| {
            assert_eq!(typing_query(sql).as_deref(), expected, "{sql}");
        };
        check(
            "UPDATE t SET a = a + $1, b = $2 WHERE c = $3",
            Some("SELECT a + $1 AS value_0 FROM t WHERE c = $3"),
        );
        check("DELETE FROM t WHERE c = $1", Some("SELECT 1 FROM t WHERE c = $1"));
        check("INSERT INTO t VALUES ($1)", None);
    }
}
