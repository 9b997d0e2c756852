//! Executors of jobs, and the context of a running job.

use std::sync::Arc;

use async_trait::async_trait;
use headwater_model::{ErrorCode, JobEventKind, JobId, JobKind, Principal, Problem, Usage};
use serde_json::Value;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::active_job::{ActiveJob, StopReason};
use crate::function_budget::CallBudget;
use crate::run_loop::supervise;
use crate::writer::JobsState;

/// Executes the jobs of one kind; registered with [`crate::Jobs::register`].
#[async_trait]
pub trait Executor: Send + Sync {
    /// Executes a job and returns its result: an `ImportReport`, a `RunReport`, or null.
    ///
    /// A panic fails the job with `internal`. After [`JobContext::cancelled`] is cancelled, the
    /// work should end soon, with any error. If it does not end within
    /// [`crate::JobsOptions::stop_grace`], it is dropped.
    async fn execute(&self, context: JobContext, payload: Value) -> Result<Value, Problem>;

    /// Removes the objects that were created for a job that is stopped before its execution. Does
    /// nothing by default. The job ends after this call, or after
    /// [`crate::JobsOptions::stop_grace`].
    async fn discard(&self, _job: JobId, _payload: Value) {}
}

/// The parameters of a new job.
#[derive(Debug, Clone, PartialEq)]
pub struct NewJob {
    /// The kind of the job.
    pub kind: JobKind,
    /// A one-line description.
    pub summary: String,
    /// The author of the job.
    pub author: String,
    /// The user whose limits apply; `None` for a job that the lake's owner started or that no user
    /// started.
    pub user: Option<String>,
    /// The ref that the job reads or changes.
    pub reference: Option<String>,
    /// The id of the event that causes the job.
    pub event: Option<String>,
    /// The project, function or table that the job works on. Triggers select ended jobs by this
    /// name.
    pub name: Option<String>,
    /// The trigger whose event the job delivers.
    pub trigger: Option<String>,
    /// The queue, if any. Jobs of one queue run one at a time, in order. A job without a queue does
    /// not wait for other jobs.
    pub queue: Option<String>,
    /// The budget of the called function, if it has one.
    pub budget: Option<CallBudget>,
    /// The executor's input. Only the inputs of recent jobs are kept after the job's end.
    pub payload: Value,
}

impl NewJob {
    /// Creates a job of a principal, without a ref, an event or an input. If the principal is a
    /// user, its limits apply.
    pub fn of(kind: JobKind, summary: impl Into<String>, principal: &Principal) -> Self {
        let user = principal.user_name().map(str::to_owned);
        NewJob { user, ..NewJob::new(kind, summary, principal.author()) }
    }

    /// Sets the project, function or table that the job works on.
    #[must_use]
    pub fn named(mut self, name: &str) -> Self {
        self.name = Some(name.to_owned());
        self
    }

    /// Creates a job that belongs to no user, without a ref, an event or an input.
    pub fn new(kind: JobKind, summary: impl Into<String>, author: impl Into<String>) -> Self {
        NewJob {
            kind,
            summary: summary.into(),
            author: author.into(),
            user: None,
            reference: None,
            event: None,
            name: None,
            trigger: None,
            queue: None,
            budget: None,
            payload: Value::Null,
        }
    }
}

/// The context of a running job, which records its events. Clones refer to the same job.
///
/// No method blocks: events are stored in groups in the background. Events after the end of the job
/// are ignored.
#[derive(Clone)]
pub struct JobContext {
    live: Arc<ActiveJob>,
    shared: Arc<JobsState>,
}

impl JobContext {
    pub(crate) fn new(live: Arc<ActiveJob>, shared: Arc<JobsState>) -> Self {
        JobContext { live, shared }
    }

    /// Returns the job's id.
    pub fn id(&self) -> JobId {
        self.live.id
    }

    /// Returns the job's author.
    pub fn author(&self) -> &str {
        &self.live.author
    }

    /// Returns the id of the event that caused the job, if any.
    pub fn event(&self) -> Option<&str> {
        self.live.event.as_deref()
    }

    /// Adds an event. `Started` and `Ended` are ignored, because Headwater records them itself.
    pub fn emit(&self, event: JobEventKind) {
        if !matches!(event, JobEventKind::Started | JobEventKind::Ended { .. }) {
            self.shared.emit(&self.live, event);
        }
    }

    /// Adds a log line that is written by Headwater, not by the job's code.
    pub fn log_system(&self, text: impl Into<String>) {
        self.emit(crate::event_buffer::remark(text.into()));
    }

    /// Adds to the job's usage. Elapsed time is added only for function calls; the elapsed time of
    /// other jobs is measured from start to end.
    pub fn add_usage(&self, usage: &Usage) {
        self.live.change_usage(|sum| sum.add(usage));
    }

    /// Replaces the job's usage so far.
    pub fn set_usage(&self, usage: Usage) {
        self.live.change_usage(|sum| *sum = usage);
    }

    /// Stops the job if its usage so far, together with the usage of its user's other jobs, exceeds
    /// a daily limit. Must not be called after the job's commit, because a stop would then lose the
    /// result.
    pub fn enforce_day_limits(&self) {
        self.shared.enforce_day_limits(&self.live);
    }

    /// Returns true if the job's user has a daily limit.
    pub fn has_day_limit(&self) -> bool {
        self.shared.day_limits(&self.live).is_some()
    }

    /// Returns the token that is cancelled when the job must stop.
    pub fn cancelled(&self) -> CancellationToken {
        self.live.cancel.clone()
    }

    /// Returns the token that is cancelled when the server shuts down. The job may then skip the
    /// parts of its work that have not started.
    pub fn draining(&self) -> CancellationToken {
        self.shared.draining.clone()
    }

    /// Waits for the job's work, which runs in a separate task. A panic is returned as an error.
    /// Work that does not end within [`crate::JobsOptions::stop_grace`] after cancellation is
    /// dropped.
    pub async fn supervise<T>(&self, work: JoinHandle<Result<T, Problem>>) -> Result<T, Problem> {
        supervise(work, &self.live.cancel, self.shared.options.stop_grace).await
    }

    /// Returns the error of work that ends because the job was stopped: the error of the exceeded
    /// daily limit, or else `cancelled` with a message.
    pub fn stopped(&self, message: &str) -> Problem {
        let exceeded = self.live.exceeded();
        exceeded.unwrap_or_else(|| Problem::new(ErrorCode::Cancelled, message))
    }

    /// Returns the reason for cancellation, if any.
    pub fn stop_reason(&self) -> Option<StopReason> {
        self.live.stop_reason()
    }
}

impl std::fmt::Debug for JobContext {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("JobContext").field(&self.live.id).finish()
    }
}
