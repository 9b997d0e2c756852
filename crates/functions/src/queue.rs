//! The queue of calls: assigns permits to run and memory. Every call has an owner: a run, or a
//! caller. Among calls of one priority, the owner with the fewest running calls is next, and within
//! an owner the function with the fewest. So neither a run of a thousand models nor a burst of
//! calls delays other owners. An owner without a running call may exceed the concurrency limit by
//! one, so that it does not wait for another's long call; the kernel then shares the processors. A
//! call whose memory is not free is overtaken for a short time, and is then reserved. A call that
//! has waited for long is promoted to the next priority.

mod order;
mod permits;

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use headwater_model::Priority;
use parking_lot::Mutex;
use tokio::sync::{Notify, oneshot};

pub(crate) use permits::{Memory, Permit, RunPermit};

use crate::{Error, Result, Share};

/// Unit of memory quotas, in bytes.
const MEMORY_UNIT: u64 = 1 << 20;

/// The permits, the memory, and the waiting calls.
#[derive(Debug)]
pub(crate) struct Queue {
    places: usize,
    memory_units: u64,
    waiting_max: usize,
    state: Mutex<State>,
    /// Notified when a call could run but for memory.
    short: Notify,
}

#[derive(Debug)]
struct State {
    lines: Vec<Subqueue>,
    waiting: usize,
    running: usize,
    free_units: u64,
    /// Memory of idle instances, in units.
    idle_units: u64,
    owners: HashMap<Arc<str>, OwnerState>,
    functions: HashMap<QueueKey, OwnerState>,
    /// Total number of permits assigned.
    given: u64,
    /// Memory that the first call needs which could run but for memory, in units.
    short: Option<u64>,
}

/// The key of a call: an owner, and a function of that owner.
type QueueKey = (Arc<str>, Arc<str>);

/// Counters of an owner, or of one of its functions.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct OwnerState {
    waiting: usize,
    running: usize,
    units: u64,
    /// The last permit, as a number of permits.
    served: u64,
    /// The time of the last permit, if there was one.
    turned: Option<Instant>,
}

impl OwnerState {
    fn is_idle(&self) -> bool {
        self.waiting == 0 && self.running == 0 && self.units == 0
    }
}

/// Calls of one function, owner and priority, in the order of arrival.
#[derive(Debug)]
struct Subqueue {
    of: QueueKey,
    priority: Priority,
    /// Whether they have their memory. Those without it must not precede those with it: they may
    /// wait for that memory.
    ready: bool,
    /// The time of the last permit for one of them, which bounds the waiting time of the others.
    served: Instant,
    calls: VecDeque<Call>,
}

#[derive(Debug)]
struct Call {
    number: u64,
    units: u64,
    since: Instant,
    turn: oneshot::Sender<Permit>,
}

/// Source of idle instances, one of which may suit a call.
pub(crate) trait IdleSource<W> {
    /// Returns true if an idle instance suits this call.
    fn is_there(&self) -> bool;
    /// Takes the instance with its memory.
    fn take(&self) -> Option<(W, Memory)>;
    /// Ends an idle instance of any function; false if there is none.
    fn end_one(&self) -> bool;
}

/// Statistics of the queue.
#[derive(Debug, Default)]
pub(crate) struct QueueStats {
    pub(crate) places: usize,
    pub(crate) running: usize,
    pub(crate) memory_bytes: u64,
    pub(crate) free_bytes: u64,
    /// Memory of idle instances.
    pub(crate) idle_bytes: u64,
    /// Running calls and reserved bytes, by owner.
    pub(crate) owners: BTreeMap<Arc<str>, (usize, u64)>,
    /// Position in the queue, from 1, and the bytes waited for, by the number of a call. Only for
    /// the first calls.
    pub(crate) order: HashMap<u64, (usize, u64)>,
}

impl Queue {
    pub(crate) fn new(places: usize, memory_bytes: u64, waiting_max: usize) -> Arc<Self> {
        let memory_units = (memory_bytes / MEMORY_UNIT).max(1);
        let state = State {
            lines: Vec::new(),
            waiting: 0,
            running: 0,
            free_units: memory_units,
            idle_units: 0,
            owners: HashMap::new(),
            functions: HashMap::new(),
            given: 0,
            short: None,
        };
        let (state, short) = (Mutex::new(state), Notify::new());
        Arc::new(Queue { places: places.max(1), memory_units, waiting_max, state, short })
    }

