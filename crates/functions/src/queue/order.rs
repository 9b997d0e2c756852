//! The order of the queue: which call gets the next permit, and the queue positions shown to users.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};
use std::sync::Arc;
use std::time::{Duration, Instant};

use headwater_model::Priority;
use tokio::sync::oneshot;

use super::state::{CallQueueState, MEMORY_UNIT, Subqueue, WaitingCall};

/// Maximum time for which other calls may overtake a call that waits for memory. A call of an owner
/// without a running call has no such limit for overtaking calls of owners with running calls. Its
/// limit for overtaking all other calls is [`OVERTAKEN_BY_FIRST_MAX`].
pub(super) const OVERTAKEN_MAX: Duration = Duration::from_secs(1);
const OVERTAKEN_BY_FIRST_MAX: Duration = Duration::from_secs(30);

/// Waiting time after which a call is promoted to the next priority.
pub(super) const PROMOTED_EVERY: Duration = Duration::from_secs(30);

/// The highest queue position that is computed.
const POSITION_MAX: usize = 1_000;

/// The priority of each owner: the highest priority among its subqueues.
pub(super) type OwnerPriorities = HashMap<Arc<str>, u64>;

/// The calls that wait for memory and precede, in the order of the queue, the call that is being
/// examined.
#[derive(Debug, Default)]
struct CallsWaitingForMemory {
    /// The memory that the first of these calls needs, in units of [`MEMORY_UNIT`].
    units: u64,
    /// The longest waiting time of these calls. `waited_first` counts only calls whose owners have
    /// no running call.
    waited: Duration,
    waited_first: Duration,
}

impl CallsWaitingForMemory {
    /// Returns true if another call may overtake these calls. `is_first_of_owner` is true if the
    /// owner of the other call has no running call.
    fn may_overtake(&self, is_first_of_owner: bool) -> bool {
        // For a call of an owner without a running call, the waiting calls of owners with running
        // calls do not count.
        if is_first_of_owner {
            self.waited_first <= OVERTAKEN_BY_FIRST_MAX
        } else {
            self.waited <= OVERTAKEN_MAX
        }
    }

    fn add(&mut self, units: u64, waited: Duration, is_first_of_owner: bool) {
        self.units = if self.units == 0 { units } else { self.units };
        self.waited = self.waited.max(waited);
        if is_first_of_owner {
            self.waited_first = self.waited_first.max(waited);
        }
    }
}

impl<W> CallQueueState<W> {
    /// Returns the subqueue whose first call gets the next permit; `None` if no call can start now.
    /// Adds the instances that were evicted for the call to `evicted`.
    pub(super) fn next(&mut self, permits_max: usize, evicted: &mut Vec<W>) -> Option<usize> {
        self.is_memory_short = false;
        if self.running >= 2 * permits_max {
            return None;
        }
        let now = Instant::now();
        let ranks = self.owner_ranks(now);
        let rank = |at| (self.rank(at, &ranks, now), at);
        let ranked: Vec<_> = (0..self.subqueues.len()).map(rank).collect();
        // The loop below examines only calls that can get a permit. If the very first call can get
        // none, check its memory here, so that a lack of memory is recorded.
        let first = ranked.iter().min().map(|(_, first)| *first);
        let is_short = first.is_some_and(|first| {
            !self.has_permit(first, permits_max, now) && self.units_needed(first) > self.free_units
        });
        let may = |(_, at): &(_, usize)| self.has_permit(*at, permits_max, now);
        // Usually one of the first calls has enough memory, so a heap is cheaper than sorting all
        // subqueues.
        let mut next: BinaryHeap<_> = ranked.into_iter().filter(may).map(Reverse).collect();
        self.is_memory_short = is_short;
        let mut waits = CallsWaitingForMemory::default();
        while let Some(Reverse((_, at))) = next.pop() {
            if self.has_memory(at, &mut waits, evicted) {
                return Some(at);
            }
        }
        None
    }

    /// Returns true if there is memory for the first call of a subqueue, and if the call may
    /// overtake the calls that wait for memory. Evicts idle instances if that frees enough memory.
    fn has_memory(
        &mut self,
        at: usize,
        waits: &mut CallsWaitingForMemory,
        evicted: &mut Vec<W>,
    ) -> bool {
        let (units, now) = (self.units_needed(at), Instant::now());
        let is_first = self.is_first_of_owner(at);
        let passes = waits.may_overtake(is_first);
        if units == 0 {
            // This call uses an idle instance, so it needs no memory. It must wait only if the
            // first call that waits for memory could get enough memory by ending idle and reusable
            // instances, because this call would keep one of them in use.
            let obtainable = self.free_units + self.idle_units() + self.reusable_units;
            return passes || waits.units > obtainable;
        }
        if units <= self.free_units {
            return passes;
        }
        if passes && let Some(gone) = self.evict_for(at, units, now) {
            evicted.extend(gone);
            return true;
        }
        self.is_memory_short = true;
        waits.add(units, self.subqueues[at].waiting_time(now), is_first);
        false
    }

    /// Returns the free memory that the first call of a subqueue needs, in units of
    /// [`MEMORY_UNIT`]; 0 if the call can use an idle instance.
    fn units_needed(&self, at: usize) -> u64 {
        let Subqueue { key, calls, .. } = &self.subqueues[at];
        let is_idle = self.idle.iter().any(|idle| Some(&idle.key) == key.instance.as_ref());
        if is_idle { 0 } else { calls.front().map_or(0, |call| call.units) }
    }

