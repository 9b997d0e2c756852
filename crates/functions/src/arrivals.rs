//! Arrivals of calls: a decayed estimate of the interval between the calls of each function.
//!
//! The estimate decides how long an idle instance is kept, and whether one is started ahead of the
//! next regular call. For the time of such a start, start times of instances are recorded too. The
//! estimates are in memory only, have a constant size per function, and exist for a limited number
//! of functions.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use crate::keep_alive::{ExpectedCall, IDLE_MAX, KeepAlive, KeepAliveReason, LATE_MAX};
use crate::{Environment, Invocation};

/// Maximum number of functions. The function without calls for the longest time is removed.
const FUNCTIONS_MAX: usize = 1_024;

/// Weight of the last interval, once there are enough intervals for a decayed estimate.
const WEIGHT: f64 = 0.25;

/// Minimum number of intervals for a decision, and the maximum ratio of their standard deviation to
/// their mean.
const INTERVALS_MIN: u32 = 4;
const DEVIATION_MAX: f64 = 0.2;

/// Shorter intervals do not shorten the time for which an instance is kept, because such calls
/// usually arrive in bursts.
const INTERVAL_MIN: Duration = Duration::from_secs(5);

/// Time for which an instance is kept if the next regular call arrives only after [`IDLE_MAX`].
const IDLE_MIN: Duration = Duration::from_secs(10);

/// Margin of a start ahead of a call, and the maximum time ahead. The maximum is used while the
/// start time is unknown.
const AHEAD_MARGIN: Duration = Duration::from_secs(2);
const AHEAD_MAX: Duration = Duration::from_secs(30);

/// Maximum interval for which a start is planned ahead of the next call.
const PLANNED_MAX: Duration = Duration::from_secs(2 * 3600);

/// Maximum ratio of the time for which an instance waits for its call to the start time that the
/// call saves.
const WAIT_RATIO: f64 = 100.0;

/// The arrivals of all functions, by label.
#[derive(Debug, Default)]
pub(crate) struct Arrivals(Mutex<HashMap<String, FunctionArrivals>>);

#[derive(Debug)]
struct FunctionArrivals {
    /// The time of the last change.
    used: Instant,
    last_call: Option<Instant>,
    intervals: IntervalEstimate,
    /// The decayed start time of instances.
    start: Option<Duration>,
    planned: Option<PlannedStart>,
}

/// A start that is planned ahead of the next regular call.
#[derive(Debug)]
pub(crate) struct PlannedStart {
    starts_at: Instant,
    pub(crate) invocation: Invocation,
    pub(crate) expected: ExpectedCall,
}

/// A decayed estimate of intervals, in seconds.
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
    fn regular(&self) -> Option<(f64, f64)> {
        let deviation = self.variance.sqrt();
        let is_regular = self.count >= INTERVALS_MIN && deviation <= DEVIATION_MAX * self.mean;
        is_regular.then_some((self.mean, deviation))
    }
}

impl Arrivals {
    /// Records a call.
    pub(crate) fn record_call(&self, label: &str, now: Instant) {
        self.update(label, now, |function| {
            function.planned = None;
            if let Some(last) = function.last_call.replace(now) {
                function.intervals.record(now.saturating_duration_since(last));
            }
        });
    }

    /// Records the time that the start of an instance took.
    pub(crate) fn record_start(&self, label: &str, took: Duration, now: Instant) {
        self.update(label, now, |function| {
            function.start = Some(function.start.map_or(took, |start| (start + took) / 2));
        });
    }

    /// Records that a start took at least this time.
    pub(crate) fn raise_start(&self, label: &str, took: Duration, now: Instant) {
        self.update(label, now, |function| function.start = function.start.max(Some(took)));
    }

    fn update(&self, label: &str, now: Instant, change: impl FnOnce(&mut FunctionArrivals)) {
        let mut functions = self.0.lock();
        if let Some(function) = functions.get_mut(label) {
            function.used = now;
            change(function);
            return;
        }
        if functions.len() >= FUNCTIONS_MAX {
            let oldest = functions.iter().min_by_key(|(_, function)| function.used);
            let oldest = oldest.map(|(label, _)| label.clone());
            if let Some(oldest) = oldest {
                functions.remove(&oldest);
            }
        }
        let intervals = IntervalEstimate::default();
        let (last_call, start, planned) = (None, None, None);
        let new = FunctionArrivals { used: now, last_call, intervals, start, planned };
        change(functions.entry(label.to_owned()).or_insert(new));
    }

