//! Durations of the starts of instances, learnt from earlier preparations. They determine how long
//! before an expected call a preparation begins.
//!
//! The durations are in memory only and have a constant size per function. The number of functions
//! is limited.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

/// Maximum number of functions with a start time. Above this number, the function with the oldest
/// record is removed.
const FUNCTIONS_MAX: usize = 1_024;

/// A preparation begins twice the start time plus this margin before the expected call, but at most
/// the maximum below.
const AHEAD_MARGIN: Duration = Duration::from_secs(2);
const AHEAD_MAX: Duration = Duration::from_secs(90);

/// Time between the start of a preparation and the expected call if the start time of the instances
/// is unknown.
const AHEAD_UNKNOWN: Duration = Duration::from_secs(30);

/// The durations of the starts of the instances of all functions, by label.
#[derive(Debug, Default)]
pub(crate) struct StartDurations(Mutex<HashMap<String, StartDuration>>);

/// The time that the start of an instance takes, and when it was recorded.
#[derive(Debug, Clone, Copy)]
struct StartDuration {
    recorded: Instant,
    time: Duration,
}

impl StartDurations {
    /// Records the time that the start of an instance of a function took.
    pub(crate) fn record(&self, label: &str, took: Duration, now: Instant) {
        self.update(label, now, |before| before.map_or(took, |time| (time + took) / 2));
    }

    /// Records that the start of an instance takes at least this time, because it had not succeeded
    /// after this time.
    pub(crate) fn set_minimum(&self, label: &str, took: Duration, now: Instant) {
        self.update(label, now, |before| before.map_or(took, |time| time.max(took)));
    }

    fn update(&self, label: &str, now: Instant, change: impl FnOnce(Option<Duration>) -> Duration) {
        let mut times = self.0.lock();
        let before = times.get(label).map(|start| start.time);
        if before.is_none() && times.len() >= FUNCTIONS_MAX {
            let oldest = times.iter().min_by_key(|(_, start)| start.recorded);
            if let Some(oldest) = oldest.map(|(label, _)| label.clone()) {
                times.remove(&oldest);
            }
        }
        times.insert(label.to_owned(), StartDuration { recorded: now, time: change(before) });
    }

    /// Returns the learnt start time of a function's instances.
    pub(crate) fn get(&self, label: &str) -> Option<Duration> {
        self.0.lock().get(label).map(|start| start.time)
    }

    /// Returns how long before an expected call a preparation must begin.
    pub(crate) fn time_ahead(&self, label: &str) -> Duration {
        let ahead = |start: Duration| (2 * start + AHEAD_MARGIN).min(AHEAD_MAX);
        self.get(label).map_or(AHEAD_UNKNOWN, ahead)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn a_start_is_ahead_by_the_learnt_time_and_a_margin() {
        let (times, now) = (StartDurations::default(), Instant::now());
        assert_eq!(times.time_ahead("f"), AHEAD_UNKNOWN);
        times.record("f", 4 * SECOND, now);
        assert_eq!(times.time_ahead("f"), 10 * SECOND);
        times.record("f", 2 * SECOND, now);
        assert_eq!(times.time_ahead("f"), 8 * SECOND);
        times.set_minimum("f", SECOND, now);
        assert_eq!(times.time_ahead("f"), 8 * SECOND);
        times.set_minimum("f", 60 * SECOND, now);
        assert_eq!(times.time_ahead("f"), AHEAD_MAX);
    }

    #[test]
    fn the_number_of_functions_is_limited() {
        let (times, start) = (StartDurations::default(), Instant::now());
        let count = FUNCTIONS_MAX as u32 + 10;
        for number in 0..count {
            times.record(&number.to_string(), SECOND, start + number * SECOND);
        }
        assert_eq!(times.0.lock().len(), FUNCTIONS_MAX);
        assert_eq!(times.get("0"), None, "the oldest is removed");
        assert_eq!(times.get(&(count - 1).to_string()), Some(SECOND));
    }
}
