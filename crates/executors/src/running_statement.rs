//! A statement that runs as a job: its rows, its usage and its end.
//!
//! [`StatementRows`] are computed as they are read. Dropping the rows stops the statement. The
//! statement is then recorded as cancelled, with its usage so far.

use std::sync::Arc;
use std::time::Duration;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use futures::StreamExt;
use headwater_encoding::RowSource;
use headwater_engine::{BatchStream, ExecutionMetrics, PlanEstimate, StatementResult};
use headwater_jobs::{JobContext, JobGuard, StatementLimits};
use headwater_model::{Problem, ResultExt, Usage};
use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::runtime::Handle;

use crate::file_read_counters::FileReadCounters;

/// Interval at which the usage of a running statement is reported.
const USAGE_INTERVAL: Duration = Duration::from_millis(100);

/// The message of a statement that was stopped.
const STOPPED: &str = "the statement was stopped";

/// The job of a running statement.
pub struct RunningStatement {
    /// The context of the job.
    pub context: JobContext,
    /// The guard of the job; `None` after the end of the job has been recorded.
    guard: Option<JobGuard>,
    /// The metrics of the statement, once it has started.
    pub metrics: Option<Arc<ExecutionMetrics>>,
    /// The latest reported usage of the statement's plans. A failed write has no metrics, so this
    /// is its usage.
    reported: Mutex<Usage>,
    /// The files that the statement reads.
    pub files: FileReadCounters,
    limits: StatementLimits,
}

impl RunningStatement {
    /// Creates the state of a statement that starts now.
    pub fn new(context: JobContext, guard: JobGuard, limits: StatementLimits) -> Self {
        let files = FileReadCounters::default();
        let (guard, reported) = (Some(guard), Mutex::default());
        RunningStatement { context, guard, metrics: None, reported, files, limits }
    }

    /// Returns the usage of the plans so far, without the bytes and rows read from files.
    fn usage_of_plans(&self) -> Usage {
        match &self.metrics {
            Some(metrics) => metrics.usage(),
            None => *self.reported.lock(),
        }
    }

    /// Returns the usage so far.
    fn usage(&self) -> Usage {
        self.files.add_to(self.usage_of_plans())
    }

    /// Returns an error if the statement exceeds a limit. Called after each batch and at the start
    /// of each file.
    pub fn check_limits(&self) -> Result<(), Problem> {
        if !self.limits.is_limited() {
            return Ok(());
        }
        self.report_usage();
        self.context.enforce_day_limits();
        if self.context.cancelled().is_cancelled() {
            return Err(self.context.stopped(STOPPED));
        }
        self.limits.check(&self.usage())
    }

    /// Reports the usage of the statement and of its files while it runs. `usage` returns the usage
    /// of the plans. Returns the error when the job is stopped, or when the statement exceeds a
    /// limit of its request.
    pub async fn stopped(&self, usage: impl Fn() -> Usage) -> Problem {
        let cancelled = self.context.cancelled();
        loop {
            tokio::select! {
                () = cancelled.cancelled() => return self.context.stopped(STOPPED),
                problem = self.limits.expired() => return problem,
                () = tokio::time::sleep(USAGE_INTERVAL) => {
                    let plans = usage();
                    *self.reported.lock() = plans;
                    let usage = self.files.add_to(plans);
                    if let Err(problem) = self.limits.check(&usage) {
                        return problem;
                    }
                    self.context.set_usage(usage);
                    self.context.enforce_day_limits();
                }
            }
        }
    }

    /// Records the end of the statement.
    pub fn end(&mut self, result: Result<Value, Problem>) {
        self.report_usage();
        if let Some(guard) = self.guard.take() {
            guard.finish(result);
        }
    }

    /// Waits until the calls of Python functions have reported their usage. The end of the plan has
    /// cancelled these calls.
    async fn wait_for_calls(&self) {
        if let Some(metrics) = &self.metrics {
            metrics.calls().ended().await;
        }
    }

