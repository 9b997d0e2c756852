//! The CPU boost: a higher CPU weight of calls that have just started, limited per owner.
//!
//! The boost lets short calls run before long calls. Without a limit, an owner that makes one long
//! call after the other would always have the boost. So the CPU time of an owner's long calls is
//! counted. An owner with [`USED_MAX`] of counted CPU time or more gets no boost until the counted
//! time has decayed.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

/// Maximum duration of a call's boost. On one processor, this is also the maximum CPU time that a
/// call uses with the boost.
const BOOST_MAX: Duration = Duration::from_secs(1);

/// Maximum CPU time of a short call. The CPU time of short calls does not count against their
/// owner.
const SHORT_CALL: Duration = Duration::from_millis(100);

/// Counted CPU time at which an owner loses the boost.
const USED_MAX: Duration = Duration::from_secs(2);

/// Decay of the counted CPU time: it decreases by 1 / `DECAY` seconds per second.
const DECAY: u32 = 5;

/// Number of owners in the map above which owners without counted CPU time are removed.
const OWNERS_MAX: usize = 64;

/// The counted CPU time of each owner.
#[derive(Debug, Default)]
pub(crate) struct CpuBoostLimiter(Mutex<HashMap<Arc<str>, UsedCpuTime>>);

/// The counted CPU time of an owner at the time of its last update.
#[derive(Debug, Clone, Copy)]
struct UsedCpuTime {
    time: Duration,
    updated: Instant,
}

impl UsedCpuTime {
    fn remaining(&self, now: Instant) -> Duration {
        self.time.saturating_sub(now.saturating_duration_since(self.updated) / DECAY)
    }
}

impl CpuBoostLimiter {
    /// Returns the duration of the boost for a new call of an owner.
    pub(crate) fn duration(&self, owner: &str, now: Instant) -> Duration {
        let used = self.0.lock().get(owner).map_or(Duration::ZERO, |used| used.remaining(now));
        if used < USED_MAX { BOOST_MAX } else { Duration::ZERO }
    }

    /// Records the CPU time of an owner's call, in microseconds.
    pub(crate) fn record(&self, owner: &Arc<str>, cpu_us: u64, now: Instant) {
        let time = Duration::from_micros(cpu_us).min(BOOST_MAX);
        if time <= SHORT_CALL {
            return;
        }
        let mut owners = self.0.lock();
        if owners.len() >= OWNERS_MAX {
            owners.retain(|_, used| !used.remaining(now).is_zero());
        }
        let before = owners.get(owner).map_or(Duration::ZERO, |used| used.remaining(now));
        // The cap limits for how long an owner gets no boost.
        let time = (before + time).min(2 * USED_MAX);
        owners.insert(owner.clone(), UsedCpuTime { time, updated: now });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_owner_of_long_calls_temporarily_loses_the_cpu_boost() {
        let (boost, hog, other) =
            (CpuBoostLimiter::default(), Arc::from("hog"), Arc::from("other"));
        let mut now = Instant::now();
        let mut boosted = 0;
        for _ in 0..60 {
            boosted += u32::from(boost.duration(&hog, now) > Duration::ZERO);
            now += BOOST_MAX;
            boost.record(&hog, 900_000, now);
        }
        assert!((2..20).contains(&boosted), "{boosted}");
        assert_eq!(boost.duration(&other, now), BOOST_MAX);
        assert_eq!(boost.duration(&hog, now + Duration::from_secs(30)), BOOST_MAX, "it decays");
    }

    #[test]
    fn short_calls_keep_the_boost_and_old_owners_are_removed() {
        let (boost, client) = (CpuBoostLimiter::default(), Arc::from("client"));
        let mut now = Instant::now();
        for _ in 0..10_000 {
            boost.record(&client, 50_000, now);
        }
        assert_eq!(boost.duration(&client, now), BOOST_MAX);
        for number in 0..10_000 {
            boost.record(&Arc::from(format!("{number}")), 500_000, now);
            now += Duration::from_secs(1);
        }
        assert!(boost.0.lock().len() <= OWNERS_MAX);
    }
}
