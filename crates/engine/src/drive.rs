//! Running a plan on the engine's threads, away from those that serve the network.
//!
//! Batches come through a short queue: a slow reader slows the plan down. A plan may wait, without any
//! memory, until its first batch is asked for. Dropping the reader stops the plan. Where a hash join runs
//! out of memory before the first batch, the plan is made again with sort-merge joins, which can spill.

use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use datafusion::common::{DataFusionError, Result};
use datafusion::execution::runtime_env::RuntimeEnv;
use datafusion::execution::{SessionState, TaskContext};
use datafusion::logical_expr::LogicalPlan;
use datafusion::physical_plan::joins::HashJoinExec;
use datafusion::physical_plan::{ExecutionPlan, execute_stream};
use futures::StreamExt;
use futures::stream::{self, BoxStream};
use tokio::runtime::Handle;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;

use crate::answer::Metrics;
use crate::planning_error::is_out_of_memory;
use crate::stop::{Stop, stoppable};

/// Batches that may wait for the reader.
const QUEUE: usize = 2;

/// A plan that runs.
pub(crate) struct Running {
    /// Its columns.
    pub schema: SchemaRef,
    /// Its rows.
    pub stream: BoxStream<'static, Result<RecordBatch>>,
}

type Sender = mpsc::Sender<Result<RecordBatch>>;

/// What is run: a logical plan, what it is planned with and what it runs in.
pub(crate) struct Statement {
    pub state: Arc<SessionState>,
    pub runtime: Arc<RuntimeEnv>,
    pub plan: LogicalPlan,
    pub metrics: Arc<Metrics>,
    /// Whether nothing is run before the first batch is asked for.
    pub waits: bool,
}

/// Makes a statement's plan physical and starts it, at once or when its first batch is asked for.
pub(crate) async fn start(threads: &Handle, statement: Statement) -> Result<Running> {
    let (ready, planned) = oneshot::channel();
    let (begin, begun) = oneshot::channel();
    let (sender, receiver) = mpsc::channel(QUEUE);
    let stop = Stop::default();
    let (reader_stop, waits) = (stop.clone(), statement.waits);
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
    let mut reader = Reader { begin: Some(begin), receiver, task: Some(task), stop: reader_stop };
    if !waits {
        reader.begin();
    }
    let panicked = || DataFusionError::Internal("planning panicked".to_owned());
    let schema = planned.await.map_err(|_| panicked())??;
    let stream = stream::unfold(reader, |mut reader| async move {
        let item = reader.next().await?;
        Some((item, reader))
    });
    Ok(Running { schema, stream: stream.boxed() })
}

impl Statement {
    async fn physical(&self, stop: &Stop) -> Result<Arc<dyn ExecutionPlan>> {
        let physical = stoppable(self.state.create_physical_plan(&self.plan).await?, stop)?;
        self.metrics.watch(Arc::clone(&physical));
        Ok(physical)
    }

    /// Sends a plan's batches until it ends or nobody reads them.
    async fn pump(mut self, physical: Arc<dyn ExecutionPlan>, stop: &Stop, sender: &Sender) {
        let hashes = joins_by_hash(&physical);
        let mut ended = self.send(physical, sender).await;
        if let Ended::Early(error) = &ended
            && hashes
            && is_out_of_memory(error)
        {
            tracing::debug!("a hash join ran out of memory; sorting instead");
            let state = Arc::make_mut(&mut self.state);
            state.config_mut().options_mut().optimizer.prefer_hash_join = false;
            ended = match self.physical(stop).await {
                Ok(physical) => self.send(physical, sender).await,
                Err(error) => Ended::Early(error),
            };
        }
        if let Ended::Early(error) | Ended::Late(error) = ended {
            let _ = sender.send(Err(error)).await;
        }
    }

    async fn send(&self, physical: Arc<dyn ExecutionPlan>, sender: &Sender) -> Ended {
        let context = TaskContext::from(&*self.state).with_runtime(Arc::clone(&self.runtime));
        let mut batches = match execute_stream(physical, Arc::new(context)) {
            Ok(batches) => batches,
            Err(error) => return Ended::Early(error),
        };
        let mut sent = false;
        while let Some(batch) = batches.next().await {
            match batch {
                Ok(batch) => {
                    if sender.send(Ok(batch)).await.is_err() {
                        return Ended::Well;
                    }
                    sent = true;
                }
                Err(error) if sent => return Ended::Late(error),
                Err(error) => return Ended::Early(error),
            }
        }
        Ended::Well
    }
}

/// How a plan ended.
enum Ended {
    /// Completely, or because nobody reads any more.
    Well,
    /// With an error before the first batch.
    Early(DataFusionError),
    /// With an error after a batch was sent.
    Late(DataFusionError),
}

fn joins_by_hash(plan: &Arc<dyn ExecutionPlan>) -> bool {
    plan.downcast_ref::<HashJoinExec>().is_some() || plan.children().into_iter().any(joins_by_hash)
}

/// The reading end. Dropping it stops the plan.
struct Reader {
    /// What the plan waits for.
    begin: Option<oneshot::Sender<()>>,
    receiver: mpsc::Receiver<Result<RecordBatch>>,
    task: Option<JoinHandle<()>>,
    stop: Stop,
}

impl Reader {
    fn begin(&mut self) {
        if let Some(begin) = self.begin.take() {
            // Where nobody hears it the planning has failed or panicked, which is told elsewhere.
            let _ = begin.send(());
        }
    }

    async fn next(&mut self) -> Option<Result<RecordBatch>> {
        self.begin();
        if let Some(item) = self.receiver.recv().await {
            return Some(item);
        }
        // A panic is an error, not an end.
        match self.task.take()?.await {
            Ok(()) => None,
            Err(error) => Some(Err(DataFusionError::ExecutionJoin(Box::new(error)))),
        }
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        self.stop.set();
        if let Some(task) = &self.task {
            task.abort();
        }
    }
}
