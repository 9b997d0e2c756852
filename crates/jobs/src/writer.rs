//! Group writes of job events and records.
//!
//! One task stores the events and records of all active jobs. The end of a job is written
//! immediately, together with other pending ends. Starts, log lines, progress and usage sums of
//! users are written a tenth of a second later. So a short job is written only once, at its end. A
//! batch that contains the end of a background job is durable. Any other batch is `relaxed`: a
//! power failure may lose it, but `kill -9` of the server never does. If a write fails, the jobs
//! are written one by one, so that one job cannot block the others. A failed write is retried until
//! it succeeds.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use headwater_metrics::JobMetrics;
use headwater_model::{
    Clock, JobEventKind, JobId, JobKind, JobStatus, JobsTrigger, Problem, RateCard, Timestamp,
    ToProblem,
};
use headwater_store::{JournalAppend, Store, WriteBatch};
use parking_lot::{Mutex, RwLock};
use serde_json::Value;
use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;

use crate::active_job::{ActiveJob, PendingWrite};
use crate::function_budget::budget_key;
use crate::job_id_generator::JobIdGenerator;
use crate::outcome::JobEnd;
use crate::user_quota::{DailyUsage, Quotas, UnsavedDays};
use crate::{Error, JobsOptions, Result};

/// Delay before starts, lines and progress are written.
const GATHER: Duration = Duration::from_millis(100);
/// Number of unstored events of one job that triggers an immediate write.
const EVENTS_URGENT: usize = 1_000;
/// Number of consecutive failed writes after which the writer stops this attempt to write all
/// pending jobs.
const FAILED_WRITES_MAX: usize = 3;
/// Maximum pause after the store has failed.
const PAUSE_MAX: Duration = Duration::from_secs(5);

/// State shared by all jobs of a lake.
pub(crate) struct JobsState {
    pub store: Arc<dyn Store>,
    pub clock: Arc<dyn Clock>,
    pub ids: JobIdGenerator,
    pub options: JobsOptions,
    /// Counts the jobs that end.
    pub metrics: JobMetrics,
    /// Limits of users, and their usage.
    pub quotas: Quotas,
    pub rate_card: RwLock<RateCard>,
    /// Jobs that have not ended, or whose end is not stored.
    pub live: Mutex<BTreeMap<JobId, Arc<ActiveJob>>>,
    /// The key below which records of queries and calls are aggregated and removed.
    pub queries_from: RwLock<String>,
    /// Number of jobs that were added. Lists that wait for a new job observe it.
    pub added: watch::Sender<u64>,
    /// Number of jobs that have ended. Tasks that wait for several jobs observe it.
    pub ends: watch::Sender<u64>,
    /// The jobs whose ends are recorded for triggers.
    pub end_watches: RwLock<Arc<[JobsTrigger]>>,
    /// Number of ends that were recorded for triggers.
    pub ends_recorded: watch::Sender<u64>,
    /// Token that is cancelled when the last handle is dropped.
    pub closing: CancellationToken,
    /// Token that is cancelled when no further job is accepted or started.
    pub draining: CancellationToken,
    waiting: Mutex<BTreeMap<JobId, UnsavedJob>>,
    urgent: Notify,
    lazy: Notify,
    turn: tokio::sync::Mutex<()>,
    /// Jobs that have ended and are not stored yet.
    pub unstored: AtomicUsize,
    queries_since: AtomicUsize,
    jobs_since: AtomicUsize,
    /// Number of stored records of queries and calls; `None` until they are counted.
    pub queries_stored: Mutex<Option<usize>>,
    /// A lock that is held while old records of queries and calls are aggregated.
    retiring: Arc<tokio::sync::Mutex<()>>,
}

/// A job that has changes to write.
struct UnsavedJob {
    live: Arc<ActiveJob>,
    since: Instant,
    is_urgent: bool,
}

