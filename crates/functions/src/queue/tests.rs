//! Tests of the queue: the order of permits, and the use of idle instances.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use headwater_model::Priority;

use super::admission::QueuedCall;
use super::order::{OVERTAKEN_MAX, PROMOTED_EVERY};
use super::state::MEMORY_UNIT;
use super::{CallRequest, InstanceKey, Permit, Queue, Reservation, ReservationResult};
use crate::{CallOwner, Error, Result};

/// An idle instance in these tests is represented by its name.
type Name = &'static str;

fn share(owner: &str, priority: Priority) -> CallOwner {
    CallOwner { owner: owner.into(), job: None, priority }
}

/// A test fixture that queues calls and collects the permits that they get.
struct QueueFixture {
    queue: Arc<Queue<Name>>,
    next: u64,
    queued: Vec<QueuedCall<Name>>,
    /// The instance key for the calls that the fixture queues next.
    instances: Option<InstanceKey>,
}

impl QueueFixture {
    fn new(permits_max: usize, mib: u64, queued_max: usize) -> Self {
        let queue = Queue::new(permits_max, mib * MEMORY_UNIT, queued_max);
        QueueFixture { queue, next: 0, queued: Vec::new(), instances: None }
    }

    fn call(&mut self, owner: &str, priority: Priority, mib: u64) -> Result<u64> {
        self.enqueue(&share(owner, priority), "f", mib)
    }

    fn call_of(&mut self, owner: &str, function: &str, mib: u64) -> Result<u64> {
        self.enqueue(&share(owner, Priority::Normal), function, mib)
    }

    /// Queues a call that can use instances with this key.
    fn call_with(&mut self, key: &InstanceKey, function: &str, mib: u64) -> u64 {
        self.instances = Some(key.clone());
        let number = self.call_of("a", function, mib).unwrap();
        self.instances = None;
        number
    }

    fn enqueue(&mut self, share: &CallOwner, label: &str, mib: u64) -> Result<u64> {
        self.next += 1;
        let (number, memory_bytes) = (self.next, mib * MEMORY_UNIT);
        let instance_key = self.instances.clone();
        let request = CallRequest { number, share, label, memory_bytes, instance_key };
        self.queued.push(self.queue.enqueue(&request)?);
        self.queue.assign();
        Ok(number)
    }

    /// Returns the calls that have got a permit since the last use of this method, with their
    /// permits.
    fn started(&mut self) -> Vec<(u64, Permit<Name>)> {
        let mut started = Vec::new();
        self.queued.retain_mut(|call| match call.permit.try_recv() {
            Ok(permit) => {
                started.push((call.number, permit));
                false
            }
            Err(_) => true,
        });
        started
    }

    /// Returns the only call that has got a permit, with the permit. Fails if there are several.
    fn one(&mut self) -> (u64, Permit<Name>) {
        let mut started = self.started();
        assert_eq!(started.len(), 1, "{started:?}");
        started.remove(0)
    }
}

fn numbers(started: &[(u64, Permit<Name>)]) -> Vec<u64> {
    started.iter().map(|(number, _)| *number).collect()
}

#[test]
fn owners_share_permits_regardless_of_arrival() {
    let mut stage = QueueFixture::new(1, 100, 100);
    for _ in 0..4 {
        stage.call("run", Priority::Normal, 1).unwrap();
    }
    let mut running = stage.started();
    assert_eq!(numbers(&running), [1]);
    // The owner of this call has no running call, so the call may exceed the limit by one.
    stage.call("caller", Priority::Normal, 1).unwrap();
    running.extend(stage.started());
    stage.call("caller", Priority::Normal, 1).unwrap();
    stage.call("caller", Priority::Normal, 1).unwrap();
    assert_eq!(numbers(&running), [1, 5]);
    let mut order = Vec::new();
    while let Some((number, permit)) = (!running.is_empty()).then(|| running.remove(0)) {
        order.push(number);
        drop(permit);
        running.extend(stage.started());
    }
    assert_eq!(order, [1, 5, 2, 6, 3, 7, 4]);
    assert!(stage.queue.lock().owners.is_empty(), "{:?}", stage.queue);
}

