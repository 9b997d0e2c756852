//! The state of a job in memory, until its end is stored.
//!
//! All changes of a job are made through [`ActiveJob`]. The writer collects unstored changes and
//! marks them as stored afterwards. The end of a background job or of a function call becomes
//! visible when the end is stored. The end of a query becomes visible immediately.

use headwater_model::{
    Job, JobEventKind, JobId, JobKind, JobStatus, JobsTrigger, Problem, RateCard, StepStatus,
    Timestamp, Usage,
};
use headwater_store::{JournalAppend, WriteBatch};
use parking_lot::Mutex;
use serde_json::Value;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::Result;
use crate::event_buffer::{EventBuffer, EventsAfter};
use crate::executor::NewJob;
use crate::job_ends::{JobEndEntry, end_entry};
use crate::job_logging;
use crate::outcome::{JobEnd, elapsed_ms, end_not_stored, set_final_status};
use crate::record::{JobRecord, StepUsage, event_entries, open_ref, record_entry};

/// Number of failed writes after which the end of a job becomes visible although the end is not
/// stored.
const REFUSALS: u32 = 4;

/// The reason for stopping a job.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StopReason {
    /// A client requested the stop.
    Request,
    /// The server is shutting down.
    Shutdown,
    /// The job's user has exceeded a daily limit.
    DayLimit,
}

/// A job in memory.
pub(crate) struct ActiveJob {
    pub id: JobId,
    pub kind: JobKind,
    pub author: String,
    pub event: Option<String>,
    pub queue: Option<String>,
    pub user: Option<String>,
    pub budget: Option<String>,
    pub created: Timestamp,
    pub cancel: CancellationToken,
    state: Mutex<ActiveJobState>,
    seen: watch::Sender<VisibleEventsEnd>,
}

/// The last visible event of a job. Followers receive the events up to this one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct VisibleEventsEnd {
    /// The sequence number of the last visible event.
    pub sequence: u64,
    /// True if the last visible event is the end of the job.
    pub ended: bool,
}

struct ActiveJobState {
    record: JobRecord,
    log: EventBuffer,
    /// The final state of the job, until other clients may see it.
    end: Option<Job>,
    ended: bool,
    /// True if the record has changed since the writer last collected it.
    changed: bool,
    /// True if the store may still contain the ref that marks the job as open.
    listed: bool,
    /// Entries of the caller, to store in the same batch as the end of the job.
    with: Vec<JournalAppend>,
    end_entry: JobEndEntry,
    stop: Option<StopReason>,
    /// The error of the exceeded daily limit that stops the job.
    exceeded: Option<Problem>,
    failures: u32,
}

/// The changes collected from one job for a write.
pub(crate) struct PendingWrite {
    stored: Option<u64>,
    record: bool,
    end: bool,
    /// True if the changes include the entry that records the job's end for triggers.
    pub is_end_recorded: bool,
    /// True if the changes include the end of a background job, which must be durable.
    pub durable: bool,
}

impl ActiveJob {
    /// Creates a job that waits in the queue.
    pub(crate) fn queued(id: JobId, new: &NewJob, now: Timestamp, log_bytes_max: usize) -> Self {
        let job = Job {
            id,
            kind: new.kind,
            status: JobStatus::Queued,
            summary: new.summary.clone(),
            author: new.author.clone(),
            reference: new.reference.clone(),
            event: new.event.clone(),
            created: now,
            started: None,
            ended: None,
            usage: Usage::default(),
            cost: 0.0,
            error: None,
            waits_for: Vec::new(),
            result: Value::Null,
        };
        let record = JobRecord {
            job,
            steps: Vec::new(),
            queue: new.queue.clone(),
            user: new.user.clone(),
            name: new.name.clone(),
            trigger: new.trigger.clone(),
            budget: new.budget.as_ref().map(|call| call.function.clone()),
        };
        ActiveJob::of(record, EventBuffer::new(log_bytes_max))
    }

