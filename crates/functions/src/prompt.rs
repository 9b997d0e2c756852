//! For how long a call that was just made comes before those that run for longer.
//!
//! A call weighs most at first, so that an answer does not wait behind what calculates for hours. Somebody
//! who makes long calls one after the other would weigh most for ever. So what calls take beyond an answer
//! counts for their owner, and the next of one who has taken much of late begin like any that runs for long.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

/// How long a call comes before others at most; it cannot take more of a processor in that time.
const FIRST: Duration = Duration::from_secs(1);

/// Processor time that an answer takes: a call that takes no more never counts.
const ANSWER: Duration = Duration::from_millis(100);

/// How much an owner's calls may have taken, of which each second a fifth of a second is forgotten.
const TAKEN_MAX: Duration = Duration::from_secs(2);
const FORGOTTEN: u32 = 5;

/// How many owners are known until those are forgotten of whom nothing is left.
const OWNERS: usize = 64;

/// What owners have taken of late.
#[derive(Debug, Default)]
pub(crate) struct Prompt(Mutex<HashMap<Arc<str>, Taken>>);

#[derive(Debug, Clone, Copy)]
struct Taken {
    time: Duration,
    until: Instant,
}

impl Taken {
    fn left(&self, now: Instant) -> Duration {
        self.time.saturating_sub(now.saturating_duration_since(self.until) / FORGOTTEN)
    }
}

impl Prompt {
    /// How long a call of an owner's comes before others.
    pub(crate) fn of(&self, owner: &str, now: Instant) -> Duration {
        let taken = self.0.lock().get(owner).map_or(Duration::ZERO, |taken| taken.left(now));
        if taken < TAKEN_MAX { FIRST } else { Duration::ZERO }
    }

    /// Notes the processor time that a call of an owner's took, in microseconds.
    pub(crate) fn took(&self, owner: &Arc<str>, cpu_us: u64, now: Instant) {
        let time = Duration::from_micros(cpu_us).min(FIRST);
        if time <= ANSWER {
            return;
        }
        let mut owners = self.0.lock();
        if owners.len() >= OWNERS {
            owners.retain(|_, taken| !taken.left(now).is_zero());
        }
        let before = owners.get(owner).map_or(Duration::ZERO, |taken| taken.left(now));
        // What is long over need not be remembered for longer than what was just enough.
        let time = (before + time).min(2 * TAKEN_MAX);
        owners.insert(owner.clone(), Taken { time, until: now });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_makes_long_calls_one_after_the_other_does_not_come_first_for_ever() {
        let (prompt, hog, other) = (Prompt::default(), Arc::from("hog"), Arc::from("other"));
        let mut now = Instant::now();
        let mut first = 0;
        for _ in 0..60 {
            first += u32::from(prompt.of(&hog, now) > Duration::ZERO);
            now += FIRST;
            prompt.took(&hog, 900_000, now);
        }
        assert!((2..20).contains(&first), "{first}");
        assert_eq!(prompt.of(&other, now), FIRST);
        assert_eq!(prompt.of(&hog, now + Duration::from_secs(30)), FIRST, "it is forgotten");
    }

    #[test]
    fn answers_come_first_however_many_there_are_and_nobody_is_remembered_for_ever() {
        let (prompt, client) = (Prompt::default(), Arc::from("client"));
        let mut now = Instant::now();
        for _ in 0..10_000 {
            prompt.took(&client, 50_000, now);
        }
        assert_eq!(prompt.of(&client, now), FIRST);
        for number in 0..10_000 {
            prompt.took(&Arc::from(format!("{number}")), 500_000, now);
            now += Duration::from_secs(1);
        }
        assert!(prompt.0.lock().len() <= OWNERS);
    }
}
