//! Runs plans on the engine's compute threads, not on the network threads.
//!
//! Batches pass through a short queue, so a slow reader slows the plan down. A lazy plan starts
//! when its first batch is requested, and uses no memory until then. Dropping the reader cancels
//! the plan. If a hash join runs out of memory before the first batch, the plan is created again
//! with sort-merge joins, which can spill.

use std::sync::Arc;

use crate::error::Error;
use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use datafusion::common::runtime::SpawnedTask;
use datafusion::common::{DataFusionError, Result};
use datafusion::execution::runtime_env::RuntimeEnv;
use datafusion::execution::{SessionState, TaskContext};
use datafusion::logical_expr::LogicalPlan;
use datafusion::physical_plan::joins::HashJoinExec;
use datafusion::physical_plan::{ExecutionPlan, execute_stream};
use futures::StreamExt;
use futures::stream::{self, BoxStream};
use headwater_sql_functions::{
    CancellationFlag, CancellationHandles, FunctionMemoryExtension, MonitoringGuard,
    ResidentMemoryMonitor, cancellable, check_zones, panic_error,
};
use headwater_sql_python::PlanCallsGuard;
use headwater_table_scan::PlanEstimate;
use tokio::runtime::Handle;
use tokio::sync::{mpsc, oneshot};
use tokio::task::{JoinError, JoinHandle};

use crate::datafusion_error::is_out_of_memory;
use crate::statement_result::ExecutionMetrics;

/// Number of batches that are queued for the reader.
const QUEUE: usize = 2;

/// A running plan.
pub(crate) struct RunningPlan {
    /// Schema of the batches.
    pub schema: SchemaRef,
    /// Stream of result batches.
    pub stream: BoxStream<'static, Result<RecordBatch>>,
}

type Sender = mpsc::Sender<Result<RecordBatch>>;

/// A logical plan with the state and runtime to run it.
pub(crate) struct ExecutableStatement {
    pub state: Arc<SessionState>,
    pub runtime: Arc<RuntimeEnv>,
    pub plan: LogicalPlan,
    pub metrics: Arc<ExecutionMetrics>,
    /// If true, execution starts only when the first batch is requested.
    pub lazy: bool,
}

/// Creates the physical plan of a statement. Starts the plan, or defers the start if the statement
/// is lazy.
pub(crate) async fn start(
    threads: &Handle,
    statement: ExecutableStatement,
    resident: Option<&ResidentMemoryMonitor>,
) -> Result<RunningPlan> {
    let (ready, planned) = oneshot::channel();
    let (begin, begun) = oneshot::channel();
    let (sender, receiver) = mpsc::channel(QUEUE);
    let stop = CancellationFlag::default();
    let (reader_stop, lazy) = (stop.clone(), statement.lazy);
    let calls = statement.metrics.calls().begin();
    let pool = Arc::clone(statement.metrics.pool());
    let task = threads.spawn(async move {
        match statement.physical(&stop).await {
            Ok(physical) => {
                if ready.send(Ok(physical.schema())).is_ok() && begun.await.is_ok() {
                    statement.pump(physical, &stop, &sender).await;
                }
            }
            Err(error) => drop(ready.send(Err(error))),
        }
    });
    let running = CancellationHandles { task: task.abort_handle(), calls: calls.token() };
    let watched = resident.map(|resident| resident.watch(pool, running));
    let (begin, task) = (Some(begin), Some(task));
    let stop = reader_stop;
    let mut reader = BatchReader { begin, receiver, task, watched, stop, _calls: calls };
    if !lazy {
        reader.begin();
    }
    let schema = match planned.await {
        Ok(planned) => planned?,
        Err(_) => return Err(reader.failure().await),
    };
    let stream = stream::unfold(reader, |mut reader| async move {
        let item = reader.next().await?;
        Some((item, reader))
    });
    Ok(RunningPlan { schema, stream: stream.boxed() })
}

/// Plans a statement and returns its estimated cost. Executes nothing.
pub(crate) async fn estimate(
    threads: &Handle,
    statement: ExecutableStatement,
) -> Result<PlanEstimate> {
    let work = async move { Ok(PlanEstimate::of(physical(&statement).await?.as_ref())) };
    plan_on(threads, work).await
}

/// Runs planning on the engine's threads. Dropping the future stops the planning.
pub(crate) async fn plan_on<T: Send + 'static>(
    threads: &Handle,
    work: impl Future<Output = Result<T>> + Send + 'static,
) -> Result<T> {
    let task = {
        let _entered = threads.enter();
        SpawnedTask::spawn(work)
    };
    task.await.map_err(|error| DataFusionError::ExecutionJoin(Box::new(error)))?
}

/// Creates the physical plan of a statement that is not executed.
pub(crate) async fn physical(statement: &ExecutableStatement) -> Result<Arc<dyn ExecutionPlan>> {
    statement.physical(&CancellationFlag::default()).await
}

