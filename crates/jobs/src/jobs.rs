//! The handle to the jobs of a lake: submit, record, stop, wait, drain.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use headwater_model::{Clock, Job, JobId, JobKind, JobStatus, Problem, RateCard, Usage};
use headwater_store::{JournalAppend, Store, WriteBatch};
use headwater_telemetry::with_current;
use serde_json::Value;

use crate::active_job::{ActiveJob, StopReason};
use crate::admission::{KindAdmission, QueuePermit};
use crate::function_budget::BudgetPermit;
use crate::job_guard::JobPermits;
use crate::job_queues::{JobQueues, QueuePosition};
use crate::record::{self, PAYLOADS};
use crate::user_quota::JobPermit;
use crate::writer::JobsState;
use crate::{Error, Executor, JobContext, JobGuard, JobMonitor, JobsOptions, NewJob, Result};

/// Maximum number of ended jobs kept in memory while the store fails.
const UNSTORED_MAX: usize = 20_000;

/// The jobs of a lake. Clones are handles to the same jobs.
#[derive(Clone, Debug)]
pub struct Jobs {
    pub(crate) inner: Arc<JobsInner>,
}

pub(crate) struct JobsInner {
    pub shared: Arc<JobsState>,
    pub interrupted: Vec<JobId>,
    lanes: BTreeMap<JobKind, KindAdmission>,
    queues: JobQueues,
}

impl Jobs {
    /// Opens the jobs of a lake.
    ///
    /// Jobs that were running when the last process ended become `interrupted`. Queued jobs stay
    /// queued, except jobs that a caller executes, because their caller no longer exists.
    pub async fn open(
        store: Arc<dyn Store>,
        clock: Arc<dyn Clock>,
        options: JobsOptions,
    ) -> Result<Jobs> {
        let shared = JobsState::new(store, clock, options);
        let reopened = shared.reopen().await?;
        let lane = |kind| KindAdmission::new(kind, shared.options.limits(kind));
        let lanes = JobKind::ALL.map(|kind| (kind, lane(kind))).into();
        let (interrupted, queues) = (reopened.interrupted, JobQueues::default());
        let inner = Arc::new(JobsInner { lanes, interrupted, shared: shared.clone(), queues });
        tokio::spawn(shared.run());
        let jobs = Jobs { inner };
        for (live, permit) in reopened.queued {
            let place = jobs.inner.admission_of(live.kind).restore_queue_permit();
            jobs.enqueue(live, place, permit);
        }
        Ok(jobs)
    }

    /// Returns the jobs that were running when the last process ended.
    pub fn interrupted(&self) -> &[JobId] {
        &self.inner.interrupted
    }

    /// Registers the executor for a kind of job. Jobs of a kind without an executor stay queued.
    pub fn register(&self, kind: JobKind, executor: Arc<dyn Executor>) {
        self.inner.admission_of(kind).register(executor);
    }

    /// Queues a job for its kind's executor. The job is durable on return.
    ///
    /// Errors: `too_busy` if the queue is full, `quota_exceeded` if the job's user has reached a
    /// limit, `unavailable` after [`Jobs::drain`] has begun.
    pub async fn submit(&self, new: NewJob) -> Result<JobId> {
        let jobs = self.clone();
        // Run in a separate task, so that a cancelled caller cannot leave a job that is stored but
        // not queued.
        let work = with_current(async move { jobs.submit_whole(new).await });
        let submitted = tokio::spawn(work);
        submitted.await.unwrap_or(Err(Error::Stopping))
    }

    async fn submit_whole(&self, new: NewJob) -> Result<JobId> {
        let shared = &self.inner.shared;
        let permit = shared.permit(&new).await?;
        let place = self.inner.admit(new.kind)?;
        let live = self.inner.new_live(shared.ids.next(), &new);
        let mut batch = record_batch(&live, false)?;
        if !new.payload.is_null() {
            let payload = record::encode(&new.payload)?;
            batch.entries.push(JournalAppend::put(PAYLOADS, live.id.to_string(), payload));
        }
        shared.store.apply(batch).await?;
        live.set_stored();
        let id = live.id;
        self.inner.add_live(&live, &new);
        self.enqueue(live, place, permit);
        Ok(id)
    }

