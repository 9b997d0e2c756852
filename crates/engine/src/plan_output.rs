//! Converts plan output to the result of a statement.

use std::sync::Arc;

use arrow::array::{Int64Array, RecordBatch, StringArray};
use arrow::datatypes::{DataType, Field, FieldRef, Fields, Schema, SchemaRef};
use datafusion::common::DataFusionError;
use futures::StreamExt;
use futures::stream;
use headwater_model::Commit;
use headwater_sql_resolve::OutputNames;
use headwater_table_scan::{plain_batch, plain_schema};

use crate::datafusion_error::ResourceLimits;
use crate::error::Result;
use crate::plan_executor::RunningPlan;
use crate::statement_result::{ExecutionMetrics, StatementResult};

/// Creates the result of a running plan. Converts string views to plain strings, and DataFusion's
/// errors to the errors of this crate.
pub(crate) fn answer(
    running: RunningPlan,
    names: &OutputNames,
    metrics: Arc<ExecutionMetrics>,
    limits: ResourceLimits,
) -> StatementResult {
    let schema = renamed(names, &plain_schema(&running.schema));
    let counted = Arc::clone(&metrics);
    let target = SchemaRef::clone(&schema);
    let stream = running.stream.map(move |batch| {
        let batch = batch.and_then(|batch| Ok(plain_batch(&batch, &target)?));
        let batch = batch.map_err(|error: DataFusionError| limits.explain(&error))?;
        counted.answered(batch.num_rows());
        Ok(batch)
    });
    StatementResult { schema, stream: stream.boxed(), metrics, commit: None }
}

/// Returns a schema whose columns have the output names of a query instead of the planner's names.
pub(crate) fn renamed(names: &OutputNames, schema: &Schema) -> SchemaRef {
    let names = names.of_columns(schema.fields().len());
    let field = |(field, name): (&FieldRef, Option<&str>)| match name {
        Some(name) => Arc::new(Field::clone(field).with_name(name)),
        None => Arc::clone(field),
    };
    let fields: Fields = schema.fields().iter().zip(names).map(field).collect();
    Arc::new(Schema::new_with_metadata(fields, schema.metadata().clone()))
}

/// Creates a result from one batch.
pub(crate) fn of_batch(batch: RecordBatch, metrics: Arc<ExecutionMetrics>) -> StatementResult {
    let schema = batch.schema();
    metrics.answered(batch.num_rows());
    let stream = stream::iter([Ok(batch)]).boxed();
    StatementResult { schema, stream, metrics, commit: None }
}

/// Creates the result of a write: the affected row count, and the commit if there is one.
pub(crate) fn of_write(
    rows: u64,
    commit: Option<Commit>,
    metrics: Arc<ExecutionMetrics>,
) -> Result<StatementResult> {
    let schema = Arc::new(Schema::new(vec![
        Field::new("rows", DataType::Int64, false),
        Field::new("commit", DataType::Utf8, true),
    ]));
    let id = commit.as_ref().map(|commit| commit.id.to_string());
    let batch = RecordBatch::try_new(
        SchemaRef::clone(&schema),
        vec![Arc::new(Int64Array::from(vec![rows as i64])), Arc::new(StringArray::from(vec![id]))],
    );
    let batch = batch.map_err(headwater_lake::Error::from)?;
    Ok(StatementResult { schema, stream: stream::iter([Ok(batch)]).boxed(), metrics, commit })
}
