//! SUMMARIZE: one row of statistics for each column of a table or query.

use std::sync::Arc;

use arrow::array::RecordBatch;
use datafusion::common::DataFusionError;
use futures::TryStreamExt;
use headwater_sql::statement::SourceQuery;
use headwater_sql_functions::summarize;
use headwater_table_scan::plain_schema;
use headwater_tables::field_type_name;

use crate::error::Result;
use crate::plan_output;
use crate::session::Session;
use crate::statement_result::StatementResult;

impl Session {
    /// Runs SUMMARIZE. The table is read once.
    pub(crate) async fn summarize(&self, source: SourceQuery) -> Result<StatementResult> {
        let (run, plan, names) = self.planned(source).await?;
        let limits = run.limits;
        let columns = plan_output::renamed(&names, &plain_schema(plan.schema().as_arrow()));
        let metrics = Arc::clone(&run.metrics);
        let plan =
            summarize::aggregate(&run.state, plan).map_err(|error| limits.explain(&error))?;
        let running = self.start(run, plan).await?;
        let batches: Vec<RecordBatch> = running
            .stream
            .try_collect()
            .await
            .map_err(|error: DataFusionError| limits.explain(&error))?;
        let values = batches.iter().find(|batch| batch.num_rows() > 0);
        let types = columns.fields().iter().map(|field| field_type_name(field)).collect();
        let batch =
            summarize::rows(&columns, types, values).map_err(headwater_lake::Error::from)?;
        Ok(plan_output::of_batch(batch, metrics))
    }
}
