//! What runs a job, and what it is given to say how it goes.

use std::sync::Arc;

use async_trait::async_trait;
use headwater_model::{JobEventKind, JobId, JobKind, Problem, Usage};
use serde_json::Value;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::drive::supervise;
use crate::live::{Live, StopReason};
use crate::writer::Shared;

/// Runs the jobs of one kind; registered with [`crate::Jobs::register`].
#[async_trait]
pub trait Executor: Send + Sync {
    /// Does the work and answers what the job answers: an `ImportReport`, a `RunReport`, or null.
    ///
    /// A panic fails the job with `internal`. Once [`JobContext::cancelled`] is cancelled the work
    /// should end soon, with any error; after [`crate::JobsOptions::stop_grace`] it is dropped.
    async fn execute(&self, context: JobContext, payload: Value) -> Result<Value, Problem>;
}

/// Asks for a job.
#[derive(Debug, Clone, PartialEq)]
pub struct NewJob {
    /// What it does.
    pub kind: JobKind,
    /// One line for people.
    pub summary: String,
    /// Who asks.
    pub author: String,
    /// The ref it works on.
    pub reference: Option<String>,
    /// The id of the event that causes it.
    pub event: Option<String>,
    /// The queue in which it waits: jobs of one queue run one after the other, in order. None waits
    /// for no other job.
    pub queue: Option<String>,
    /// What the executor is given; not kept once the job has ended.
    pub payload: Value,
}

impl NewJob {
    /// A job on no ref, caused by no event, with nothing to be given.
    pub fn new(kind: JobKind, summary: impl Into<String>, author: impl Into<String>) -> Self {
        NewJob {
            kind,
            summary: summary.into(),
            author: author.into(),
            reference: None,
            event: None,
            queue: None,
            payload: Value::Null,
        }
    }
}

/// A running job's way to say how it goes. Clones speak for the same job.
///
/// Nothing here waits: events are stored in groups in the background. What is said after the job
/// ended is left out.
#[derive(Clone)]
pub struct JobContext {
    live: Arc<Live>,
    shared: Arc<Shared>,
}

impl JobContext {
    pub(crate) fn new(live: Arc<Live>, shared: Arc<Shared>) -> Self {
        JobContext { live, shared }
    }

    /// The job's id.
    pub fn id(&self) -> JobId {
        self.live.id
    }

    /// Who asked for it.
    pub fn author(&self) -> &str {
        &self.live.author
    }

    /// The id of the event that caused it.
    pub fn event(&self) -> Option<&str> {
        self.live.event.as_deref()
    }

    /// Adds an event to the job's stream. `Started` and `Ended` are said by Headwater and left out
    /// here.
    pub fn emit(&self, event: JobEventKind) {
        if !matches!(event, JobEventKind::Started | JobEventKind::Ended { .. }) {
            self.shared.emit(&self.live, event);
        }
    }

    /// Adds a remark by Headwater.
    pub fn log_system(&self, text: impl Into<String>) {
        self.emit(crate::event_log::remark(text.into()));
    }

    /// Adds to what the job has taken. The elapsed time is measured from start to end, but for
    /// calls of functions, whose own time is added up.
    pub fn add_usage(&self, usage: &Usage) {
        self.live.change_usage(|sum| sum.add(usage));
    }

    /// Says what the job has taken so far, in place of what was said before.
    pub fn set_usage(&self, usage: Usage) {
        self.live.change_usage(|sum| *sum = usage);
    }

    /// Cancelled once the job is to stop.
    pub fn cancelled(&self) -> CancellationToken {
        self.live.cancel.clone()
    }

    /// Cancelled once the server lets its last jobs end: what has not begun of this one then need
    /// not.
    pub fn draining(&self) -> CancellationToken {
        self.shared.draining.clone()
    }

    /// Waits for the job's work, which is a task of its own. A panic becomes an error. Work that
    /// does not end within [`crate::JobsOptions::stop_grace`] after the job was asked to stop is
    /// dropped.
    pub async fn supervise<T>(&self, work: JoinHandle<Result<T, Problem>>) -> Result<T, Problem> {
        supervise(work, &self.live.cancel, self.shared.options.stop_grace).await
    }

    /// Returns why the job was asked to stop.
    pub fn stop_reason(&self) -> Option<StopReason> {
        self.live.stop_reason()
    }
}

impl std::fmt::Debug for JobContext {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("JobContext").field(&self.live.id).finish()
    }
}
