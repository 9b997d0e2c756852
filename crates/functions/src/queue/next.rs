//! Whose turn it is: what the queue gives turns by, and the order that people are told.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};
use std::sync::Arc;
use std::time::{Duration, Instant};

use headwater_model::Priority;
use tokio::sync::oneshot;

use super::{Call, Line, MEMORY_UNIT, State};

/// How long a call that needs more memory than is free lets others pass, and how long those whose owner
/// has nothing under way.
pub(super) const LET_PASS: Duration = Duration::from_secs(1);
const LET_FIRST_PASS: Duration = Duration::from_secs(30);

/// How long a call waits until it counts as one of the next priority.
pub(super) const RISE: Duration = Duration::from_secs(30);

/// How many places in the queue are told apart; who is further behind is only that.
const TOLD_MAX: usize = 1_000;

/// What counts for each owner among all: the priority of its best line.
pub(super) type Best = HashMap<Arc<str>, u64>;

impl State {
    /// The line that is next, if there is room for its first call.
    pub(super) fn next(&mut self, places: usize) -> Option<usize> {
        self.short = None;
        if self.running >= 2 * places {
            return None;
        }
        let now = Instant::now();
        let best = self.best(now);
        let rank = |at| (self.rank(at, &best, now), at);
        let ranked: Vec<_> = (0..self.lines.len()).map(rank).collect();
        // Whoever is first is to find memory when a place is free.
        if let Some((_, first)) = ranked.iter().min()
            && !self.has_place(*first, places, now)
        {
            self.short = Some(self.lines[*first].units()).filter(|units| *units > self.free_units);
        }
        let may = |(_, line): &(_, usize)| self.has_place(*line, places, now);
        // One of the first has its turn as a rule: the others need not be put in order.
        let mut lines: BinaryHeap<_> = ranked.into_iter().filter(may).map(Reverse).collect();
        // How long calls have waited for memory: any, and those of owners that have nothing under way.
        let (mut waited, mut waited_first) = (Duration::ZERO, Duration::ZERO);
        while let Some(Reverse((_, line))) = lines.pop() {
            let units = self.lines[line].units();
            // What another holds back by itself is nothing that its owner could be waited for.
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

    /// Whether the owner of a line has nothing under way.
    fn has_none(&self, line: usize) -> bool {
        self.owners.get(&self.lines[line].of.0).is_none_or(|owner| owner.running == 0)
    }

    /// Whether there is a place for the first call of a line: one beyond the usual where its owner has
    /// none, or it has waited for very long.
    fn has_place(&self, line: usize, places: usize, now: Instant) -> bool {
        let first = self.has_none(line) || self.waited(line, now) > 2 * RISE;
        self.running < if first { 2 * places } else { places }
    }

    /// Where a line stands among the others; the least is first. `best` is what its owner has of lines
    /// that stand for themselves.
    pub(super) fn rank(&self, line: usize, best: &Best, now: Instant) -> impl Ord + use<> {
        let Line { of, calls, .. } = &self.lines[line];
        let owner = self.owners.get(&of.0).copied().unwrap_or_default();
        let function = self.functions.get(of).copied().unwrap_or_default();
        // Among its owner's own a line rises by its own age, and up to the best of them.
        let own = self.lines[line].risen(self.lines[line].age(now));
        let best = best.get(&of.0).copied().unwrap_or_default();
        let priority = if own >= best { best } else { self.priority(line, now) };
        let fewest = (owner.running, owner.served, Reverse(own), function.running, function.served);
        (Reverse(priority), fewest, calls.front().map_or(u64::MAX, |call| call.number))
    }

    /// What a line counts as among those of all owners. One whose owner has turns does not rise by its
    /// age: it waits for its owner's other calls.
    fn priority(&self, line: usize, now: Instant) -> u64 {
        self.lines[line].risen(self.waited(line, now))
    }

    /// How long a line has waited while its owner had no turn.
    fn waited(&self, line: usize, now: Instant) -> Duration {
        let line = &self.lines[line];
        let turned = self.owners.get(&line.of.0).and_then(|owner| owner.turned);
        let since = turned.map_or(Duration::MAX, |turned| now.saturating_duration_since(turned));
        line.age(now).min(since)
    }

    /// The best that each owner has.
    pub(super) fn best(&self, now: Instant) -> Best {
        let mut best = Best::new();
        for line in 0..self.lines.len() {
            let found = best.entry(self.lines[line].of.0.clone()).or_default();
            *found = self.priority(line, now).max(*found);
        }
        best
    }

    /// A copy in which turns can be given to see who would have them.
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
        imagined.lines.extend(self.lines.iter().map(|line| Line {
            of: line.of.clone(),
            priority: line.priority,
            ready: line.ready,
            served: line.served,
            calls: line.calls.iter().map(waiting).collect(),
        }));
        imagined.free_units = u64::MAX / 2;
        imagined
    }

    /// The first calls' places in the queue, as turns would be given now and each took as long.
    pub(super) fn order(mut self) -> HashMap<u64, (usize, u64)> {
        let now = Instant::now();
        let mut order = HashMap::new();
        let best = self.best(now);
        let ranked = (0..self.lines.len()).map(|at| Reverse((self.rank(at, &best, now), at)));
        let mut lines: BinaryHeap<_> = ranked.collect();
        while order.len() < TOLD_MAX
            && let Some(Reverse((rank, line))) = lines.pop()
        {
            // A turn puts the others of its owner further behind, and nobody further to the front.
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

impl Line {
    /// Units of memory that its first call waits for.
    fn units(&self) -> u64 {
        self.calls.front().map_or(0, |call| call.units)
    }

    /// What it counts as after so long.
    fn risen(&self, age: Duration) -> u64 {
        (self.priority as u64 + age.as_secs() / RISE.as_secs()).min(Priority::High as u64)
    }

    /// How long its first call has waited while no other of them had a turn.
    fn age(&self, now: Instant) -> Duration {
        let since = self.calls.front().map_or(now, |call| call.since.max(self.served));
        now.saturating_duration_since(since)
    }
}