impl UnsavedJob {
    fn is_due(&self) -> bool {
        self.is_urgent || self.since.elapsed() >= GATHER
    }
}

/// The unsaved jobs that one write includes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum WriteGroup {
    All,
    Due,
}

impl JobsState {
    pub(crate) fn new(
        store: Arc<dyn Store>,
        clock: Arc<dyn Clock>,
        options: JobsOptions,
    ) -> Arc<Self> {
        Arc::new(JobsState {
            store,
            ids: JobIdGenerator::new(clock.clone()),
            clock,
            rate_card: RwLock::new(options.rate_card.clone()),
            metrics: JobMetrics::default(),
            quotas: Quotas::default(),
            live: Mutex::default(),
            queries_from: RwLock::default(),
            added: watch::Sender::new(0),
            ends: watch::Sender::new(0),
            end_watches: RwLock::new(Arc::from([])),
            ends_recorded: watch::Sender::new(0),
            closing: CancellationToken::new(),
            draining: CancellationToken::new(),
            waiting: Mutex::default(),
            urgent: Notify::new(),
            lazy: Notify::new(),
            turn: tokio::sync::Mutex::new(()),
            unstored: AtomicUsize::new(0),
            // Start with this value, so that the first query already removes old records: a
            // short-lived process may record too few queries to trigger this.
            queries_since: AtomicUsize::new(options.queries_kept),
            jobs_since: AtomicUsize::new(0),
            queries_stored: Mutex::default(),
            retiring: Arc::default(),
            options,
        })
    }

    /// Adds an event to a job's event stream.
    pub(crate) fn emit(&self, live: &Arc<ActiveJob>, event: JobEventKind) {
        let waiting = live.emit(self.clock.now(), event, &self.rate_card.read());
        match waiting {
            None => {}
            Some(waiting) => self.mark(live, waiting >= EVENTS_URGENT),
        }
    }

    /// Ends a job and writes its record immediately.
    pub(crate) fn end(
        &self,
        live: &Arc<ActiveJob>,
        now: Timestamp,
        result: Result<Value, Problem>,
        with: Vec<JournalAppend>,
    ) {
        let card = self.rate_card.read().clone();
        // Increment the count before the job ends. After the end, the writer may store the job and
        // decrement the count.
        self.unstored.fetch_add(1, Ordering::Relaxed);
        match live.end(now, result, &card, with) {
            Some(JobEnd { status, usage, cost, has_started }) => {
                self.metrics.ended(live.kind, status, &usage);
                if self.options.telemetry.is_on() {
                    self.options.telemetry.end_job(&live.ended_job());
                }
                if let Some(user) = &live.user {
                    let bytes = usage.bytes_read;
                    let charged = DailyUsage { bytes, money: cost, ..DailyUsage::default() };
                    self.quotas.charge(user, live.created, charged);
                }
                if let Some(function) = live.budget.as_ref().filter(|_| has_started) {
                    let billed_ms = usage.wall_ms;
                    let charged = DailyUsage { bytes: 0, money: cost, calls: 1, billed_ms };
                    self.quotas.charge(&budget_key(function), live.created, charged);
                }
            }
            None => {
                self.unstored.fetch_sub(1, Ordering::Relaxed);
            }
        }
        self.mark(live, true);
    }

    /// Schedules the write of a job's changes: immediately, or with the next group.
    pub(crate) fn mark(&self, live: &Arc<ActiveJob>, urgent: bool) {
        self.wait(live, urgent);
        if urgent { self.urgent.notify_one() } else { self.lazy.notify_one() }
    }

    fn wait(&self, live: &Arc<ActiveJob>, is_urgent: bool) {
        let mut waiting = self.waiting.lock();
        let new = || UnsavedJob { live: live.clone(), since: Instant::now(), is_urgent };
        waiting.entry(live.id).or_insert_with(new).is_urgent |= is_urgent;
    }

