//! The permits of running calls, and additional memory of calls. Dropping a permit or the memory
//! releases it.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::admission::Queue;
use super::idle::IdleEntry;
use super::state::{AdmittedCall, MEMORY_UNIT, QueueKey, SubqueueKey};

/// Maximum time to wait until cancelled early starts have released their memory, and the interval
/// between two checks.
const EARLY_END_MAX: Duration = Duration::from_secs(3);
const EARLY_END_CHECK: Duration = Duration::from_millis(10);

/// The permit of a running call, with its memory.
#[derive(Debug)]
pub(crate) struct Permit<W> {
    queue: Arc<Queue<W>>,
    number: u64,
    key: SubqueueKey,
    units: u64,
    /// The idle instance that the call uses; `None` if the call starts a new instance, and after
    /// the call has taken the instance.
    pub(crate) instance: Option<W>,
    is_released: bool,
}

impl<W> Permit<W> {
    /// Sends the permit to a call. If the caller was dropped, releases the permit.
    pub(super) fn send(
        queue: Arc<Queue<W>>,
        AdmittedCall { call, key, instance }: AdmittedCall<W>,
    ) {
        let (number, units) = (call.number, call.units);
        let permit = Permit { queue, number, key, units, instance, is_released: false };
        drop(call.permit.send(permit));
    }

    /// Returns the memory of the permit in bytes.
    #[cfg(test)]
    pub(super) fn bytes(&self) -> u64 {
        self.units * MEMORY_UNIT
    }

    /// Ends the call and keeps its instance and the instance's memory for other calls. Unless
    /// another call takes the instance immediately, `pause` is called with the instance.
    pub(crate) fn keep(mut self, instance: W, pause: impl FnOnce(&mut W)) {
        // The instance of a call without a key ends together with the call.
        let Some(key) = self.key.instance.clone() else { return };
        self.is_released = true;
        let (number, units) = (self.number, self.units);
        let (since, is_unused) = (Instant::now(), false);
        let idle = IdleEntry { number, key, units, since, is_unused, instance };
        self.queue.keep(idle, &self.key.queue, pause);
    }

    /// Like [`Permit::grow`]. If instances that start ahead of their calls use the memory, cancels
    /// these starts and waits for their memory.
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

    /// Grants more memory to a running call, unless another call waits for memory. Evicts idle
    /// instances if their memory is needed.
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

/// Additional memory of a running call.
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