    /// Returns true if the owner of a subqueue has no running call.
    fn is_first_of_owner(&self, at: usize) -> bool {
        let owner = self.owners.get(&self.subqueues[at].key.queue.owner);
        owner.is_none_or(|owner| owner.running == 0)
    }

    /// Returns true if there is a permit for the first call of a subqueue. Permits beyond the limit
    /// are possible if the owner has no running call, or if the call has waited for more than twice
    /// [`PROMOTED_EVERY`].
    fn has_permit(&self, at: usize, permits_max: usize, now: Instant) -> bool {
        let exceeds =
            self.is_first_of_owner(at) || self.waited_without_permit(at, now) > 2 * PROMOTED_EVERY;
        self.running < if exceeds { 2 * permits_max } else { permits_max }
    }

    /// Returns the sort key of a subqueue. The subqueue with the smallest key is next.
    pub(super) fn rank(
        &self,
        at: usize,
        ranks: &OwnerPriorities,
        now: Instant,
    ) -> impl Ord + use<W> {
        let subqueue = &self.subqueues[at];
        let queue = &subqueue.key.queue;
        let owner = self.owners.get(&queue.owner).copied().unwrap_or_default();
        let function = self.functions.get(queue).copied().unwrap_or_default();
        // Within its owner, a subqueue is promoted by its own waiting time. Compared with other
        // owners, the subqueue gets at most the priority of its owner.
        let own = subqueue.promoted(subqueue.waiting_time(now));
        let best = ranks.get(&queue.owner).copied().unwrap_or_default();
        let priority = if own >= best { best } else { self.priority(at, now) };
        let owner = (owner.running, owner.last_permit);
        let function = (Reverse(own), function.running, function.last_permit);
        let number = subqueue.calls.front().map_or(u64::MAX, |call| call.number);
        (Reverse(priority), owner, function, number)
    }

    /// Returns the priority of a subqueue compared with the subqueues of other owners. The subqueue
    /// is not promoted while its owner gets permits, because it then waits only for calls of the
    /// same owner.
    fn priority(&self, at: usize, now: Instant) -> u64 {
        self.subqueues[at].promoted(self.waited_without_permit(at, now))
    }

    /// Returns how long the first call of a subqueue has waited: since its arrival or, if later,
    /// since its owner last got a permit.
    fn waited_without_permit(&self, at: usize, now: Instant) -> Duration {
        let subqueue = &self.subqueues[at];
        let owner = self.owners.get(&subqueue.key.queue.owner);
        let last = owner.and_then(|owner| owner.last_permit_at);
        let since = last.map_or(Duration::MAX, |last| now.saturating_duration_since(last));
        subqueue.waiting_time(now).min(since)
    }

    /// Returns the highest priority of each owner.
    pub(super) fn owner_ranks(&self, now: Instant) -> OwnerPriorities {
        let mut ranks = OwnerPriorities::new();
        for at in 0..self.subqueues.len() {
            let rank = ranks.entry(self.subqueues[at].key.queue.owner.clone()).or_default();
            *rank = self.priority(at, now).max(*rank);
        }
        ranks
    }

    /// Returns a copy without memory limits, for simulating the order of future permits.
    pub(super) fn simulated(&self) -> CallQueueState<W> {
        let queued = |call: &WaitingCall<W>| {
            let permit = oneshot::channel().0;
            WaitingCall { number: call.number, units: call.units, since: call.since, permit }
        };
        let copied = |subqueue: &Subqueue<W>| Subqueue {
            key: subqueue.key.clone(),
            last_permit_at: subqueue.last_permit_at,
            calls: subqueue.calls.iter().map(queued).collect(),
        };
        CallQueueState {
            subqueues: self.subqueues.iter().map(copied).collect(),
            queued: self.queued,
            running: self.running,
            owners: self.owners.clone(),
            functions: self.functions.clone(),
            assigned: self.assigned,
            ..CallQueueState::new(u64::MAX / 2)
        }
    }

    /// Returns the queue positions of the first calls, and the memory that each needs, by call
    /// number. The positions assume that all calls take equally long.
    pub(super) fn order(mut self) -> HashMap<u64, (usize, u64)> {
        let now = Instant::now();
        let mut order = HashMap::new();
        let ranks = self.owner_ranks(now);
        let ranked = (0..self.subqueues.len()).map(|at| Reverse((self.rank(at, &ranks, now), at)));
        let mut next: BinaryHeap<_> = ranked.collect();
        while order.len() < POSITION_MAX
            && let Some(Reverse((rank, at))) = next.pop()
        {
            // A new permit only increases the sort keys of the same owner's subqueues. So if the
            // key of this subqueue is unchanged, it is still the smallest.
            if self.rank(at, &ranks, now) == rank
                && let Some(started) = self.start(at)
            {
                let call = started.call;
                order.insert(call.number, (order.len() + 1, call.units * MEMORY_UNIT));
            }
            if !self.subqueues[at].calls.is_empty() {
                next.push(Reverse((self.rank(at, &ranks, now), at)));
            }
        }
        order
    }
}

impl<W> Subqueue<W> {
    /// Returns the priority of the subqueue after it has waited for this time.
    fn promoted(&self, waited: Duration) -> u64 {
        let steps = waited.as_secs() / PROMOTED_EVERY.as_secs();
        (self.key.priority as u64 + steps).min(Priority::High as u64)
    }

    /// Returns how long the subqueue's first call has waited: since its arrival or, if later, since
    /// the last permit of the subqueue.
    pub(super) fn waiting_time(&self, now: Instant) -> Duration {
        let since = self.calls.front().map_or(now, |call| call.since.max(self.last_permit_at));
        now.saturating_duration_since(since)
    }
}