    /// Creates a job from its stored record after a restart. `last` is the sequence number of the
    /// last stored event.
    pub(crate) fn reopened(record: JobRecord, last: u64, log_bytes_max: usize) -> Self {
        let log = match last {
            0 => EventBuffer::new(log_bytes_max),
            last => EventBuffer::after_stored(last),
        };
        let live = ActiveJob::of(record, log);
        live.set_stored();
        live
    }

    fn of(record: JobRecord, log: EventBuffer) -> Self {
        let seen = VisibleEventsEnd { sequence: log.last(), ended: false };
        let state = ActiveJobState {
            record,
            log,
            end: None,
            ended: false,
            changed: true,
            listed: false,
            with: Vec::new(),
            end_entry: JobEndEntry::Due,
            stop: None,
            exceeded: None,
            failures: 0,
        };
        ActiveJob {
            id: state.record.job.id,
            kind: state.record.job.kind,
            author: state.record.job.author.clone(),
            event: state.record.job.event.clone(),
            queue: state.record.queue.clone(),
            user: state.record.user.clone(),
            budget: state.record.budget.clone(),
            created: state.record.job.created,
            cancel: CancellationToken::new(),
            state: Mutex::new(state),
            seen: watch::Sender::new(seen),
        }
    }

    /// Returns the visible state of the job.
    pub(crate) fn job(&self, now: Timestamp) -> Job {
        let mut job = self.state.lock().record.job.clone();
        if job.status == JobStatus::Running {
            job.usage.wall_ms = elapsed_ms(job.started, now);
        }
        job
    }

    pub(crate) fn status(&self) -> JobStatus {
        self.state.lock().record.job.status
    }

    /// Returns true if the work has ended, even if the end is not stored yet.
    pub(crate) fn is_over(&self) -> bool {
        self.state.lock().ended
    }

    pub(crate) fn begin(&self, now: Timestamp) {
        let mut state = self.state.lock();
        state.record.job.status = JobStatus::Running;
        state.record.job.started = Some(now);
        state.changed = true;
        state.log.push(now, JobEventKind::Started);
        self.show(&state);
        let job = job_logging::is_enabled().then(|| state.record.job.clone());
        // Release the lock first, because logging may be slow and readers of the job need the lock.
        drop(state);
        job.iter().for_each(job_logging::began);
    }

    /// Marks a job as not started, because its work was not executed.
    pub(crate) fn clear_start(&self) {
        self.state.lock().record.job.started = None;
    }

    /// Adds an event. Returns the number of unstored events, or `None` if the job has ended.
    pub(crate) fn emit(
        &self,
        now: Timestamp,
        event: JobEventKind,
        card: &RateCard,
    ) -> Option<usize> {
        let mut state = self.state.lock();
        if state.ended {
            return None;
        }
        if let JobEventKind::StepEnded { report } = &event
            && !matches!(
                report.status,
                StepStatus::Skipped | StepStatus::Unchanged | StepStatus::Reused
            )
        {
            let cost = card.cost(&report.usage);
            let step = StepUsage { step: report.step.clone(), usage: report.usage, cost };
            state.record.steps.push(step);
            // Store the usage of a step before the run ends, because the process may end earlier.
            state.changed = true;
        }
        state.log.push(now, event);
        self.show(&state);
        Some(state.log.waiting())
    }

    pub(crate) fn change_usage(&self, change: impl FnOnce(&mut Usage)) {
        let mut state = self.state.lock();
        if !state.ended {
            change(&mut state.record.job.usage);
        }
    }

    /// Returns the final state of the job, even if this state is not visible yet.
    pub(crate) fn ended_job(&self) -> Job {
        let state = self.state.lock();
        state.end.as_ref().unwrap_or(&state.record.job).clone()
    }

    /// Requests the job to stop. Later calls do not change the reason of the first call.
    pub(crate) fn stop(&self, why: StopReason) {
        self.state.lock().stop.get_or_insert(why);
        self.cancel.cancel();
    }

    /// Stops the job because its user has exceeded a daily limit.
    pub(crate) fn stop_at_limit(&self, problem: Problem) {
        let mut state = self.state.lock();
        if state.ended || state.stop.is_some() {
            return;
        }
        state.stop = Some(StopReason::DayLimit);
        state.exceeded = Some(problem);
        drop(state);
        self.cancel.cancel();
    }

