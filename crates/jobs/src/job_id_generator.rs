//! Ids that sort by time, so that a time range is a key range.

use std::sync::{Arc, Mutex, PoisonError};

use headwater_model::{Clock, JobId, Timestamp};
use uuid::{ContextV7, Uuid};

/// A generator of ids that increase even within one millisecond.
pub(crate) struct JobIdGenerator {
    clock: Arc<dyn Clock>,
    context: Mutex<ContextV7>,
}

impl JobIdGenerator {
    pub(crate) fn new(clock: Arc<dyn Clock>) -> Self {
        JobIdGenerator { clock, context: Mutex::new(ContextV7::new()) }
    }

    pub(crate) fn next(&self) -> JobId {
        self.generate(&self.context.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Returns `count` ascending ids. The generator creates no other id between them.
    pub(crate) fn next_many(&self, count: usize) -> Vec<JobId> {
        let context = self.context.lock().unwrap_or_else(PoisonError::into_inner);
        (0..count).map(|_| self.generate(&context)).collect()
    }

    fn generate(&self, context: &ContextV7) -> JobId {
        let now = self.clock.now();
        let seconds = u64::try_from(now.timestamp()).unwrap_or(0);
        let time = uuid::Timestamp::from_unix(context, seconds, now.timestamp_subsec_nanos());
        JobId(Uuid::new_v7(time))
    }
}

/// Returns a lower bound for the keys of ids created at this time.
pub(crate) fn key_at(time: Timestamp) -> String {
    let millis = u64::try_from(time.timestamp_millis()).unwrap_or(0);
    uuid::Builder::from_unix_timestamp_millis(millis, &[0; 10]).into_uuid().to_string()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use headwater_model::FixedClock;

    use super::*;

    #[test]
    fn ids_sort_by_time_and_follow_the_key_of_their_time() {
        let start = "2026-03-01T00:00:00Z".parse().expect("a time");
        let clock = Arc::new(FixedClock::at(start));
        let ids = JobIdGenerator::new(clock.clone());
        let mut made: Vec<String> = (0..100).map(|_| ids.next().to_string()).collect();
        clock.advance(Duration::from_millis(1));
        let later = key_at(clock.now());
        assert!(made.iter().all(|id| *id >= key_at(start) && *id < later));
        made.extend(ids.next_many(3).iter().map(ToString::to_string));
        assert!(made.is_sorted());
        assert!(made[100] >= later);
    }
}
