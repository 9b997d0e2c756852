//! Arrivals of calls: a decayed estimate of the interval between the calls of each function.
//!
//! The estimate is used only to keep an idle instance for longer. It never shortens this time and
//! never starts a process, so no user code runs without a call. The estimates are in memory only
//! and have a constant size per function. The number of functions is limited.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use crate::functions::Functions;
use crate::instance::reusable;
use crate::keep_alive::{KeepAlive, RegularCall};
use crate::{Invocation, ReuseScope};

/// Maximum number of functions with an estimate. Above this number, the least recently called
/// function is removed.
const FUNCTIONS_MAX: usize = 1_024;

/// Weight of the latest interval in the moving average. The first few intervals have equal weights.
const WEIGHT: f64 = 0.25;

/// Calls are regular if there are at least this many intervals between them, and if the ratio of
/// the standard deviation of the intervals to their mean is at most [`DEVIATION_MAX`].
const INTERVALS_MIN: u32 = 4;
const DEVIATION_MAX: f64 = 0.2;

/// The last call and the intervals of each function, by the function's label.
#[derive(Debug, Default)]
pub(crate) struct CallArrivals(Mutex<HashMap<String, FunctionArrivals>>);

#[derive(Debug, Clone, Copy)]
struct FunctionArrivals {
    last_call: Instant,
    intervals: IntervalEstimate,
}

/// A moving average of the intervals between calls, in seconds.
#[derive(Debug, Clone, Copy, Default)]
struct IntervalEstimate {
    count: u32,
    mean: f64,
    variance: f64,
}

impl IntervalEstimate {
    fn record(&mut self, interval: Duration) {
        self.count = self.count.saturating_add(1);
        let weight = (1.0 / f64::from(self.count)).max(WEIGHT);
        let difference = interval.as_secs_f64() - self.mean;
        self.mean += weight * difference;
        if self.count > 1 {
            self.variance = (1.0 - weight) * (self.variance + weight * difference * difference);
        }
    }

    /// Returns the mean interval and its standard deviation in seconds; `None` if the intervals are
    /// irregular or too few.
    fn regular_interval(&self) -> Option<(f64, f64)> {
        let deviation = self.variance.sqrt();
        let is_regular = self.count >= INTERVALS_MIN && deviation <= DEVIATION_MAX * self.mean;
        is_regular.then_some((self.mean, deviation))
    }
}

impl CallArrivals {
    /// Records the arrival of a call.
    pub(crate) fn record(&self, label: &str, now: Instant) {
        let mut functions = self.0.lock();
        if let Some(function) = functions.get_mut(label) {
            function.intervals.record(now.saturating_duration_since(function.last_call));
            function.last_call = function.last_call.max(now);
            return;
        }
        if functions.len() >= FUNCTIONS_MAX {
            let oldest = functions.iter().min_by_key(|(_, function)| function.last_call);
            if let Some(oldest) = oldest.map(|(label, _)| label.clone()) {
                functions.remove(&oldest);
            }
        }
        let intervals = IntervalEstimate::default();
        functions.insert(label.to_owned(), FunctionArrivals { last_call: now, intervals });
    }

    /// Returns the expected next call of a function; `None` if its calls are irregular, or too few
    /// to tell.
    pub(crate) fn next_call(&self, label: &str) -> Option<RegularCall> {
        let function = self.0.lock().get(label).copied()?;
        let (mean, deviation) = function.intervals.regular_interval()?;
        let latest = function.last_call + Duration::from_secs_f64(mean + 2.0 * deviation);
        Some(RegularCall { latest, interval: Duration::from_secs_f64(mean) })
    }
}

impl Functions {
    /// Records the arrival of a call, unless its instance must not be kept for the next regular
    /// call.
    pub(crate) fn record_arrival(&self, invocation: &Invocation, now: Instant) {
        if may_keep_instance(invocation) {
            self.0.arrivals.record(&invocation.label, now);
        }
    }

    /// Returns until when to keep the instance of a call that ended at `now`. The function's next
    /// call uses its newest instance, which is this one. So if this instance is kept for the next
    /// regular call, the function's older idle instances are no longer kept for that call.
    pub(crate) fn keep_alive(&self, invocation: &Invocation, now: Instant) -> KeepAlive {
        let label = &invocation.label;
        let next =
            if may_keep_instance(invocation) { self.0.arrivals.next_call(label) } else { None };
        let keep_alive = KeepAlive::after_call(now, next);
        if keep_alive.is_for_regular_call() {
            self.0.queue.end_extensions_of(label);
        }
        keep_alive
    }
}

