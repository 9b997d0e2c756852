//! Rows that lie outside the engine, and that whoever scans them reads anew, piece by piece.

use std::fmt;
use std::sync::Arc;

use arrow::array::{RecordBatch, RecordBatchOptions};
use arrow::compute::cast;
use arrow::datatypes::SchemaRef;
use arrow::error::ArrowError;
use datafusion::catalog::TableProvider;
use datafusion::catalog::streaming::StreamingTable;
use datafusion::common::DataFusionError;
use datafusion::execution::TaskContext;
use datafusion::physical_plan::SendableRecordBatchStream;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::streaming::PartitionStream;
use futures::StreamExt;
use futures::stream::{self, BoxStream};

use crate::scan::view_schema;

/// Rows in one batch that is read, so that operators work on pieces they are made for.
const BATCH_ROWS: usize = 32_768;

/// Rows that can be read any number of times, such as a model's output on disk.
pub trait StoredRows: fmt::Debug + Send + Sync {
    /// The columns.
    fn schema(&self) -> SchemaRef;

    /// All rows, from the first.
    fn read(&self) -> BoxStream<'static, Result<RecordBatch, ArrowError>>;
}

/// Stored rows as a table, with views for its strings.
pub(crate) fn table(rows: Arc<dyn StoredRows>) -> Result<Arc<dyn TableProvider>, DataFusionError> {
    let schema = view_schema(&rows.schema());
    let partition = Arc::new(Partition { schema: Arc::clone(&schema), rows });
    Ok(Arc::new(StreamingTable::try_new(schema, vec![partition])?))
}

#[derive(Debug)]
struct Partition {
    schema: SchemaRef,
    rows: Arc<dyn StoredRows>,
}

impl PartitionStream for Partition {
    fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    fn execute(&self, _context: Arc<TaskContext>) -> SendableRecordBatchStream {
        let schema = Arc::clone(&self.schema);
        let pieces = move |batch: Result<RecordBatch, ArrowError>| {
            let viewed = batch.and_then(|batch| viewed(&batch, &schema));
            let pieces = match viewed {
                Ok(batch) => pieces(&batch).map(Ok).collect::<Vec<_>>(),
                Err(error) => vec![Err(DataFusionError::from(error))],
            };
            stream::iter(pieces)
        };
        let rows = self.rows.read().flat_map(pieces);
        Box::pin(RecordBatchStreamAdapter::new(Arc::clone(&self.schema), rows))
    }
}

/// The batch with views for its strings.
pub(crate) fn viewed(batch: &RecordBatch, schema: &SchemaRef) -> Result<RecordBatch, ArrowError> {
    let columns = batch.columns().iter().zip(schema.fields());
    let columns = columns.map(|(column, field)| cast(column, field.data_type()));
    let options = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
    let columns = columns.collect::<Result<Vec<_>, _>>()?;
    RecordBatch::try_new_with_options(Arc::clone(schema), columns, &options)
}

/// The batch in pieces.
pub(crate) fn pieces(batch: &RecordBatch) -> impl Iterator<Item = RecordBatch> {
    let starts = (0..batch.num_rows()).step_by(BATCH_ROWS);
    starts.map(|start| batch.slice(start, BATCH_ROWS.min(batch.num_rows() - start)))
}
