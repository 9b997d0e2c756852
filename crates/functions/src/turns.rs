//! Has the kernel look more often than it would by itself whose turn at a processor it is.
//!
//! A kernel chooses who has a processor when somebody wakes, and else at its tick: every four milliseconds on
//! many hosts. The threads that hand a call on, and its answer back, wake each other all the time and have
//! often just had a little more than their share. Then a function that calculates gets the processor between
//! two of their steps, and keeps it until the tick. So while short calls are under way beside long ones, a
//! thread on each processor wakes every half millisecond and sleeps again: the kernel looks, and finds who
//! waits. Where there is nobody to wait for, or nobody who waits, none wakes.

use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

use crate::spawner::come_first;

/// How often the kernel is to look.
const EVERY: Duration = Duration::from_micros(500);

/// How long it goes on after the last short call: the next often comes at once.
const LINGER: Duration = Duration::from_millis(50);

/// What a thread that does nothing needs.
const STACK: usize = 128 << 10;

/// What has the kernel look, for as long as this is there.
#[derive(Debug, Default)]
pub(crate) struct Turns(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    short: usize,
    long: usize,
    /// Until when it goes on without a short call.
    until: Option<Instant>,
    /// How many threads there are, once there were to be any, and how many of them wait to be wanted.
    threads: Option<usize>,
    asleep: usize,
    ended: bool,
}

impl State {
    fn is_wanted(&self, now: Instant) -> bool {
        self.long > 0 && (self.short > 0 || self.until.is_some_and(|until| now < until))
    }
}

/// A call that is under way: a short one until it is said to be long.
#[derive(Debug)]
pub(crate) struct Turn {
    shared: Arc<Shared>,
    is_long: bool,
}

impl Turns {
    /// A call begins.
    pub(crate) fn begin(&self) -> Turn {
        self.0.change(|state| state.short += 1);
        Turn { shared: self.0.clone(), is_long: false }
    }
}

impl Drop for Turns {
    fn drop(&mut self) {
        self.0.change(|state| state.ended = true);
    }
}

impl Turn {
    /// It takes longer than an answer does.
    pub(crate) fn settle(&mut self) {
        if !std::mem::replace(&mut self.is_long, true) {
            self.shared.change(|state| {
                state.short -= 1;
                state.long += 1;
            });
        }
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        let is_long = self.is_long;
        self.shared.change(|state| {
            if is_long {
                state.long -= 1;
            } else {
                state.short -= 1;
                state.until = Some(Instant::now() + LINGER);
            }
        });
    }
}

impl Shared {
    fn change(self: &Arc<Self>, how: impl FnOnce(&mut State)) {
        let mut state = self.state.lock();
        let now = Instant::now();
        let was_wanted = state.is_wanted(now);
        how(&mut state);
        let is_wanted = state.is_wanted(now);
        if is_wanted && state.threads.is_none() {
            state.threads = Some(self.start());
        }
        if state.ended || is_wanted && !was_wanted {
            self.changed.notify_all();
        }
    }

    /// Starts a thread on each processor that this process may use; gives how many.
    fn start(self: &Arc<Self>) -> usize {
        let usable = sched_getaffinity(None).unwrap_or_else(|_| CpuSet::new());
        let processors = (0..CpuSet::MAX_CPU).filter(|processor| usable.is_set(*processor));
        let started = processors.filter(|processor| {
            let (shared, processor) = (self.clone(), *processor);
            let thread = thread::Builder::new().name(format!("turns-{processor}"));
            thread.stack_size(STACK).spawn(move || shared.look(processor)).is_ok()
        });
        started.count()
    }

    /// Wakes on this processor again and again, where that is wanted.
    fn look(&self, processor: usize) {
        let mut only = CpuSet::new();
        only.set(processor);
        if sched_setaffinity(None, &only).is_err() {
            return;
        }
        come_first();
        loop {
            let mut state = self.state.lock();
            while !state.ended && !state.is_wanted(Instant::now()) {
                state.asleep += 1;
                self.changed.wait(&mut state);
                state.asleep -= 1;
            }
            if state.ended {
                return;
            }
            drop(state);
            thread::sleep(EVERY);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn until(what: &str, is_so: impl Fn() -> bool) {
        let deadline = Instant::now() + Duration::from_secs(30);
        while !is_so() {
            assert!(Instant::now() < deadline, "{what}");
            thread::yield_now();
        }
    }

    #[test]
    fn it_is_looked_while_short_calls_are_beside_long_ones_and_no_longer() {
        let turns = Turns::default();
        let shared = turns.0.clone();
        let threads = || shared.state.lock().threads;
        let asleep = || shared.state.lock().asleep;
        let short = turns.begin();
        assert_eq!(threads(), None, "nobody calculates");
        let mut long = turns.begin();
        long.settle();
        long.settle();
        let all = threads().expect("threads");
        assert!(all > 0);
        until("they are awake", || asleep() == 0 && Arc::strong_count(&shared) == all + 4);
        drop(short);
        until("nobody waits any more", || asleep() == all);
        let again = turns.begin();
        until("somebody waits again", || asleep() == 0);
        drop(long);
        until("nobody calculates any more", || asleep() == all);
        drop(turns);
        drop(again);
        until("the threads have ended", || Arc::strong_count(&shared) == 1);
    }
}
