//! The time for which an idle instance is kept, and the reason, which users can see.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use headwater_model::WarmInstanceSummary;

use crate::functions::Functions;

/// Time for which an instance is kept after a call.
const IDLE_MAX: Duration = Duration::from_secs(60);

/// Time for which an instance is kept after the time of an expected call.
const LATE_MAX: Duration = Duration::from_secs(10);

/// A call that is expected at a time.
#[derive(Debug, Clone)]
pub struct ExpectedCall {
    /// The time of the call.
    pub at: Instant,
    /// The cause as shown to users, such as "the schedule `0 6 * * *` at 06:00".
    pub cause: Arc<str>,
}

/// The end of the time for which an idle instance is kept.
#[derive(Debug, Clone)]
pub(crate) struct KeepAlive {
    pub(crate) until: Instant,
    pub(crate) reason: KeepAliveReason,
}

/// The reason why an idle instance is kept.
#[derive(Debug, Clone)]
pub(crate) enum KeepAliveReason {
    /// The instance has executed a call.
    LastCall,
    /// The instance was started ahead of a call with this cause.
    Started { cause: Arc<str> },
    /// The instance exists, and is kept for a call with this cause.
    Extended { cause: Arc<str> },
}

impl KeepAlive {
    /// Returns the time for which the instance of a call that ended at `now` is kept.
    pub(crate) fn after_call(now: Instant) -> Self {
        KeepAlive { until: now + IDLE_MAX, reason: KeepAliveReason::LastCall }
    }

    /// Returns the time for which an instance that starts ahead of a call is kept.
    pub(crate) fn started_for(expected: &ExpectedCall) -> Self {
        let reason = KeepAliveReason::Started { cause: expected.cause.clone() };
        KeepAlive { until: expected.at + LATE_MAX, reason }
    }

    /// Keeps an instance at least until an expected call.
    pub(crate) fn extend_for(&mut self, expected: &ExpectedCall) {
        if self.until < expected.at + LATE_MAX {
            self.until = expected.at + LATE_MAX;
            self.reason = KeepAliveReason::Extended { cause: expected.cause.clone() };
        }
    }
}

impl fmt::Display for KeepAliveReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            KeepAliveReason::LastCall => f.write_str("kept after its last call"),
            KeepAliveReason::Started { cause } => write!(f, "started ahead of {cause}"),
            KeepAliveReason::Extended { cause } => write!(f, "kept for {cause}"),
        }
    }
}

impl Functions {
    /// Returns the idle instances of an environment, with the time and the reason for which each is
    /// kept.
    pub fn warm_instances(&self, environment: &str) -> Vec<WarmInstanceSummary> {
        let (now, time) = (Instant::now(), SystemTime::now());
        self.0.queue.with_idle(|instances| {
            let of_environment = instances.filter(|(idle, _)| idle.environment.id == environment);
            let summaries = of_environment.map(|(idle, idle_time)| WarmInstanceSummary {
                label: idle.label.clone(),
                memory_bytes: idle.memory_bytes,
                since: (time - idle_time).into(),
                until: (time + idle.keep_alive.until.saturating_duration_since(now)).into(),
                reason: idle.keep_alive.reason.to_string(),
            });
            summaries.collect()
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_instance_is_kept_past_the_expected_call_but_never_shorter_than_before() {
        let now = Instant::now();
        let cause: Arc<str> = "the schedule `0 6 * * *` at 06:00".into();
        let mut expected = ExpectedCall { at: now + Duration::from_secs(20), cause };
        let started = KeepAlive::started_for(&expected);
        assert_eq!(started.until, now + Duration::from_secs(30));
        let text = started.reason.to_string();
        assert_eq!(text, "started ahead of the schedule `0 6 * * *` at 06:00");
        let mut kept = KeepAlive::after_call(now);
        kept.extend_for(&expected);
        assert_eq!(kept.until, now + IDLE_MAX);
        assert_eq!(kept.reason.to_string(), "kept after its last call");
        expected.at = now + IDLE_MAX;
        kept.extend_for(&expected);
        assert_eq!(kept.until, now + Duration::from_secs(70));
        assert_eq!(kept.reason.to_string(), "kept for the schedule `0 6 * * *` at 06:00");
    }
}