    /// Waits for a permit and for memory. An idle instance with its memory is taken when the permit
    /// is assigned; until then it may be ended for others.
    pub(crate) async fn turn<W>(
        self: &Arc<Self>,
        (number, share, label): (u64, &Share, &str),
        memory_bytes: u64,
        warm: &impl IdleSource<W>,
    ) -> Result<(Permit, Option<W>)> {
        let of = (share.owner.clone(), Arc::from(label));
        let (since, mut again) = (Instant::now(), false);
        loop {
            // A call that failed to take an instance once does not wait for another one.
            let has_process = !again && warm.is_there();
            let units = if has_process { 0 } else { self.units_of(memory_bytes) };
            let call = (number, units, since);
            let mut coming = self.join(call, &of, share.priority, again)?;
            self.give();
            let turn = loop {
                tokio::select! {
                    biased;
                    turn = &mut coming.turn => break turn,
                    () = self.short.notified() => {
                        if self.would_help(0) {
                            warm.end_one();
                        }
                    }
                }
            };
            let stopping = |_| Error::Stopping { label: label.to_owned() };
            let mut turn = turn.map_err(stopping)?;
            if let Some((process, mut held)) = warm.take() {
                held.belong_to(Some(share.owner.clone()));
                turn.memory = held;
                return Ok((turn, Some(process)));
            }
            if units > 0 {
                return Ok((turn, None));
            }
            // The instance has ended, or another call took it.
            again = true;
        }
    }

    /// Grants more memory to a running call if no call waits for it, including memory of idle
    /// instances.
    pub(crate) fn more(
        self: &Arc<Self>,
        owner: &Arc<str>,
        bytes: u64,
        reclaim: impl Fn() -> bool,
    ) -> Option<Memory> {
        let units = bytes.div_ceil(MEMORY_UNIT);
        loop {
            let mut state = self.state.lock();
            if state.short.is_some() || state.free_units + state.idle_units < units {
                return None;
            }
            if state.free_units >= units {
                state.free_units -= units;
                state.owners.entry(owner.clone()).or_default().units += units;
                return Some(Memory { queue: self.clone(), units, owner: Some(owner.clone()) });
            }
            drop(state);
            if !reclaim() {
                return None;
            }
        }
    }

    /// Returns true if a call could run but for memory, and would run if the memory of all idle
    /// instances and these bytes were free.
    pub(crate) fn would_help(&self, bytes: u64) -> bool {
        self.state.lock().would_help(bytes / MEMORY_UNIT)
    }

    /// Promotes starved calls periodically, while the queue exists.
    pub(crate) async fn look(queue: Weak<Queue>, every: Duration) {
        loop {
            tokio::time::sleep(every).await;
            let Some(queue) = queue.upgrade() else { return };
            queue.give();
        }
    }

    /// Returns statistics.
    pub(crate) fn standing(&self) -> QueueStats {
        let state = self.state.lock();
        let imagined = state.imagined();
        let held = |(owner, party): (&Arc<str>, &OwnerState)| {
            (party.units > 0 || party.running > 0)
                .then(|| (owner.clone(), (party.running, party.units * MEMORY_UNIT)))
        };
        let mut standing = QueueStats {
            places: self.places,
            running: state.running,
            memory_bytes: self.memory_units * MEMORY_UNIT,
            free_bytes: state.free_units * MEMORY_UNIT,
            idle_bytes: state.idle_units * MEMORY_UNIT,
            owners: state.owners.iter().filter_map(held).collect(),
            order: HashMap::new(),
        };
        drop(state);
        standing.order = imagined.order();
        standing
    }

    /// Returns the maximum memory of a call in bytes: the whole quota.
    pub(crate) fn memory_bytes(&self) -> u64 {
        self.memory_units * MEMORY_UNIT
    }

    fn units_of(&self, memory_bytes: u64) -> u64 {
        memory_bytes.div_ceil(MEMORY_UNIT).min(self.memory_units)
    }

