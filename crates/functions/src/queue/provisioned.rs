//! Provisioned instances: the idle instances that the queue keeps for functions with provisioned
//! concurrency.
//!
//! Provisioned instances are not marked: they are the most recently used idle instances of such a
//! function. The start of another instance never evicts them. A queued call evicts them only if the
//! memory of all other idle instances is not sufficient, and only after the call has waited.

use super::admission::Queue;
use super::idle_instances::InstanceKey;
use super::state::CallQueueState;

/// The number of instances to keep for calls with one key.
#[derive(Debug)]
pub(super) struct ProvisionedCounts {
    pub(super) key: InstanceKey,
    /// Number of instances to keep, including instances that are executing a call.
    pub(super) count: usize,
    /// Number of running calls with the key. Calls that started before the key was provisioned may
    /// not be counted.
    pub(super) running: usize,
}

impl<W> Queue<W> {
    /// Replaces the number of provisioned instances of each key. If `wanted` contains a key several
    /// times, its numbers are added. Returns the keys that no longer have provisioned instances.
    pub(crate) fn replace_provisioned(&self, wanted: &[(InstanceKey, usize)]) -> Vec<InstanceKey> {
        let mut state = self.lock();
        let before = std::mem::take(&mut state.provisioned);
        for (key, count) in wanted {
            if let Some(one) = state.provisioned_of_mut(key) {
                one.count += count;
                continue;
            }
            let running = before.iter().find(|one| one.key == *key).map_or(0, |one| one.running);
            state.provisioned.push(ProvisionedCounts { key: key.clone(), count: *count, running });
        }
        let removed = before.into_iter().map(|one| one.key);
        removed.filter(|key| state.provisioned_of(key).is_none()).collect()
    }

    /// Returns the number of instances with a provisioned key, idle or executing a call.
    pub(crate) fn provisioned_instances(&self, key: &InstanceKey) -> usize {
        self.lock().instances_with(key)
    }

    /// Calls `visit` with each idle provisioned instance. The queue is locked meanwhile.
    pub(crate) fn for_each_provisioned(&self, mut visit: impl FnMut(&mut W)) {
        let mut state = self.lock();
        let provisioned = state.provisioned_idle();
        for (idle, _) in state.idle.iter_mut().zip(provisioned).filter(|(_, is_kept)| *is_kept) {
            visit(&mut idle.instance);
        }
    }
}

impl<W> CallQueueState<W> {
    pub(super) fn provisioned_of(&self, key: &InstanceKey) -> Option<&ProvisionedCounts> {
        self.provisioned.iter().find(|one| one.key == *key)
    }

    pub(super) fn provisioned_of_mut(
        &mut self,
        key: &InstanceKey,
    ) -> Option<&mut ProvisionedCounts> {
        self.provisioned.iter_mut().find(|one| one.key == *key)
    }

    /// Returns the number of instances with a provisioned key, idle or executing a call.
    pub(super) fn instances_with(&self, key: &InstanceKey) -> usize {
        let idle = self.idle.iter().filter(|idle| idle.key == *key).count();
        idle + self.provisioned_of(key).map_or(0, |one| one.running)
    }

    /// Returns a flag for each instance in [`CallQueueState::idle`], in the same order: true if the
    /// instance is provisioned.
    pub(super) fn provisioned_idle(&self) -> Vec<bool> {
        let mut flags = vec![false; self.idle.len()];
        for one in &self.provisioned {
            let own = (0..self.idle.len()).rev().filter(|at| self.idle[*at].key == one.key);
            for at in own.take(one.count.saturating_sub(one.running)) {
                flags[at] = true;
            }
        }
        flags
    }
}
