//! How often a trigger fires for changes of tables of which nobody knows what led to them: a burst is let
//! through, and after it so many a minute. What changes meanwhile waits on its branch, and is taken together.
//!
//! One whose run changes what it watches, by a way that cannot be seen, would fire at full speed for ever.

use std::time::Duration;

use headwater_model::{ErrorCode, Problem, Timestamp};

/// How many events are let through at once after a quiet time.
const BURST: u32 = 60;

/// How often a trigger fired lately; in memory alone, so that a process begins with a burst.
#[derive(Debug, Default)]
pub(crate) struct Pace {
    /// Events that count, each a little less with time.
    recent: f64,
    /// When that was so.
    at: Option<Timestamp>,
    /// Whether one was held back, and half of the burst has not been free since.
    is_slowed: bool,
}

impl Pace {
    /// How long the next event has to wait; not at all where it may come now.
    pub(crate) fn wait(&mut self, per_minute: u32, now: Timestamp) -> Option<Duration> {
        self.recover(per_minute, now);
        let over = self.recent + 1.0 - most(per_minute);
        // Time is counted in whole microseconds.
        if over < 1e-3 {
            return None;
        }
        self.is_slowed = true;
        Some(Duration::from_secs_f64(over * 60.0 / f64::from(per_minute.max(1))))
    }

    /// Counts an event.
    pub(crate) fn fired(&mut self) {
        self.recent += 1.0;
    }

    /// What to say where events were held back, and that is not long ago.
    pub(crate) fn remark(&mut self, per_minute: u32, now: Timestamp) -> Option<Problem> {
        self.recover(per_minute, now);
        let message = format!(
            "it fired so often that it fires {per_minute} times a minute at most; what changes \
             meanwhile waits, and is taken together"
        );
        self.is_slowed.then(|| {
            Problem::new(ErrorCode::TooBusy, message).with_hint(
                "Look whether what it runs changes a table that it watches, as by a request to a \
                 server; or allow more with `max_events_per_minute` in its `tables`.",
            )
        })
    }

    fn recover(&mut self, per_minute: u32, now: Timestamp) {
        // A clock that was set back counts from where it is.
        let passed = self.at.map_or(Duration::ZERO, |at| (now - at).to_std().unwrap_or_default());
        self.at = Some(now);
        let less = passed.as_secs_f64() / 60.0 * f64::from(per_minute);
        self.recent = (self.recent - less).max(0.0);
        self.is_slowed &= self.recent > most(per_minute) / 2.0;
    }
}

fn most(per_minute: u32) -> f64 {
    f64::from(per_minute.max(BURST))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn after_a_burst_events_come_at_a_pace() {
        let (mut pace, mut now) = (Pace::default(), Timestamp::UNIX_EPOCH);
        let mut fired = 0;
        while pace.wait(10, now).is_none() {
            pace.fired();
            fired += 1;
        }
        assert_eq!(fired, BURST);
        assert_eq!(pace.wait(10, now).map(|wait| wait.as_secs()), Some(6));
        for _ in 0..5 {
            let wait = pace.wait(10, now).expect("a wait");
            now += wait;
            assert_eq!(pace.wait(10, now), None);
            pace.fired();
        }
        assert!(pace.remark(10, now).is_some());
        // A clock that is set back lets nobody fire more often, nor wait longer.
        now -= Duration::from_hours(1);
        assert!(pace.wait(10, now).is_some_and(|wait| wait <= Duration::from_secs(6)));
        now += Duration::from_mins(4);
        assert!(pace.remark(10, now).is_none());
        assert_eq!(pace.wait(10, now), None);
    }
}