    /// Adds a call to the queue. An owner may fill only a part of it.
    fn join(
        self: &Arc<Self>,
        (number, units, since): (u64, u64, Instant),
        of: &QueueKey,
        priority: Priority,
        again: bool,
    ) -> Result<QueuedCall> {
        let mut state = self.state.lock();
        let (waiting, owner) = (state.waiting, of.0.clone());
        let own = state.owners.get(&owner).map_or(0, |party| party.waiting);
        // An owner without queued calls is admitted to a full queue, up to twice its size.
        let most = if own == 0 { 2 * self.waiting_max } else { self.waiting_max };
        if !again && own >= most.saturating_sub(waiting) {
            return Err(Error::TooBusy { waiting, own, owner: owner.to_string() });
        }
        let (sender, turn) = oneshot::channel();
        let call = Call { number, units, since, turn: sender };
        let ready = units == 0;
        let same = |line: &&mut Subqueue| {
            line.of == *of && line.priority == priority && line.ready == ready
        };
        if let Some(line) = state.lines.iter_mut().find(same) {
            line.calls.push_back(call);
        } else {
            let (of, calls) = (of.clone(), VecDeque::from([call]));
            state.lines.push(Subqueue { of, priority, ready, served: since, calls });
        }
        state.waiting += 1;
        state.change(of, |party| party.waiting += 1);
        Ok(QueuedCall { queue: self.clone(), number, of: of.clone(), turn })
    }

    /// Assigns permits to the next calls while there are resources.
    fn give(self: &Arc<Self>) {
        let mut given = Vec::new();
        let short = {
            let mut state = self.state.lock();
            while let Some(line) = state.next(self.places) {
                if let Some((call, of)) = state.begin(line) {
                    let place = RunPermit { queue: self.clone(), of: of.clone() };
                    let owner = Some(of.0);
                    let memory = Memory { queue: self.clone(), units: call.units, owner };
                    given.push((call.turn, Permit { place, memory }));
                }
                if state.lines[line].calls.is_empty() {
                    state.lines.swap_remove(line);
                }
            }
            state.would_help(0)
        };
        if short {
            self.short.notify_one();
        }
        for (sender, turn) in given {
            // A caller that has gone returns the permit.
            drop(sender.send(turn));
        }
    }
}

impl State {
    fn would_help(&self, units: u64) -> bool {
        self.short.is_some_and(|short| short <= self.free_units + self.idle_units + units)
    }

    /// Updates the counters of an owner and its function, and removes them when they are zero.
    fn change(&mut self, of: &QueueKey, change: impl Fn(&mut OwnerState)) {
        // A new owner counts as if it had just had a permit.
        let new = OwnerState { served: self.given, ..OwnerState::default() };
        let owner = self.owners.entry(of.0.clone()).or_insert(new);
        change(owner);
        if owner.is_idle() {
            self.owners.remove(&of.0);
        }
        let function = self.functions.entry(of.clone()).or_insert(new);
        change(function);
        if function.is_idle() {
            self.functions.remove(of);
        }
    }

    /// Removes the first call of a subqueue and counts it as running. The subqueue remains, even if
    /// empty.
    fn begin(&mut self, line: usize) -> Option<(Call, QueueKey)> {
        let of = self.lines[line].of.clone();
        let call = self.lines[line].calls.pop_front()?;
        let now = Instant::now();
        self.lines[line].served = now;
        self.given += 1;
        let (given, units) = (self.given, call.units);
        self.waiting -= 1;
        self.running += 1;
        self.free_units -= units;
        self.change(&of, |party| {
            party.waiting -= 1;
            party.running += 1;
            (party.served, party.turned) = (given, Some(now));
        });
        self.owners.entry(of.0.clone()).or_default().units += units;
        Some((call, of))
    }
}

/// A queued call; dropping it removes it from the queue.
struct QueuedCall {
    queue: Arc<Queue>,
    number: u64,
    of: QueueKey,
    turn: oneshot::Receiver<Permit>,
}

