//! The state of the queue, and the operations that change it.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Instant;

use headwater_model::Priority;
use tokio::sync::oneshot;

use super::idle_instances::{IdleEntry, InstanceKey};
use super::permits::Permit;
use super::provisioned::ProvisionedCounts;
use super::reservation::EarlyInstanceStart;

/// Unit in which the queue counts memory, in bytes.
pub(super) const MEMORY_UNIT: u64 = 1 << 20;

#[derive(Debug)]
pub(super) struct CallQueueState<W> {
    pub(super) subqueues: Vec<Subqueue<W>>,
    /// Number of queued calls.
    pub(super) queued: usize,
    /// Number of running calls.
    pub(super) running: usize,
    pub(super) free_units: u64,
    /// Memory of the running calls whose instances can be reused, in units of [`MEMORY_UNIT`].
    pub(super) reusable_units: u64,
    /// Idle instances; the longest idle time comes first.
    pub(super) idle: Vec<IdleEntry<W>>,
    /// Instances that are starting in advance of a call.
    pub(super) early: Vec<EarlyInstanceStart>,
    /// The numbers of instances to keep, for functions with provisioned concurrency.
    pub(super) provisioned: Vec<ProvisionedCounts>,
    pub(super) owners: HashMap<Arc<str>, OwnerLoad>,
    pub(super) functions: HashMap<QueueKey, OwnerLoad>,
    /// Number of permits given since the queue was created.
    pub(super) assigned: u64,
    /// True if a call cannot start because there is not enough memory.
    pub(super) is_memory_short: bool,
}

/// An owner and one of its functions: the unit in which running calls are counted.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct QueueKey {
    pub(super) owner: Arc<str>,
    pub(super) function: Arc<str>,
}

/// The key of a subqueue. Calls with the same key are in the same subqueue.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct SubqueueKey {
    pub(super) queue: QueueKey,
    pub(super) priority: Priority,
    /// The key of the instances that the calls may use; `None` if each call needs an instance of
    /// its own.
    pub(super) instance: Option<InstanceKey>,
}

/// The running calls and the last permit of an owner, or of one function of an owner.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct OwnerLoad {
    pub(super) queued: usize,
    pub(super) running: usize,
    pub(super) units: u64,
    /// The number of the last permit. Permits are numbered over the whole queue.
    pub(super) last_permit: u64,
    /// The time at which the last permit was given, if there was one.
    pub(super) last_permit_at: Option<Instant>,
}

impl OwnerLoad {
    fn is_zero(&self) -> bool {
        self.queued == 0 && self.running == 0 && self.units == 0
    }
}

/// The queued calls with the same key, in order of arrival.
#[derive(Debug)]
pub(super) struct Subqueue<W> {
    pub(super) key: SubqueueKey,
    /// The time at which a call of this subqueue last got a permit. The waiting time of the other
    /// calls is counted from this time or, if later, from their arrival.
    pub(super) last_permit_at: Instant,
    pub(super) calls: VecDeque<WaitingCall<W>>,
}

#[derive(Debug)]
pub(super) struct WaitingCall<W> {
    pub(super) number: u64,
    /// The memory that the call's instance needs, in units of [`MEMORY_UNIT`].
    pub(super) units: u64,
    pub(super) since: Instant,
    pub(super) permit: oneshot::Sender<Permit<W>>,
}

/// A call that has got a permit. The queue has not yet sent the permit to the waiting call.
pub(super) struct AdmittedCall<W> {
    pub(super) call: WaitingCall<W>,
    pub(super) key: SubqueueKey,
    pub(super) instance: Option<W>,
}

impl<W> CallQueueState<W> {
    pub(super) fn new(memory_units: u64) -> Self {
        CallQueueState {
            subqueues: Vec::new(),
            queued: 0,
            running: 0,
            free_units: memory_units,
            reusable_units: 0,
            idle: Vec::new(),
            early: Vec::new(),
            provisioned: Vec::new(),
            owners: HashMap::new(),
            functions: HashMap::new(),
            assigned: 0,
            is_memory_short: false,
        }
    }

