//! One SQL statement as a job: run, answered chunk by chunk, and recorded however it ends.
//!
//! The asker pulls: nothing is computed faster than it is taken. An asker that goes away drops the
//! stream, which stops the statement and records it as cancelled, with what it took until then.

use std::sync::Arc;

use arrow::error::ArrowError;
use bytes::Bytes;
use futures::{Stream, StreamExt};
use headwater_engine::{Answer, BatchStream, Metrics, Prepared, Session};
use headwater_jobs::{JobContext, JobGuard};
use headwater_model::{ErrorCode, Fault, Problem};
use serde_json::{Value, json};

use crate::answer::{Encoder, Format};

/// A statement under way.
pub struct Statement {
    context: JobContext,
    guard: Option<JobGuard>,
    metrics: Option<Arc<Metrics>>,
    /// Rows that may still be answered.
    left: Option<u64>,
}

impl Statement {
    /// A statement that answers at most so many rows.
    pub fn new(context: JobContext, guard: JobGuard, limit: Option<u64>) -> Self {
        Statement { context, guard: Some(guard), metrics: None, left: limit }
    }

    /// Executes the statement, and answers its rows as chunks of bytes once the first of them are
    /// there.
    pub async fn answer(
        mut self,
        session: headwater_engine::Result<Session>,
        sql: headwater_engine::Result<Prepared>,
        format: Format,
    ) -> Result<impl Stream<Item = Result<Bytes, Problem>> + Send + 'static, Problem> {
        let answer = match self.execute(session, sql).await {
            Ok(answer) => answer,
            Err(problem) => return Err(self.fail(problem)),
        };
        let encoder = match Encoder::new(format, &answer.schema) {
            Ok(encoder) => encoder,
            Err(error) => return Err(self.fail(encoding(&error))),
        };
        let result = answer.commit.map_or(Value::Null, |commit| json!({ "commit": commit.id }));
        let mut chunks = Chunks { statement: self, rows: answer.stream, encoder, result };
        let first = chunks.next().await?;
        let rest = futures::stream::try_unfold(chunks, |mut chunks| async {
            Ok(chunks.next().await?.map(|bytes| (bytes, chunks)))
        });
        Ok(futures::stream::iter(first.map(Ok)).chain(rest))
    }

    async fn execute(
        &mut self,
        session: headwater_engine::Result<Session>,
        sql: headwater_engine::Result<Prepared>,
    ) -> Result<Answer, Problem> {
        let cancelled = self.context.cancelled();
        let work = async { Box::pin(session?.execute(sql?)).await };
        let answer = tokio::select! {
            answer = work => answer.map_err(|error| error.to_problem())?,
            () = cancelled.cancelled() => return Err(stopped()),
        };
        self.metrics = Some(answer.metrics.clone());
        Ok(answer)
    }

    fn fail(&mut self, problem: Problem) -> Problem {
        self.end(Err(problem.clone()));
        problem
    }

    fn end(&mut self, result: Result<Value, Problem>) {
        self.report_usage();
        if let Some(guard) = self.guard.take() {
            guard.finish(result);
        }
    }

    fn report_usage(&self) {
        if let Some(metrics) = &self.metrics {
            self.context.set_usage(metrics.usage());
        }
    }
}

impl Drop for Statement {
    fn drop(&mut self) {
        if self.guard.is_some() {
            // The guard, dropped next, says that nobody waited for the answer.
            self.report_usage();
        }
    }
}

/// The rest of an answer.
struct Chunks {
    statement: Statement,
    rows: BatchStream,
    encoder: Encoder,
    result: Value,
}

impl Chunks {
    /// The next bytes that are not empty; none once the statement has ended, which is recorded by
    /// then.
    async fn next(&mut self) -> Result<Option<Bytes>, Problem> {
        while self.statement.guard.is_some() {
            let bytes = match self.step().await {
                Ok(bytes) => bytes,
                Err(problem) => return Err(self.statement.fail(problem)),
            };
            if !bytes.is_empty() {
                return Ok(Some(bytes));
            }
        }
        Ok(None)
    }

    async fn step(&mut self) -> Result<Bytes, Problem> {
        let left = self.statement.left;
        let cancelled = self.statement.context.cancelled();
        let batch = tokio::select! {
            batch = self.rows.next(), if left != Some(0) => batch.transpose(),
            () = std::future::ready(()), if left == Some(0) => Ok(None),
            () = cancelled.cancelled() => return Err(stopped()),
        };
        let Some(batch) = batch.map_err(|error| error.to_problem())? else {
            let bytes = self.encoder.end().map_err(|error| encoding(&error))?;
            // Nothing more is computed, and the usage is final.
            self.rows = futures::stream::empty().boxed();
            self.statement.end(Ok(std::mem::take(&mut self.result)));
            return Ok(bytes);
        };
        let rows = left.map_or(batch.num_rows(), |left| {
            batch.num_rows().min(usize::try_from(left).unwrap_or(usize::MAX))
        });
        self.statement.left = left.map(|left| left - rows as u64);
        self.encoder.batch(&batch.slice(0, rows)).map_err(|error| encoding(&error))
    }
}

fn stopped() -> Problem {
    Problem::new(ErrorCode::Cancelled, "the statement was stopped")
}

fn encoding(error: &ArrowError) -> Problem {
    let message = format!("the answer cannot be written: {error}");
    Problem::new(ErrorCode::Internal, message)
}
