//! EXPLAIN: the plan of a query, as text or as a JSON document.
//!
//! The document has the form of PostgreSQL: `[{"Plan": {"Node Type": …, "Plans": […]}}]`. Only the
//! first operator has the estimated cost and rows, because they are estimated for the whole query.

use std::iter::Peekable;
use std::sync::Arc;

use arrow::array::{AsArray, RecordBatch, StringArray};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Field, Schema};
use arrow::error::ArrowError;
use datafusion::logical_expr::{LogicalPlan, LogicalPlanBuilder};
use futures::{StreamExt, TryStreamExt, stream};
use headwater_sql::explain::ExplainOptions;
use headwater_sql::statement::SourceQuery;
use headwater_sql_python::without_calls;
use headwater_sql_resolve::OutputNames;
use headwater_table_scan::PlanEstimate;
use serde_json::{Map, Value, json};

use crate::error::Result;
use crate::plan_executor::{self, ExecutableStatement};
use crate::session::{Session, StatementContext};
use crate::statement_result::{ExecutionMetrics, StatementResult};

/// Names of the plan that is converted to JSON, as in the first column of DataFusion's result.
const CONVERTED: [&str; 2] = ["physical_plan", "Plan with Metrics"];

impl Session {
    /// Runs EXPLAIN.
    pub(crate) async fn explain(
        &self,
        source: SourceQuery,
        options: ExplainOptions,
    ) -> Result<StatementResult> {
        let ExplainOptions { analyze, verbose, is_json } = options;
        let (run, mut plan, _) = self.planned(source).await?;
        if !analyze {
            plan = without_calls(plan).map_err(|error| run.limits.explain(&error))?;
        }
        let explain = LogicalPlanBuilder::from(plan.clone())
            .explain(verbose, analyze)
            .and_then(LogicalPlanBuilder::build)
            .map_err(|error| run.limits.explain(&error))?;
        let estimated = self.next_run(&run.metrics);
        // Planning evaluates the rows of VALUES. After ANALYZE, an estimate would therefore call
        // functions in Python a second time.
        let is_estimated = !(analyze && run.metrics.calls().has_functions());
        let answer = self.answer(run, explain, &OutputNames::default()).await?;
        // Estimate after the shown plan is created: planning numbers the expressions that it
        // generates, and the shown numbers must not depend on the estimate.
        if is_estimated {
            self.estimate(&estimated, plan).await?;
        }
        if is_json { as_json(answer).await } else { Ok(answer) }
    }

    /// Estimates the cost of a query.
    async fn estimate(&self, run: &StatementContext, plan: LogicalPlan) -> Result<()> {
        let calls = Arc::clone(run.metrics.calls());
        let metrics = Arc::new(ExecutionMetrics::new(Arc::clone(run.metrics.pool()), calls));
        let (state, runtime) = (Arc::clone(&run.state), Arc::clone(&run.runtime));
        let statement = ExecutableStatement { state, runtime, plan, metrics, lazy: true };
        let estimate = plan_executor::estimate(self.engine.threads()?, statement).await;
        run.metrics.estimated(estimate.map_err(|error| run.limits.explain(&error))?);
        Ok(())
    }
}

/// Converts the result of EXPLAIN to one row with a JSON document.
async fn as_json(answer: StatementResult) -> Result<StatementResult> {
    let StatementResult { stream: rows, metrics, .. } = answer;
    let batches: Vec<RecordBatch> = rows.try_collect().await?;
    let plan = plan_text(&batches).map_err(headwater_lake::Error::from)?;
    let document = document(&plan, metrics.estimate());
    let schema = Arc::new(Schema::new(vec![Field::new("QUERY PLAN", DataType::Utf8, false)]));
    let text = StringArray::from(vec![format!("{document:#}")]);
    let batch = RecordBatch::try_new(Arc::clone(&schema), vec![Arc::new(text)]);
    let batch = batch.map_err(headwater_lake::Error::from)?;
    Ok(StatementResult { schema, stream: stream::iter([Ok(batch)]).boxed(), metrics, commit: None })
}

