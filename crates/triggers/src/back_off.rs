//! Pauses between attempts to reach a server.

use std::time::Duration;

/// First and maximum pause, by default.
pub(crate) const PAUSE: Duration = Duration::from_millis(500);
pub(crate) const PAUSE_MAX: Duration = Duration::from_secs(30);

/// Pause before the next attempt to reach a server. Doubles after each failed attempt. No I/O.
#[derive(Debug)]
pub(crate) struct BackOff {
    failures: u32,
    pause: Duration,
    pause_max: Duration,
}

impl Default for BackOff {
    fn default() -> Self {
        BackOff::new(PAUSE, PAUSE_MAX)
    }
}

impl BackOff {
    /// Creates a back-off with this first and maximum pause.
    pub(crate) fn new(pause: Duration, pause_max: Duration) -> Self {
        BackOff { failures: 0, pause, pause_max }
    }

    /// Returns the pause after a failed attempt.
    pub(crate) fn next(&mut self) -> Duration {
        let factor = 1_u32.checked_shl(self.failures).unwrap_or(u32::MAX);
        self.failures = self.failures.saturating_add(1);
        self.pause.saturating_mul(factor).min(self.pause_max)
    }

    /// Records that the server was reached, so that the next pause is the first one again.
    pub(crate) fn reset(&mut self) {
        self.failures = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_a_bound() {
        let mut back_off = BackOff::default();
        let pauses: Vec<u128> = (0..8).map(|_| back_off.next().as_millis()).collect();
        assert_eq!(pauses, [500, 1_000, 2_000, 4_000, 8_000, 16_000, 30_000, 30_000]);
        for _ in 0..100 {
            assert_eq!(back_off.next(), PAUSE_MAX);
        }
        back_off.reset();
        assert_eq!(back_off.next(), PAUSE);
    }
}
