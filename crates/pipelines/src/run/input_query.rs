//! Reads a function's input through a query. The query runs once for a whole table, and once per
//! attempt of the function for a stream of batches.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use arrow::error::ArrowError;
use futures::{StreamExt, TryStreamExt, stream};
use headwater_engine::{ExecutionMetrics, PreparedStatement, Session, StatementResult};
use headwater_functions::RowStream;
use parking_lot::Mutex;

use super::StepProgress;
use super::step::{FirstQueryError, capture_first_error};
use crate::{Location, Result};

/// Query that returns the rows of an input.
pub(super) struct InputQuery {
    session: Session,
    query: PreparedStatement,
    /// Location of the input in the project's files, for errors.
    pub at: Location,
    /// Result of the query that `new` planned. Taken when the rows are first read.
    first: Mutex<Option<StatementResult>>,
    queries: Mutex<Vec<Arc<ExecutionMetrics>>>,
    rows: AtomicU64,
    /// Error of the query, which is more specific than the error of the stream.
    cause: FirstQueryError,
}

impl InputQuery {
    /// Plans the query. The query starts when its rows are first read, so that a queued call uses
    /// no memory for the rows.
    pub async fn new(
        session: Session,
        query: PreparedStatement,
        at: &Location,
    ) -> Result<(SchemaRef, Arc<InputQuery>), headwater_engine::Error> {
        let answer = Box::pin(session.select_lazy(query.clone())).await?;
        let schema = answer.schema.clone();
        let queries = Mutex::new(vec![Arc::clone(&answer.metrics)]);
        let (at, first) = (at.clone(), Mutex::new(Some(answer)));
        let (rows, cause) = (AtomicU64::new(0), FirstQueryError::default());
        Ok((schema, Arc::new(InputQuery { session, query, at, first, queries, rows, cause })))
    }

    /// Returns true if the query calls functions in Python.
    pub fn calls_functions(&self) -> bool {
        self.queries.lock().iter().any(|metrics| metrics.calls_functions())
    }

    /// Returns a stream of all rows. Each call after the first runs the query again.
    pub fn rows(self: &Arc<Self>) -> RowStream {
        let reading = Arc::clone(self);
        let rows = async move {
            let first = reading.first.lock().take();
            let answer = match first {
                Some(answer) => answer,
                None => reading.rerun().await?,
            };
            let rows = capture_first_error(answer.stream, &reading.cause);
            let count = move |batch: &RecordBatch| {
                reading.rows.fetch_add(batch.num_rows() as u64, Ordering::Relaxed);
            };
            Ok::<_, ArrowError>(rows.inspect_ok(count))
        };
        stream::once(rows).try_flatten().boxed()
    }

    async fn rerun(&self) -> Result<StatementResult, ArrowError> {
        let answer = Box::pin(self.session.select(self.query.clone())).await;
        let answer = answer.map_err(|error| super::step::to_arrow_error(error, &self.cause))?;
        self.queries.lock().push(Arc::clone(&answer.metrics));
        Ok(answer)
    }

    /// Returns the error of the query, if it failed.
    pub fn cause(&self) -> Option<headwater_engine::Error> {
        self.cause.lock().take()
    }

    /// Adds the rows read so far, and the metrics of the queries, to the step's progress.
    pub fn count(&self, done: &mut StepProgress) {
        done.queries.append(&mut self.queries.lock());
        done.usage.rows_read += self.rows.swap(0, Ordering::Relaxed);
    }
}