    /// Returns the error that stops the job because its user has exceeded a daily limit, if any.
    pub(crate) fn exceeded(&self) -> Option<Problem> {
        self.state.lock().exceeded.clone()
    }

    /// Returns the usage so far; `None` if the work has ended.
    pub(crate) fn running_usage(&self, now: Timestamp) -> Option<Usage> {
        let state = self.state.lock();
        let mut usage = (!state.ended).then_some(state.record.job.usage)?;
        if self.kind != JobKind::Function {
            usage.wall_ms = elapsed_ms(state.record.job.started, now);
        }
        Some(usage)
    }

    pub(crate) fn stop_reason(&self) -> Option<StopReason> {
        self.state.lock().stop
    }

    /// Ends the job. `with` are entries to store in the same batch. Returns `None` if the job had
    /// already ended.
    pub(crate) fn end(
        &self,
        now: Timestamp,
        result: Result<Value, Problem>,
        card: &RateCard,
        with: Vec<JournalAppend>,
    ) -> Option<JobEnd> {
        let mut state = self.state.lock();
        if state.ended {
            return None;
        }
        let mut job = state.record.job.clone();
        let result = match state.exceeded.take() {
            Some(exceeded) => result.map_err(|_| exceeded),
            None => result,
        };
        set_final_status(&mut job, result, state.stop);
        // Do not set the time of a function call here. The function runtime measures it without
        // queueing and installation.
        if self.kind != JobKind::Function {
            job.usage.wall_ms = elapsed_ms(job.started, now);
        }
        job.cost = card.cost(&job.usage);
        job.ended = Some(now);
        let ended = JobEventKind::Ended { status: job.status, error: job.error.clone() };
        state.log.push(now, ended);
        state.ended = true;
        state.changed = true;
        state.with = with;
        let has_started = job.started.is_some();
        let end = JobEnd { status: job.status, usage: job.usage, cost: job.cost, has_started };
        let reported = job_logging::is_enabled().then(|| job.clone());
        state.end = Some(job);
        self.show(&state);
        drop(state);
        reported.iter().for_each(job_logging::ended);
        Some(end)
    }

    /// Returns true if a client waits for the result and can repeat the job.
    fn is_awaited(&self) -> bool {
        self.kind.is_short() && self.event.is_none()
    }

    /// Makes the end of an awaited job visible before it is stored.
    pub(crate) fn show_awaited_end(&self) {
        if self.is_awaited() {
            let mut state = self.state.lock();
            show_end(&mut state);
            self.show(&state);
        }
    }

    fn show(&self, state: &ActiveJobState) {
        let ended = state.ended && state.end.is_none();
        let hidden = u64::from(state.ended && !ended);
        let seen = VisibleEventsEnd { sequence: state.log.last() - hidden, ended };
        self.seen.send_if_modified(|last| std::mem::replace(last, seen) != seen);
    }

    /// Adds the unstored changes to the batch, and a record of the end if triggers watch the job.
    pub(crate) fn collect(
        &self,
        now: Timestamp,
        watches: &[JobsTrigger],
        batch: &mut WriteBatch,
    ) -> Result<PendingWrite> {
        let mut state = self.state.lock();
        if !state.ended {
            state.log.release_throttled(now);
            self.show(&state);
        }
        let mut collected = PendingWrite {
            stored: None,
            record: state.changed,
            end: state.ended,
            is_end_recorded: false,
            durable: false,
        };
        // A client waits for a brief job and can repeat it, so the end of a brief job need not be
        // durable. No client waits for a trigger's call, so the end of such a call must be durable.
        collected.durable = state.ended && !self.is_awaited();
        let plain = self.kind.is_short() && !state.log.is_noteworthy();
        if !plain {
            batch.entries.extend(event_entries(self.id, self.kind, &state.log.unstored())?);
        }
        if !plain || state.ended {
            collected.stored = Some(state.log.last());
        }
        if state.changed {
            collected.is_end_recorded = self.collect_record(&mut state, watches, batch)?;
        }
        Ok(collected)
    }

