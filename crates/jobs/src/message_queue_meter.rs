//! Usage of message queues: the requests of one user to one queue within a minute are one job.
//!
//! A job for each request would cost more than the request itself. A timer records the jobs after
//! the minute. The jobs are also recorded before usage is read, and when the server stops.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use crate::{Jobs, NewJob};
use headwater_model::{JobKind, Principal, Usage};
use parking_lot::Mutex;

/// Time for which requests are counted before they are recorded as a job.
const PERIOD: Duration = Duration::from_mins(1);

/// Counts the requests to message queues.
pub struct MessageQueueMeter(Arc<MessageQueueMeterInner>);

struct MessageQueueMeterInner {
    jobs: Jobs,
    open: Mutex<UnrecordedRequests>,
}

/// The requests that are not recorded yet, by queue and user.
type UnrecordedRequests = HashMap<(String, String), (NewJob, Usage)>;

impl MessageQueueMeter {
    /// Creates a meter and starts its timer, which ends with the meter.
    pub fn start(jobs: Jobs) -> Self {
        Self::with_period(jobs, PERIOD)
    }

    fn with_period(jobs: Jobs, period: Duration) -> Self {
        let inner = Arc::new(MessageQueueMeterInner { jobs, open: Mutex::default() });
        let meter = Arc::downgrade(&inner);
        tokio::spawn(async move {
            loop {
                tokio::time::sleep(period).await;
                let Some(inner) = meter.upgrade() else { return };
                MessageQueueMeter(inner).flush();
            }
        });
        MessageQueueMeter(inner)
    }

    /// Counts one request to a message queue, with the bytes of the messages that it sent and
    /// received.
    pub fn count(&self, principal: &Principal, queue: &str, bytes: [usize; 2]) {
        let [bytes_in, bytes_out] = bytes.map(|bytes| bytes as u64);
        let usage = Usage { requests: 1, bytes_in, bytes_out, ..Usage::default() };
        let key = (queue.to_owned(), principal.author().to_owned());
        let mut open = self.0.open.lock();
        let new = || NewJob::of(JobKind::Queue, queue.to_owned(), principal);
        let (_, sum) = open.entry(key).or_insert_with(|| (new(), Usage::default()));
        sum.add(&usage);
    }

    /// Records all requests so far, and charges them to their users.
    pub fn flush(&self) {
        // Keep the lock while recording, so that a concurrent flush returns only after these
        // requests are recorded, too.
        let mut open = self.0.open.lock();
        for (_, (new, usage)) in open.drain() {
            self.0.jobs.record_ended(&new, &usage);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use crate::JobsOptions;
    use headwater_model::{AuthMethod, AuthenticatedUser, Limits, SystemClock, Timestamp};
    use headwater_store::MemoryStore;

    use super::*;

    #[tokio::test]
    async fn a_timer_charges_requests_to_the_daily_limit_of_their_user() {
        let clock = Arc::new(SystemClock);
        let jobs = Jobs::open(Arc::new(MemoryStore::new()), clock, JobsOptions::default()).await;
        let jobs = jobs.expect("jobs");
        jobs.set_limits_of(Arc::new(|_| Limits { money_per_day: Some(1e-7), ..Limits::default() }));
        let ana = Principal::user(AuthenticatedUser {
            name: "ana".to_owned(),
            created: Timestamp::UNIX_EPOCH,
            method: AuthMethod::Token,
            token: None,
            scopes: None,
            expires: None,
        });
        let meter = MessageQueueMeter::with_period(jobs.clone(), Duration::from_millis(5));
        meter.count(&ana, "orders", [10, 0]);
        meter.count(&ana, "orders", [0, 10]);
        // The timer must record the requests without a further request.
        let deadline = Instant::now() + Duration::from_secs(30);
        while jobs.check_day_quota("ana").await.is_ok() {
            assert!(Instant::now() < deadline, "the requests are not charged");
            tokio::task::yield_now().await;
        }
        let spent = jobs.usage_today("ana").await.expect("usage").today.money;
        assert!((spent - 2.0 * 0.4 / 1e6).abs() < 1e-9, "{spent}");
        jobs.check_day_quota("ben").await.expect("no requests");
    }
}