    /// Returns the time before an expected call at which an instance must start.
    pub(crate) fn time_ahead(&self, label: &str) -> Duration {
        let start = self.0.lock().get(label).and_then(|function| function.start);
        start.map_or(AHEAD_MAX, time_ahead)
    }

    /// Returns the time for which the instance of an ended call is kept, and the reason.
    pub(crate) fn keep_alive(&self, label: &str, now: Instant) -> KeepAlive {
        let regular = self.0.lock().get(label).and_then(|function| function.intervals.regular());
        let regular = regular.filter(|(every, _)| *every >= INTERVAL_MIN.as_secs_f64());
        let Some((every, deviation)) = regular else {
            return KeepAlive { until: now + IDLE_MAX, reason: KeepAliveReason::LastCall };
        };
        let needed = time_needed(every, deviation);
        let kept = if needed <= IDLE_MAX { needed.max(IDLE_MIN) } else { IDLE_MIN };
        let every = Duration::from_secs_f64(every);
        KeepAlive { until: now + kept, reason: KeepAliveReason::Regular { kept, every } }
    }

    /// Plans a start ahead of the next call of a function, whose last invocation is given. Does
    /// nothing unless calls arrive regularly, no instance is kept until the next call, and the
    /// start takes long compared with the time for which the instance would wait.
    pub(crate) fn plan(&self, invocation: &Invocation) {
        // The values of secrets are variables. They are not kept after the instance has ended.
        if !invocation.limits.variables.values().is_empty() {
            return;
        }
        if let Some(function) = self.0.lock().get_mut(&invocation.label)
            && let Some((starts_at, expected)) = function.next_start()
        {
            let invocation = invocation.for_preparation();
            function.planned = Some(PlannedStart { starts_at, invocation, expected });
        }
    }

    /// Removes and returns the planned starts that are due.
    pub(crate) fn due(&self, now: Instant) -> Vec<PlannedStart> {
        let mut functions = self.0.lock();
        let due = |function: &mut FunctionArrivals| {
            function.planned.take_if(|planned| planned.starts_at <= now)
        };
        functions.values_mut().filter_map(due).collect()
    }

    /// Cancels the planned starts whose environments satisfy a condition.
    pub(crate) fn cancel_planned(&self, holds: impl Fn(&Environment) -> bool) {
        for function in self.0.lock().values_mut() {
            let planned = function.planned.as_ref();
            if planned.is_some_and(|planned| holds(&planned.invocation.environment)) {
                function.planned = None;
            }
        }
    }
}

impl FunctionArrivals {
    /// Returns the time at which an instance for the next call must start, and the next call.
    fn next_start(&self) -> Option<(Instant, ExpectedCall)> {
        let (every, deviation) = self.intervals.regular()?;
        let (start, last_call) = (self.start?, self.last_call?);
        let interval = Duration::from_secs_f64(every);
        if time_needed(every, deviation) <= IDLE_MAX || interval > PLANNED_MAX {
            return None;
        }
        let margin = Duration::from_secs_f64(2.0 * deviation);
        let ahead = time_ahead(start) + margin;
        let wait = ahead + margin + LATE_MAX;
        if start.as_secs_f64() * WAIT_RATIO < wait.as_secs_f64() {
            return None;
        }
        let cause = format!("the next call: calls arrive every {every:.0} s").into();
        let starts_at = last_call + interval.saturating_sub(ahead);
        Some((starts_at, ExpectedCall { at: last_call + interval + margin, cause }))
    }
}

/// Returns the time before a call at which an instance with this start time must start.
fn time_ahead(start: Duration) -> Duration {
    (2 * start + AHEAD_MARGIN).min(AHEAD_MAX)
}