    /// Removes from the waiting jobs those that this write includes, and returns them. If other
    /// jobs remain, schedules a later write.
    fn take_waiting(&self, group: WriteGroup) -> Vec<Arc<ActiveJob>> {
        let mut waiting = self.waiting.lock();
        let taken = waiting.extract_if(.., |_, one| group == WriteGroup::All || one.is_due());
        let taken = taken.map(|(_, one)| one.live).collect();
        if !waiting.is_empty() || self.quotas.is_dirty() {
            self.lazy.notify_one();
        }
        taken
    }

    /// Returns the number of queued and running jobs.
    pub(crate) fn unfinished(&self) -> usize {
        self.live.lock().values().filter(|live| !live.is_over()).count()
    }

    /// Returns the jobs that are running.
    pub(crate) fn running_jobs(&self) -> Vec<Arc<ActiveJob>> {
        let live = self.live.lock();
        live.values().filter(|live| live.status() == JobStatus::Running).cloned().collect()
    }

    /// Runs the writer until the last handle is dropped.
    pub(crate) async fn run(self: Arc<Self>) {
        let mut pause = GATHER;
        loop {
            let group = tokio::select! {
                biased;
                () = self.closing.cancelled() => break,
                () = self.urgent.notified() => WriteGroup::Due,
                () = self.lazy.notified() => self.gather().await,
            };
            match self.write_group(group).await {
                Ok(()) => {
                    pause = GATHER;
                    self.remove_obsolete_records().await;
                }
                Err(error) => {
                    tracing::warn!(%error, "job records cannot be written; retrying");
                    self.pause(pause).await;
                    pause = (pause * 2).min(PAUSE_MAX);
                    self.urgent.notify_one();
                }
            }
        }
        if let Err(error) = self.flush().await {
            tracing::error!(%error, "the last job records could not be written");
        }
    }

    async fn gather(&self) -> WriteGroup {
        tokio::select! {
            () = self.closing.cancelled() => WriteGroup::All,
            () = self.urgent.notified() => WriteGroup::Due,
            () = tokio::time::sleep(GATHER) => WriteGroup::All,
        }
    }

    async fn pause(&self, pause: Duration) {
        tokio::select! {
            () = self.closing.cancelled() => {}
            () = tokio::time::sleep(pause) => {}
        }
    }

    /// Stores all pending changes.
    pub(crate) async fn flush(&self) -> Result<()> {
        self.write_group(WriteGroup::All).await
    }

    async fn write_group(&self, group: WriteGroup) -> Result<()> {
        let _turn = self.turn.lock().await;
        // A failure to read a user's stored usage must not prevent the writes.
        let read = self.quotas.read_unread(&*self.store, self.clock.now()).await;
        self.write_waiting(group).await.and(read)
    }

    async fn write_waiting(&self, group: WriteGroup) -> Result<()> {
        let delay = if group == WriteGroup::All { Duration::ZERO } else { GATHER };
        let days = self.quotas.take_dirty(delay);
        let lives = self.take_waiting(group);
        if lives.is_empty() && days.is_empty() {
            return Ok(());
        }
        let has_days = !days.is_empty();
        let Err(mut error) = self.write(&lives, days).await else { return Ok(()) };
        if lives.len() == 1 && !has_days {
            self.refuse(&lives, &error);
            return Err(error);
        }
        let mut in_a_row = 0;
        for (place, live) in lives.iter().enumerate() {
            match self.write(std::slice::from_ref(live), UnsavedDays::default()).await {
                Ok(()) => in_a_row = 0,
                Err(again) => {
                    error = again;
                    in_a_row += 1;
                    self.refuse(std::slice::from_ref(live), &error);
                }
            }
            if in_a_row == FAILED_WRITES_MAX {
                self.refuse(&lives[place + 1..], &error);
                break;
            }
        }
        Err(error)
    }