/// Returns the text of the plan that is converted. The columns of `batches` are the names and the
/// texts of plans.
fn plan_text(batches: &[RecordBatch]) -> Result<String, ArrowError> {
    for batch in batches {
        let text = |index: usize| cast(batch.column(index), &DataType::Utf8);
        let (names, plans) = (text(0)?, text(1)?);
        let mut named = names.as_string::<i32>().iter().zip(plans.as_string::<i32>());
        if let Some((_, plan)) =
            named.find(|(name, _)| name.is_some_and(|it| CONVERTED.contains(&it)))
        {
            return Ok(plan.unwrap_or_default().to_owned());
        }
    }
    Ok(String::new())
}

/// Returns the document of a plan, in which each line is an operator and each level is indented by
/// two spaces.
fn document(plan: &str, estimate: Option<PlanEstimate>) -> Value {
    let operators = plan.lines().map(|line| {
        let operator = line.trim_start_matches(' ');
        Operator { level: (line.len() - operator.len()) / 2, text: operator }
    });
    let mut root = node(&mut operators.collect::<Vec<_>>().into_iter().peekable());
    if let (Some(root), Some(PlanEstimate { cost, rows, row_bytes })) = (&mut root, estimate) {
        root.insert("Startup Cost".to_owned(), json!(0.0));
        root.insert("Total Cost".to_owned(), json!((cost * 100.0).round() / 100.0));
        root.insert("Plan Rows".to_owned(), json!(rows));
        root.insert("Plan Width".to_owned(), json!(row_bytes));
    }
    json!([{ "Plan": root.unwrap_or_default() }])
}

/// One line of a plan.
struct Operator<'a> {
    level: usize,
    text: &'a str,
}

/// Returns the next operator and the operators below it.
fn node<'a>(
    operators: &mut Peekable<impl Iterator<Item = Operator<'a>>>,
) -> Option<Map<String, Value>> {
    let Operator { level, text } = operators.next()?;
    let name = text.split_once(':').map_or(text, |(name, _)| name);
    let mut plan = Map::new();
    plan.insert("Node Type".to_owned(), json!(name.strip_suffix("Exec").unwrap_or(name)));
    plan.insert("Parallel Aware".to_owned(), json!(false));
    plan.insert("Operator".to_owned(), json!(text));
    let mut plans: Vec<Value> = Vec::new();
    while operators.peek().is_some_and(|next| next.level > level) {
        let Some(mut input) = node(operators) else { break };
        let relationship = ["Outer", "Inner"].get(plans.len()).copied().unwrap_or("Member");
        input.insert("Parent Relationship".to_owned(), json!(relationship));
        plans.push(Value::Object(input));
    }
    if !plans.is_empty() {
        plan.insert("Plans".to_owned(), Value::Array(plans));
    }
    Some(plan)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn operators_are_nested() {
        let plan = "HashJoinExec: mode=Auto\n  FilterExec: a > 1\n    DataSourceExec\n  Empty\n";
        let estimate = PlanEstimate { cost: 12.345, rows: 10, row_bytes: 8 };
        let scan = json!({
            "Node Type": "DataSource",
            "Parallel Aware": false,
            "Operator": "DataSourceExec",
            "Parent Relationship": "Outer",
        });
        let expected = json!([{ "Plan": {
            "Node Type": "HashJoin",
            "Parallel Aware": false,
            "Operator": "HashJoinExec: mode=Auto",
            "Startup Cost": 0.0,
            "Total Cost": 12.35,
            "Plan Rows": 10,
            "Plan Width": 8,
            "Plans": [
                {
                    "Node Type": "Filter",
                    "Parallel Aware": false,
                    "Operator": "FilterExec: a > 1",
                    "Parent Relationship": "Outer",
                    "Plans": [scan],
                },
                {
                    "Node Type": "Empty",
                    "Parallel Aware": false,
                    "Operator": "Empty",
                    "Parent Relationship": "Inner",
                },
            ],
        }}]);
        assert_eq!(document(plan, Some(estimate)), expected);
        assert_eq!(document("", None), json!([{ "Plan": {} }]));
    }
}
