//! What a function reads of an input through the engine: a query, run once for a table that is handed
//! over whole, and as often as the function begins anew where it is given batch by batch.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use arrow::error::ArrowError;
use futures::{StreamExt, TryStreamExt, stream};
use headwater_engine::{Answer, Metrics, Prepared, Session};
use headwater_functions::Rows;
use parking_lot::Mutex;

use super::Done;
use super::step::{Cause, told};
use crate::{Location, Result};

/// A query of an input's rows.
pub(super) struct Reading {
    session: Session,
    query: Prepared,
    /// Where the input is written.
    pub at: Location,
    /// The query as it was first planned, until somebody reads that.
    first: Mutex<Option<Answer>>,
    queries: Mutex<Vec<Arc<Metrics>>>,
    rows: AtomicU64,
    /// What a query failed of, which says more than that its rows did not come.
    cause: Cause,
}

impl Reading {
    /// Plans the query. It is run when somebody reads it: a call may have to wait for its turn, and others
    /// could not have the memory that it would hold meanwhile.
    pub async fn new(
        session: Session,
        query: Prepared,
        at: &Location,
    ) -> Result<(SchemaRef, Arc<Reading>), headwater_engine::Error> {
        let answer = Box::pin(session.select_lazy(query.clone())).await?;
        let schema = answer.schema.clone();
        let queries = Mutex::new(vec![Arc::clone(&answer.metrics)]);
        let (at, first) = (at.clone(), Mutex::new(Some(answer)));
        let (rows, cause) = (AtomicU64::new(0), Cause::default());
        Ok((schema, Arc::new(Reading { session, query, at, first, queries, rows, cause })))
    }

    /// The rows, from the first on.
    pub fn rows(self: &Arc<Self>) -> Rows {
        let reading = Arc::clone(self);
        let rows = async move {
            let first = reading.first.lock().take();
            let answer = match first {
                Some(answer) => answer,
                None => reading.again().await?,
            };
            let told = told(answer.stream, &reading.cause);
            let count = move |batch: &RecordBatch| {
                reading.rows.fetch_add(batch.num_rows() as u64, Ordering::Relaxed);
            };
            Ok::<_, ArrowError>(told.inspect_ok(count))
        };
        stream::once(rows).try_flatten().boxed()
    }

    async fn again(&self) -> Result<Answer, ArrowError> {
        let answer = Box::pin(self.session.select(self.query.clone())).await;
        let answer = answer.map_err(|error| super::step::noted(error, &self.cause))?;
        self.queries.lock().push(Arc::clone(&answer.metrics));
        Ok(answer)
    }

    /// What the query failed of, if it did.
    pub fn cause(&self) -> Option<headwater_engine::Error> {
        self.cause.lock().take()
    }

    /// Counts what was read so far to what the step did.
    pub fn count(&self, done: &mut Done) {
        done.queries.append(&mut self.queries.lock());
        done.usage.rows_read += self.rows.swap(0, Ordering::Relaxed);
    }
}
