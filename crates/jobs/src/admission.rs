//! Admission of the jobs of one kind, with limits on queued and on running jobs.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use headwater_model::JobKind;
use parking_lot::Mutex;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};

use crate::{Error, Executor, KindLimits, Result};

/// The limits of one kind of job, and its executor.
pub(crate) struct KindAdmission {
    kind: JobKind,
    concurrency: usize,
    queue: usize,
    waiting: Arc<AtomicUsize>,
    slots: Arc<Semaphore>,
    executor: watch::Sender<Option<Arc<dyn Executor>>>,
    callers: Arc<Mutex<CallerCounts>>,
}

/// Number of unfinished jobs with a [`CallerPermit`], in total and by caller.
#[derive(Debug, Default)]
struct CallerCounts {
    all: usize,
    own: HashMap<String, usize>,
}

/// A permit for one job of a caller; released when dropped.
pub(crate) struct CallerPermit {
    callers: Arc<Mutex<CallerCounts>>,
    author: String,
}

impl Drop for CallerPermit {
    fn drop(&mut self) {
        let mut callers = self.callers.lock();
        callers.all -= 1;
        let own = callers.own.get_mut(&self.author).map_or(0, |own| {
            *own -= 1;
            *own
        });
        if own == 0 {
            callers.own.remove(&self.author);
        }
    }
}

/// A permit for one queued job; released when dropped.
pub(crate) struct QueuePermit(Arc<AtomicUsize>);

impl Drop for QueuePermit {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}

impl KindAdmission {
    pub(crate) fn new(kind: JobKind, limits: KindLimits) -> Self {
        KindAdmission {
            kind,
            concurrency: limits.concurrency.max(1),
            queue: limits.queue,
            waiting: Arc::default(),
            slots: Arc::new(Semaphore::new(limits.concurrency.max(1))),
            executor: watch::Sender::new(None),
            callers: Arc::default(),
        }
    }

    /// Returns a permit for the queue. A job that gets a free slot does not count towards the
    /// queue's limit.
    pub(crate) fn acquire_queue_permit(&self) -> Result<QueuePermit> {
        let waiting = self.waiting.fetch_add(1, Ordering::AcqRel);
        let place = QueuePermit(self.waiting.clone());
        if waiting >= self.queue + self.slots.available_permits() {
            return Err(Error::TooBusy { kind: self.kind, waiting });
        }
        Ok(place)
    }

    /// Returns a permit for a function call; `None` for jobs of other kinds. A caller may hold at
    /// most as many permits as are still free, so that no caller can use all permits. The admitted
    /// calls wait in the queue of the function runtime.
    pub(crate) fn acquire_caller_permit(&self, author: &str) -> Result<Option<CallerPermit>> {
        if self.kind != JobKind::Function {
            return Ok(None);
        }
        let mut callers = self.callers.lock();
        let own = callers.own.get(author).copied().unwrap_or_default();
        if own >= self.concurrency.saturating_sub(callers.all) {
            return Err(Error::TooBusy { kind: self.kind, waiting: callers.all });
        }
        callers.all += 1;
        *callers.own.entry(author.to_owned()).or_default() += 1;
        Ok(Some(CallerPermit { callers: self.callers.clone(), author: author.to_owned() }))
    }

    /// Returns a queue permit for a job that was accepted before a restart.
    pub(crate) fn restore_queue_permit(&self) -> QueuePermit {
        self.waiting.fetch_add(1, Ordering::AcqRel);
        QueuePermit(self.waiting.clone())
    }

    pub(crate) fn register(&self, executor: Arc<dyn Executor>) {
        self.executor.send_replace(Some(executor));
    }

    /// Returns the executor, if one is registered.
    pub(crate) fn registered(&self) -> Option<Arc<dyn Executor>> {
        self.executor.borrow().clone()
    }

    /// Waits for a free slot to run a job.
    pub(crate) async fn acquire_slot(&self) -> Result<OwnedSemaphorePermit> {
        self.slots.clone().acquire_owned().await.map_err(|_| Error::Stopping)
    }

    /// Waits until this kind has an executor.
    pub(crate) async fn executor(&self) -> Result<Arc<dyn Executor>> {
        let mut executor = self.executor.subscribe();
        let found = executor.wait_for(Option::is_some).await.map_err(|_| Error::Stopping)?;
        found.clone().ok_or(Error::Stopping)
    }
}
