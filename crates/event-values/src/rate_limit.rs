//! The rate limit for a trigger's events whose cause is unknown: after a burst, a number per
//! minute. Table changes that exceed the limit are collected and become one event.
//!
//! Without the limit, a trigger would fire forever if its run changes the watched tables and the
//! cause of the change is unknown.

use std::time::Duration;

use headwater_model::{ErrorCode, Problem, Timestamp};

/// Maximum number of events without a pause after an idle time.
const BURST: u32 = 60;

/// A token bucket. It exists only in memory, so each process starts with a full burst.
#[derive(Debug, Default)]
pub struct RateLimit {
    /// Number of recent events, which decreases over time.
    recent: f64,
    /// Time at which `recent` was last updated.
    at: Option<Timestamp>,
    /// True after an event was delayed. False again when at least half of the maximum burst can
    /// fire without a delay.
    is_throttled: bool,
}

impl RateLimit {
    /// Returns the pause before the next event; `None` if the next event may fire now.
    pub fn pause(&mut self, per_minute: u32, now: Timestamp) -> Option<Duration> {
        self.recover(per_minute, now);
        let over = self.recent + 1.0 - most(per_minute);
        // Ignore differences below the clock's resolution.
        if over < 1e-3 {
            return None;
        }
        self.is_throttled = true;
        Some(Duration::from_secs_f64(over * 60.0 / f64::from(per_minute.max(1))))
    }

    /// Counts an event that fires now.
    pub fn fired(&mut self) {
        self.recent += 1.0;
    }

    /// Returns a problem if events were delayed recently.
    pub fn fault(&mut self, per_minute: u32, now: Timestamp) -> Option<Problem> {
        self.recover(per_minute, now);
        let message = format!(
            "rate limit reached: at most {per_minute} events per minute; further changes are \
             combined into one event"
        );
        self.is_throttled.then(|| {
            Problem::new(ErrorCode::TooBusy, message).with_hint(
                "The triggered job may be changing a table that this trigger watches. Fix the loop, \
                 or raise `max_events_per_minute`.",
            )
        })
    }

    fn recover(&mut self, per_minute: u32, now: Timestamp) {
        // If the clock was set back, assume that no time has passed.
        let passed = self.at.map_or(Duration::ZERO, |at| (now - at).to_std().unwrap_or_default());
        self.at = Some(now);
        let less = passed.as_secs_f64() / 60.0 * f64::from(per_minute);
        self.recent = (self.recent - less).max(0.0);
        self.is_throttled &= self.recent > most(per_minute) / 2.0;
    }
}

fn most(per_minute: u32) -> f64 {
    f64::from(per_minute.max(BURST))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_after_a_burst_are_rate_limited() {
        let (mut rate_limit, mut now) = (RateLimit::default(), Timestamp::UNIX_EPOCH);
        let mut fired = 0;
        while rate_limit.pause(10, now).is_none() {
            rate_limit.fired();
            fired += 1;
        }
        assert_eq!(fired, BURST);
        assert_eq!(rate_limit.pause(10, now).map(|wait| wait.as_secs()), Some(6));
        for _ in 0..5 {
            let wait = rate_limit.pause(10, now).expect("a wait");
            now += wait;
            assert_eq!(rate_limit.pause(10, now), None);
            rate_limit.fired();
        }
        assert!(rate_limit.fault(10, now).is_some());
        // Setting the clock back raises neither the rate nor the pause.
        now -= Duration::from_hours(1);
        assert!(rate_limit.pause(10, now).is_some_and(|wait| wait <= Duration::from_secs(6)));
        now += Duration::from_mins(4);
        assert!(rate_limit.fault(10, now).is_none());
        assert_eq!(rate_limit.pause(10, now), None);
    }
}