    /// Waits until the job's kind has a free slot, and starts a job that the caller executes.
    ///
    /// The job's record is written in the background, so the caller of a query does not wait for a
    /// write. Errors: `too_busy` if the queue is full, `quota_exceeded` if the job's user has
    /// reached a limit, `unavailable` after [`Jobs::drain`] has started.
    pub async fn record(&self, new: NewJob) -> Result<(JobContext, JobGuard)> {
        let (live, guard) = self.guarded(self.inner.shared.ids.next(), &new).await?;
        Ok((self.context(live), guard))
    }

    /// Records work that has ended, with its usage, and charges it to the user of the job. The
    /// record is written in the background.
    pub fn record_ended(&self, new: &NewJob, usage: &Usage) {
        let inner = &self.inner;
        let id = inner.shared.ids.next();
        let live = inner.new_live(id, new);
        inner.add_live(&live, new);
        live.begin(inner.shared.clock.now());
        live.change_usage(|sum| sum.add(usage));
        inner.end(&live, Ok(Value::Null), Vec::new());
    }

    /// Returns a new id, for a job that [`Jobs::begin`] begins, or for other records. Ids sort by
    /// time.
    pub fn new_id(&self) -> JobId {
        self.inner.shared.ids.next()
    }

    /// Returns `count` ascending new ids. No other job has an id between them.
    pub fn new_ids(&self, count: usize) -> Vec<JobId> {
        self.inner.shared.ids.next_many(count)
    }

    /// Starts a job like [`Jobs::record`], but first writes the job's record, in one batch with
    /// `entries`.
    ///
    /// Error: `cancelled` if the job was stopped while it was queued.
    pub async fn begin(
        &self,
        id: JobId,
        new: &NewJob,
        entries: Vec<JournalAppend>,
    ) -> Result<(JobContext, JobGuard)> {
        let (live, guard) = self.guarded(id, new).await?;
        let mut batch = record_batch(&live, true)?;
        batch.entries.extend(entries);
        if let Err(error) = self.inner.shared.store.apply(batch).await {
            let error = Error::from(error);
            live.clear_start();
            guard.finish(Err(Problem::from(&error)));
            return Err(error);
        }
        live.set_stored();
        Ok((self.context(live), guard))
    }

    async fn guarded(&self, id: JobId, new: &NewJob) -> Result<(Arc<ActiveJob>, JobGuard)> {
        let inner = &self.inner;
        let permit = inner.shared.permit(new).await?;
        let budget = inner.shared.budget_permit(new).await?;
        let share = inner.admission_of(new.kind).acquire_caller_permit(&new.author)?;
        let place = inner.admit(new.kind)?;
        let live = inner.new_live(id, new);
        inner.add_live(&live, new);
        let permits = JobPermits { share, permit, budget };
        let mut guard = JobGuard::new(inner.clone(), live.clone(), permits);
        let turn = inner.enter_queue(&live);
        let slot = async {
            if let Some(turn) = &turn {
                turn.come().await;
            }
            inner.admission_of(new.kind).acquire_slot().await
        };
        let slot = tokio::select! {
            biased;
            () = inner.shared.draining.cancelled() => Err(Error::Stopping),
            () = live.cancel.cancelled() => Err(Error::Stopped { id }),
            slot = slot => slot,
        };
        guard.slot = Some(slot?);
        guard.turn = turn;
        drop(place);
        live.begin(inner.shared.clock.now());
        Ok((live, guard))
    }

    fn context(&self, live: Arc<ActiveJob>) -> JobContext {
        self.inner.shared.mark(&live, false);
        JobContext::new(live, self.inner.shared.clone())
    }

