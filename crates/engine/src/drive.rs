//! Running a plan on the engine's threads, away from those that serve the network.
//!
//! Batches come through a short queue: a slow reader slows the plan down. Dropping the reader stops
//! the plan. Where a hash join runs out of memory before the first batch, the plan is made again
//! with sort-merge joins, which can spill.

use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use datafusion::common::{DataFusionError, Result};
use datafusion::execution::SessionState;
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

/// Makes a logical plan physical and starts it.
pub(crate) async fn start(
    threads: &Handle,
    state: SessionState,
    plan: LogicalPlan,
    metrics: Arc<Metrics>,
) -> Result<Running> {
    let (ready, planned) = oneshot::channel();
    let (sender, receiver) = mpsc::channel(QUEUE);
    let stop = Stop::default();
    let reader_stop = stop.clone();
    let task = threads.spawn(async move {
        let physical = match make_physical(&state, &plan, &stop).await {
            Ok(physical) => physical,
            Err(error) => {
                let _ = ready.send(Err(error));
                return;
            }
        };
        metrics.watch(Arc::clone(&physical));
        if ready.send(Ok(physical.schema())).is_ok() {
            pump(state, &plan, physical, &metrics, &stop, &sender).await;
        }
    });
    let reader = Reader { receiver, task: Some(task), stop: reader_stop };
    let panicked = || DataFusionError::Internal("planning panicked".to_owned());
    let schema = planned.await.map_err(|_| panicked())??;
    let stream = stream::unfold(reader, |mut reader| async move {
        let item = reader.next().await?;
        Some((item, reader))
    });
    Ok(Running { schema, stream: stream.boxed() })
}

async fn make_physical(
    state: &SessionState,
    plan: &LogicalPlan,
    stop: &Stop,
) -> Result<Arc<dyn ExecutionPlan>> {
    stoppable(state.create_physical_plan(plan).await?, stop)
}

/// Sends a plan's batches until it ends or nobody reads them.
async fn pump(
    state: SessionState,
    plan: &LogicalPlan,
    physical: Arc<dyn ExecutionPlan>,
    metrics: &Metrics,
    stop: &Stop,
    sender: &Sender,
) {
    let hashes = joins_by_hash(&physical);
    match send(physical, &state, sender).await {
        Ended::Early(error) if hashes && is_out_of_memory(&error) => {
            tracing::debug!("a hash join ran out of memory; sorting instead");
            let ended = sort_instead(state, plan, metrics, stop, sender).await;
            if let Ended::Early(error) | Ended::Late(error) = ended {
                let _ = sender.send(Err(error)).await;
            }
        }
        Ended::Early(error) | Ended::Late(error) => {
            let _ = sender.send(Err(error)).await;
        }
        Ended::Well => {}
    }
}

async fn sort_instead(
    mut state: SessionState,
    plan: &LogicalPlan,
    metrics: &Metrics,
    stop: &Stop,
    sender: &Sender,
) -> Ended {
    state.config_mut().options_mut().optimizer.prefer_hash_join = false;
    match make_physical(&state, plan, stop).await {
        Ok(physical) => {
            metrics.watch(Arc::clone(&physical));
            send(physical, &state, sender).await
        }
        Err(error) => Ended::Early(error),
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

async fn send(physical: Arc<dyn ExecutionPlan>, state: &SessionState, sender: &Sender) -> Ended {
    let mut batches = match execute_stream(physical, state.task_ctx()) {
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

fn joins_by_hash(plan: &Arc<dyn ExecutionPlan>) -> bool {
    plan.downcast_ref::<HashJoinExec>().is_some() || plan.children().into_iter().any(joins_by_hash)
}

/// The reading end. Dropping it stops the plan.
struct Reader {
    receiver: mpsc::Receiver<Result<RecordBatch>>,
    task: Option<JoinHandle<()>>,
    stop: Stop,
}

impl Reader {
    async fn next(&mut self) -> Option<Result<RecordBatch>> {
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
