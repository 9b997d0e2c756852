//! Admission of calls: a call first waits in the queue, and then gets a permit.

use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use headwater_metrics::InstanceCounts;
use parking_lot::{Mutex, MutexGuard};
use tokio::sync::oneshot;

use super::QueueStats;
use super::idle_instances::{IdleEntry, InstanceKey};
use super::permits::Permit;
use super::state::{AdmittedCall, CallQueueState, MEMORY_UNIT, QueueKey, SubqueueKey, WaitingCall};
use crate::{CallOwner, Error, Result};

/// The queue of calls, with its permits, memory and idle instances. `W` is the type of an idle
/// instance.
#[derive(Debug)]
pub(crate) struct Queue<W> {
    pub(super) permits_max: usize,
    memory_units: u64,
    queued_max: usize,
    state: Mutex<CallQueueState<W>>,
}

/// A call to add to the queue.
#[derive(Debug, Clone)]
pub(crate) struct CallRequest<'a> {
    /// The sequence number of the call in the queue.
    pub(crate) number: u64,
    pub(crate) share: &'a CallOwner,
    /// The function's label, as shown to users. The permits of an owner are shared fairly among its
    /// functions.
    pub(crate) label: &'a str,
    /// The memory that an instance for the call needs, in bytes.
    pub(crate) memory_bytes: u64,
    /// The key of the instances that the call may use; `None` if the call needs a new instance.
    pub(crate) instance_key: Option<InstanceKey>,
}

/// The permits to send and the instances to end after the lock of the queue is released.
struct AdmissionResult<W> {
    started: Vec<AdmittedCall<W>>,
    evicted: Vec<W>,
}

impl<W> Queue<W> {
    pub(crate) fn new(permits_max: usize, memory_bytes: u64, queued_max: usize) -> Arc<Self> {
        let memory_units = (memory_bytes / MEMORY_UNIT).max(1);
        let state = Mutex::new(CallQueueState::new(memory_units));
        Arc::new(Queue { permits_max: permits_max.max(1), memory_units, queued_max, state })
    }

    /// Waits until the call has a permit, and has either an idle instance or memory for a new
    /// instance.
    ///
    /// Errors: `too_busy` if the queue is full, `unavailable` if the runtime ends.
    pub(crate) async fn acquire(self: &Arc<Self>, request: CallRequest<'_>) -> Result<Permit<W>> {
        let mut queued = self.enqueue(&request)?;
        self.assign();
        let stopping = |_| Error::Stopping { label: request.label.to_owned() };
        (&mut queued.permit).await.map_err(stopping)
    }

    /// Adds a call to the queue. The calls of one owner can fill only a part of the queue.
    pub(super) fn enqueue(self: &Arc<Self>, request: &CallRequest<'_>) -> Result<QueuedCall<W>> {
        let owner = request.share.owner.clone();
        let mut state = self.state.lock();
        let queued = state.queued;
        let own = state.owners.get(&owner).map_or(0, |load| load.queued);
        // The limit is twice as high for an owner without queued calls, so that other owners cannot
        // fill the queue and keep this owner out.
        let limit = if own == 0 { 2 * self.queued_max } else { self.queued_max };
        if own >= limit.saturating_sub(queued) {
            let (owner, limit) = (owner.to_string(), self.queued_max);
            return Err(Error::TooBusy { queued, own, owner, limit });
        }
        let (sender, permit) = oneshot::channel();
        let key = SubqueueKey {
            queue: QueueKey { owner, function: Arc::from(request.label) },
            priority: request.share.priority,
            instance: request.instance_key.clone(),
        };
        let units = request.memory_bytes.div_ceil(MEMORY_UNIT).min(self.memory_units);
        let call =
            WaitingCall { number: request.number, units, since: Instant::now(), permit: sender };
        state.push(&key, call);
        Ok(QueuedCall { queue: self.clone(), number: request.number, key, permit })
    }

    /// Gives permits to the next calls, as long as there are free permits and memory for them.
    pub(super) fn assign(self: &Arc<Self>) {
        let assigned = self.assigned(&mut self.state.lock());
        self.send(assigned);
    }

