//! Types of parameters that the engine does not infer: parameters of UPDATE and DELETE, and
//! parameters whose type the text states, as in `$1::int`.

use std::collections::BTreeMap;
use std::ops::ControlFlow;

use headwater_postgres_catalog::{PgType, ScalarType};
use sqlparser::ast::{
    DataType, Expr, FromTable, LimitClause, Query, Statement, Value, Visit, Visitor,
};
use sqlparser::dialect::PostgreSqlDialect;
use sqlparser::parser::Parser;

use crate::array_parameter;

/// Returns a query over the expressions in an UPDATE or DELETE, from which the engine infers the
/// types of the parameters. A parameter that is the whole value of a column is omitted, because it
/// has the column's type.
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

/// Returns the types that the text of a statement states for its parameters, by parameter name: the
/// type of a cast, and `bigint` in LIMIT and OFFSET.
pub fn stated_types(sql: &str) -> BTreeMap<String, PgType> {
    let mut stated = StatedTypes::default();
    // If this parser rejects the statement, the parameters only have a less precise type: text.
    if let Ok(statements) = Parser::parse_sql(&PostgreSqlDialect {}, sql) {
        let _ = statements.visit(&mut stated);
    }
    stated.0
}

/// Returns the parameters that are cast to `oid` or `oid[]`, by parameter name. `sql` is the text
/// that the client sent: its translation has `bigint` in place of `oid`.
///
/// asyncpg can encode an array of type `oid[]` before it has read the types of the server, but not
/// an array of type `bigint[]`.
pub fn object_ids(sql: &str) -> BTreeMap<String, PgType> {
    if !sql.to_ascii_lowercase().contains("oid") {
        return BTreeMap::new();
    }
    let mut stated = stated_types(sql);
    stated.retain(|_, pg_type| pg_type.scalar == ScalarType::Oid);
    stated
}

/// Collects the stated types. If a parameter has several, the first one applies.
#[derive(Default)]
struct StatedTypes(BTreeMap<String, PgType>);

impl StatedTypes {
    fn add(&mut self, expr: &Expr, pg_type: PgType) {
        if let Expr::Value(value) = expr
            && let Value::Placeholder(name) = &value.value
            && let Some(name) = name.strip_prefix('$')
        {
            self.0.entry(name.to_owned()).or_insert(pg_type);
        }
    }
}

impl Visitor for StatedTypes {
    type Break = ();

    fn pre_visit_query(&mut self, query: &Query) -> ControlFlow<()> {
        let counts = match &query.limit_clause {
            Some(LimitClause::LimitOffset { limit, offset, .. }) => {
                [limit.as_ref(), offset.as_ref().map(|offset| &offset.value)]
            }
            Some(LimitClause::OffsetCommaLimit { offset, limit }) => [Some(offset), Some(limit)],
            None => [None, None],
        };
        for count in counts.into_iter().flatten() {
            self.add(count, PgType::of(ScalarType::Int8));
        }
        ControlFlow::Continue(())
    }

    fn pre_visit_expr(&mut self, expr: &Expr) -> ControlFlow<()> {
        if let Expr::Cast { expr, data_type, .. } = expr
            && let Some(pg_type) = pg_type(data_type)
        {
            self.add(expr, pg_type);
        }
        ControlFlow::Continue(())
    }
}

/// Returns the PostgreSQL type of a parameter that is cast to a type; `None` for texts, and for
/// types that can be bound only as text.
pub fn pg_type(data_type: &DataType) -> Option<PgType> {
    let text = data_type.to_string().to_ascii_uppercase();
    let (name, is_array) = match text.strip_suffix("[]") {
        Some(name) => (name, true),
        None => (text.as_str(), false),
    };
    // Remove the precision, as in `NUMERIC(10, 2)`: it is not part of the type's name.
    let name = match (name.find('('), name.find(')')) {
        (Some(start), Some(end)) if start < end => {
            format!("{}{}", &name[..start], &name[end + 1..])
        }
        _ => name.to_owned(),
    };
    let scalar = match name.as_str() {
        "BOOLEAN" | "BOOL" => ScalarType::Bool,
        "SMALLINT" | "INT2" => ScalarType::Int2,
        "INTEGER" | "INT" | "INT4" => ScalarType::Int4,
        "BIGINT" | "INT8" => ScalarType::Int8,
        "OID" => ScalarType::Oid,
        "REAL" | "FLOAT4" => ScalarType::Float4,
        "DOUBLE PRECISION" | "DOUBLE" | "FLOAT8" => ScalarType::Float8,
        "NUMERIC" | "DECIMAL" => ScalarType::Numeric,
        "BYTEA" => ScalarType::Bytea,
        "DATE" => ScalarType::Date,
        "TIME" => ScalarType::Time,
        "TIMESTAMP" | "TIMESTAMP WITHOUT TIME ZONE" => ScalarType::Timestamp,
        "TIMESTAMPTZ" | "TIMESTAMP WITH TIME ZONE" => ScalarType::Timestamptz,
        "INTERVAL" => ScalarType::Interval,
        "TEXT" | "VARCHAR" if is_array => ScalarType::Text,
        _ => return None,
    };
    if is_array && array_parameter::sql_type(scalar).is_none() {
        return None;
    }
    Some(PgType { scalar, is_array })
}

fn is_parameter(value: &Expr) -> bool {
    matches!(value, Expr::Value(value) if matches!(value.value, Value::Placeholder(_)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn casts_and_limits_state_types() {
        let check = |sql: &str, expected: &[(&str, ScalarType, bool)]| {
            let typed = |(name, scalar, is_array): &(&str, ScalarType, bool)| {
                ((*name).to_owned(), PgType { scalar: *scalar, is_array: *is_array })
            };
            let expected: BTreeMap<String, PgType> = expected.iter().map(typed).collect();
            assert_eq!(stated_types(sql), expected, "{sql}");
        };
        check(
            "SELECT $1::int, CAST($2 AS numeric(10, 2)), $3::text, $4 FROM t LIMIT $5 OFFSET $6",
            &[
                ("1", ScalarType::Int4, false),
                ("2", ScalarType::Numeric, false),
                ("5", ScalarType::Int8, false),
                ("6", ScalarType::Int8, false),
            ],
        );
        check(
            "SELECT a FROM t WHERE a = ANY($1::int[]) AND b > $2::timestamp(3) with time zone",
            &[("1", ScalarType::Int4, true), ("2", ScalarType::Timestamptz, false)],
        );
        check("SELECT $1::numeric[], $2::uuid, ($3 + 1)::int", &[]);
        check("no statement $1::int", &[]);
        let ids = object_ids("SELECT $1::int, $2::oid, oid = ANY($3::oid[]) FROM pg_type");
        let ids: Vec<(&str, u32)> =
            ids.iter().map(|(name, pg_type)| (name.as_str(), pg_type.oid())).collect();
        assert_eq!(ids, [("2", 26), ("3", 1028)]);
    }

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