    fn enqueue(&self, live: Arc<ActiveJob>, place: QueuePermit, permit: Option<JobPermit>) {
        let inner = self.inner.clone();
        // Enter the queue before the first await, so that jobs are queued in the order of the
        // calls.
        let turn = inner.enter_queue(&live);
        tokio::spawn(async move {
            let _permit = permit;
            if inner.drive(&live, place, turn).await {
                return;
            }
            // The server shuts down. The job stays queued for the next process, but can still be
            // stopped until this process ends.
            let left = Arc::downgrade(&inner);
            drop(inner);
            live.cancel.cancelled().await;
            if let Some(inner) = left.upgrade() {
                inner.discard(&live).await;
                inner.end(&live, Err(Problem::from(&Error::Stopped { id: live.id })), Vec::new());
            }
        });
    }

    /// Returns the current state of a job.
    pub async fn job(&self, id: JobId) -> Result<Job> {
        if let Some(live) = self.live(id) {
            return Ok(self.with_wait(live.job(self.inner.shared.clock.now())));
        }
        let stored = self.inner.shared.stored(id).await?;
        let stored = stored.map(|record| record.job);
        stored.ok_or_else(|| Error::JobNotFound { id: id.to_string(), near: None })
    }

    /// Returns `job`. If the job waits in a queue, adds the first job of the queue as the reason.
    pub(crate) fn with_wait(&self, mut job: Job) -> Job {
        if job.status == JobStatus::Queued
            && let Some(live) = self.live(job.id)
            && let Some(first) = live.queue.as_ref().and_then(|name| self.inner.queues.first(name))
            && first != job.id
        {
            job.waits_for.push(waits_for(first));
        }
        job
    }

    pub(crate) fn live(&self, id: JobId) -> Option<Arc<ActiveJob>> {
        self.inner.shared.live.lock().get(&id).cloned()
    }

    /// Requests a job to stop and returns its state. A job that has ended is not changed.
    ///
    /// A queued job ends after [`Executor::discard`]. A running job ends when its executor notices
    /// the cancellation; [`Jobs::wait`] waits for this end.
    pub async fn stop(&self, id: JobId) -> Result<Job> {
        if let Some(live) = self.live(id) {
            let queued = live.status() == JobStatus::Queued;
            live.stop(StopReason::Request);
            if queued {
                live.ended().await;
            }
        }
        self.job(id).await
    }

    /// Waits for a job's end and returns its final state.
    pub async fn wait(&self, id: JobId) -> Result<Job> {
        match self.live(id) {
            Some(live) => {
                live.ended().await;
                Ok(live.job(self.inner.shared.clock.now()))
            }
            None => self.job(id).await,
        }
    }

    /// Returns the metrics, the traces and the recorded ends of the jobs.
    pub fn monitor(&self) -> JobMonitor<'_> {
        JobMonitor(&self.inner.shared)
    }

    /// Replaces the rate card, which applies to usage from now on.
    pub fn set_rate_card(&self, card: RateCard) {
        *self.inner.shared.rate_card.write() = card;
    }

    /// Returns the current rate card.
    pub fn rate_card(&self) -> RateCard {
        self.inner.shared.rate_card.read().clone()
    }

    /// Stores everything that has been recorded so far.
    pub async fn flush(&self) -> Result<()> {
        self.inner.shared.flush().await
    }

    /// Rejects new jobs from now on, and starts no more queued jobs.
    pub fn close(&self) {
        self.inner.shared.draining.cancel();
    }

    /// Returns true if new jobs are rejected because the server is shutting down.
    pub fn is_closed(&self) -> bool {
        self.inner.shared.draining.is_cancelled()
    }

    /// Rejects new jobs, starts no more queued jobs, and waits for running jobs. Jobs that are
    /// still running after `timeout` are cancelled and become `interrupted`. All changes are stored
    /// on return. Queued jobs stay queued for the next process.
    pub async fn drain(&self, timeout: Duration) {
        self.close();
        let shared = &self.inner.shared;
        if tokio::time::timeout(timeout, shared.all_ended()).await.is_err() {
            for live in shared.running_jobs() {
                live.stop(StopReason::Shutdown);
            }
            let grace = shared.options.stop_grace + Duration::from_secs(1);
            if tokio::time::timeout(grace, shared.all_ended()).await.is_err() {
                tracing::error!("the server exits while jobs are still running");
            }
        }
        if let Err(error) = self.flush().await {
            tracing::error!(%error, "the last job records cannot be written");
        }
    }
}