#[test]
fn shown_positions_match_the_order_of_permits() {
    let mut stage = QueueFixture::new(1, 10, 1_000);
    let priorities = [Priority::Low, Priority::Normal, Priority::High];
    for call in 0..400 {
        let owner = format!("owner {}", call * call % 23);
        stage.call(&owner, priorities[call % 7 % 3], (call % 4) as u64).unwrap();
    }
    let mut state = stage.queue.lock().simulated();
    let (mut expected, now) = (HashMap::new(), Instant::now());
    let ranks = state.owner_ranks(now);
    loop {
        let waits = (0..state.subqueues.len()).filter(|at| !state.subqueues[*at].calls.is_empty());
        let Some(at) = waits.min_by_key(|at| state.rank(*at, &ranks, now)) else { break };
        let started = state.start(at).unwrap();
        expected.insert(started.call.number, expected.len() + 1);
    }
    let order = stage.queue.stats().order;
    let places: HashMap<_, _> = order.into_iter().map(|(call, (place, _))| (call, place)).collect();
    assert!(expected.len() > 350);
    assert_eq!(places, expected);
}

#[test]
fn priorities_precede_and_starved_calls_are_promoted() {
    let mut stage = QueueFixture::new(1, 100, 100);
    stage.call("a", Priority::Normal, 1).unwrap();
    let low = stage.call("a", Priority::Low, 1).unwrap();
    let normal = stage.call("a", Priority::Normal, 1).unwrap();
    let high = stage.call("a", Priority::High, 1).unwrap();
    let order = stage.queue.stats().order;
    assert_eq!([order[&high].0, order[&normal].0, order[&low].0], [1, 2, 3]);
    let since = Instant::now().checked_sub(3 * PROMOTED_EVERY).unwrap();
    for subqueue in &mut stage.queue.lock().subqueues {
        let old = subqueue.key.priority == Priority::Low;
        subqueue.last_permit_at = if old { since } else { subqueue.last_permit_at };
        subqueue.calls.iter_mut().filter(|_| old).for_each(|call| call.since = since);
    }
    let order = stage.queue.stats().order;
    assert_eq!([order[&low].0, order[&high].0, order[&normal].0], [1, 2, 3]);
}

#[test]
fn a_backlog_that_is_served_is_not_promoted() {
    let mut stage = QueueFixture::new(1, 100, 100);
    for _ in 0..3 {
        stage.call("backlog", Priority::Normal, 60).unwrap();
    }
    let first = stage.started();
    let since = Instant::now().checked_sub(3 * PROMOTED_EVERY).unwrap();
    for subqueue in &mut stage.queue.lock().subqueues {
        subqueue.calls.iter_mut().for_each(|call| call.since = since);
    }
    // The new call overtakes the backlog, because there is enough memory for it.
    let new = stage.call("new", Priority::Normal, 30).unwrap();
    assert_eq!(numbers(&stage.started()), [new]);
    assert_eq!(stage.queue.stats().order[&2].0, 1);
    drop(first);
}

#[test]
fn a_backlog_of_many_functions_is_not_promoted() {
    let mut stage = QueueFixture::new(1, 100, 100);
    for function in ["f", "g", "h", "i", "j"] {
        stage.call_of("backlog", function, 60).unwrap();
    }
    let first = stage.started();
    pass(&stage.queue, 3 * PROMOTED_EVERY);
    drop(first);
    // The owner `backlog` has just got a permit, so its other calls are not promoted, although they
    // have waited for a long time.
    let second = stage.started();
    let new = stage.call("new", Priority::Normal, 60).unwrap();
    assert_eq!((second.len(), stage.queue.stats().order[&new].0), (1, 1));
    // Calls of the same owner are ordered by waiting time.
    let low = stage.enqueue(&share("backlog", Priority::Low), "low", 60).unwrap();
    assert_eq!(stage.queue.stats().order[&low].0, 5);
}

#[test]
fn repeated_callers_do_not_overtake_a_waiting_one() {
    let mut stage = QueueFixture::new(8, 100, 100);
    stage.call("a", Priority::Normal, 100).unwrap();
    let mut running = stage.started();
    for _ in 0..3 {
        stage.call("a", Priority::Normal, 100).unwrap();
    }
    let call = |caller| (stage.call(caller, Priority::Normal, 100).unwrap(), caller);
    let mut callers: HashMap<u64, &str> = ["c1", "c2"].map(call).into();
    let mut order = Vec::new();
    for round in 0..6 {
        let (number, permit) = running.remove(0);
        order.push(number);
        drop(permit);
        running.extend(stage.started());
        assert_eq!(running.len(), 1, "{round}");
        // Each of the two owners queues its call again as soon as that call has ended.
        if let Some(caller) = callers.remove(&number) {
            callers.insert(stage.call(caller, Priority::Normal, 100).unwrap(), caller);
        }
    }
    assert_eq!(order[..5], [1, 2, 5, 6, 3], "two calls of others at the most between its own");
}

