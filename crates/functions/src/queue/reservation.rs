//! Reservations of memory for instances that start in advance of a call: early starts.
//!
//! An early start never delays a call. It uses only free memory and a free processor, and evicts no
//! idle instance. A call that must wait cancels it.
//!
//! The start of a provisioned instance differs: it evicts other idle instances if it needs their
//! memory, and no call cancels it.

use std::sync::Arc;
use std::time::Instant;

use tokio_util::sync::CancellationToken;

use super::admission::Queue;
use super::idle_instances::{IDLE_COUNT_MAX, IdleEntry, InstanceKey};
use super::state::{CallQueueState, MEMORY_UNIT};

/// An instance that is starting in advance of a call.
#[derive(Debug)]
pub(super) struct EarlyInstanceStart {
    number: u64,
    key: InstanceKey,
    cancelled: CancellationToken,
    /// True for the start of a provisioned instance, which no call cancels.
    is_provisioned: bool,
}

impl EarlyInstanceStart {
    fn new(number: u64, key: &InstanceKey, is_provisioned: bool) -> Self {
        let (key, cancelled) = (key.clone(), CancellationToken::new());
        EarlyInstanceStart { number, key, cancelled, is_provisioned }
    }
}

/// The memory of an instance that is starting in advance of a call. Dropping this value releases
/// the memory.
#[derive(Debug)]
pub(crate) struct Reservation<W> {
    queue: Arc<Queue<W>>,
    number: u64,
    key: InstanceKey,
    units: u64,
    /// Cancelled when a call needs the memory or processor, or when a call with the same key has
    /// started an instance.
    pub(crate) cancelled: CancellationToken,
    is_released: bool,
}

/// The result of a request for a reservation.
#[derive(Debug)]
pub(crate) enum ReservationResult<W> {
    Reserved(Reservation<W>),
    /// An idle instance with the key exists or is already starting, so no other is needed.
    Exists,
    /// Calls are waiting, or no memory or processor is free.
    Busy,
}

impl<W> Queue<W> {
    /// Returns true if starting an instance would delay a call, because calls are waiting or no
    /// processor is free.
    pub(crate) fn is_busy(&self) -> bool {
        self.has_no_permit(&self.lock())
    }

    fn has_no_permit(&self, state: &CallQueueState<W>) -> bool {
        state.queued > 0 || state.running + state.early.len() >= self.permits_max
    }

    /// Reserves memory for an instance that starts in advance of a call. `number` identifies the
    /// instance, and must differ from the numbers of all calls.
    pub(crate) fn reserve(
        self: &Arc<Self>,
        number: u64,
        key: &InstanceKey,
        memory_bytes: u64,
    ) -> ReservationResult<W> {
        let units = memory_bytes.div_ceil(MEMORY_UNIT);
        let mut state = self.lock();
        let is_idle = state.idle.iter().any(|idle| idle.key == *key);
        if is_idle || state.early.iter().any(|early| early.key == *key) {
            return ReservationResult::Exists;
        }
        let has_space = state.idle.len() + state.early.len() < IDLE_COUNT_MAX;
        if self.has_no_permit(&state) || units > state.free_units || !has_space {
            return ReservationResult::Busy;
        }
        let start = EarlyInstanceStart::new(number, key, false);
        ReservationResult::Reserved(self.add_reservation(&mut state, start, units))
    }

    /// Reserves memory for the start of a provisioned instance, even if no processor is free. If
    /// there is not enough memory, evicts idle instances that are not provisioned.
    pub(crate) fn reserve_provisioned(
        self: &Arc<Self>,
        number: u64,
        key: &InstanceKey,
        memory_bytes: u64,
    ) -> ReservationResult<W> {
        let units = memory_bytes.div_ceil(MEMORY_UNIT);
        let mut state = self.lock();
        let count = state.provisioned_of(key).map_or(0, |one| one.count);
        let starting = state.early.iter().filter(|early| early.key == *key).count();
        if state.instances_with(key) + starting >= count {
            return ReservationResult::Exists;
        }
        // A queued call waits for memory, so the free memory is reserved for it.
        if state.is_memory_short {
            return ReservationResult::Busy;
        }
        let Some(evicted) = state.evict_any(units) else { return ReservationResult::Busy };
        let start = EarlyInstanceStart::new(number, key, true);
        let reservation = self.add_reservation(&mut state, start, units);
        drop(state);
        drop(evicted);
        ReservationResult::Reserved(reservation)
    }

