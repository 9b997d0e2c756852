//! `generate_series` and `range` in FROM: series of timestamps, and the alias as the name of the
//! column, as in PostgreSQL's `SELECT n FROM generate_series(1, 3) AS n`.

use headwater_sql::ast_builders::name;
use headwater_sql::expression::call;
use headwater_sql::name_match::equals_ignoring_case;
use sqlparser::ast::{
    DataType, Expr, FunctionArg, FunctionArgExpr, Ident, Interval, ObjectName, ObjectNamePart,
    TableAlias, TableAliasColumnDef, TableFactor, Value,
};

/// The name that the planner gives to the column of a series.
pub(crate) const SERIES_COLUMN: &str = "value";

/// Rewrites a series of timestamps as `UNNEST(generate_series(…))`, because DataFusion's function
/// in FROM takes only timestamps in nanoseconds. Returns the alias of a series if it has no list of
/// columns: it is also the name of the column.
pub(crate) fn rewrite(factor: &mut TableFactor) -> Option<String> {
    let TableFactor::Table { name: function, alias, args: Some(args), with_ordinality, .. } =
        factor
    else {
        return None;
    };
    let function = function_of(function)?;
    if *with_ordinality {
        return None;
    }
    let own = alias.as_ref().filter(|alias| alias.columns.is_empty());
    let label = own.map(|alias| alias.name.value.clone());
    if let [first, last, step] = args.args.as_mut_slice()
        && let (Some(first), Some(last), Some(step)) = (value(first), value(last), value(step))
        && is_interval(step)
    {
        if let Expr::Value(_) = step {
            *step = interval(step.clone());
        }
        if !(is_date(first) && is_date(last)) {
            let series = call(&function, vec![first.clone(), last.clone(), step.clone()]);
            *factor = unnest(series, alias.take(), &function);
        }
    }
    label
}

/// Returns true for the column of a series that was written as the alias `written`.
pub(crate) fn is_series(expr: &Expr, written: &str) -> bool {
    matches!(expr, Expr::CompoundIdentifier(names)
        if matches!(names.as_slice(), [label, column]
            if column.value == SERIES_COLUMN && equals_ignoring_case(&label.value, written)))
}

fn function_of(function: &ObjectName) -> Option<String> {
    let [ObjectNamePart::Identifier(ident)] = function.0.as_slice() else { return None };
    let function = ident.value.to_ascii_lowercase();
    ["generate_series", "range"].contains(&function.as_str()).then_some(function)
}

fn value(argument: &mut FunctionArg) -> Option<&mut Expr> {
    match argument {
        FunctionArg::Unnamed(FunctionArgExpr::Expr(expr)) => Some(expr),
        _ => None,
    }
}

/// Returns true for an interval, and for a text, which must be an interval too.
fn is_interval(expr: &Expr) -> bool {
    match expr {
        Expr::Interval(_) => true,
        Expr::Cast { data_type, .. } => matches!(data_type, DataType::Interval { .. }),
        Expr::Value(value) => matches!(value.value, Value::SingleQuotedString(_)),
        _ => false,
    }
}

fn is_date(expr: &Expr) -> bool {
    match expr {
        Expr::Cast { data_type, .. } => *data_type == DataType::Date,
        Expr::TypedString(text) => text.data_type == DataType::Date,
        _ => false,
    }
}

fn interval(value: Expr) -> Expr {
    Expr::Interval(Interval {
        value: Box::new(value),
        leading_field: None,
        leading_precision: None,
        last_field: None,
        fractional_seconds_precision: None,
    })
}

/// Returns the rows of a list, in a column with the name that the function in FROM gives it.
fn unnest(list: Expr, alias: Option<TableAlias>, function: &str) -> TableFactor {
    let own = || TableAlias { explicit: true, name: name(function), columns: Vec::new(), at: None };
    let mut alias = alias.unwrap_or_else(own);
    if alias.columns.is_empty() {
        let name: Ident = name(SERIES_COLUMN);
        alias.columns.push(TableAliasColumnDef { name, data_type: None });
    }
    TableFactor::UNNEST {
        alias: Some(alias),
        array_exprs: vec![list],
        with_offset: false,
        with_offset_alias: None,
        with_ordinality: false,
    }
}

#[cfg(test)]
mod tests {
    use sqlparser::dialect::GenericDialect;
    use sqlparser::parser::Parser;

    use super::*;

    fn check(sql: &str, expected: &str, label: Option<&str>) {
        let mut parser = Parser::new(&GenericDialect).try_with_sql(sql).expect("tokens");
        let mut factor = parser.parse_table_factor().expect(sql);
        assert_eq!(rewrite(&mut factor).as_deref(), label, "{sql}");
        assert_eq!(factor.to_string(), expected);
    }

    #[test]
    fn series_of_timestamps_are_lists() {
        check(
            "generate_series(TIMESTAMP '2024-01-01', now(), '1 day') AS d",
            "UNNEST(\"generate_series\"(TIMESTAMP '2024-01-01', now(), INTERVAL '1 day')) AS d \
             (\"value\")",
            Some("d"),
        );
        let dates = "generate_series(DATE '2024-01-01', DATE '2024-01-03', INTERVAL '1 day')";
        check(dates, dates, None);
        check("generate_series(1, 3) AS n", "generate_series(1, 3) AS n", Some("n"));
        let listed = "generate_series(1, 3, 2) AS r (n)";
        check(listed, listed, None);
    }
}
