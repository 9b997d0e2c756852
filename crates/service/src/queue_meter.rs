//! Usage of queues: the requests of one user to one queue within a minute are one job.
//!
//! A job for each request would cost more than the request itself. The jobs are recorded after the
//! minute, before usage is read, and when the server stops.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use headwater_jobs::{Jobs, NewJob};
use headwater_model::{JobKind, Principal, Usage};
use parking_lot::Mutex;

/// Time after which the requests of a job are recorded.
const PERIOD: Duration = Duration::from_mins(1);

/// Counts the requests to queues.
pub(crate) struct QueueMeter {
    jobs: Jobs,
    open: Mutex<HashMap<(String, String), OpenJob>>,
}

/// The requests of one user to one queue that are not recorded yet.
struct OpenJob {
    new: NewJob,
    began: Instant,
    usage: Usage,
}

impl QueueMeter {
    pub(crate) fn new(jobs: Jobs) -> Self {
        QueueMeter { jobs, open: Mutex::default() }
    }

    /// Counts one request to a queue, with the bytes of the messages that it sent and received.
    pub(crate) fn count(&self, principal: &Principal, queue: &str, bytes: [usize; 2]) {
        let [bytes_in, bytes_out] = bytes.map(|bytes| bytes as u64);
        let usage = Usage { requests: 1, bytes_in, bytes_out, ..Usage::default() };
        let mut open = self.open.lock();
        let key = (queue.to_owned(), principal.author().to_owned());
        let job = open.entry(key).or_insert_with(|| OpenJob {
            new: NewJob::of(JobKind::Queue, queue.to_owned(), principal),
            began: Instant::now(),
            usage: Usage::default(),
        });
        job.usage.add(&usage);
        if job.began.elapsed() >= PERIOD {
            let due = open.extract_if(|_, job| job.began.elapsed() >= PERIOD);
            self.record(due.map(|(_, job)| job).collect());
        }
    }

    /// Records all requests so far.
    pub(crate) fn flush(&self) {
        let open = std::mem::take(&mut *self.open.lock());
        self.record(open.into_values().collect());
    }

    fn record(&self, jobs: Vec<OpenJob>) {
        for OpenJob { new, usage, .. } in jobs {
            self.jobs.record_ended(&new, &usage);
        }
    }
}