#[test]
fn the_first_call_reserves_memory_without_a_free_permit() {
    let mut stage = QueueFixture::new(1, 100, 100);
    stage.call("a", Priority::Normal, 80).unwrap();
    let started = stage.started();
    stage.call("a", Priority::High, 40).unwrap();
    assert!(stage.queue.lock().is_memory_short);
    drop(started);
    assert!(!stage.queue.lock().is_memory_short);
}

#[test]
fn an_owner_cannot_fill_the_queue() {
    let mut stage = QueueFixture::new(1, 100, 10);
    stage.call("burst", Priority::Normal, 1).unwrap();
    let first = stage.started();
    for _ in 0..5 {
        stage.call("burst", Priority::Normal, 1).unwrap();
    }
    let refused = stage.call("burst", Priority::Normal, 1).unwrap_err();
    assert!(matches!(refused, Error::TooBusy { queued: 5, own: 5, limit: 10, .. }), "{refused:?}");
    stage.queue.lock().queued += 6;
    stage.call("other", Priority::Normal, 1).unwrap();
    assert_eq!(numbers(&stage.started()), [8]);
    stage.queue.lock().queued -= 6;
    // When a call leaves the queue, another call can enter.
    stage.queued.pop();
    stage.call("burst", Priority::Normal, 1).unwrap();
    drop(first);
}

#[test]
fn a_large_call_is_overtaken_briefly_and_then_reserved() {
    let mut stage = QueueFixture::new(4, 100, 100);
    stage.call("a", Priority::Normal, 80).unwrap();
    let first = stage.started();
    let large = stage.call("a", Priority::Normal, 60).unwrap();
    assert!(stage.queue.lock().is_memory_short);
    let small = stage.call("b", Priority::Normal, 5).unwrap();
    let started = stage.started();
    assert_eq!(numbers(&started), [small]);
    let since = Instant::now().checked_sub(2 * OVERTAKEN_MAX).unwrap();
    stage.queue.lock().subqueues[0].calls[0].since = since;
    stage.queue.lock().subqueues[0].last_permit_at = since;
    stage.call("b", Priority::Normal, 5).unwrap();
    assert!(stage.started().is_empty());
    // A call of an owner without running calls may still overtake the large call.
    let another = stage.call("c", Priority::Normal, 5).unwrap();
    let others = stage.started();
    assert_eq!(numbers(&others), [another]);
    drop(first);
    assert_eq!(numbers(&stage.started())[..1], [large]);
}

/// Moves all arrivals and permits into the past by `time`.
fn pass(queue: &Queue<Name>, time: Duration) {
    for subqueue in &mut queue.lock().subqueues {
        subqueue.last_permit_at = subqueue.last_permit_at.checked_sub(time).unwrap();
        for call in &mut subqueue.calls {
            call.since = call.since.checked_sub(time).unwrap();
        }
    }
    for idle in &mut queue.lock().idle {
        idle.since = idle.since.checked_sub(time).unwrap();
    }
    for load in queue.lock().owners.values_mut() {
        load.last_permit_at = load.last_permit_at.map(|last| last.checked_sub(time).unwrap());
    }
}

#[test]
fn a_large_call_that_waits_for_its_own_owners_calls_does_not_block_other_owners() {
    let mut stage = QueueFixture::new(4, 100, 100);
    stage.call("a", Priority::Normal, 60).unwrap();
    let running = stage.started();
    stage.call("a", Priority::Normal, 60).unwrap();
    pass(&stage.queue, 3 * PROMOTED_EVERY);
    let other = stage.call("b", Priority::Normal, 30).unwrap();
    assert_eq!(numbers(&stage.started()), [other]);
    // Memory is also reserved if the waiting call belongs to an owner without running calls.
    stage.call("c", Priority::Normal, 90).unwrap();
    pass(&stage.queue, 3 * PROMOTED_EVERY);
    stage.call("d", Priority::Normal, 10).unwrap();
    assert!(stage.started().is_empty());
    drop(running);
}

