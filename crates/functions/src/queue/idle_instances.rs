//! Idle instances: they keep their memory and wait for another call of their function. They are
//! evicted if other calls need the memory.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::admission::Queue;
use super::order::OVERTAKEN_MAX;
use super::state::CallQueueState;
use crate::keep_alive::IDLE_MAX;

/// Maximum number of idle instances, not counting provisioned instances.
pub(super) const IDLE_COUNT_MAX: usize = 64;

/// The key of an instance. An instance can execute all calls that have the same key. Two keys are
/// equal only if one is a clone of the other.
#[derive(Debug, Clone, Default)]
pub(crate) struct InstanceKey(Arc<()>);

impl InstanceKey {
    /// Returns true if another clone of this key exists, in a call or an instance.
    pub(crate) fn is_used(&self) -> bool {
        Arc::strong_count(&self.0) > 1
    }
}

impl PartialEq for InstanceKey {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

/// An idle instance, and the memory that it occupies.
#[derive(Debug)]
pub(super) struct IdleEntry<W> {
    /// The number of the permit with which the instance last executed a call.
    pub(super) number: u64,
    pub(super) key: InstanceKey,
    pub(super) units: u64,
    pub(super) since: Instant,
    /// True if the instance was started in advance of a call, and has not executed a call yet.
    pub(super) is_unused: bool,
    pub(super) instance: W,
}

impl<W> IdleEntry<W> {
    /// Returns true if the usual time for keeping an idle instance has passed, so that the instance
    /// is kept only for an expected call.
    fn is_extended(&self, now: Instant) -> bool {
        !self.is_unused && now.saturating_duration_since(self.since) >= IDLE_MAX
    }
}

impl<W> Queue<W> {
    /// Calls `visit` with all idle instances and their idle times. The queue is locked meanwhile.
    pub(crate) fn with_idle<T>(
        &self,
        visit: impl FnOnce(&mut dyn Iterator<Item = (&mut W, Duration)>) -> T,
    ) -> T {
        let (mut state, now) = (self.lock(), Instant::now());
        let idle = state.idle.iter_mut();
        visit(&mut idle.map(|idle| (&mut idle.instance, now.saturating_duration_since(idle.since))))
    }
}

impl<W> CallQueueState<W> {
    /// Adds an idle instance. If more than [`IDLE_COUNT_MAX`] idle instances are then not
    /// provisioned, removes and returns the one with the longest idle time.
    pub(super) fn add_idle(&mut self, idle: IdleEntry<W>) -> Option<W> {
        self.idle.push(idle);
        if self.idle.len() <= IDLE_COUNT_MAX {
            return None;
        }
        let provisioned = self.provisioned_idle();
        let others = provisioned.iter().filter(|is_kept| !**is_kept).count();
        let oldest = provisioned.iter().position(|is_kept| !is_kept)?;
        (others > IDLE_COUNT_MAX).then(|| self.evict(oldest))
    }

    /// Removes and returns the most recently used idle instance with this key.
    pub(super) fn take_idle(&mut self, key: &InstanceKey) -> Option<IdleEntry<W>> {
        let index = self.idle.iter().rposition(|idle| idle.key == *key)?;
        Some(self.idle.remove(index))
    }

    /// Returns the memory that all idle instances occupy, in units of [`MEMORY_UNIT`].
    pub(super) fn idle_units(&self) -> u64 {
        self.idle.iter().map(|idle| idle.units).sum()
    }

    /// Removes and returns the idle instances for which `ends` returns true.
    pub(super) fn remove_idle(&mut self, ends: impl FnMut(&mut IdleEntry<W>) -> bool) -> Vec<W> {
        let gone = self.idle.extract_if(.., ends);
        let gone: Vec<_> = gone.collect();
        self.free_units += gone.iter().map(|idle| idle.units).sum::<u64>();
        gone.into_iter().map(|idle| idle.instance).collect()
    }

