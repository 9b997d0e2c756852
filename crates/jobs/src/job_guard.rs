//! Jobs that the caller executes itself: queries, function calls and deliveries of events.

use std::sync::Arc;

use headwater_model::{ErrorCode, JobId, JobStatus, Problem};
use headwater_store::JournalAppend;
use serde_json::Value;
use tokio::sync::OwnedSemaphorePermit;

use crate::active_job::ActiveJob;
use crate::admission::CallerPermit;
use crate::function_budget::BudgetPermit;
use crate::job_queues::QueuePosition;
use crate::jobs::JobsInner;
use crate::user_quota::JobPermit;

/// A guard for work in progress.
///
/// If the guard is dropped without [`JobGuard::finish`], for example because a client disconnects,
/// the job ends as cancelled.
pub struct JobGuard {
    inner: Arc<JobsInner>,
    live: Arc<ActiveJob>,
    pub(crate) slot: Option<OwnedSemaphorePermit>,
    /// The job's position in its queue, until its end is stored.
    pub(crate) turn: Option<QueuePosition>,
    _share: Option<CallerPermit>,
    _permit: Option<JobPermit>,
    budget: Option<BudgetPermit>,
    finished: bool,
}

/// The permits that a job holds until its end.
#[derive(Default)]
pub(crate) struct JobPermits {
    /// The permit within the limit per caller; `None` for jobs without this limit.
    pub share: Option<CallerPermit>,
    /// The permit within the limits of the job's user; `None` for a job without a user.
    pub permit: Option<JobPermit>,
    /// The reservation in the budget of the called function; `None` without a budget.
    pub budget: Option<BudgetPermit>,
}

impl JobGuard {
    pub(crate) fn new(inner: Arc<JobsInner>, live: Arc<ActiveJob>, admitted: JobPermits) -> Self {
        let JobPermits { share, permit, budget } = admitted;
        JobGuard {
            inner,
            live,
            slot: None,
            turn: None,
            _share: share,
            _permit: permit,
            budget,
            finished: false,
        }
    }

    /// Returns the job's id.
    pub fn id(&self) -> JobId {
        self.live.id
    }

    /// Ends the job. Its record is written in the background. The end of a job whose client waits
    /// for the result is visible at once, so that the client finds the job ended.
    pub fn finish(mut self, result: Result<Value, Problem>) {
        self.end(result, Vec::new());
        self.live.show_awaited_end();
    }

    /// Ends the job and waits until its record is stored. The record of a brief job, such as a
    /// query, survives a crash of the server, but a power failure shortly afterwards may lose it.
    /// Returns the problem if the job failed or its end cannot be stored.
    pub async fn finish_stored(self, result: Result<Value, Problem>) -> Option<Problem> {
        let (inner, live) = (self.inner.clone(), self.live.clone());
        self.finish_with(result, Vec::new()).await;
        let job = live.job(inner.shared.clock.now());
        let unexplained =
            || Problem::new(ErrorCode::Internal, "the job failed without an error message");
        (job.status != JobStatus::Succeeded).then(|| job.error.unwrap_or_else(unexplained))
    }

    /// Ends the job, writes its record and the entries `with` in one batch, and waits until the
    /// batch is stored.
    pub async fn finish_with(mut self, result: Result<Value, Problem>, with: Vec<JournalAppend>) {
        self.end(result, with);
        self.slot = None;
        self.live.ended().await;
    }

    fn end(&mut self, result: Result<Value, Problem>, with: Vec<JournalAppend>) {
        self.finished = true;
        self.inner.end(&self.live, result, with);
        // The usage of the call replaces its reservation, even if the end is not stored yet.
        self.budget = None;
    }
}

impl Drop for JobGuard {
    fn drop(&mut self) {
        if !self.finished {
            let problem =
                Problem::new(ErrorCode::Cancelled, "the caller disconnected before the response");
            self.end(Err(problem), Vec::new());
            self.live.show_awaited_end();
        }
    }
}

impl std::fmt::Debug for JobGuard {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("JobGuard").field(&self.live.id).finish()
    }
}