#[tokio::test]
async fn a_starved_call_is_promoted_without_other_events() {
    let mut stage = QueueFixture::new(1, 100, 100);
    stage.call("a", Priority::Normal, 1).unwrap();
    let running = stage.started();
    let late = stage.call("a", Priority::Normal, 1).unwrap();
    pass(&stage.queue, 3 * PROMOTED_EVERY);
    assert!(stage.started().is_empty());
    let queue = Arc::downgrade(&stage.queue);
    let periodically = tokio::spawn(Queue::assign_periodically(queue, OVERTAKEN_MAX / 100));
    let mut started = stage.started();
    while started.is_empty() {
        tokio::task::yield_now().await;
        started = stage.started();
    }
    assert_eq!(numbers(&started), [late]);
    drop((stage, started, running));
    periodically.await.unwrap();
}

#[test]
fn callers_of_a_function_reuse_its_idle_instance() {
    let (mut stage, f) = (QueueFixture::new(1, 1_000, 1_000), InstanceKey::default());
    for _ in 0..64 {
        stage.call_with(&f, "f", 10);
    }
    let (_, first) = stage.one();
    assert!(first.instance.is_none());
    let mut paused = 0;
    first.keep("f1", |_| paused += 1);
    for _ in 0..63 {
        let (_, mut permit) = stage.one();
        let instance = permit.instance.take().unwrap();
        assert_eq!((instance, permit.bytes()), ("f1", 10 * MEMORY_UNIT));
        permit.keep(instance, |_| paused += 1);
    }
    assert_eq!((paused, stage.queue.stats().idle_bytes), (1, 10 * MEMORY_UNIT));
}

#[test]
fn callers_share_one_instance_if_memory_suffices_for_only_one() {
    let (mut stage, f) = (QueueFixture::new(4, 100, 100), InstanceKey::default());
    for _ in 0..8 {
        stage.call_with(&f, "f", 80);
    }
    stage.one().1.keep("f1", |_| ());
    for _ in 0..7 {
        let (_, mut permit) = stage.one();
        let instance = permit.instance.take().unwrap();
        permit.keep(instance, |_| ());
    }
}

#[test]
fn an_idle_instance_is_evicted_only_where_its_memory_is_enough() {
    let (mut stage, g) = (QueueFixture::new(2, 100, 10), InstanceKey::default());
    stage.call("a", Priority::Normal, 70).unwrap();
    let (_, running) = stage.one();
    stage.call_with(&g, "g", 20);
    stage.one().1.keep("g1", |_| ());
    let large = stage.call("a", Priority::Normal, 70).unwrap();
    assert!(stage.started().is_empty());
    assert_eq!(stage.queue.stats().idle_bytes, 20 * MEMORY_UNIT);
    drop(running);
    let (number, permit) = stage.one();
    assert_eq!((number, permit.bytes()), (large, 70 * MEMORY_UNIT));
    assert_eq!(stage.queue.stats().idle_bytes, 20 * MEMORY_UNIT);
    // A call of an owner with a running call must wait before it evicts a recently used instance.
    stage.call("a", Priority::Normal, 20).unwrap();
    assert!(stage.started().is_empty());
    pass(&stage.queue, 2 * OVERTAKEN_MAX);
    stage.queue.assign();
    assert_eq!(stage.started().len(), 1);
    assert_eq!(stage.queue.stats().idle_bytes, 0);
    drop(permit);
}

#[test]
fn functions_that_do_not_fit_into_memory_together_alternate() {
    let mut stage = QueueFixture::new(2, 100, 100);
    let (f, g) = (InstanceKey::default(), InstanceKey::default());
    stage.call_with(&f, "f", 80);
    let (_, first) = stage.one();
    for _ in 0..10 {
        stage.call_with(&f, "f", 80);
    }
    let other = stage.call_with(&g, "g", 80);
    first.keep("f1", |_| ());
    // At first, the queued calls of `f` continue to use the instance of `f`, although the call of
    // `g` waits for memory.
    let (_, second) = stage.one();
    assert_eq!(second.instance, Some("f1"));
    pass(&stage.queue, 2 * OVERTAKEN_MAX);
    second.keep("f1", |_| ());
    let (number, permit) = stage.one();
    assert_eq!((number, permit.instance), (other, None));
}

