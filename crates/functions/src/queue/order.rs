//! The order of the queue: which call gets the next permit, and the positions shown to users.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};
use std::sync::Arc;
use std::time::{Duration, Instant};

use headwater_model::Priority;
use tokio::sync::oneshot;

use super::{Call, MEMORY_UNIT, State, Subqueue};

/// Time for which a call that needs more memory than is free is overtaken; shorter if its owner has
/// no running call.
pub(super) const LET_PASS: Duration = Duration::from_secs(1);
const LET_FIRST_PASS: Duration = Duration::from_secs(30);

/// Waiting time after which a call is promoted to the next priority.
pub(super) const RISE: Duration = Duration::from_secs(30);

/// Maximum position that is distinguished.
const TOLD_MAX: usize = 1_000;

/// The rank of an owner: the priority of its best subqueue.
pub(super) type Best = HashMap<Arc<str>, u64>;

impl State {
    /// Returns the subqueue that is next, if there are resources for its first call.
    pub(super) fn next(&mut self, places: usize) -> Option<usize> {
        self.short = None;
        if self.running >= 2 * places {
            return None;
        }
        let now = Instant::now();
        let best = self.best(now);
        let rank = |at| (self.rank(at, &best, now), at);
        let ranked: Vec<_> = (0..self.lines.len()).map(rank).collect();
        // The first call must find memory when a permit is free.
        if let Some((_, first)) = ranked.iter().min()
            && !self.has_place(*first, places, now)
        {
            self.short = Some(self.lines[*first].units()).filter(|units| *units > self.free_units);
        }
        let may = |(_, line): &(_, usize)| self.has_place(*line, places, now);
        // One of the first has its memory as a rule, so the others need not be sorted.
        let mut lines: BinaryHeap<_> = ranked.into_iter().filter(may).map(Reverse).collect();
        // Waiting times for memory: of all calls, and of calls whose owners have no running call.
        let (mut waited, mut waited_first) = (Duration::ZERO, Duration::ZERO);
        while let Some(Reverse((_, line))) = lines.pop() {
            let units = self.lines[line].units();
            // Memory that another owner reserves is no reason to wait for this owner.
            let has_none = self.has_none(line);
            let passes = if has_none { waited_first <= LET_FIRST_PASS } else { waited <= LET_PASS };
            if units == 0 || (units <= self.free_units && passes) {
                return Some(line);
            }
            if units > self.free_units {
                self.short = self.short.or(Some(units));
                let age = self.lines[line].age(now);
                waited = waited.max(age);
                waited_first = waited_first.max(if has_none { age } else { Duration::ZERO });
            }
        }
        None
    }

    /// Returns true if the owner of a subqueue has no running call.
    fn has_none(&self, line: usize) -> bool {
        self.owners.get(&self.lines[line].of.0).is_none_or(|owner| owner.running == 0)
    }

    /// Returns true if there is a permit for the first call of a subqueue: one above the limit if
    /// its owner has none or it has waited for very long.
    fn has_place(&self, line: usize, places: usize, now: Instant) -> bool {
        let first = self.has_none(line) || self.waited(line, now) > 2 * RISE;
        self.running < if first { 2 * places } else { places }
    }

    /// Returns the sort key of a subqueue; the smallest is next. `best` is the best rank of its
    /// owner's subqueues.
    pub(super) fn rank(&self, line: usize, best: &Best, now: Instant) -> impl Ord + use<> {
        let Subqueue { of, calls, .. } = &self.lines[line];
        let owner = self.owners.get(&of.0).copied().unwrap_or_default();
        let function = self.functions.get(of).copied().unwrap_or_default();
        // Within its owner, a subqueue is promoted by its own age, up to the best of them.
        let own = self.lines[line].risen(self.lines[line].age(now));
        let best = best.get(&of.0).copied().unwrap_or_default();
        let priority = if own >= best { best } else { self.priority(line, now) };
        let fewest = (owner.running, owner.served, Reverse(own), function.running, function.served);
        (Reverse(priority), fewest, calls.front().map_or(u64::MAX, |call| call.number))
    }

    /// Returns the rank of a subqueue among those of all owners. One whose owner gets permits is
    /// not promoted: it waits for its owner's other calls.
    fn priority(&self, line: usize, now: Instant) -> u64 {
        self.lines[line].risen(self.waited(line, now))
    }

    /// Returns the waiting time of a subqueue in which its owner got no permit.
    fn waited(&self, line: usize, now: Instant) -> Duration {
        let line = &self.lines[line];
        let turned = self.owners.get(&line.of.0).and_then(|owner| owner.turned);
        let since = turned.map_or(Duration::MAX, |turned| now.saturating_duration_since(turned));
        line.age(now).min(since)
    }

    /// Returns the best rank of each owner.
    pub(super) fn best(&self, now: Instant) -> Best {
        let mut best = Best::new();
        for line in 0..self.lines.len() {
            let found = best.entry(self.lines[line].of.0.clone()).or_default();
            *found = self.priority(line, now).max(*found);
        }
        best
    }

    /// Returns a copy, to simulate permits.
    pub(super) fn imagined(&self) -> State {
        let mut imagined = State {
            lines: Vec::new(),
            owners: self.owners.clone(),
            functions: self.functions.clone(),
            ..*self
        };
        let waiting = |call: &Call| {
            let turn = oneshot::channel().0;
            Call { number: call.number, units: call.units, since: call.since, turn }
        };
        imagined.lines.extend(self.lines.iter().map(|line| Subqueue {
            of: line.of.clone(),
            priority: line.priority,
            ready: line.ready,
            served: line.served,
            calls: line.calls.iter().map(waiting).collect(),
        }));
        imagined.free_units = u64::MAX / 2;
        imagined
    }

    /// Returns the positions of the first calls, if permits were assigned now and all calls took
    /// equally long.
    pub(super) fn order(mut self) -> HashMap<u64, (usize, u64)> {
        let now = Instant::now();
        let mut order = HashMap::new();
        let best = self.best(now);
        let ranked = (0..self.lines.len()).map(|at| Reverse((self.rank(at, &best, now), at)));
        let mut lines: BinaryHeap<_> = ranked.collect();
        while order.len() < TOLD_MAX
            && let Some(Reverse((rank, line))) = lines.pop()
        {
            // A permit moves the other calls of its owner back, and no call forward.
            if self.rank(line, &best, now) == rank
                && let Some((call, _)) = self.begin(line)
            {
                order.insert(call.number, (order.len() + 1, call.units * MEMORY_UNIT));
            }
            if !self.lines[line].calls.is_empty() {
                lines.push(Reverse((self.rank(line, &best, now), line)));
            }
        }
        order
    }
}

impl Subqueue {
    /// Returns the memory that its first call waits for, in units.
    fn units(&self) -> u64 {
        self.calls.front().map_or(0, |call| call.units)
    }

    /// Returns the priority after a waiting time.
    fn risen(&self, age: Duration) -> u64 {
        (self.priority as u64 + age.as_secs() / RISE.as_secs()).min(Priority::High as u64)
    }

    /// Returns the waiting time of its first call, while no other call of it got a permit.
    fn age(&self, now: Instant) -> Duration {
        let since = self.calls.front().map_or(now, |call| call.since.max(self.served));
        now.saturating_duration_since(since)
    }
}