    fn assigned(&self, state: &mut CallQueueState<W>) -> AdmissionResult<W> {
        let (mut started, mut evicted) = (Vec::new(), Vec::new());
        while let Some(index) = state.next(self.permits_max, &mut evicted) {
            started.extend(state.start(index));
            if state.subqueues[index].calls.is_empty() {
                state.subqueues.swap_remove(index);
            }
        }
        if state.queued > 0 {
            state.cancel_early();
        }
        AdmissionResult { started, evicted }
    }

    fn send(self: &Arc<Self>, AdmissionResult { started, evicted }: AdmissionResult<W>) {
        drop(evicted);
        for started in started {
            Permit::send(self.clone(), started);
        }
    }

    /// Releases the permit of a call, and keeps its instance idle for later calls. If no queued
    /// call takes the instance immediately, calls `pause` with it.
    pub(super) fn keep(
        self: &Arc<Self>,
        idle: IdleEntry<W>,
        of: &QueueKey,
        pause: impl FnOnce(&mut W),
    ) {
        let mut state = self.state.lock();
        state.release(of, idle.units, Some(&idle.key));
        self.add_idle(state, idle, pause);
    }

    /// Adds an idle instance, and gives permits to calls that can use it.
    pub(super) fn add_idle(
        self: &Arc<Self>,
        mut state: MutexGuard<'_, CallQueueState<W>>,
        idle: IdleEntry<W>,
        pause: impl FnOnce(&mut W),
    ) {
        let number = idle.number;
        let surplus = state.add_idle(idle);
        let assigned = self.assigned(&mut state);
        if let Some(idle) = state.idle.iter_mut().find(|idle| idle.number == number) {
            pause(&mut idle.instance);
        }
        drop(state);
        drop(surplus);
        self.send(assigned);
    }

    /// Ends the idle instances for which `ends` returns true. `ends` gets an instance and its idle
    /// time.
    pub(crate) fn end_idle(self: &Arc<Self>, ends: impl Fn(&mut W, Duration) -> bool) {
        let now = Instant::now();
        self.end(|idle| ends(&mut idle.instance, now.saturating_duration_since(idle.since)));
    }

    /// Ends the idle instances with one of these keys.
    pub(crate) fn end_idle_with(self: &Arc<Self>, keys: &[InstanceKey]) {
        self.end(|idle| keys.contains(&idle.key));
    }

    fn end(self: &Arc<Self>, ends: impl Fn(&mut IdleEntry<W>) -> bool) {
        let gone = self.state.lock().remove_idle(ends);
        if !gone.is_empty() {
            drop(gone);
            self.assign();
        }
    }

    /// Periodically promotes starved calls, and evicts idle instances to free memory for starved
    /// calls, until the queue is dropped.
    pub(crate) async fn assign_periodically(queue: Weak<Queue<W>>, every: Duration) {
        loop {
            tokio::time::sleep(every).await;
            let Some(queue) = queue.upgrade() else { return };
            queue.assign();
        }
    }

    /// Returns statistics of the queue.
    pub(crate) fn stats(&self) -> QueueStats {
        let state = self.state.lock();
        let mut stats = QueueStats::of(&state, self.permits_max, self.memory_units);
        let simulated = state.simulated();
        drop(state);
        stats.order = simulated.order();
        stats
    }

    /// Returns the number of instances.
    pub(crate) fn instances(&self) -> InstanceCounts {
        let state = self.state.lock();
        InstanceCounts { running: state.running as u64, idle: state.idle.len() as u64 }
    }

    /// Returns the memory that all calls may use together, in bytes. This is also the maximum for
    /// one call.
    pub(crate) fn memory_bytes(&self) -> u64 {
        self.memory_units * MEMORY_UNIT
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, CallQueueState<W>> {
        self.state.lock()
    }
}

/// A call in the queue. Dropping this value removes the call from the queue.
#[derive(Debug)]
pub(super) struct QueuedCall<W> {
    queue: Arc<Queue<W>>,
    pub(super) number: u64,
    key: SubqueueKey,
    pub(super) permit: oneshot::Receiver<Permit<W>>,
}

impl<W> Drop for QueuedCall<W> {
    fn drop(&mut self) {
        // If the call got a permit or the channel is closed, the call is no longer in the queue.
        if !self.permit.is_empty() || self.permit.is_terminated() {
            return;
        }
        let removed = self.queue.lock().remove(&self.key, self.number);
        // The calls behind the removed call may now be able to get a permit.
        if removed {
            self.queue.assign();
        }
    }
}
