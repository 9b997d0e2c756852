//! EXPLAIN in the form of PostgreSQL: one column of text with a line for each operator. The first
//! line has the estimated cost of the query, which clients such as Superset read. With FORMAT JSON,
//! the engine already returns one document in the form of PostgreSQL.

use std::fmt::Write;
use std::sync::Arc;

use arrow::array::{AsArray, RecordBatch, StringArray};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use arrow::error::ArrowError;
use headwater_postgres_catalog::{PgType, ScalarType};
use headwater_service::PlanEstimate;

use crate::backend_message::ResultColumn;
use crate::frontend_message::ValueFormat;
use crate::result_rows::column_types;

/// The plans that EXPLAIN without VERBOSE shows, by their names in the first column of the engine's
/// result.
const SHOWN: [&str; 2] = ["physical_plan", "Plan with Metrics"];

/// Number of spaces by which each level of operators is indented.
const LEVEL: usize = 6;

/// Returns the column of the result. `engine_schema` has the columns of the engine's result.
pub fn columns(engine_schema: &Schema, formats: &[ValueFormat]) -> Vec<ResultColumn> {
    let mut columns = column_types(&schema(), formats);
    if is_json(engine_schema) {
        for column in &mut columns {
            column.pg_type = PgType::of(ScalarType::Json);
        }
    }
    columns
}

/// Returns true if the result of the engine is a JSON document. Otherwise, its columns are the
/// names and the texts of plans.
pub fn is_json(engine_schema: &Schema) -> bool {
    engine_schema.fields().len() == 1
}

fn schema() -> SchemaRef {
    Arc::new(Schema::new(vec![Field::new("QUERY PLAN", DataType::Utf8, false)]))
}

/// Returns the lines of the plans in `batch`, whose columns are the names and the texts of plans.
/// The first line also shows the estimate.
pub fn lines(
    batch: &RecordBatch,
    estimate: Option<PlanEstimate>,
) -> Result<RecordBatch, ArrowError> {
    let text = |index: usize| cast(batch.column(index), &DataType::Utf8);
    let (names, plans) = (text(0)?, text(1)?);
    let named = names.as_string::<i32>().iter().zip(plans.as_string::<i32>());
    let named: Vec<(&str, &str)> =
        named.map(|(name, plan)| (name.unwrap_or_default(), plan.unwrap_or_default())).collect();
    let is_shown = |name: &str| SHOWN.contains(&name);
    let is_plain = named.iter().all(|(name, _)| is_shown(name) || *name == "logical_plan");
    let mut lines: Vec<String> = Vec::new();
    for (name, plan) in named {
        if is_plain && !is_shown(name) {
            continue;
        }
        if !is_plain {
            lines.push(format!("{name}:"));
        }
        lines.extend(plan.lines().map(indented));
    }
    if let (Some(PlanEstimate { cost, rows, row_bytes }), Some(first)) =
        (estimate, lines.first_mut())
    {
        let _ = write!(first, "  (cost=0.00..{cost:.2} rows={rows} width={row_bytes})");
    }
    RecordBatch::try_new(schema(), vec![Arc::new(StringArray::from(lines))])
}

/// Returns the line of an operator in the form of PostgreSQL, with an arrow before its name. In
/// `line`, each level is indented by two spaces.
fn indented(line: &str) -> String {
    let operator = line.trim_start_matches(' ');
    match (line.len() - operator.len()) / 2 {
        0 => operator.to_owned(),
        level => format!("{}->  {operator}", " ".repeat(2 + LEVEL * (level - 1))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(rows: &[(&str, &str)]) -> Vec<String> {
        let names: StringArray = rows.iter().map(|row| Some(row.0)).collect();
        let plans: StringArray = rows.iter().map(|row| Some(row.1)).collect();
        let field = |name| Field::new(name, DataType::Utf8, false);
        let schema = Arc::new(Schema::new(vec![field("plan_type"), field("plan")]));
        let batch = RecordBatch::try_new(schema, vec![Arc::new(names), Arc::new(plans)]);
        let estimate = PlanEstimate { cost: 12.345, rows: 10, row_bytes: 8 };
        let lines = lines(&batch.expect("a batch"), Some(estimate)).expect("lines");
        lines.column(0).as_string::<i32>().iter().flatten().map(str::to_owned).collect()
    }

    #[test]
    fn the_first_line_has_the_cost() {
        let rows = [("logical_plan", "Limit"), ("physical_plan", "Sort\n  Filter\n    Scan\n")];
        assert_eq!(
            shown(&rows),
            ["Sort  (cost=0.00..12.35 rows=10 width=8)", "  ->  Filter", "        ->  Scan",]
        );
        let rows = [("initial_logical_plan", "Limit"), ("physical_plan", "Sort")];
        assert_eq!(
            shown(&rows),
            [
                "initial_logical_plan:  (cost=0.00..12.35 rows=10 width=8)",
                "Limit",
                "physical_plan:",
                "Sort",
            ]
        );
    }
}
