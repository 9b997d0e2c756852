//! Reordered joins: the chosen order, and rows that do not depend on it.

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
use headwater_join_order::with_join_order;

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
    let rules = if is_reordered { with_join_order(rules) } else { rules };
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
async fn plan(sql: &str) -> String {
    let frame = session(true).sql(sql).await.expect("a plan");
    frame.into_optimized_plan().expect("an optimized plan").display_indent().to_string()
}

async fn rows(sql: &str, is_reordered: bool) -> String {
    let frame = session(is_reordered).sql(sql).await.expect("a plan");
    let batches = frame.collect().await.expect("rows");
    let text = pretty_format_batches(&batches).expect("text").to_string();
    let mut lines: Vec<&str> = text.lines().collect();
    lines.sort_unstable();
    lines.join("\n")
}

#[tokio::test]
async fn a_selective_table_is_joined_before_a_large_one() {
    let sql = "SELECT a1, b1, c2 FROM a JOIN b ON a0 = b0 JOIN c ON a1 = c1 WHERE c0 = 4";
    let plan = plan(sql).await;
    let position = |table: &str| plan.find(&format!("TableScan: {table} ")).expect("a scan");
    let joins: Vec<&str> = plan.lines().filter(|line| line.contains("Inner Join")).collect();
    assert_eq!(joins.len(), 2, "{plan}");
    assert!(joins[1].contains("a1 = c.c1") || joins[1].contains("c1 = a.a1"), "{plan}");
    assert!(position("c").max(position("a")) < position("b") || joins[0].contains("b0"), "{plan}");
}

#[tokio::test]
async fn a_good_join_order_is_kept() {
    let sql = "SELECT a2 FROM c JOIN a ON a1 = c1 JOIN b ON a0 = b0 WHERE c0 = 4";
    let plan = plan(sql).await;
    let scans: Vec<&str> =
        plan.lines().filter_map(|line| line.trim().strip_prefix("TableScan: ")).collect();
    let names: Vec<&str> = scans.iter().filter_map(|scan| scan.get(..1)).collect();
    assert_eq!(names, ["c", "a", "b"], "{plan}");
}

#[tokio::test]
async fn rows_do_not_depend_on_the_order() {
    let queries = [
        "SELECT * FROM a JOIN b ON a0 = b0 JOIN c ON a1 = c1",
        "SELECT * FROM a, b, c WHERE a0 = b0 AND a1 = c1 AND c0 = 4",
        "SELECT * FROM a, b, c, d WHERE a0 = b0 AND b1 = c1 AND c2 = d0 AND a2 < d1",
        "SELECT a0, d2 FROM a, b, c, d WHERE a0 = b0 AND b1 = c1 + 1 AND c2 = d0 AND a1 + b1 > d1",
        "SELECT count(*) FROM a, b, c WHERE a0 = b0 AND c0 > 3",
        "SELECT * FROM a JOIN b ON a0 = b0 AND a1 = b1 JOIN c ON c0 = b2 AND c0 <> a2",
        "SELECT x.a0, y.a1 FROM a x, a y, b, c WHERE x.a0 = y.a1 AND y.a2 = b0 AND b1 = c0",
        "SELECT * FROM a JOIN b ON a0 = b0 JOIN c ON a1 = c1 LEFT JOIN d ON d0 = c0 WHERE c1 < 5",
        "SELECT * FROM (SELECT a0, b1 FROM a, b, c WHERE a0 = b0 AND b1 = c0) s, d, c
         WHERE s.a0 = d0 AND s.b1 = c1",
        "SELECT * FROM a, b, c WHERE a0 = b0 AND b1 = c1 AND a0 IN (SELECT d0 FROM d WHERE d1 > 2)",
        "SELECT a0 FROM a, b, c WHERE a0 = b0 AND b1 = c1 AND NOT EXISTS
         (SELECT 1 FROM d WHERE d0 = a1 AND d1 = c0)",
        "SELECT a0, sum(b1) FROM a, b, c WHERE a0 = b0 AND b1 = c1 GROUP BY a0 HAVING sum(b1) > 3",
        "SELECT * FROM a, b, c, d WHERE a0 = b0 AND (c0 = 1 OR d0 = b1) AND c1 = d1",
        "SELECT * FROM a, b, c WHERE b1 = c1 AND a1 = c0 AND (a0 IS NOT DISTINCT FROM b0)",
    ];
    for sql in queries {
        let (expected, found) = (rows(sql, false).await, rows(sql, true).await);
        assert!(expected.lines().count() > 4, "no rows to compare: {sql}");
        assert_eq!(expected, found, "{sql}");
    }
}
