//! The end of a round of concurrent reads. Does no I/O.
//!
//! Each task of a round reads from one server and has a [`RoundParticipant`]. A task continues to
//! read until all tasks have reached the end of the round. So a server that does not respond delays
//! only its own partitions.

use std::sync::atomic::{AtomicUsize, Ordering};

use parking_lot::Mutex;
use tokio::time::Instant;

/// The end of a round.
pub struct RoundDeadline {
    time: Mutex<Instant>,
    /// The number of tasks that have not reached the end.
    reading: AtomicUsize,
}

/// The participation of one task in a round. Dropping this value counts as reaching the end.
pub struct RoundParticipant<'a> {
    end: &'a RoundDeadline,
    has_reached_end: bool,
}

impl RoundDeadline {
    /// Creates the end of a round that lasts until this time.
    pub fn new(time: Instant) -> Self {
        RoundDeadline { time: Mutex::new(time), reading: AtomicUsize::new(0) }
    }

    /// Returns the time at which the round ends.
    pub fn time(&self) -> Instant {
        *self.time.lock()
    }

    /// Moves the end to this time if this time is earlier.
    pub fn shorten(&self, time: Instant) {
        let mut end = self.time.lock();
        *end = (*end).min(time);
    }

    /// Adds a task to the round.
    pub fn add_participant(&self) -> RoundParticipant<'_> {
        self.reading.fetch_add(1, Ordering::Relaxed);
        RoundParticipant { end: self, has_reached_end: false }
    }
}

impl RoundParticipant<'_> {
    /// Returns true if this task and all other tasks have reached the end of the round.
    pub fn has_ended(&mut self) -> bool {
        if Instant::now() >= self.end.time() {
            self.reach_end();
        }
        self.has_reached_end && self.end.reading.load(Ordering::Relaxed) == 0
    }

    fn reach_end(&mut self) {
        if !self.has_reached_end {
            self.has_reached_end = true;
            self.end.reading.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

impl Drop for RoundParticipant<'_> {
    fn drop(&mut self) {
        self.reach_end();
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_round_ends_when_all_tasks_have_reached_its_end() {
        let now = Instant::now();
        let end = RoundDeadline::new(now + Duration::from_hours(1));
        let (mut one, mut two, hanging) =
            (end.add_participant(), end.add_participant(), end.add_participant());
        assert!(!one.has_ended());
        end.shorten(now);
        end.shorten(now + Duration::from_hours(2));
        assert_eq!(end.time(), now);
        assert!(!one.has_ended() && !two.has_ended() && !one.has_ended());
        drop(hanging);
        assert!(one.has_ended() && two.has_ended());
    }
}