impl Drop for QueuedCall {
    fn drop(&mut self) {
        let mut state = self.queue.state.lock();
        let State { lines, waiting, .. } = &mut *state;
        let mut left = false;
        for line in lines.iter_mut().filter(|line| line.of == self.of) {
            if let Some(at) = line.calls.iter().position(|call| call.number == self.number) {
                line.calls.remove(at);
                left = true;
            }
        }
        if left {
            lines.retain(|line| !line.calls.is_empty());
            *waiting -= 1;
            state.change(&self.of, |party| party.waiting -= 1);
        }
        drop(state);
        // Others may have waited for its memory.
        if left {
            self.queue.give();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::order::{LET_PASS, RISE};
    use super::*;

    const MIB: u64 = MEMORY_UNIT;

    fn share(owner: &str, priority: Priority) -> Share {
        Share { owner: owner.into(), job: None, priority }
    }

    /// Queues a call, and then returns the number of its permit.
    struct Stage {
        queue: Arc<Queue>,
        next: u64,
        waiting: Vec<QueuedCall>,
    }

    impl Stage {
        fn new(places: usize, mib: u64, waiting_max: usize) -> Self {
            let queue = Queue::new(places, mib * MIB, waiting_max);
            Stage { queue, next: 0, waiting: Vec::new() }
        }

        fn call(&mut self, owner: &str, priority: Priority, units: u64) -> Result<u64> {
            self.call_of((owner, "f"), priority, units)
        }

        fn call_of(
            &mut self,
            (owner, function): (&str, &str),
            priority: Priority,
            units: u64,
        ) -> Result<u64> {
            let Share { owner, priority, .. } = share(owner, priority);
            self.next += 1;
            let (of, call) = ((owner, function.into()), (self.next, units, Instant::now()));
            self.waiting.push(self.queue.join(call, &of, priority, false)?);
            self.queue.give();
            Ok(self.next)
        }

        /// Returns the calls that have a permit, with their permits.
        fn begun(&mut self) -> Vec<(u64, Permit)> {
            let mut begun = Vec::new();
            self.waiting.retain_mut(|coming| match coming.turn.try_recv() {
                Ok(turn) => {
                    begun.push((coming.number, turn));
                    false
                }
                Err(_) => true,
            });
            begun
        }
    }

    fn numbers(begun: &[(u64, Permit)]) -> Vec<u64> {
        begun.iter().map(|(number, _)| *number).collect()
    }

    #[test]
    fn owners_share_permits_regardless_of_arrival() {
        let mut stage = Stage::new(1, 100, 100);
        for _ in 0..4 {
            stage.call("run", Priority::Normal, 1).unwrap();
        }
        let mut now = stage.begun();
        assert_eq!(numbers(&now), [1]);
        // It has no running call, so it may exceed the limit by one.
        stage.call("caller", Priority::Normal, 1).unwrap();
        now.extend(stage.begun());
        stage.call("caller", Priority::Normal, 1).unwrap();
        stage.call("caller", Priority::Normal, 1).unwrap();
        assert_eq!(numbers(&now), [1, 5]);
        let mut order = Vec::new();
        while let Some((number, turn)) = (!now.is_empty()).then(|| now.remove(0)) {
            order.push(number);
            drop(turn);
            now.extend(stage.begun());
        }
        assert_eq!(order, [1, 5, 2, 6, 3, 7, 4]);
        assert!(stage.queue.state.lock().owners.is_empty(), "{:?}", stage.queue);
    }

    #[test]
    fn shown_positions_match_the_order_of_permits() {
        let mut stage = Stage::new(1, 10, 1_000);
        let priorities = [Priority::Low, Priority::Normal, Priority::High];
        for call in 0..400 {
            let owner = format!("owner {}", call * call % 23);
            stage.call(&owner, priorities[call % 7 % 3], (call % 4) as u64).unwrap();
        }
        let mut state = stage.queue.state.lock().imagined();
        let (mut expected, now) = (HashMap::new(), Instant::now());
        let best = state.best(now);
        loop {
            let waits = (0..state.lines.len()).filter(|at| !state.lines[*at].calls.is_empty());
            let Some(line) = waits.min_by_key(|at| state.rank(*at, &best, now)) else { break };
            let (call, _) = state.begin(line).unwrap();
            expected.insert(call.number, expected.len() + 1);
        }
        let order = stage.queue.standing().order;
        let places: HashMap<_, _> =
            order.into_iter().map(|(call, (place, _))| (call, place)).collect();
        assert!(expected.len() > 350);
        assert_eq!(places, expected);
    }

    #[test]
    fn priorities_precede_and_starved_calls_are_promoted() {
        let mut stage = Stage::new(1, 100, 100);
        stage.call("a", Priority::Normal, 1).unwrap();
        let low = stage.call("a", Priority::Low, 1).unwrap();
        let normal = stage.call("a", Priority::Normal, 1).unwrap();
        let high = stage.call("a", Priority::High, 1).unwrap();
        let order = stage.queue.standing().order;
        assert_eq!([order[&high].0, order[&normal].0, order[&low].0], [1, 2, 3]);
        let since = Instant::now().checked_sub(3 * RISE).unwrap();
        for line in &mut stage.queue.state.lock().lines {
            let old = line.priority == Priority::Low;
            line.served = if old { since } else { line.served };
            line.calls.iter_mut().filter(|_| old).for_each(|call| call.since = since);
        }
        let order = stage.queue.standing().order;
        assert_eq!([order[&low].0, order[&high].0, order[&normal].0], [1, 2, 3]);
    }

    #[test]
    fn a_backlog_that_is_served_is_not_promoted() {
        let mut stage = Stage::new(1, 100, 100);
        for _ in 0..3 {
            stage.call("backlog", Priority::Normal, 60).unwrap();
        }
        let first = stage.begun();
        let since = Instant::now().checked_sub(3 * RISE).unwrap();
        for line in &mut stage.queue.state.lock().lines {
            line.calls.iter_mut().for_each(|call| call.since = since);
        }
        // A call that arrived just now does not wait behind it, and finds free memory.
        let new = stage.call("new", Priority::Normal, 30).unwrap();
        assert_eq!(numbers(&stage.begun()), [new]);
        assert_eq!(stage.queue.standing().order[&2].0, 1);
        drop(first);
    }

    #[test]
    fn a_backlog_of_many_functions_is_not_promoted() {
        let mut stage = Stage::new(1, 100, 100);
        for function in ["f", "g", "h", "i", "j"] {
            stage.call_of(("backlog", function), Priority::Normal, 60).unwrap();
        }
        let first = stage.begun();
        pass(&stage.queue, 3 * RISE);
        drop(first);
        // It had a permit just now, and its other calls are old.
        let second = stage.begun();
        let new = stage.call("new", Priority::Normal, 60).unwrap();
        assert_eq!((second.len(), stage.queue.standing().order[&new].0), (1, 1));
        // Its own calls are ordered by age.
        let low = stage.call_of(("backlog", "low"), Priority::Low, 60).unwrap();
        assert_eq!(stage.queue.standing().order[&low].0, 5);
    }

    #[test]
    fn repeated_callers_do_not_overtake_a_waiting_one() {
        let mut stage = Stage::new(8, 100, 100);
        stage.call("a", Priority::Normal, 100).unwrap();
        let mut now = stage.begun();
        for _ in 0..3 {
            stage.call("a", Priority::Normal, 100).unwrap();
        }
        let call = |caller| (stage.call(caller, Priority::Normal, 100).unwrap(), caller);
        let mut callers: HashMap<u64, &str> = ["c1", "c2"].map(call).into();
        let mut order = Vec::new();
        for round in 0..6 {
            let (number, turn) = now.remove(0);
            order.push(number);
            drop(turn);
            now.extend(stage.begun());
            assert_eq!(now.len(), 1, "{round}");
            // Each of the two repeats its call at once.
            if let Some(caller) = callers.remove(&number) {
                callers.insert(stage.call(caller, Priority::Normal, 100).unwrap(), caller);
            }
        }
        assert_eq!(order[..5], [1, 2, 5, 6, 3], "two calls of others at the most between its own");
    }

    #[test]
    fn the_first_call_reserves_memory_without_a_free_permit() {
        let mut stage = Stage::new(1, 100, 100);
        stage.call("a", Priority::Normal, 80).unwrap();
        let begun = stage.begun();
        stage.call("a", Priority::High, 40).unwrap();
        assert!(stage.queue.state.lock().short.is_some());
        drop(begun);
        assert!(stage.queue.state.lock().short.is_none());
    }

    #[test]
    fn an_owner_cannot_fill_the_queue() {
        let mut stage = Stage::new(1, 100, 10);
        stage.call("burst", Priority::Normal, 1).unwrap();
        let first = stage.begun();
        for _ in 0..5 {
            stage.call("burst", Priority::Normal, 1).unwrap();
        }
        let refused = stage.call("burst", Priority::Normal, 1).unwrap_err();
        assert!(matches!(refused, Error::TooBusy { waiting: 5, own: 5, .. }), "{refused:?}");
        stage.queue.state.lock().waiting += 6;
        stage.call("other", Priority::Normal, 1).unwrap();
        assert_eq!(numbers(&stage.begun()), [8]);
        stage.queue.state.lock().waiting -= 6;
        // A call that leaves the queue makes space.
        stage.waiting.pop();
        stage.call("burst", Priority::Normal, 1).unwrap();
        drop(first);
    }

    #[test]
    fn a_large_call_is_overtaken_briefly_and_then_reserved() {
        let mut stage = Stage::new(4, 100, 100);
        stage.call("a", Priority::Normal, 80).unwrap();
        let first = stage.begun();
        let large = stage.call("a", Priority::Normal, 60).unwrap();
        assert!(stage.queue.state.lock().short.is_some());
        let small = stage.call("b", Priority::Normal, 5).unwrap();
        let begun = stage.begun();
        assert_eq!(numbers(&begun), [small]);
        let since = Instant::now().checked_sub(2 * LET_PASS).unwrap();
        stage.queue.state.lock().lines[0].calls[0].since = since;
        stage.queue.state.lock().lines[0].served = since;
        stage.call("b", Priority::Normal, 5).unwrap();
        assert!(stage.begun().is_empty());
        // An owner without running calls does not wait for long.
        let another = stage.call("c", Priority::Normal, 5).unwrap();
        let others = stage.begun();
        assert_eq!(numbers(&others), [another]);
        drop(first);
        assert_eq!(numbers(&stage.begun())[..1], [large]);
    }

    /// An idle instance, and whether it suits the caller.
    struct Idle<'a>(&'a Mutex<Option<Memory>>, bool);

    impl IdleSource<()> for Idle<'_> {
        fn is_there(&self) -> bool {
            self.1 && self.0.lock().is_some()
        }

        fn take(&self) -> Option<((), Memory)> {
            let memory = self.1.then(|| self.0.lock().take()).flatten();
            memory.map(|memory| ((), memory))
        }

        fn end_one(&self) -> bool {
            let ended = self.0.lock().take();
            ended.is_some()
        }
    }