    /// Adds a call to the subqueue with this key.
    pub(super) fn push(&mut self, key: &SubqueueKey, call: WaitingCall<W>) {
        self.queued += 1;
        self.update(&key.queue, |load| load.queued += 1);
        if let Some(subqueue) = self.subqueues.iter_mut().find(|one| one.key == *key) {
            subqueue.calls.push_back(call);
        } else {
            let (key, last_permit_at) = (key.clone(), call.since);
            self.subqueues.push(Subqueue { key, last_permit_at, calls: VecDeque::from([call]) });
        }
    }

    /// Removes a call from the subqueue with this key. Returns false if the call was not queued.
    pub(super) fn remove(&mut self, key: &SubqueueKey, number: u64) -> bool {
        let Some(index) = self.subqueues.iter().position(|one| one.key == *key) else {
            return false;
        };
        let calls = &mut self.subqueues[index].calls;
        let Some(at) = calls.iter().position(|call| call.number == number) else { return false };
        calls.remove(at);
        if calls.is_empty() {
            self.subqueues.swap_remove(index);
        }
        self.queued -= 1;
        self.update(&key.queue, |load| load.queued -= 1);
        true
    }

    /// Removes the first call of a subqueue and counts it as running. The call gets an idle
    /// instance if there is one. Keeps the subqueue even if it becomes empty.
    pub(super) fn start(&mut self, index: usize) -> Option<AdmittedCall<W>> {
        let key = self.subqueues[index].key.clone();
        let mut call = self.subqueues[index].calls.pop_front()?;
        let idle = key.instance.as_ref().and_then(|instance| self.take_idle(instance));
        match &idle {
            Some(idle) => call.units = idle.units,
            None => self.free_units -= call.units,
        }
        if let (None, Some(instance)) = (&idle, &key.instance) {
            self.cancel_early_of(instance);
        }
        if let Some(instance) = &key.instance
            && let Some(one) = self.provisioned_of_mut(instance)
        {
            one.running += 1;
        }
        let now = Instant::now();
        self.subqueues[index].last_permit_at = now;
        self.assigned += 1;
        self.queued -= 1;
        self.running += 1;
        self.reusable_units += if key.instance.is_some() { call.units } else { 0 };
        let (assigned, units) = (self.assigned, call.units);
        self.update(&key.queue, |load| {
            load.queued -= 1;
            load.running += 1;
            load.units += units;
            (load.last_permit, load.last_permit_at) = (assigned, Some(now));
        });
        Some(AdmittedCall { call, key, instance: idle.map(|idle| idle.instance) })
    }

    /// Counts a call as ended. The caller must then free the call's memory, or keep it for an idle
    /// instance. `instance` is the instance key of the call, if it has one.
    pub(super) fn release(&mut self, key: &QueueKey, units: u64, instance: Option<&InstanceKey>) {
        self.running -= 1;
        self.reusable_units -= if instance.is_some() { units } else { 0 };
        if let Some(instance) = instance
            && let Some(one) = self.provisioned_of_mut(instance)
        {
            one.running = one.running.saturating_sub(1);
        }
        self.update(key, |load| {
            load.running -= 1;
            load.units -= units;
        });
    }

    /// Changes the load of an owner and of its function. A load that becomes zero is removed.
    pub(super) fn update(&mut self, key: &QueueKey, change: impl Fn(&mut OwnerLoad)) {
        // Treat a new owner or function as if it had just got a permit, so that it does not precede
        // all owners that have waited.
        let new = OwnerLoad { last_permit: self.assigned, ..OwnerLoad::default() };
        let owner = self.owners.entry(key.owner.clone()).or_insert(new);
        change(owner);
        if owner.is_zero() {
            self.owners.remove(&key.owner);
        }
        let function = self.functions.entry(key.clone()).or_insert(new);
        change(function);
        if function.is_zero() {
            self.functions.remove(key);
        }
    }
}
