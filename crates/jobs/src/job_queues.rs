//! Named queues: jobs of one queue run one at a time, in order of arrival.
//!
//! Runs of a project on one branch share a queue, because two concurrent runs would conflict. Jobs
//! of different queues are independent.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use headwater_model::JobId;
use parking_lot::Mutex;
use tokio::sync::Notify;

/// The non-empty queues, by name.
#[derive(Default)]
pub(crate) struct JobQueues(Arc<Mutex<HashMap<String, VecDeque<WaitingJob>>>>);

/// A job in a queue, and the notification that it may run.
struct WaitingJob {
    job: JobId,
    turn: Arc<Notify>,
}

/// A job's position in a queue. Dropping it lets the next job run.
pub(crate) struct QueuePosition {
    queues: JobQueues,
    name: String,
    job: JobId,
    ready: Arc<Notify>,
}

impl JobQueues {
    /// Appends a job to a queue.
    pub(crate) fn enter(&self, name: &str, job: JobId) -> QueuePosition {
        let ready = Arc::new(Notify::new());
        let waiter = WaitingJob { job, turn: ready.clone() };
        self.0.lock().entry(name.to_owned()).or_default().push_back(waiter);
        QueuePosition { queues: JobQueues(self.0.clone()), name: name.to_owned(), job, ready }
    }

    /// Returns the first job of the queue.
    pub(crate) fn first(&self, name: &str) -> Option<JobId> {
        self.0.lock().get(name)?.front().map(|waiter| waiter.job)
    }
}

impl QueuePosition {
    /// Returns the job that must end before this job runs; `None` if this job may run.
    pub(crate) fn waits_for(&self) -> Option<JobId> {
        self.queues.first(&self.name).filter(|first| *first != self.job)
    }

    /// Waits until all earlier jobs have left the queue.
    pub(crate) async fn come(&self) {
        while self.waits_for().is_some() {
            self.ready.notified().await;
        }
    }
}

impl Drop for QueuePosition {
    fn drop(&mut self) {
        let mut queues = self.queues.0.lock();
        let Some(queue) = queues.get_mut(&self.name) else { return };
        queue.retain(|waiter| waiter.job != self.job);
        match queue.front() {
            Some(first) => first.turn.notify_one(),
            None => {
                queues.remove(&self.name);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn queued_jobs_run_in_order_and_stopped_jobs_are_skipped() {
        let queues = JobQueues::default();
        let ids = [JobId::generate(), JobId::generate(), JobId::generate()];
        let [first, second, third] = ids.map(|id| queues.enter("a", id));
        let other = queues.enter("b", ids[2]);
        other.come().await;
        first.come().await;
        assert_eq!((second.waits_for(), third.waits_for()), (Some(ids[0]), Some(ids[0])));
        drop(second);
        drop(first);
        third.come().await;
        drop((third, other));
        assert!(queues.0.lock().is_empty());
    }
}
