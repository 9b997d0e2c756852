//! Rows stored outside of tables. Each scan reads all rows again, in batches of limited size.

use std::fmt;
use std::sync::Arc;

use arrow::array::{RecordBatch, RecordBatchOptions};
use arrow::compute::cast;
use arrow::datatypes::SchemaRef;
use arrow::error::ArrowError;
use async_trait::async_trait;
use datafusion::catalog::streaming::StreamingTable;
use datafusion::catalog::{Session, TableProvider};
use datafusion::common::DataFusionError;
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::datasource::source_as_provider;
use datafusion::execution::TaskContext;
use datafusion::logical_expr::{Expr, LogicalPlan, TableType};
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::streaming::PartitionStream;
use datafusion::physical_plan::{ExecutionPlan, SendableRecordBatchStream};
use futures::StreamExt;
use futures::stream::{self, BoxStream};

use crate::scan_cost::ScanCost;
use crate::string_views::view_schema;

/// Maximum number of rows per batch. Operators are tuned for batches of this size.
const BATCH_ROWS: usize = 32_768;

/// Rows that can be read repeatedly, such as a model's output on disk.
pub trait RowSource: fmt::Debug + Send + Sync {
    /// Returns the schema.
    fn schema(&self) -> SchemaRef;

    /// Returns a stream of all rows.
    fn read(&self) -> BoxStream<'static, Result<RecordBatch, ArrowError>>;

    /// Returns a stream of all rows with these columns, in this order. A source that stores columns
    /// separately does not read the other columns.
    fn read_columns(
        &self,
        columns: &[usize],
    ) -> BoxStream<'static, Result<RecordBatch, ArrowError>> {
        let columns = columns.to_vec();
        self.read().map(move |batch| batch?.project(&columns)).boxed()
    }

    /// Returns the name of the source and the maximum cost of one scan; `None` if reading the
    /// source costs nothing.
    fn cost(&self) -> Option<(String, ScanCost)> {
        None
    }
}

/// Returns the name and the cost of each scan of a [`RowSource`] in a query.
pub fn stored_costs(plan: &LogicalPlan) -> Result<Vec<(String, ScanCost)>, DataFusionError> {
    let mut costs = Vec::new();
    plan.apply_with_subqueries(|node| {
        if let LogicalPlan::TableScan(scan) = node
            && let Ok(provider) = source_as_provider(&scan.source)
            && let Some(table) = provider.downcast_ref::<RowSourceTable>()
        {
            costs.extend(table.rows.cost());
        }
        Ok(TreeNodeRecursion::Continue)
    })?;
    Ok(costs)
}

/// Creates a table of the rows of a source. Its string columns have view types.
pub fn stored_table(rows: Arc<dyn RowSource>) -> Arc<dyn TableProvider> {
    Arc::new(RowSourceTable { schema: view_schema(&rows.schema()), rows })
}

/// A table of stored rows. A scan reads only the columns that its query needs.
#[derive(Debug)]
struct RowSourceTable {
    schema: SchemaRef,
    rows: Arc<dyn RowSource>,
}

#[async_trait]
impl TableProvider for RowSourceTable {
    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }

    fn table_type(&self) -> TableType {
        TableType::View
    }

    async fn scan(
        &self,
        state: &dyn Session,
        projection: Option<&Vec<usize>>,
        filters: &[Expr],
        limit: Option<usize>,
    ) -> Result<Arc<dyn ExecutionPlan>, DataFusionError> {
        let schema = match projection {
            Some(columns) => Arc::new(self.schema.project(columns)?),
            None => Arc::clone(&self.schema),
        };
        let (columns, rows) = (projection.cloned(), Arc::clone(&self.rows));
        let partition = Arc::new(RowSourcePartition { schema: Arc::clone(&schema), columns, rows });
        let table = StreamingTable::try_new(schema, vec![partition])?;
        table.scan(state, None, filters, limit).await
    }
}

#[derive(Debug)]
struct RowSourcePartition {
    schema: SchemaRef,
    /// The columns to read; `None` for all.
    columns: Option<Vec<usize>>,
    rows: Arc<dyn RowSource>,
}

impl PartitionStream for RowSourcePartition {
    fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    fn execute(&self, _context: Arc<TaskContext>) -> SendableRecordBatchStream {
        let schema = Arc::clone(&self.schema);
        let pieces = move |batch: Result<RecordBatch, ArrowError>| {
            let viewed = batch.and_then(|batch| viewed(&batch, &schema));
            let pieces = match viewed {
                Ok(batch) => slices(&batch).map(Ok).collect::<Vec<_>>(),
                Err(error) => vec![Err(DataFusionError::from(error))],
            };
            stream::iter(pieces)
        };
        let rows = match &self.columns {
            Some(columns) => self.rows.read_columns(columns),
            None => self.rows.read(),
        };
        let rows = rows.flat_map(pieces);
        Box::pin(RecordBatchStreamAdapter::new(Arc::clone(&self.schema), rows))
    }
}

/// Casts a batch to a schema with view types for strings.
pub fn viewed(batch: &RecordBatch, schema: &SchemaRef) -> Result<RecordBatch, ArrowError> {
    let columns = batch.columns().iter().zip(schema.fields());
    let columns = columns.map(|(column, field)| cast(column, field.data_type()));
    let options = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
    let columns = columns.collect::<Result<Vec<_>, _>>()?;
    RecordBatch::try_new_with_options(Arc::clone(schema), columns, &options)
}

/// Splits a batch into slices of at most [`BATCH_ROWS`] rows.
pub fn slices(batch: &RecordBatch) -> impl Iterator<Item = RecordBatch> {
    let starts = (0..batch.num_rows()).step_by(BATCH_ROWS);
    starts.map(|start| batch.slice(start, BATCH_ROWS.min(batch.num_rows() - start)))
}