/// Returns true if the instance of a call may be kept for the next regular call, for longer than
/// usual. Returns false for a call with environment variables, because the variables may contain
/// secrets.
fn may_keep_instance(invocation: &Invocation) -> bool {
    invocation.reuse == ReuseScope::SameFunction
        && reusable(invocation)
        && invocation.limits.variables.values().is_empty()
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);
    const LAST_CALL: &str = "kept after its last call";

    /// Records calls with these intervals between them, in seconds. Returns the time of the last
    /// call.
    fn call(arrivals: &CallArrivals, intervals: &[f64]) -> Instant {
        let mut now = Instant::now();
        arrivals.record("f", now);
        for interval in intervals {
            now += Duration::from_secs_f64(*interval);
            arrivals.record("f", now);
        }
        now
    }

    /// Checks for how many seconds, and for what reason, an instance is kept after calls with these
    /// intervals. Each call takes a second.
    #[track_caller]
    fn check(intervals: &[f64], seconds: std::ops::RangeInclusive<f64>, reason: &str) {
        let arrivals = CallArrivals::default();
        let now = call(&arrivals, intervals) + SECOND;
        let kept = KeepAlive::after_call(now, arrivals.next_call("f"));
        let time = (kept.until - now).as_secs_f64();
        assert!(seconds.contains(&time), "{time} {kept:?}");
        assert_eq!(kept.reason.to_string(), reason);
    }

    #[test]
    fn an_instance_is_kept_until_the_next_regular_call() {
        let reason = "kept for the next call, because calls arrive about every 180 s";
        check(&[180.0; 4], 188.9..=189.1, reason);
        check(&[170.0, 190.0, 180.0, 175.0, 185.0, 180.0], 195.0..=215.0, reason);
        let reason = "kept for the next call, because calls arrive about every 580 s";
        check(&[580.0; 8], 588.9..=589.1, reason);
    }

    #[test]
    fn an_instance_is_never_kept_for_less_than_a_minute() {
        check(&[5.0; 20], 60.0..=60.0, LAST_CALL);
        check(&[50.0; 20], 60.0..=60.0, LAST_CALL);
        let reason = "kept for the next call, because calls arrive about every 55 s";
        check(&[55.0; 20], 63.9..=64.1, reason);
    }

    #[test]
    fn a_burst_does_not_extend_the_time() {
        check(&vec![0.0; 10_000], 60.0..=60.0, LAST_CALL);
        check(&vec![0.001; 10_000], 60.0..=60.0, LAST_CALL);
        // Bursts that follow regular calls, and bursts that arrive at regular intervals.
        check(&[[180.0; 20], [0.001; 20]].concat(), 60.0..=60.0, LAST_CALL);
        check(&[180.0, 180.0, 180.0, 180.0, 180.0, 0.001], 60.0..=60.0, LAST_CALL);
        check(&[180.0, 0.001, 0.001].repeat(20), 60.0..=60.0, LAST_CALL);
    }

    #[test]
    fn irregular_rare_and_unknown_arrivals_use_the_default() {
        check(&[], 60.0..=60.0, LAST_CALL);
        check(&[180.0; 3], 60.0..=60.0, LAST_CALL);
        check(&[180.0, 20.0, 400.0, 90.0, 240.0, 60.0], 60.0..=60.0, LAST_CALL);
        // A long pause after regular calls makes the estimate irregular.
        check(&[180.0, 180.0, 180.0, 180.0, 180.0, 3_000.0], 60.0..=60.0, LAST_CALL);
        // The next call is expected after [`REGULAR_MAX`], so the instance is not kept for it.
        check(&[600.0; 8], 60.0..=60.0, LAST_CALL);
        check(&[86_400.0; 8], 60.0..=60.0, LAST_CALL);
    }

    #[test]
    fn old_intervals_decay() {
        let intervals = [[500.0; 6].as_slice(), [120.0; 80].as_slice()].concat();
        let reason = "kept for the next call, because calls arrive about every 120 s";
        check(&intervals, 128.9..=130.0, reason);
    }

    #[test]
    fn a_call_that_takes_longer_than_the_interval_does_not_extend_the_time() {
        let arrivals = CallArrivals::default();
        let now = call(&arrivals, &[180.0; 5]) + 500 * SECOND;
        let kept = KeepAlive::after_call(now, arrivals.next_call("f"));
        assert_eq!(kept.until, now + 60 * SECOND);
    }

    #[test]
    fn the_number_of_functions_is_limited() {
        let (arrivals, start) = (CallArrivals::default(), Instant::now());
        let count = FUNCTIONS_MAX as u32 + 10;
        for number in 0..count {
            arrivals.record(&number.to_string(), start + number * SECOND);
        }
        let functions = arrivals.0.lock();
        assert_eq!(functions.len(), FUNCTIONS_MAX);
        assert!(!functions.contains_key("0"), "the oldest is removed");
        assert!(functions.contains_key(&(count - 1).to_string()));
    }
}