    /// Shifts all waiting times and permits into the past.
    fn pass(queue: &Queue, time: Duration) {
        for line in &mut queue.state.lock().lines {
            line.served = line.served.checked_sub(time).unwrap();
            for call in &mut line.calls {
                call.since = call.since.checked_sub(time).unwrap();
            }
        }
        for party in queue.state.lock().owners.values_mut() {
            party.turned = party.turned.map(|turned| turned.checked_sub(time).unwrap());
        }
    }

    #[test]
    fn a_call_too_large_for_its_owners_rest_blocks_no_other_owner() {
        let mut stage = Stage::new(4, 100, 100);
        stage.call("a", Priority::Normal, 60).unwrap();
        let running = stage.begun();
        stage.call("a", Priority::Normal, 60).unwrap();
        pass(&stage.queue, 3 * RISE);
        let other = stage.call("b", Priority::Normal, 30).unwrap();
        assert_eq!(numbers(&stage.begun()), [other]);
        // A call of an owner without running calls is waited for, too.
        stage.call("c", Priority::Normal, 90).unwrap();
        pass(&stage.queue, 3 * RISE);
        stage.call("d", Priority::Normal, 10).unwrap();
        assert!(stage.begun().is_empty());
        drop(running);
    }

    #[tokio::test]
    async fn a_starved_call_is_promoted_without_other_events() {
        let mut stage = Stage::new(1, 100, 100);
        stage.call("a", Priority::Normal, 1).unwrap();
        let running = stage.begun();
        let late = stage.call("a", Priority::Normal, 1).unwrap();
        pass(&stage.queue, 3 * RISE);
        assert!(stage.begun().is_empty());
        let looking = tokio::spawn(Queue::look(Arc::downgrade(&stage.queue), LET_PASS / 100));
        let mut begun = stage.begun();
        while begun.is_empty() {
            tokio::task::yield_now().await;
            begun = stage.begun();
        }
        assert_eq!(numbers(&begun), [late]);
        drop((stage, begun, running));
        looking.await.unwrap();
    }

