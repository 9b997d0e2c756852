//! The statistics of SUMMARIZE: aggregates of all columns in one row, and their conversion to a
//! table.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, Int64Array, RecordBatch, StringArray};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Schema};
use datafusion::common::{Column, DataFusionError, ScalarValue};
use datafusion::execution::SessionState;
use datafusion::logical_expr::{Expr, ExprSchemable, LogicalPlan, LogicalPlanBuilder, lit};

/// Aggregate functions that are computed for each column, in the order of the result.
const AGGREGATES: [&str; 5] = ["min", "max", "approx_distinct", "avg", "count"];

/// Aggregates all columns of a plan into one row: the row count, followed by the [`AGGREGATES`] of
/// each column.
pub fn aggregate(
    state: &SessionState,
    plan: LogicalPlan,
) -> datafusion::common::Result<LogicalPlan> {
    let function = |name: &str| {
        let found = state.aggregate_functions().get(name).cloned();
        found.ok_or_else(|| DataFusionError::Internal(format!("no aggregate `{name}`")))
    };
    let mut values = vec![function("count")?.call(vec![lit(1_i64)]).alias("rows")];
    for (index, (qualifier, field)) in plan.schema().iter().enumerate() {
        for name in AGGREGATES {
            let mut column = Expr::Column(Column::from((qualifier, field)));
            // DataFusion's `approx_distinct` does not accept floating-point numbers.
            if name == "approx_distinct" && field.data_type().is_floating() {
                column = column.cast_to(&DataType::Utf8, plan.schema())?;
            }
            let value = match name {
                _ if applies(name, field.data_type()) => function(name)?.call(vec![column]),
                _ => function("min")?.call(vec![lit(ScalarValue::Utf8(None))]),
            };
            values.push(value.alias(format!("{name}_{index}")));
        }
    }
    LogicalPlanBuilder::from(plan).aggregate(Vec::<Expr>::new(), values)?.build()
}

/// Returns true if an aggregate accepts values of a type.
fn applies(aggregate: &str, data_type: &DataType) -> bool {
    match aggregate {
        "count" => true,
        "avg" => data_type.is_numeric(),
        _ => !data_type.is_nested() && !matches!(data_type, DataType::Null),
    }
}

/// Converts the row of aggregates to one row per column; `types` are the types of the columns.
pub fn rows(
    columns: &Schema,
    types: Vec<String>,
    values: Option<&RecordBatch>,
) -> Result<RecordBatch, arrow::error::ArrowError> {
    let texts: Vec<Option<String>> = match values {
        Some(values) => values.columns().iter().map(text).collect::<Result<_, _>>()?,
        None => vec![None; 1 + columns.fields().len() * AGGREGATES.len()],
    };
    let of = |aggregate: usize| -> Vec<Option<String>> {
        let index = |column: usize| 1 + column * AGGREGATES.len() + aggregate;
        (0..columns.fields().len()).map(|column| texts[index(column)].clone()).collect()
    };
    let number = |text: &Option<String>| text.as_ref().and_then(|text| text.parse::<i64>().ok());
    let rows = number(&texts[0]).unwrap_or(0);
    let numbers = |texts: Vec<Option<String>>| -> ArrayRef {
        Arc::new(texts.iter().map(number).collect::<Int64Array>())
    };
    let strings = |texts: Vec<Option<String>>| -> ArrayRef { Arc::new(StringArray::from(texts)) };
    let counts = of(4);
    let nulls = counts.iter().map(|count| Some(rows - number(count).unwrap_or(0)));
    let nulls: ArrayRef = Arc::new(nulls.collect::<Int64Array>());
    let names = columns.fields().iter().map(|field| Some(field.name().clone())).collect();
    let types = types.into_iter().map(Some).collect();
    RecordBatch::try_from_iter_with_nullable([
        ("column", strings(names), false),
        ("type", strings(types), false),
        ("min", strings(of(0)), true),
        ("max", strings(of(1)), true),
        ("approx_distinct", numbers(of(2)), true),
        ("avg", strings(of(3)), true),
        ("rows", Arc::new(Int64Array::from(vec![rows; columns.fields().len()])) as ArrayRef, false),
        ("nulls", nulls, false),
    ])
}

/// Returns the value of a one-row array as text.
fn text(value: &ArrayRef) -> Result<Option<String>, arrow::error::ArrowError> {
    let texts = cast(value, &DataType::Utf8)?;
    let texts = texts.as_any().downcast_ref::<StringArray>();
    Ok(texts.filter(|texts| texts.is_valid(0)).map(|texts| texts.value(0).to_owned()))
}