impl JobsInner {
    pub(crate) fn admission_of(&self, kind: JobKind) -> &KindAdmission {
        &self.lanes[&kind]
    }

    /// Adds a job to its queue, if it has one.
    fn enter_queue(&self, live: &ActiveJob) -> Option<QueuePosition> {
        live.queue.as_ref().map(|name| self.queues.enter(name, live.id))
    }

    fn admit(&self, kind: JobKind) -> Result<QueuePermit> {
        if self.shared.draining.is_cancelled() {
            return Err(Error::Stopping);
        }
        let unstored = self.shared.unstored.load(Ordering::Relaxed);
        if unstored >= UNSTORED_MAX {
            return Err(Error::TooBusy { kind, waiting: unstored });
        }
        self.admission_of(kind).acquire_queue_permit()
    }

    fn new_live(&self, id: JobId, new: &NewJob) -> Arc<ActiveJob> {
        let now = self.shared.clock.now();
        Arc::new(ActiveJob::queued(id, new, now, self.shared.options.log_bytes_max))
    }

    /// Adds a job to the unfinished jobs, and begins its span in the trace.
    fn add_live(&self, live: &Arc<ActiveJob>, new: &NewJob) {
        self.shared.options.telemetry.begin_job(live.id, new.event.as_deref());
        self.shared.live.lock().insert(live.id, live.clone());
        self.shared.added.send_modify(|added| *added += 1);
    }

    /// Ends a job and writes its record immediately.
    pub(crate) fn end(
        &self,
        live: &Arc<ActiveJob>,
        result: Result<Value, Problem>,
        with: Vec<JournalAppend>,
    ) {
        self.shared.end(live, self.shared.clock.now(), result, with);
    }
}

/// Returns the status text of a job that waits for the job `first` of its queue.
pub(crate) fn waits_for(first: JobId) -> String {
    format!("waits for job {}", first.short())
}

/// Returns a batch with a job's current record and the ref that marks it as open.
pub(crate) fn record_batch(live: &ActiveJob, relaxed: bool) -> Result<WriteBatch> {
    Ok(WriteBatch {
        entries: vec![record::record_entry(&live.record())?],
        refs: vec![record::open_ref(live.id, live.kind, true)],
        relaxed,
        ..WriteBatch::default()
    })
}

impl JobsState {
    /// Returns the permit for a new job, within the limits of the job's user.
    async fn permit(&self, new: &NewJob) -> Result<Option<JobPermit>> {
        self.quotas.admit(&*self.store, new.user.as_deref(), self.clock.now()).await
    }

    /// Reserves the budget for the call of a new job.
    async fn budget_permit(&self, new: &NewJob) -> Result<Option<BudgetPermit>> {
        if new.budget.is_none() {
            return Ok(None);
        }
        let card = self.rate_card.read().clone();
        self.quotas.reserve(&*self.store, new.budget.as_ref(), &card, self.clock.now()).await
    }

    /// Waits until no job is running.
    async fn all_ended(&self) {
        let mut ends = self.ends.subscribe();
        while !self.running_jobs().is_empty() {
            ends.borrow_and_update();
            if self.running_jobs().is_empty() || ends.changed().await.is_err() {
                return;
            }
        }
    }
}

impl Drop for JobsInner {
    fn drop(&mut self) {
        self.shared.closing.cancel();
    }
}

impl std::fmt::Debug for JobsInner {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Jobs")
            .field("unfinished", &self.shared.unfinished())
            .finish_non_exhaustive()
    }
}