    fn add_reservation(
        self: &Arc<Self>,
        state: &mut CallQueueState<W>,
        start: EarlyInstanceStart,
        units: u64,
    ) -> Reservation<W> {
        let (number, key) = (start.number, start.key.clone());
        let (cancelled, is_released) = (start.cancelled.clone(), false);
        state.free_units -= units;
        state.early.push(start);
        Reservation { queue: self.clone(), number, key, units, cancelled, is_released }
    }

    /// Cancels all early starts, except those of provisioned instances. Returns true if there are
    /// any.
    pub(super) fn cancel_early(&self) -> bool {
        let state = self.lock();
        state.cancel_early();
        state.early.iter().any(|early| !early.is_provisioned)
    }

    /// Calls `f` with the idle instance that the next call with this key would use, if there is
    /// one. The queue is locked meanwhile.
    pub(crate) fn with_next_idle(&self, key: &InstanceKey, f: impl FnOnce(&mut W)) {
        let mut state = self.lock();
        if let Some(idle) = state.idle.iter_mut().rfind(|idle| idle.key == *key) {
            f(&mut idle.instance);
        }
    }
}

impl<W> Reservation<W> {
    /// Makes the started instance idle, so that the next call with its key uses it. If no call uses
    /// it immediately, calls `pause` with it.
    pub(crate) fn keep(mut self, instance: W, pause: impl FnOnce(&mut W)) {
        self.is_released = true;
        let (number, key, units) = (self.number, self.key.clone(), self.units);
        let (since, is_unused) = (Instant::now(), true);
        let idle = IdleEntry { number, key, units, since, is_unused, instance };
        let mut state = self.queue.lock();
        state.end_early(number);
        self.queue.add_idle(state, idle, pause);
    }
}

impl<W> Drop for Reservation<W> {
    fn drop(&mut self) {
        if self.is_released {
            return;
        }
        let mut state = self.queue.lock();
        state.end_early(self.number);
        state.free_units += self.units;
        drop(state);
        self.queue.assign();
    }
}

impl<W> CallQueueState<W> {
    fn end_early(&mut self, number: u64) {
        self.early.retain(|early| early.number != number);
    }

    /// Cancels all early starts, except those of provisioned instances. Their memory is released
    /// when their processes have ended.
    pub(super) fn cancel_early(&self) {
        for early in self.early.iter().filter(|early| !early.is_provisioned) {
            early.cancelled.cancel();
        }
    }

    /// Cancels the early start of an instance with this key, because a call has started such an
    /// instance.
    pub(super) fn cancel_early_of(&self, key: &InstanceKey) {
        let own = |early: &&EarlyInstanceStart| !early.is_provisioned && early.key == *key;
        for early in self.early.iter().filter(own) {
            early.cancelled.cancel();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::CallOwner;
    use crate::queue::CallRequest;

    #[tokio::test]
    async fn a_call_that_needs_more_memory_gets_that_of_a_start_ahead_of_a_call() {
        let queue = Queue::<()>::new(2, 100 * MEMORY_UNIT, 10);
        let (share, memory_bytes) = (CallOwner::default(), 40 * MEMORY_UNIT);
        let (number, label, instance_key) = (1, "g", None);
        let request = CallRequest { number, share: &share, label, memory_bytes, instance_key };
        let permit = queue.acquire(request).await.expect("a permit");
        let reserved = queue.reserve(2, &InstanceKey::default(), 60 * MEMORY_UNIT);
        let ReservationResult::Reserved(reserved) = reserved else { panic!("no memory") };
        let cancelled = reserved.cancelled.clone();
        let end = async move {
            cancelled.cancelled().await;
            drop(reserved);
        };
        let (extra, ()) = tokio::join!(permit.grow_or_wait(40 * MEMORY_UNIT), end);
        assert!(extra.is_some());
    }
}
