//! Tables with claimed statistics, and the plans and rows of queries over them.

use std::sync::Arc;

use arrow::array::{Int64Array, RecordBatch};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use arrow::util::pretty::pretty_format_batches;
use async_trait::async_trait;
use datafusion::catalog::{Session, TableProvider};
use datafusion::common::stats::Precision;
use datafusion::common::{Result, ScalarValue, Statistics};
use datafusion::datasource::MemTable;
use datafusion::execution::SessionStateBuilder;
use datafusion::logical_expr::{Expr, TableType};
use datafusion::optimizer::Optimizer;
use datafusion::physical_plan::ExecutionPlan;
use datafusion::prelude::SessionContext;
use headwater_join_order::with_cost_based_rules;

/// A table in memory whose statistics contain a given number of rows and a given range of values
/// for each column.
#[derive(Debug)]
struct Table {
    rows: MemTable,
    claimed: Claimed,
}

/// Statistics that may differ from the actual rows.
#[derive(Debug, Clone, Copy)]
struct Claimed {
    rows: usize,
    max: i64,
}

impl Table {
    /// Creates a table with columns of integers; `value` gets the row and the column.
    fn new(name: &str, rows: i64, claimed: Claimed, value: fn(i64, i64) -> i64) -> Self {
        let columns: Vec<i64> = (0..3).collect();
        let field = |column: &i64| Field::new(format!("{name}{column}"), DataType::Int64, true);
        let schema = Arc::new(Schema::new(columns.iter().map(field).collect::<Vec<_>>()));
        let column = |column: &i64| {
            let values = (0..rows).map(|row| value(row, *column));
            Arc::new(values.map(|value| (value % 11 != 3).then_some(value)).collect::<Int64Array>())
                as _
        };
        let columns = columns.iter().map(column).collect();
        let batch = RecordBatch::try_new(Arc::clone(&schema), columns).expect("a batch");
        let rows = MemTable::try_new(schema, vec![vec![batch]]).expect("a table");
        Table { rows, claimed }
    }
}

#[async_trait]
impl TableProvider for Table {
    fn schema(&self) -> SchemaRef {
        self.rows.schema()
    }

    fn table_type(&self) -> TableType {
        TableType::Base
    }

    fn statistics(&self) -> Option<Statistics> {
        let mut statistics = Statistics::new_unknown(&self.schema());
        statistics.num_rows = Precision::Inexact(self.claimed.rows);
        for column in &mut statistics.column_statistics {
            column.min_value = Precision::Inexact(ScalarValue::Int64(Some(0)));
            column.max_value = Precision::Inexact(ScalarValue::Int64(Some(self.claimed.max)));
        }
        Some(statistics)
    }

    async fn scan(
        &self,
        session: &dyn Session,
        projection: Option<&Vec<usize>>,
        filters: &[Expr],
        limit: Option<usize>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        self.rows.scan(session, projection, filters, limit).await
    }
}

/// Returns a session over four tables, with or without the rule. By its statistics, `a` is the
/// largest.
fn session(is_reordered: bool) -> SessionContext {
    let rules = Optimizer::new().rules;
    let rules = if is_reordered { with_cost_based_rules(rules) } else { rules };
    let state =
        SessionStateBuilder::new().with_default_features().with_optimizer_rules(rules).build();
    let context = SessionContext::new_with_state(state);
    let tables = [
        (
            "a",
            Table::new("a", 90, Claimed { rows: 10_000_000, max: 99_999 }, |row, column| {
                row % (7 + column)
            }),
        ),
        (
            "b",
            Table::new("b", 40, Claimed { rows: 5_000_000, max: 99 }, |row, column| {
                row % (5 + column)
            }),
        ),
        ("c", Table::new("c", 12, Claimed { rows: 1_000, max: 999 }, |row, column| row + column)),
        (
            "d",
            Table::new("d", 9, Claimed { rows: 100_000, max: 99_999 }, |row, column| {
                row * (column + 1)
            }),
        ),
    ];
    for (name, table) in tables {
        context.register_table(name, Arc::new(table)).expect("a table");
    }
    context
}

/// Returns the optimized plan of a query, as text.
pub async fn plan(sql: &str) -> String {
    let frame = session(true).sql(sql).await.expect("a plan");
    frame.into_optimized_plan().expect("an optimized plan").display_indent().to_string()
}

pub async fn rows(sql: &str, is_reordered: bool) -> String {
    let frame = session(is_reordered).sql(sql).await.expect("a plan");
    let batches = frame.collect().await.expect("rows");
    let text = pretty_format_batches(&batches).expect("text").to_string();
    let mut lines: Vec<&str> = text.lines().collect();
    lines.sort_unstable();
    lines.join("\n")
}