#[test]
fn an_instance_is_reserved_for_a_call_that_needs_the_memory_of_several() {
    let (mut stage, f) = (QueueFixture::new(2, 100, 100), InstanceKey::default());
    for _ in 0..20 {
        stage.call_with(&f, "f", 50);
    }
    let mut running = stage.started();
    assert_eq!(running.len(), 2);
    let large = stage.call_of("a", "large", 100).unwrap();
    running.remove(0).1.keep("f1", |_| ());
    running.extend(stage.started());
    assert_eq!(running.len(), 2, "it is overtaken for a time");
    pass(&stage.queue, 2 * OVERTAKEN_MAX);
    running.remove(0).1.keep("f2", |_| ());
    assert!(stage.started().is_empty(), "it waits for the other instance");
    running.remove(0).1.keep("f1", |_| ());
    assert_eq!(numbers(&stage.started()), [large]);
}

#[test]
fn memory_of_idle_instances_is_granted_to_running_calls() {
    let (mut stage, f) = (QueueFixture::new(2, 100, 10), InstanceKey::default());
    stage.call_with(&f, "f", 100);
    stage.one().1.keep("f1", |_| ());
    assert_eq!(stage.queue.stats().idle_bytes, 100 * MEMORY_UNIT);
    stage.call_of("a", "g", 50).unwrap();
    let (_, permit) = stage.one();
    assert_eq!(stage.queue.stats().owners[&Arc::from("a")], (1, 50 * MEMORY_UNIT));
    assert!(permit.grow(60 * MEMORY_UNIT).is_none());
    assert!(permit.grow(50 * MEMORY_UNIT).is_some());
    drop(permit);
    let stats = stage.queue.stats();
    assert_eq!((stats.free_bytes, stats.owners.len()), (100 * MEMORY_UNIT, 0));
}

/// Reserves memory for an instance that starts in advance of a call.
fn reserve(stage: &mut QueueFixture, key: &InstanceKey, mib: u64) -> Option<Reservation<Name>> {
    stage.next += 1;
    match stage.queue.reserve(stage.next, key, mib * MEMORY_UNIT) {
        ReservationResult::Reserved(reservation) => Some(reservation),
        ReservationResult::Exists | ReservationResult::Busy => None,
    }
}

#[test]
fn a_start_ahead_of_a_call_takes_only_free_memory() {
    let (mut stage, f) = (QueueFixture::new(2, 100, 10), InstanceKey::default());
    let g = InstanceKey::default();
    stage.call_with(&g, "g", 40);
    stage.one().1.keep("g1", |_| ());
    assert!(reserve(&mut stage, &f, 70).is_none(), "no idle instance is evicted");
    assert!(reserve(&mut stage, &g, 10).is_none(), "an instance is idle");
    let reserved = reserve(&mut stage, &f, 60).unwrap();
    assert!(reserve(&mut stage, &f, 0).is_none(), "an instance is starting");
    reserved.keep("f1", |_| ());
    // The unused instance is evicted first, although the other instance has been idle for longer.
    stage.call_of("a", "h", 50).unwrap();
    let (_, permit) = stage.one();
    stage.call_with(&g, "g", 40);
    let (_, other) = stage.one();
    assert_eq!((permit.instance, other.instance), (None, Some("g1")));
    assert!(reserve(&mut stage, &f, 1).is_none(), "no permit is free");
}

#[test]
fn a_call_uses_the_instance_that_started_ahead() {
    let (mut stage, f) = (QueueFixture::new(2, 100, 10), InstanceKey::default());
    reserve(&mut stage, &f, 60).unwrap().keep("f1", |_| ());
    stage.call_with(&f, "f", 60);
    assert_eq!(stage.one().1.instance, Some("f1"));
    let reserved = reserve(&mut stage, &f, 60).unwrap();
    stage.call_with(&f, "f", 20);
    assert_eq!(stage.one().1.instance, None);
    assert!(reserved.cancelled.is_cancelled(), "the call has started an instance");
}

#[test]
fn a_call_that_must_wait_cancels_a_start_ahead_of_a_call() {
    let (mut stage, f) = (QueueFixture::new(2, 100, 10), InstanceKey::default());
    let reserved = reserve(&mut stage, &f, 60).unwrap();
    stage.call_of("a", "g", 40).unwrap();
    let (_, _running) = stage.one();
    assert!(!reserved.cancelled.is_cancelled());
    let waiting = stage.call_of("b", "h", 50).unwrap();
    assert!(stage.started().is_empty() && reserved.cancelled.is_cancelled());
    drop(reserved);
    assert_eq!(numbers(&stage.started()), [waiting]);
}