    async fn write(&self, lives: &[Arc<ActiveJob>], days: UnsavedDays) -> Result<()> {
        let now = self.clock.now();
        let mut batch = WriteBatch { relaxed: true, ..WriteBatch::default() };
        let mut collected = Vec::with_capacity(lives.len());
        let entries = self.quotas.entries(&days).map(|entries| batch.entries.extend(entries));
        let mut applied = self.resolve_uncertain_ends(lives).await.and(entries);
        let watches = self.end_watches.read().clone();
        for live in lives {
            match live.collect(now, &watches, &mut batch) {
                Ok(one) => {
                    batch.relaxed &= !one.durable;
                    collected.push((live, one));
                }
                Err(error) => {
                    applied = Err(error);
                    break;
                }
            }
        }
        if applied.is_ok() && !batch.is_empty() {
            applied = self.apply(batch).await;
        }
        for (live, one) in collected {
            match &applied {
                Ok(()) => self.mark_stored(live, &one),
                Err(_) => live.mark_unstored(&one),
            }
        }
        if applied.is_err() {
            self.quotas.restore_dirty(days);
        }
        applied
    }

    /// Reads from the store which ends a failed write has recorded for triggers, so that no end is
    /// recorded twice.
    async fn resolve_uncertain_ends(&self, lives: &[Arc<ActiveJob>]) -> Result<()> {
        for live in lives.iter().filter(|live| live.is_end_in_doubt()) {
            let stored = self.stored(live.id).await?;
            live.set_end_stored(stored.is_some_and(|record| record.job.status.is_final()));
        }
        Ok(())
    }

    /// Counts a failed write of each job, and schedules the next attempt.
    fn refuse(&self, lives: &[Arc<ActiveJob>], error: &Error) {
        let (now, problem) = (self.clock.now(), error.to_problem());
        for live in lives {
            live.refuse(now, &problem);
            self.wait(live, true);
        }
        self.ends.send_modify(|ends| *ends += 1);
    }

    async fn apply(&self, batch: WriteBatch) -> Result<()> {
        self.store.apply(batch).await.map(drop).map_err(Error::from)
    }

    fn mark_stored(&self, live: &Arc<ActiveJob>, collected: &PendingWrite) {
        if collected.is_end_recorded {
            self.ends_recorded.send_modify(|ends| *ends += 1);
        }
        if !live.mark_stored(collected) {
            return;
        }
        if self.live.lock().remove(&live.id).is_none() {
            return;
        }
        self.unstored.fetch_sub(1, Ordering::Relaxed);
        let counter = match live.kind {
            JobKind::Query | JobKind::Function => &self.queries_since,
            _ => &self.jobs_since,
        };
        counter.fetch_add(1, Ordering::Relaxed);
        self.ends.send_modify(|ends| *ends += 1);
    }

    /// Removes old records of queries and calls, and payloads of ended jobs, if enough new records
    /// or payloads were added.
    async fn remove_obsolete_records(self: &Arc<Self>) {
        let enough = (self.options.queries_kept / 10).max(1);
        if self.queries_since.load(Ordering::Relaxed) > enough
            && let Ok(turn) = self.retiring.clone().try_lock_owned()
        {
            let more = self.queries_since.swap(0, Ordering::Relaxed);
            let shared = self.clone();
            // Run in a separate task, so that writes are not delayed.
            tokio::spawn(async move {
                let retired = shared.closing.run_until_cancelled(shared.retire_queries(more));
                if let Some(Err(error)) = retired.await {
                    tracing::warn!(%error, "old query records cannot be aggregated");
                }
                drop(turn);
            });
        }
        if self.jobs_since.load(Ordering::Relaxed) >= 100 {
            self.jobs_since.store(0, Ordering::Relaxed);
            if let Err(error) = self.trim_payloads().await {
                tracing::warn!(%error, "the payloads of ended jobs cannot be deleted");
            }
        }
    }
}

impl std::fmt::Debug for JobsState {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shared").finish_non_exhaustive()
    }
}
