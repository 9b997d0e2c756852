//! Types of the parameters in statements that change rows. The engine infers parameter types only
//! for queries, but JDBC drivers convert each value to the type of its parameter, and reject values
//! that do not fit.

use std::ops::ControlFlow;

use sqlparser::ast::{
    Assignment, AssignmentTarget, Expr, FromTable, SetExpr, Statement, TableObject, Value,
    ValueWithSpan, VisitMut, VisitorMut,
};
use sqlparser::dialect::GenericDialect;
use sqlparser::parser::Parser;
use sqlparser::tokenizer::Location;

/// Queries from which the types of the parameters of INSERT, UPDATE or DELETE are inferred.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct TypeInferenceQueries {
    /// A query of the columns that the statement sets; empty for DELETE.
    pub columns: String,
    /// Parameters that are the whole value of a column: the name, and the column's index in
    /// `columns`. They have the column's type.
    pub values: Vec<(String, usize)>,
    /// A query that contains the expressions in which all other parameters occur; empty if there
    /// are none.
    pub expressions: String,
}

/// Returns the queries for an INSERT of values, UPDATE or DELETE; `None` for other statements.
pub fn type_inference_queries(sql: &str) -> Option<TypeInferenceQueries> {
    let mut statements = Parser::parse_sql(&GenericDialect {}, sql).ok()?;
    number(&mut statements);
    match statements.as_slice() {
        [Statement::Insert(insert)] => {
            let TableObject::TableName(table) = &insert.table else { return None };
            let SetExpr::Values(values) = &*insert.source.as_ref()?.body else { return None };
            let columns: Vec<String> = insert.columns.iter().map(ToString::to_string).collect();
            let columns = if columns.is_empty() { "*".to_owned() } else { columns.join(", ") };
            let rows = values.rows.iter().flat_map(|row| row.content.iter().enumerate());
            let values = rows.filter_map(|(index, value)| Some((parameter(value)?, index)));
            Some(TypeInferenceQueries {
                columns: format!("SELECT {columns} FROM {table}"),
                values: values.collect(),
                expressions: String::new(),
            })
        }
        [Statement::Update(update)] if update.from.is_none() => {
            let (table, set) = (update.table.to_string(), &update.assignments);
            let names: Option<Vec<String>> = set.iter().map(column).collect();
            let values = set.iter().enumerate();
            let values = values.filter_map(|(index, one)| Some((parameter(&one.value)?, index)));
            let computed = set.iter().map(|one| &one.value).filter(|it| parameter(it).is_none());
            Some(TypeInferenceQueries {
                columns: format!("SELECT {} FROM {table}", names?.join(", ")),
                values: values.collect(),
                expressions: expressions(computed, &table, update.selection.as_ref()),
            })
        }
        [Statement::Delete(delete)] if delete.using.is_none() => {
            let (FromTable::WithFromKeyword(tables) | FromTable::WithoutKeyword(tables)) =
                &delete.from;
            let table = tables.first()?.to_string();
            let expressions = expressions([].into_iter(), &table, delete.selection.as_ref());
            Some(TypeInferenceQueries { expressions, ..TypeInferenceQueries::default() })
        }
        _ => None,
    }
}

/// Returns a query that selects the expressions from the table, with the statement's condition.
fn expressions<'a>(
    values: impl Iterator<Item = &'a Expr>,
    table: &str,
    condition: Option<&Expr>,
) -> String {
    let values = values.enumerate().map(|(index, value)| format!("{value} AS value_{index}"));
    let values: Vec<String> = ["1 AS one".to_owned()].into_iter().chain(values).collect();
    let condition = condition.map(|it| format!(" WHERE {it}")).unwrap_or_default();
    format!("SELECT {} FROM {table}{condition}", values.join(", "))
}

/// Returns the column that an assignment sets; `None` for several columns.
fn column(assignment: &Assignment) -> Option<String> {
    match &assignment.target {
        AssignmentTarget::ColumnName(name) => Some(name.to_string()),
        AssignmentTarget::Tuple(_) => None,
    }
}

/// Returns the name of a parameter if the expression is only this parameter.
fn parameter(value: &Expr) -> Option<String> {
    let Expr::Value(value) = value else { return None };
    match &value.value {
        Value::Placeholder(name) => Some(name.trim_start_matches('$').to_owned()),
        _ => None,
    }
}

/// Numbers the parameters written as `?` by their position in the text, like the server when it
/// prepares the statement.
fn number(statements: &mut [Statement]) {
    let mut positions = PlaceholderPositions::default();
    for statement in &mut *statements {
        let _ = statement.visit(&mut positions);
    }
    positions.0.sort();
    let mut numbering = PlaceholderNumbering(positions.0);
    for statement in statements {
        let _ = statement.visit(&mut numbering);
    }
}

/// The positions of the parameters written as `?`.
#[derive(Default)]
struct PlaceholderPositions(Vec<Location>);

impl VisitorMut for PlaceholderPositions {
    type Break = ();

    fn pre_visit_value(&mut self, value: &mut ValueWithSpan) -> ControlFlow<()> {
        if value.value == Value::Placeholder("?".to_owned()) {
            self.0.push(value.span.start);
        }
        ControlFlow::Continue(())
    }
}

/// Visitor that renames each `?` at one of the positions to `$n`.
struct PlaceholderNumbering(Vec<Location>);

impl VisitorMut for PlaceholderNumbering {
    type Break = ();

    fn pre_visit_value(&mut self, value: &mut ValueWithSpan) -> ControlFlow<()> {
        if value.value == Value::Placeholder("?".to_owned())
            && let Ok(index) = self.0.binary_search(&value.span.start)
        {
            value.value = Value::Placeholder(format!("${}", index + 1));
        }
        ControlFlow::Continue(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(sql: &str, columns: &str, values: &[(&str, usize)], expressions: &str) {
        let values = values.iter().map(|(name, index)| ((*name).to_owned(), *index)).collect();
        let (columns, expressions) = (columns.to_owned(), expressions.to_owned());
        assert_eq!(
            type_inference_queries(sql),
            Some(TypeInferenceQueries { columns, values, expressions })
        );
    }

    #[test]
    fn values_have_the_types_of_their_columns() {
        check("INSERT INTO t VALUES (?, 1, ?)", "SELECT * FROM t", &[("1", 0), ("2", 2)], "");
        check(
            "INSERT INTO s.t (b, a) VALUES ($2, $1), ($3, 4)",
            "SELECT b, a FROM s.t",
            &[("2", 0), ("1", 1), ("3", 0)],
            "",
        );
        check(
            "UPDATE t SET a = ?, b = b + ? WHERE c = ?",
            "SELECT a, b FROM t",
            &[("1", 0)],
            "SELECT 1 AS one, b + $2 AS value_0 FROM t WHERE c = $3",
        );
        check("DELETE FROM t WHERE c = ?", "", &[], "SELECT 1 AS one FROM t WHERE c = $1");
        assert_eq!(type_inference_queries("SELECT ?"), None);
        assert_eq!(type_inference_queries("INSERT INTO t SELECT ?"), None);
    }
}