    /// Adds the record to the batch. Returns true if this also records the job's end for triggers.
    fn collect_record(
        &self,
        state: &mut ActiveJobState,
        watches: &[JobsTrigger],
        batch: &mut WriteBatch,
    ) -> Result<bool> {
        let record = match &state.end {
            Some(job) => JobRecord { job: job.clone(), ..state.record.clone() },
            None => state.record.clone(),
        };
        batch.entries.push(record_entry(&record)?);
        batch.entries.extend(state.with.iter().cloned());
        let is_due = state.ended && state.end_entry != JobEndEntry::Stored;
        let end = if is_due { end_entry(&record, watches)? } else { None };
        let is_end_recorded = end.is_some();
        batch.entries.extend(end);
        match (state.ended, state.listed) {
            (true, true) => batch.refs.push(open_ref(self.id, self.kind, false)),
            (false, false) => batch.refs.push(open_ref(self.id, self.kind, true)),
            _ => {}
        }
        state.listed |= !state.ended;
        state.changed = false;
        Ok(is_end_recorded)
    }

    /// Marks these changes as stored. Returns true if the job can be removed from memory.
    pub(crate) fn mark_stored(&self, collected: &PendingWrite) -> bool {
        let mut state = self.state.lock();
        if let Some(sequence) = collected.stored {
            state.log.mark_stored(sequence);
        }
        state.failures = 0;
        if collected.end {
            state.with = Vec::new();
            show_end(&mut state);
            self.show(&state);
        }
        collected.end && !state.changed
    }

    /// Marks these changes as unstored again, after a failed write.
    pub(crate) fn mark_unstored(&self, collected: &PendingWrite) {
        let mut state = self.state.lock();
        state.changed |= collected.record;
        if collected.is_end_recorded {
            state.end_entry = JobEndEntry::InDoubt;
        }
    }

    /// Returns true if a failed write may have stored the entry that records the end for triggers.
    pub(crate) fn is_end_in_doubt(&self) -> bool {
        self.state.lock().end_entry == JobEndEntry::InDoubt
    }

    /// Sets whether the entry that records the end for triggers is stored.
    pub(crate) fn set_end_stored(&self, is_stored: bool) {
        let entry = if is_stored { JobEndEntry::Stored } else { JobEndEntry::Due };
        self.state.lock().end_entry = entry;
    }

    /// Counts a failed write. After several failed writes, the end becomes visible as a failure,
    /// because a success that is not stored must not be reported.
    pub(crate) fn refuse(&self, now: Timestamp, error: &Problem) {
        let mut state = self.state.lock();
        state.failures += 1;
        if state.failures < REFUSALS {
            return;
        }
        let Some(job) = &mut state.end else { return };
        if job.status == JobStatus::Succeeded {
            job.status = JobStatus::Failed;
            job.error = Some(end_not_stored(error));
        }
        let ended = JobEventKind::Ended { status: job.status, error: job.error.clone() };
        state.log.replace_last(now, ended);
        show_end(&mut state);
        self.show(&state);
    }

    /// Records that the caller has stored the record, and the ref that lists the job as open.
    pub(crate) fn set_stored(&self) {
        let mut state = self.state.lock();
        state.changed = false;
        state.listed = true;
    }

    /// Returns the current record, for the caller to store.
    pub(crate) fn record(&self) -> JobRecord {
        self.state.lock().record.clone()
    }

    pub(crate) fn watch(&self) -> watch::Receiver<VisibleEventsEnd> {
        self.seen.subscribe()
    }

    /// Waits until the end of the job is visible.
    pub(crate) async fn ended(&self) {
        let mut seen = self.watch();
        let _gone = seen.wait_for(|seen| seen.ended).await;
    }

    /// Returns the visible events with sequence numbers above `after`.
    pub(crate) fn events_after(&self, after: u64) -> (EventsAfter, VisibleEventsEnd) {
        let state = self.state.lock();
        let seen = *self.seen.borrow();
        (state.log.after(after, seen.sequence), seen)
    }
}

fn show_end(state: &mut ActiveJobState) {
    if let Some(job) = state.end.take() {
        state.record.job = job;
    }
}

impl std::fmt::Debug for ActiveJob {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Live").field(&self.id).finish()
    }
}
