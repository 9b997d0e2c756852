//! The time for which an idle instance is kept, and the reason. Users can see both.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use headwater_model::WarmInstanceSummary;

use crate::functions::Functions;

/// Usual time for which an instance is kept after its last call, even if no other call is expected.
pub(crate) const IDLE_MAX: Duration = Duration::from_secs(60);

/// Maximum time for which an instance is kept after its last call to wait for the next regular
/// call. Unused zygotes and project folders are removed after the same time, so an instance barely
/// delays the removal of its zygote and project folder.
const REGULAR_MAX: Duration = Duration::from_secs(600);

/// Time for which an instance is still kept if an expected call does not arrive when expected.
const LATE_MAX: Duration = Duration::from_secs(10);

/// A call that is expected at a known time, for example because of a schedule.
#[derive(Debug, Clone)]
pub struct ExpectedCall {
    /// The time of the call.
    pub at: Instant,
    /// The cause as shown to users, such as "the schedule `0 6 * * *` at 06:00".
    pub cause: Arc<str>,
}

/// The next call of a function whose calls arrive regularly.
#[derive(Debug, Clone, Copy)]
pub(crate) struct RegularCall {
    /// The latest time at which the call is likely to arrive.
    pub(crate) latest: Instant,
    /// The mean interval between the function's calls.
    pub(crate) interval: Duration,
}

/// The time until which an idle instance is kept, and the reason.
#[derive(Debug, Clone)]
pub(crate) struct KeepAlive {
    pub(crate) until: Instant,
    pub(crate) reason: KeepAliveReason,
}

/// The reason why an idle instance is kept.
#[derive(Debug, Clone)]
pub(crate) enum KeepAliveReason {
    /// The instance has executed a call, and is kept for the usual time, [`IDLE_MAX`].
    LastCall,
    /// The instance has executed a call that ended at `ended`. It is kept for the next call,
    /// because the function's calls arrive regularly; `interval` is the mean interval.
    Regular { ended: Instant, interval: Duration },
    /// The instance was started in advance, for an expected call with this cause.
    Started { cause: Arc<str> },
    /// The instance already existed, and is kept for an expected call with this cause.
    Extended { cause: Arc<str> },
    /// The instance is kept because the function has provisioned concurrency.
    Provisioned,
}

impl KeepAlive {
    /// Returns how long the instance of a call that ended at `now` is kept: for [`IDLE_MAX`], or
    /// for longer if the next call is expected later, but within [`REGULAR_MAX`].
    pub(crate) fn after_call(now: Instant, next: Option<RegularCall>) -> Self {
        if let Some(RegularCall { latest, interval }) = next {
            let until = latest + LATE_MAX;
            if now + IDLE_MAX < until && until <= now + REGULAR_MAX {
                return KeepAlive {
                    until,
                    reason: KeepAliveReason::Regular { ended: now, interval },
                };
            }
        }
        KeepAlive { until: now + IDLE_MAX, reason: KeepAliveReason::LastCall }
    }

    /// Returns true if the instance is kept for the function's next regular call.
    pub(crate) fn is_for_regular_call(&self) -> bool {
        matches!(self.reason, KeepAliveReason::Regular { .. })
    }

    /// Returns true if at `now` a regular call is the only reason to keep the instance, because
    /// [`IDLE_MAX`] has passed.
    pub(crate) fn is_extended(&self, now: Instant) -> bool {
        match self.reason {
            KeepAliveReason::Regular { ended, .. } => ended + IDLE_MAX <= now,
            KeepAliveReason::LastCall
            | KeepAliveReason::Provisioned
            | KeepAliveReason::Started { .. }
            | KeepAliveReason::Extended { .. } => false,
        }
    }

    /// Stops keeping the instance for the next regular call. The instance is then kept only for
    /// [`IDLE_MAX`].
    pub(crate) fn end_extension(&mut self) {
        if let KeepAliveReason::Regular { ended, .. } = self.reason {
            *self = KeepAlive::after_call(ended, None);
        }
    }

    /// Returns how long an instance that is started in advance of a call is kept.
    pub(crate) fn started_for(expected: &ExpectedCall) -> Self {
        let reason = KeepAliveReason::Started { cause: expected.cause.clone() };
        KeepAlive { until: expected.at + LATE_MAX, reason }
    }

    /// Returns how long a provisioned instance is kept. The runtime renews this time periodically
    /// while the function has provisioned concurrency.
    pub(crate) fn provisioned(now: Instant) -> Self {
        KeepAlive { until: now + IDLE_MAX, reason: KeepAliveReason::Provisioned }
    }

    /// Keeps an instance at least until an expected call. The instance is then no longer kept for a
    /// regular call.
    pub(crate) fn extend_for(&mut self, expected: &ExpectedCall) {
        self.end_extension();
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
            KeepAliveReason::Regular { interval, .. } => {
                let seconds = interval.as_secs_f64();
                let text = "kept for the next call, because calls arrive about every";
                write!(f, "{text} {seconds:.0} s")
            }
            KeepAliveReason::Started { cause } => write!(f, "started ahead of {cause}"),
            KeepAliveReason::Extended { cause } => write!(f, "kept for {cause}"),
            KeepAliveReason::Provisioned => f.write_str("kept by provisioned concurrency"),
        }
    }
}

impl Functions {
    /// Returns the idle instances of an environment, with the time until which each is kept, and
    /// the reason.
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
        let mut kept = KeepAlive::after_call(now, None);
        kept.extend_for(&expected);
        assert_eq!(kept.until, now + IDLE_MAX);
        assert_eq!(kept.reason.to_string(), "kept after its last call");
        expected.at = now + IDLE_MAX;
        kept.extend_for(&expected);
        assert_eq!(kept.until, now + Duration::from_secs(70));
        assert_eq!(kept.reason.to_string(), "kept for the schedule `0 6 * * *` at 06:00");
    }

    #[test]
    fn an_extension_for_a_regular_call_is_limited_and_can_end() {
        let (now, second) = (Instant::now(), Duration::from_secs(1));
        let after = |seconds: u32| {
            let latest = now + seconds * second;
            KeepAlive::after_call(now, Some(RegularCall { latest, interval: seconds * second }))
        };
        let mut kept = after(180);
        assert_eq!(kept.until, now + 190 * second);
        assert!(kept.is_for_regular_call());
        assert!(!kept.is_extended(now + 59 * second) && kept.is_extended(now + 60 * second));
        kept.end_extension();
        assert_eq!(kept.until, now + IDLE_MAX);
        assert_eq!(kept.reason.to_string(), "kept after its last call");
        assert!(!kept.is_for_regular_call() && !kept.is_extended(now + 70 * second));
        // The scheduled call replaces the regular call as the reason.
        let cause: Arc<str> = "the schedule `* * * * *` at 06:00".into();
        let mut kept = after(180);
        kept.extend_for(&ExpectedCall { at: now + 80 * second, cause });
        assert_eq!(kept.until, now + 90 * second);
        assert_eq!(kept.reason.to_string(), "kept for the schedule `* * * * *` at 06:00");
        assert!(!kept.is_extended(now + 80 * second));
        assert_eq!(after(50).until, now + IDLE_MAX);
        assert_eq!(after(590).until, now + REGULAR_MAX);
        assert_eq!(after(591).until, now + IDLE_MAX);
    }
}
