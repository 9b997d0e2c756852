//! The run loop of a queued job, which waits for a slot, executes the job and records its end.
//!
//! The work runs in a separate task, so that a panic ends only its job, and work that ignores
//! cancellation can be dropped.

use std::sync::Arc;
use std::time::Duration;

use headwater_model::Problem;
use serde_json::Value;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::active_job::ActiveJob;
use crate::admission::QueuePermit;
use crate::event_buffer::remark;
use crate::job_queues::QueuePosition;
use crate::jobs::{JobsInner, record_batch, waits_for};
use crate::outcome::lost;
use crate::{Error, Executor, JobContext, Result};

impl JobsInner {
    /// Runs a job until its end. Returns false if the server stops before the job begins.
    pub(crate) async fn drive(
        &self,
        live: &Arc<ActiveJob>,
        place: QueuePermit,
        queued: Option<QueuePosition>,
    ) -> bool {
        let lane = self.admission_of(live.kind);
        if let Some(first) = queued.as_ref().and_then(QueuePosition::waits_for) {
            self.shared.emit(live, remark(waits_for(first)));
        }
        let turn = async {
            if let Some(queued) = &queued {
                queued.come().await;
            }
            Ok::<_, Error>((lane.executor().await?, lane.acquire_slot().await?))
        };
        let turn = tokio::select! {
            biased;
            () = self.shared.draining.cancelled() => return false,
            () = live.cancel.cancelled() => Err(Error::Stopped { id: live.id }),
            turn = turn => turn,
        };
        drop(place);
        let result = match turn {
            Err(error) => {
                self.discard(live).await;
                Err(Problem::from(&error))
            }
            Ok((executor, _slot)) => self.execute(live, executor).await,
        };
        self.end(live, result, Vec::new());
        drop(queued);
        true
    }

    /// Calls [`Executor::discard`] for a job that was stopped before its execution.
    pub(crate) async fn discard(&self, live: &ActiveJob) {
        let Some(executor) = self.admission_of(live.kind).registered() else { return };
        let id = live.id;
        let Ok(Some(payload)) = self.shared.payload(id).await else { return };
        let work = tokio::spawn(async move {
            executor.discard(id, payload).await;
            Ok(())
        });
        if let Err(problem) = supervise(work, &live.cancel, self.shared.options.stop_grace).await {
            tracing::warn!(job = %id, "the cleanup of the stopped job failed: {problem}");
        }
    }

    async fn execute(
        &self,
        live: &Arc<ActiveJob>,
        executor: Arc<dyn Executor>,
    ) -> Result<Value, Problem> {
        let payload = self.start(live).await.map_err(|error| Problem::from(&error))?;
        let context = JobContext::new(live.clone(), self.shared.clone());
        let work = tokio::spawn(async move { executor.execute(context, payload).await });
        supervise(work, &live.cancel, self.shared.options.stop_grace).await
    }

    /// Records the start of a job before executing it. Without this record, the job would start a
    /// second time after a restart of the server.
    async fn start(&self, live: &Arc<ActiveJob>) -> Result<Value> {
        let payload = self.shared.payload(live.id).await?.unwrap_or_default();
        live.begin(self.shared.clock.now());
        self.shared.store.apply(record_batch(live, true)?).await?;
        live.set_stored();
        self.shared.mark(live, false);
        Ok(payload)
    }
}

/// Waits for work. Converts a panic to an error, and drops work that ignores the cancellation.
pub(crate) async fn supervise<T>(
    mut work: JoinHandle<Result<T, Problem>>,
    cancel: &CancellationToken,
    grace: Duration,
) -> Result<T, Problem> {
    let too_late = async {
        cancel.cancelled().await;
        tokio::time::sleep(grace).await;
    };
    let joined = tokio::select! {
        joined = &mut work => joined,
        () = too_late => {
            work.abort();
            work.await
        }
    };
    joined.unwrap_or_else(|error| Err(lost(error)))
}