impl ExecutableStatement {
    async fn physical(&self, stop: &CancellationFlag) -> Result<Arc<dyn ExecutionPlan>> {
        let functions = FunctionMemoryExtension::of(self.state.config_options());
        functions.set_planning(true);
        let plan = self.state.optimize(&self.plan);
        functions.set_planning(false);
        let planner = self.state.query_planner();
        let physical = planner.create_physical_plan(&plan?, self.state.as_ref()).await?;
        let physical = cancellable(physical, stop)?;
        check_zones(physical.schema().fields())?;
        self.metrics.watch(Arc::clone(&physical));
        Ok(physical)
    }

    /// Sends the batches of a plan until the plan ends or the reader is dropped.
    async fn pump(
        mut self,
        physical: Arc<dyn ExecutionPlan>,
        stop: &CancellationFlag,
        sender: &Sender,
    ) {
        let hashes = joins_by_hash(&physical);
        let mut ended = self.send(physical, sender).await;
        if let PlanOutcome::Early(error) = &ended
            && hashes
            && is_out_of_memory(error)
        {
            tracing::debug!("a hash join ran out of memory; sorting instead");
            let state = Arc::make_mut(&mut self.state);
            state.config_mut().options_mut().optimizer.prefer_hash_join = false;
            ended = match self.physical(stop).await {
                Ok(physical) => self.send(physical, sender).await,
                Err(error) => PlanOutcome::Early(error),
            };
        }
        if let PlanOutcome::Early(error) | PlanOutcome::Late(error) = ended {
            let _ = sender.send(Err(error)).await;
        }
    }

    async fn send(&self, physical: Arc<dyn ExecutionPlan>, sender: &Sender) -> PlanOutcome {
        let context = TaskContext::from(&*self.state).with_runtime(Arc::clone(&self.runtime));
        let mut batches = match execute_stream(physical, Arc::new(context)) {
            Ok(batches) => batches,
            Err(error) => return PlanOutcome::Early(error),
        };
        let mut sent = false;
        while let Some(batch) = batches.next().await {
            match batch {
                Ok(batch) => {
                    if sender.send(Ok(batch)).await.is_err() {
                        return PlanOutcome::Well;
                    }
                    sent = true;
                }
                Err(error) if sent => return PlanOutcome::Late(error),
                Err(error) => return PlanOutcome::Early(error),
            }
        }
        PlanOutcome::Well
    }
}

/// The way in which a plan's execution ended.
enum PlanOutcome {
    /// All batches were sent, or the reader was dropped before.
    Well,
    /// The plan failed before the first batch.
    Early(DataFusionError),
    /// The plan failed after a batch was sent.
    Late(DataFusionError),
}

fn joins_by_hash(plan: &Arc<dyn ExecutionPlan>) -> bool {
    plan.downcast_ref::<HashJoinExec>().is_some() || plan.children().into_iter().any(joins_by_hash)
}

/// Reader of the batches. Dropping the reader cancels the plan.
struct BatchReader {
    /// Signal that starts the plan; `None` once it is sent.
    begin: Option<oneshot::Sender<()>>,
    receiver: mpsc::Receiver<Result<RecordBatch>>,
    task: Option<JoinHandle<()>>,
    stop: CancellationFlag,
    watched: Option<MonitoringGuard>,
    /// A guard that cancels the calls of Python functions when dropped.
    _calls: PlanCallsGuard,
}

impl BatchReader {
    fn begin(&mut self) {
        if let Some(begin) = self.begin.take() {
            // The send fails only if planning failed or panicked, and another channel or the task
            // itself returns this error.
            let _ = begin.send(());
        }
    }

    async fn next(&mut self) -> Option<Result<RecordBatch>> {
        self.begin();
        if let Some(item) = self.receiver.recv().await {
            // If the server's memory limit stopped the statement, a stopped SQL function returns
            // its own error. Return the memory limit as the error instead, because it is the cause.
            return Some(item.map_err(|error| self.server_memory().unwrap_or(error)));
        }
        // A panic is returned as an error, not as the end of the stream.
        match self.task.take()?.await {
            Ok(()) => None,
            Err(error) => Some(Err(self.join_error(error))),
        }
    }

    /// Returns the error of a planning task that ended before it sent the schema of its plan.
    async fn failure(&mut self) -> DataFusionError {
        let ended = match self.task.take() {
            Some(task) => task.await.err(),
            None => None,
        };
        match ended {
            Some(error) => self.join_error(error),
            None => DataFusionError::Internal("planning returned no plan".to_owned()),
        }
    }

    /// Returns the error of a statement that was stopped because of the server's memory.
    fn server_memory(&self) -> Option<DataFusionError> {
        let limit = self.watched.as_ref().and_then(MonitoringGuard::limit_reached)?;
        Some(DataFusionError::External(Box::new(Error::ServerMemory { limit })))
    }

    /// Converts an aborted or panicked task to an error.
    fn join_error(&self, error: JoinError) -> DataFusionError {
        if let Some(error) = self.server_memory() {
            return error;
        }
        match error.try_into_panic() {
            Ok(panic) => panic_error(panic.as_ref()),
            Err(error) => DataFusionError::ExecutionJoin(Box::new(error)),
        }
    }
}

impl Drop for BatchReader {
    fn drop(&mut self) {
        self.stop.set();
        if let Some(task) = &self.task {
            task.abort();
        }
    }
}