/// Returns the time after which the next call has arrived, for a mean interval and its standard
/// deviation in seconds.
fn time_needed(every: f64, deviation: f64) -> Duration {
    Duration::from_secs_f64(every * (1.0 + DEVIATION_MAX) + 2.0 * deviation)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    /// Records calls with these intervals in seconds, and returns the time of the last call.
    fn call(arrivals: &Arrivals, label: &str, intervals: &[f64]) -> Instant {
        let mut now = Instant::now();
        arrivals.record_call(label, now);
        for interval in intervals {
            now += Duration::from_secs_f64(*interval);
            arrivals.record_call(label, now);
        }
        now
    }

    /// Checks the time in seconds for which an instance is kept after calls with these intervals.
    #[track_caller]
    fn check(intervals: &[f64], seconds: std::ops::RangeInclusive<f64>, reason: &str) {
        let arrivals = Arrivals::default();
        let now = call(&arrivals, "f", intervals);
        let kept = arrivals.keep_alive("f", now);
        let time = (kept.until - now).as_secs_f64();
        assert!(seconds.contains(&time), "{time} {kept:?}");
        assert_eq!(kept.reason.to_string(), reason);
    }

    #[test]
    fn an_instance_is_kept_until_the_next_regular_call() {
        check(&[30.0; 4], 35.9..=36.1, "kept 36 s: calls arrive every 30 s");
        let kept = "kept 38 s: calls arrive every 30 s";
        check(&[29.0, 31.0, 30.0, 29.0, 31.0, 30.0], 36.0..=39.0, kept);
        check(&[6.0; 8], 10.0..=10.0, "kept 10 s: calls arrive every 6 s");
    }

    #[test]
    fn an_instance_ends_early_if_the_next_regular_call_is_far_away() {
        check(&[300.0; 5], 10.0..=10.0, "kept 10 s: calls arrive every 300 s");
    }

    #[test]
    fn irregular_frequent_and_unknown_arrivals_use_the_default() {
        let reason = "kept after its last call";
        check(&[], 60.0..=60.0, reason);
        check(&[30.0; 3], 60.0..=60.0, reason);
        check(&[0.001; 50], 60.0..=60.0, reason);
        check(&[30.0, 5.0, 90.0, 1.0, 40.0, 10.0], 60.0..=60.0, reason);
        // A pause after regular calls makes the estimate irregular.
        check(&[30.0, 30.0, 30.0, 30.0, 30.0, 500.0], 60.0..=60.0, reason);
    }

    #[test]
    fn old_intervals_decay() {
        let intervals = [[500.0; 6].as_slice(), [20.0; 80].as_slice()].concat();
        check(&intervals, 23.9..=24.4, "kept 24 s: calls arrive every 20 s");
    }

    #[test]
    fn a_start_is_ahead_by_the_learnt_time_and_a_margin() {
        let (arrivals, now) = (Arrivals::default(), Instant::now());
        assert_eq!(arrivals.time_ahead("f"), AHEAD_MAX);
        arrivals.record_start("f", 4 * SECOND, now);
        assert_eq!(arrivals.time_ahead("f"), 10 * SECOND);
        arrivals.record_start("f", 2 * SECOND, now);
        assert_eq!(arrivals.time_ahead("f"), 8 * SECOND);
        arrivals.record_start("f", 100 * SECOND, now);
        assert_eq!(arrivals.time_ahead("f"), AHEAD_MAX);
    }

    /// Returns the seconds from the last call to the start ahead of the next call, and the seconds
    /// to that call, for a start time and intervals in seconds.
    fn next_start(start: f64, intervals: &[f64]) -> Option<(f64, f64)> {
        let arrivals = Arrivals::default();
        let now = call(&arrivals, "f", intervals);
        arrivals.raise_start("f", Duration::from_secs_f64(start), now);
        let functions = arrivals.0.lock();
        let (starts_at, expected) = functions["f"].next_start()?;
        Some(((starts_at - now).as_secs_f64(), (expected.at - now).as_secs_f64()))
    }

    #[test]
    fn a_start_is_planned_ahead_of_a_regular_call_if_it_takes_long() {
        assert_eq!(next_start(1.0, &[900.0; 5]), Some((896.0, 900.0)));
        assert_eq!(next_start(0.05, &[900.0; 5]), None, "the start is short");
        assert_eq!(next_start(1.0, &[30.0; 5]), None, "an instance is kept");
        assert_eq!(next_start(1.0, &[900.0; 3]), None, "too few intervals");
        assert_eq!(next_start(1.0, &[90_000.0; 5]), None, "the interval is too long");
        let irregular = [900.0, 200.0, 1_500.0, 700.0, 900.0];
        assert_eq!(next_start(10.0, &irregular), None);
        // The instance would wait for minutes.
        let varied = [900.0, 800.0, 1_000.0, 900.0, 800.0, 1_000.0];
        assert_eq!(next_start(1.0, &varied), None);
        assert!(next_start(5.0, &varied).is_some_and(|(starts, _)| starts < 800.0));
    }

    #[test]
    fn the_number_of_functions_is_limited() {
        let (arrivals, start) = (Arrivals::default(), Instant::now());
        let count = FUNCTIONS_MAX as u32 + 10;
        for number in 0..count {
            arrivals.record_start(&number.to_string(), SECOND, start + number * SECOND);
        }
        assert_eq!(arrivals.0.lock().len(), FUNCTIONS_MAX);
        assert_eq!(arrivals.time_ahead("0"), AHEAD_MAX, "the oldest is removed");
        assert_eq!(arrivals.time_ahead(&(count - 1).to_string()), 4 * SECOND);
    }
}