    fn report_usage(&self) {
        self.context.set_usage(self.usage());
    }
}

impl Drop for RunningStatement {
    fn drop(&mut self) {
        // Dropping the guard records the job as cancelled, with the usage reported so far.
        let Some(guard) = self.guard.take() else { return };
        self.report_usage();
        let metrics = self.metrics.take().filter(|metrics| metrics.calls().is_active());
        let (Some(metrics), Ok(runtime)) = (metrics, Handle::try_current()) else { return };
        let (context, files) = (self.context.clone(), self.files.clone());
        // Dropping the plan cancels the calls of functions in Python. Wait for the usage of these
        // calls.
        drop(runtime.spawn(async move {
            metrics.calls().ended().await;
            context.set_usage(files.add_to(metrics.usage()));
            drop(guard);
        }));
    }
}

/// The rows of a statement, computed on demand.
pub struct StatementRows {
    running: RunningStatement,
    schema: SchemaRef,
    stream: BatchStream,
    /// Number of rows that may still be returned; `None` without a limit.
    left: Option<u64>,
    result: Value,
}

impl StatementRows {
    /// Creates the rows from the result of a statement. Returns at most `limit` rows.
    pub fn new(running: RunningStatement, answer: StatementResult, limit: Option<u64>) -> Self {
        let result = answer.commit.map_or(Value::Null, |commit| json!({ "commit": commit.id }));
        StatementRows { running, schema: answer.schema, stream: answer.stream, left: limit, result }
    }

    /// Returns the schema of the rows.
    pub fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    /// Returns the estimated cost of the query that EXPLAIN explains; `None` for other statements.
    pub fn estimate(&self) -> Option<PlanEstimate> {
        self.running.metrics.as_ref().and_then(|metrics| metrics.estimate())
    }

    /// Returns the next record batch. Returns `None` after the last one, and then records the end
    /// of the statement.
    pub async fn next(&mut self) -> Result<Option<RecordBatch>, Problem> {
        if self.running.guard.is_none() {
            return Ok(None);
        }
        let batch = match self.step().await {
            Ok(batch) => batch,
            Err(problem) => {
                // Drop the stream, to cancel the calls of functions in Python.
                self.stream = futures::stream::empty().boxed();
                self.running.wait_for_calls().await;
                return Err(self.fail(problem));
            }
        };
        let Some(batch) = batch else {
            // Drop the stream, and so the plan, which makes the usage final.
            self.stream = futures::stream::empty().boxed();
            self.running.end(Ok(std::mem::take(&mut self.result)));
            return Ok(None);
        };
        let rows = self.left.map_or(batch.num_rows(), |left| {
            batch.num_rows().min(usize::try_from(left).unwrap_or(usize::MAX))
        });
        self.left = self.left.map(|left| left - rows as u64);
        Ok(Some(batch.slice(0, rows)))
    }

    async fn step(&mut self) -> Result<Option<RecordBatch>, Problem> {
        if self.left == Some(0) {
            return Ok(None);
        }
        let running = &self.running;
        let batch = tokio::select! {
            biased;
            batch = self.stream.next() => batch.transpose().or_problem()?,
            problem = running.stopped(|| running.usage_of_plans()) => return Err(problem),
        };
        // Skip the limits for a write: it is already committed when its result is read.
        if self.result.is_null() {
            running.check_limits()?;
        }
        Ok(batch)
    }

    /// Records the failure of the statement, for example because its rows cannot be encoded.
    /// Returns the problem.
    pub fn fail(&mut self, problem: Problem) -> Problem {
        self.running.end(Err(problem.clone()));
        problem
    }
}

impl RowSource for StatementRows {
    fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    fn next(&mut self) -> impl Future<Output = Result<Option<RecordBatch>, Problem>> + Send {
        StatementRows::next(self)
    }

    fn fail(&mut self, problem: Problem) -> Problem {
        StatementRows::fail(self, problem)
    }
}
