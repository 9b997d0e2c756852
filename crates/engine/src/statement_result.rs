//! Result of a statement: a stream of rows, its metrics, and the commit of a write.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::metrics::MetricValue;
use futures::stream::BoxStream;
use headwater_lake::CommitView;
use headwater_model::{Commit, Usage};
use headwater_sql_functions::StatementMemoryPool;
use headwater_sql_python::StatementCalls;
use headwater_table_scan::{PlanEstimate, files_planned};
use parking_lot::Mutex;

use crate::error::Result;

/// Stream of result batches. Dropping the stream cancels the statement.
pub type BatchStream = BoxStream<'static, Result<RecordBatch>>;

/// Record batches in memory, such as a model's output.
#[derive(Debug, Clone)]
pub struct RecordBatches {
    /// Schema of the batches.
    pub schema: SchemaRef,
    /// Record batches.
    pub batches: Vec<RecordBatch>,
}

/// Result of a statement.
pub struct StatementResult {
    /// Schema of the result.
    pub schema: SchemaRef,
    /// Rows of the result.
    pub stream: BatchStream,
    /// Metrics, readable at any time.
    pub metrics: Arc<ExecutionMetrics>,
    /// The commit, if the statement wrote one.
    pub commit: Option<Commit>,
}

impl std::fmt::Debug for StatementResult {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Answer")
            .field("schema", &self.schema)
            .field("commit", &self.commit)
            .finish_non_exhaustive()
    }
}

/// Metrics of a statement, updated while it runs.
#[derive(Debug)]
pub struct ExecutionMetrics {
    pool: Arc<StatementMemoryPool>,
    /// The calls of functions in Python.
    calls: Arc<StatementCalls>,
    plans: Mutex<Vec<Arc<dyn ExecutionPlan>>>,
    /// Catalog states that the statement reads. Garbage collection keeps the files of a commit
    /// while a `CommitView` of the commit exists.
    reads: Mutex<Vec<CommitView>>,
    rows_answered: AtomicU64,
    rows_written: AtomicU64,
    bytes_written: AtomicU64,
    /// The estimated cost of the query that EXPLAIN shows; unset for other statements.
    estimate: OnceLock<PlanEstimate>,
}

impl ExecutionMetrics {
    pub(crate) fn new(pool: Arc<StatementMemoryPool>, calls: Arc<StatementCalls>) -> Self {
        ExecutionMetrics {
            pool,
            calls,
            plans: Mutex::new(Vec::new()),
            reads: Mutex::new(Vec::new()),
            rows_answered: AtomicU64::new(0),
            rows_written: AtomicU64::new(0),
            bytes_written: AtomicU64::new(0),
            estimate: OnceLock::new(),
        }
    }

    /// Returns the statement's memory pool.
    pub(crate) fn pool(&self) -> &Arc<StatementMemoryPool> {
        &self.pool
    }

    /// Returns the statement's calls of functions in Python.
    pub fn calls(&self) -> &Arc<StatementCalls> {
        &self.calls
    }

    /// Returns true if the statement calls functions in Python.
    pub fn calls_functions(&self) -> bool {
        self.calls.has_functions()
    }

    /// Stores the catalog states that the statement reads, so that garbage collection keeps their
    /// files.
    pub(crate) fn reads(&self, views: Vec<CommitView>) {
        self.reads.lock().extend(views);
    }

    /// Returns the catalog states that the statement reads.
    pub(crate) fn views(&self) -> Vec<CommitView> {
        self.reads.lock().clone()
    }

    /// Adds a physical plan of the statement. The metrics of its operators become part of the
    /// statement's metrics.
    pub(crate) fn watch(&self, plan: Arc<dyn ExecutionPlan>) {
        self.plans.lock().push(plan);
    }

    pub(crate) fn answered(&self, rows: usize) {
        self.rows_answered.fetch_add(rows as u64, Ordering::Relaxed);
    }

    pub(crate) fn record_write(&self, rows: u64, bytes: u64) {
        self.rows_written.fetch_add(rows, Ordering::Relaxed);
        self.bytes_written.fetch_add(bytes, Ordering::Relaxed);
    }

    /// Stores the estimated cost of the query that EXPLAIN shows.
    pub(crate) fn estimated(&self, estimate: PlanEstimate) {
        self.estimate.get_or_init(|| estimate);
    }

    /// Returns the estimated cost of the query that EXPLAIN shows; `None` for other statements.
    pub fn estimate(&self) -> Option<PlanEstimate> {
        self.estimate.get().copied()
    }

    /// Returns the usage so far. `wall_ms` is 0; the caller measures it.
    ///
    /// `rows_written` counts rows written to tables or, if there are none, rows returned. CPU time
    /// is the sum of the compute time of all operators.
    pub fn usage(&self) -> Usage {
        let counted = self.counted();
        let written = self.rows_written.load(Ordering::Relaxed);
        let answered = self.rows_answered.load(Ordering::Relaxed);
        let mut usage = Usage {
            wall_ms: 0,
            cpu_us: counted.nanoseconds / 1000,
            memory_bytes_peak: self.pool.peak(),
            bytes_read: counted.bytes_read,
            bytes_cached: counted.bytes_cached,
            bytes_written: self.bytes_written.load(Ordering::Relaxed),
            rows_read: counted.rows_read,
            rows_written: if written > 0 { written } else { answered },
            ..Usage::default()
        };
        usage.add(&self.calls.usage());
        usage
    }

    /// Returns the bytes spilled to disk so far.
    pub fn spilled_bytes(&self) -> u64 {
        self.counted().spilled
    }

    fn counted(&self) -> PlanMetrics {
        let mut counted = PlanMetrics::default();
        self.plans.lock().iter().for_each(|plan| counted.add(plan.as_ref()));
        counted
    }

    /// Returns the number of data files that the plans scan.
    pub fn files_planned(&self) -> usize {
        self.plans.lock().iter().map(|plan| files_planned(plan.as_ref())).sum()
    }
}

/// Sums of metrics over the operators of a plan.
#[derive(Default)]
struct PlanMetrics {
    nanoseconds: u64,
    bytes_read: u64,
    bytes_cached: u64,
    rows_read: u64,
    spilled: u64,
}

impl PlanMetrics {
    fn add(&mut self, plan: &dyn ExecutionPlan) {
        if let Some(metrics) = plan.metrics() {
            let (mut computed, mut scanned, mut rows, mut bytes) = (0, 0, 0, None::<u64>);
            for metric in metrics.iter() {
                match metric.value() {
                    MetricValue::ElapsedCompute(time) => computed += time.value() as u64,
                    MetricValue::Time { name, time } if name == "time_elapsed_processing" => {
                        scanned += time.value() as u64;
                    }
                    MetricValue::OutputRows(count) => rows += count.value() as u64,
                    MetricValue::SpilledBytes(count) => self.spilled += count.value() as u64,
                    MetricValue::Count { name, count } if name == "bytes_scanned" => {
                        bytes = Some(bytes.unwrap_or(0) + count.value() as u64);
                    }
                    MetricValue::Count { name, count } if name == "bytes_cached" => {
                        self.bytes_cached += count.value() as u64;
                    }
                    _ => {}
                }
            }
            self.nanoseconds += computed.max(scanned);
            if let Some(bytes) = bytes {
                self.bytes_read += bytes;
                self.rows_read += rows;
            }
        }
        for child in plan.children() {
            self.add(child.as_ref());
        }
    }
}