    #[tokio::test]
    async fn no_instance_ends_for_insufficient_memory() {
        let queue = Queue::new(2, 100 * MIB, 10);
        let (a, b) = (share("a", Priority::Normal), share("b", Priority::Normal));
        let nothing = Mutex::new(None);
        let none = Idle(&nothing, false);
        let running = queue.turn((1, &a, "f"), 70 * MIB, &none).await.unwrap();
        let (turn, _) = queue.turn((2, &b, "g"), 20 * MIB, &none).await.unwrap();
        let Permit { place, mut memory } = turn;
        memory.belong_to(None);
        drop(place);
        let waits = Mutex::new(Some(memory));
        let idle = Idle(&waits, false);
        let waiting = queue.turn((3, &a, "f"), 70 * MIB, &idle);
        let looked_at = async {
            while queue.state.lock().short.is_none() {
                tokio::task::yield_now().await;
            }
            assert!(!queue.would_help(0) && queue.would_help(50 * MIB));
            assert!(waits.lock().is_some());
            drop(running);
        };
        let (turn, ()) = tokio::join!(waiting, looked_at);
        assert_eq!(turn.unwrap().0.memory.bytes(), 70 * MIB);
    }

    #[tokio::test]
    async fn an_idle_instance_can_be_ended_until_its_call_has_a_permit() {
        let queue = Queue::new(1, 100 * MIB, 10);
        let (low, high) = (share("a", Priority::Low), share("a", Priority::High));
        let nothing = Mutex::new(None);
        let none = Idle(&nothing, false);
        let (turn, _) = queue.turn((1, &low, "f"), 80 * MIB, &none).await.unwrap();
        let Permit { place, mut memory } = turn;
        memory.belong_to(None);
        let waits = Mutex::new(Some(memory));
        let (idle, others) = (Idle(&waits, true), Idle(&waits, false));
        let first = queue.turn((2, &low, "f"), 80 * MIB, &idle);
        let second = async {
            let turn = queue.turn((3, &high, "g"), 80 * MIB, &others).await.unwrap();
            assert!(turn.1.is_none());
            turn
        };
        let free = async {
            while queue.state.lock().short.is_none() {
                tokio::task::yield_now().await;
            }
            drop(place);
        };
        let (low, (), ()) = tokio::join!(first, async { drop(second.await) }, free);
        assert!(low.unwrap().1.is_none(), "its process was ended for the other");
    }

    #[tokio::test]
    async fn memory_of_idle_instances_is_released() {
        let queue = Queue::new(2, 100 * MIB, 10);
        let of = share("a", Priority::Normal);
        let nothing = Mutex::new(None);
        let none = Idle(&nothing, false);
        let turn = queue.turn((1, &of, "f"), 100 * MIB, &none).await.unwrap();
        let Permit { place, mut memory } = turn.0;
        memory.belong_to(None);
        drop(place);
        assert_eq!(queue.standing().idle_bytes, 100 * MIB);
        let waits = Mutex::new(Some(memory));
        let idle = Idle(&waits, false);
        let (turn, process) = queue.turn((2, &of, "g"), 50 * MIB, &idle).await.unwrap();
        assert!(process.is_none());
        assert_eq!(queue.standing().owners[&of.owner], (1, 50 * MIB));
        assert!(queue.more(&of.owner, 60 * MIB, || false).is_none());
        assert!(queue.more(&of.owner, 50 * MIB, || false).is_some());
        drop(turn);
        let standing = queue.standing();
        assert_eq!((standing.free_bytes, standing.owners.len()), (100 * MIB, 0));
    }
}
