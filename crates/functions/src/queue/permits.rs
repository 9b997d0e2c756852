//! Permits of running calls, and the additional memory of calls. Dropping a permit or the memory
//! releases it.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::admission::Queue;
use super::idle_instances::IdleEntry;
use super::state::{AdmittedCall, MEMORY_UNIT, QueueKey, SubqueueKey};

/// Maximum time to wait until cancelled starts of instances have released their memory, and the
/// interval between two checks.
const EARLY_END_MAX: Duration = Duration::from_secs(3);
const EARLY_END_CHECK: Duration = Duration::from_millis(10);

/// The permit of a running call, with its memory.
#[derive(Debug)]
pub(crate) struct Permit<W> {
    queue: Arc<Queue<W>>,
    number: u64,
    key: SubqueueKey,
    units: u64,
    /// The idle instance that the call uses; `None` if the call starts a new instance, or has
    /// already taken the instance.
    pub(crate) instance: Option<W>,
    is_released: bool,
}

impl<W> Permit<W> {
    /// Sends the permit to its call. If the call no longer waits, releases the permit.
    pub(super) fn send(
        queue: Arc<Queue<W>>,
        AdmittedCall { call, key, instance }: AdmittedCall<W>,
    ) {
        let (number, units) = (call.number, call.units);
        let permit = Permit { queue, number, key, units, instance, is_released: false };
        drop(call.permit.send(permit));
    }

    /// Returns the memory that belongs to the permit, in bytes.
    #[cfg(test)]
    pub(super) fn bytes(&self) -> u64 {
        self.units * MEMORY_UNIT
    }

    /// Ends the call, and keeps its instance, with the memory of the instance, for other calls. If
    /// no other call takes the instance immediately, calls `pause` with it.
    pub(crate) fn keep(mut self, instance: W, pause: impl FnOnce(&mut W)) {
        // Without a key, no other call can use the instance, so the instance ends with the call.
        let Some(key) = self.key.instance.clone() else { return };
        self.is_released = true;
        let (number, units) = (self.number, self.units);
        let (since, is_unused) = (Instant::now(), false);
        let idle = IdleEntry { number, key, units, since, is_unused, instance };
        self.queue.keep(idle, &self.key.queue, pause);
    }

    /// Like [`Permit::grow`], but also cancels the starts of instances that start in advance of
    /// calls, if they use the memory, and waits until they have released the memory.
    pub(crate) async fn grow_or_wait(&self, bytes: u64) -> Option<ExtraMemory<W>> {
        let until = Instant::now() + EARLY_END_MAX;
        loop {
            let extra = self.grow(bytes);
            if extra.is_some() || !self.queue.cancel_early() || Instant::now() >= until {
                return extra;
            }
            tokio::time::sleep(EARLY_END_CHECK).await;
        }
    }

    /// Returns additional memory for a running call; `None` if another call waits for memory or if
    /// there is not enough. Evicts idle instances if their memory is needed.
    pub(crate) fn grow(&self, bytes: u64) -> Option<ExtraMemory<W>> {
        let units = bytes.div_ceil(MEMORY_UNIT);
        let mut state = self.queue.lock();
        if state.is_memory_short {
            return None;
        }
        let evicted = state.evict_any(units)?;
        state.free_units -= units;
        state.update(&self.key.queue, |load| load.units += units);
        drop(state);
        drop(evicted);
        Some(ExtraMemory { queue: self.queue.clone(), key: self.key.queue.clone(), units })
    }
}

impl<W> Drop for Permit<W> {
    fn drop(&mut self) {
        if self.is_released {
            return;
        }
        self.is_released = true;
        let mut state = self.queue.lock();
        state.release(&self.key.queue, self.units, self.key.instance.as_ref());
        state.free_units += self.units;
        drop(state);
        self.queue.assign();
    }
}

/// Additional memory of a running call. Dropping it releases the memory.
#[derive(Debug)]
pub(crate) struct ExtraMemory<W> {
    queue: Arc<Queue<W>>,
    key: QueueKey,
    units: u64,
}

impl<W> Drop for ExtraMemory<W> {
    fn drop(&mut self) {
        let units = self.units;
        let mut state = self.queue.lock();
        state.update(&self.key, |load| load.units -= units);
        state.free_units += units;
        drop(state);
        self.queue.assign();
    }
}