    /// Evicts idle instances until there is enough free memory for the first call of a subqueue. If
    /// evicting all candidates would not free enough memory, evicts none.
    ///
    /// Evicts in this order: instances that are kept only for an expected call; instances that were
    /// started in advance and are unused; all others. In each group, the longest idle time comes
    /// first. Then follow instances for which other calls are queued, and last provisioned
    /// instances.
    ///
    /// Until the call has waited for [`OVERTAKEN_MAX`], some instances are not evicted: provisioned
    /// instances, instances for which other calls are queued, and, if the call's function has a
    /// running call, instances that were used within [`OVERTAKEN_MAX`]. So if two functions do not
    /// fit into memory together, they evict each other's instances about once a second instead of
    /// at each call. An instance that was started in advance and is unused does not count as
    /// recently used.
    pub(super) fn evict_for(&mut self, index: usize, units: u64, now: Instant) -> Option<Vec<W>> {
        let subqueue = &self.subqueues[index];
        let has_waited = subqueue.waiting_time(now) > OVERTAKEN_MAX;
        let starts_first =
            self.functions.get(&subqueue.key.queue).is_none_or(|load| load.running == 0);
        let is_wanted = |idle: &IdleEntry<W>| {
            self.subqueues.iter().any(|other| other.key.instance.as_ref() == Some(&idle.key))
        };
        let was_just_used = |idle: &IdleEntry<W>| {
            !idle.is_unused && now.saturating_duration_since(idle.since) < OVERTAKEN_MAX
        };
        let provisioned = self.provisioned_idle();
        let rank = |(idle, is_kept): (&IdleEntry<W>, &bool)| {
            (*is_kept, is_wanted(idle), !idle.is_extended(now), !idle.is_unused)
        };
        let ranks = self.idle.iter().zip(&provisioned).map(rank);
        let mut candidates: Vec<_> = ranks.zip(0..).collect();
        candidates.retain(|((is_kept, wanted, ..), at)| {
            let may_end = starts_first || !was_just_used(&self.idle[*at]);
            has_waited || (!is_kept && !wanted && may_end)
        });
        candidates.sort_unstable();
        let mut sum = self.free_units;
        let enough = candidates.iter().position(|(_, at)| {
            sum += self.idle[*at].units;
            sum >= units
        })?;
        let mut evicted: Vec<usize> = candidates[..=enough].iter().map(|(_, at)| *at).collect();
        evicted.sort_unstable_by(|one, other| other.cmp(one));
        Some(evicted.into_iter().map(|at| self.evict(at)).collect())
    }

    /// Evicts the instances with the longest idle times until `units` of memory are free. Does not
    /// evict provisioned instances. If evicting all others would not free enough memory, evicts
    /// none.
    pub(super) fn evict_any(&mut self, units: u64) -> Option<Vec<W>> {
        let provisioned = self.provisioned_idle();
        let (mut sum, mut evicted) = (self.free_units, Vec::new());
        for at in (0..provisioned.len()).filter(|at| !provisioned[*at]) {
            if sum >= units {
                break;
            }
            sum += self.idle[at].units;
            evicted.push(at);
        }
        if sum < units {
            return None;
        }
        // Evict from the highest index down, because each eviction moves the instances after it.
        Some(evicted.into_iter().rev().map(|at| self.evict(at)).collect())
    }

    fn evict(&mut self, at: usize) -> W {
        let IdleEntry { units, instance, .. } = self.idle.remove(at);
        self.free_units += units;
        instance
    }
}

#[cfg(test)]
mod tests {
    use headwater_model::Priority;
    use tokio::sync::oneshot;

    use super::*;
    use crate::queue::provisioned::ProvisionedCounts;
    use crate::queue::state::{QueueKey, SubqueueKey, WaitingCall};

    /// Adds an idle instance with 10 units of memory.
    fn add(
        state: &mut CallQueueState<&'static str>,
        instance: &'static str,
        since: Instant,
        used: bool,
    ) {
        let (number, key, units) = (0, InstanceKey::default(), 10);
        state.add_idle(IdleEntry { number, key, units, since, is_unused: !used, instance });
    }

    #[test]
    fn an_instance_that_is_idle_for_longer_than_a_minute_is_evicted_first() {
        let (mut state, start) = (CallQueueState::new(0), Instant::now());
        let after = |seconds| start + Duration::from_secs(seconds);
        add(&mut state, "started", start, false);
        add(&mut state, "kept", after(30), true);
        add(&mut state, "recent", after(50), true);
        let queue = QueueKey { owner: "a".into(), function: "f".into() };
        let key = SubqueueKey { queue, priority: Priority::Normal, instance: None };
        let (since, permit) = (after(100), oneshot::channel().0);
        state.push(&key, WaitingCall { number: 1, units: 30, since, permit });
        let mut evict = |units| state.evict_for(0, units, after(100));
        assert_eq!(evict(10), Some(vec!["kept"]));
        assert_eq!(evict(20), Some(vec!["started"]));
        assert_eq!(evict(30), Some(vec!["recent"]));
    }

    #[test]
    fn a_provisioned_instance_is_evicted_last_and_only_for_a_call_that_has_waited() {
        let (mut state, start) = (CallQueueState::new(0), Instant::now());
        let after = |seconds| start + Duration::from_secs(seconds);
        add(&mut state, "provisioned", start, false);
        let key = state.idle[0].key.clone();
        state.provisioned.push(ProvisionedCounts { key, count: 1, running: 0 });
        add(&mut state, "recent", after(50), true);
        let queue = QueueKey { owner: "a".into(), function: "f".into() };
        let key = SubqueueKey { queue, priority: Priority::Normal, instance: None };
        let (since, permit) = (after(100), oneshot::channel().0);
        state.push(&key, WaitingCall { number: 1, units: 20, since, permit });
        assert_eq!(state.evict_any(20), None);
        assert_eq!(state.evict_for(0, 20, after(100)), None);
        assert_eq!(state.evict_for(0, 10, after(100)), Some(vec!["recent"]));
        assert_eq!(state.evict_for(0, 20, after(110)), Some(vec!["provisioned"]));
    }
}
