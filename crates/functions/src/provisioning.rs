//! Provisioned concurrency: instances of a function that are started before its calls and kept, so
//! that a number of calls at the same time need no start.
//!
//! Instances start in the same way as ahead of an expected call. An instance that ends is replaced.
//! If starts fail, the next attempt waits longer. All provisioned instances together use at most
//! half of the memory of functions, so that other calls always get memory.

use std::collections::BTreeMap;
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tokio::sync::Notify;

use crate::functions::{Functions, Inner};
use crate::keep_alive::KeepAlive;
use crate::queue::{InstanceKey, ReservationResult};
use crate::{Invocation, Isolation};

/// Interval between checks of the number of instances.
const FILL_EVERY: Duration = Duration::from_secs(1);

/// Time after a failed start before the next attempt. It doubles with each failure up to the
/// maximum.
const RETRY_AFTER: Duration = Duration::from_secs(1);
const RETRY_AFTER_MAX: Duration = Duration::from_secs(300);

/// Interval at which a start checks if the runtime has ended.
const END_CHECK: Duration = Duration::from_millis(100);

/// The provisioned instances of a function or of its version.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProvisionedStatus {
    /// Number of requested instances.
    pub requested: usize,
    /// Number of instances for which there is memory.
    pub allotted: usize,
    /// Number of instances that are started, idle and running together.
    pub ready: usize,
    /// The reason why instances are missing, if it is known.
    pub problem: Option<String>,
}

/// The functions with provisioned concurrency, by name.
#[derive(Debug, Default)]
pub(crate) struct Provisioning {
    entries: Mutex<BTreeMap<String, ProvisionedFunction>>,
    changed: Arc<Notify>,
}

#[derive(Debug)]
struct ProvisionedFunction {
    requested: usize,
    allotted: usize,
    /// The call for which instances start; `None` if the function cannot have instances.
    start: Option<InstanceStart>,
    problem: Option<String>,
    /// Number of failed starts since the last success.
    failures: u32,
    /// Time of the next attempt after a failure.
    retry_at: Option<Instant>,
}

#[derive(Debug, Clone)]
struct InstanceStart {
    key: InstanceKey,
    invocation: Arc<Invocation>,
}

impl ProvisionedFunction {
    fn memory_bytes(&self) -> u64 {
        self.start.as_ref().map_or(0, |start| start.invocation.limits.memory_bytes)
    }

    fn record(&mut self, started: Result<(), String>, now: Instant) {
        match started {
            Ok(()) => (self.failures, self.retry_at, self.problem) = (0, None, None),
            Err(reason) => {
                let factor = 2u32.saturating_pow(self.failures.min(16));
                let wait = RETRY_AFTER.saturating_mul(factor).min(RETRY_AFTER_MAX);
                self.failures = self.failures.saturating_add(1);
                (self.retry_at, self.problem) = (Some(now + wait), Some(reason));
            }
        }
    }
}

/// Distributes memory to the functions in the order of their names.
fn allot(entries: &mut BTreeMap<String, ProvisionedFunction>, mut memory_bytes: u64) {
    for entry in entries.values_mut() {
        let each = entry.memory_bytes();
        let fitting = memory_bytes.checked_div(each).unwrap_or_default();
        entry.allotted = entry.requested.min(usize::try_from(fitting).unwrap_or(usize::MAX));
        memory_bytes -= entry.allotted as u64 * each;
    }
}

impl Functions {
    /// Sets the number of provisioned instances of a function. `name` identifies the setting, such
    /// as the function's name with a version. `invocation` describes a call of the function, or is
    /// the reason why the function cannot have such instances.
    pub fn provision(&self, name: &str, count: usize, invocation: Result<Invocation, String>) {
        let inner = &self.0;
        let start = invocation.and_then(|invocation| self.instance_start(&invocation));
        let (start, problem) = match start {
            Ok(start) => (Some(start), None),
            Err(reason) => (None, Some(reason)),
        };
        let mut entries = inner.provisioning.entries.lock();
        let known = entries.get(name);
        let key = |start: &Option<InstanceStart>| start.as_ref().map(|start| start.key.clone());
        if known.is_some_and(|known| {
            known.requested == count && known.start.is_some() && key(&known.start) == key(&start)
        }) {
            return;
        }
        let (allotted, failures, retry_at) = (0, 0, None);
        let entry =
            ProvisionedFunction { requested: count, allotted, start, problem, failures, retry_at };
        entries.insert(name.to_owned(), entry);
        self.apply(&mut entries);
    }

    /// Ends the provisioned concurrency of the functions whose names do not satisfy a condition.
    /// Their idle instances end. Running calls are not affected.
    pub fn retain_provisioned(&self, keeps: impl Fn(&str) -> bool) {
        let mut entries = self.0.provisioning.entries.lock();
        let before = entries.len();
        entries.retain(|name, _| keeps(name));
        if entries.len() < before {
            self.apply(&mut entries);
        }
    }

    /// Returns the state of the provisioned instances with this name; `None` if there is no such
    /// setting.
    pub fn provisioned(&self, name: &str) -> Option<ProvisionedStatus> {
        let entries = self.0.provisioning.entries.lock();
        let entry = entries.get(name)?;
        let instances =
            entry.start.as_ref().map_or(0, |start| self.0.queue.provisioned_instances(&start.key));
        let lacks_memory = entry.allotted < entry.requested && entry.start.is_some();
        let memory = || {
            "provisioned instances together may use only half of the memory of functions".to_owned()
        };
        Some(ProvisionedStatus {
            requested: entry.requested,
            allotted: entry.allotted,
            ready: instances.min(entry.allotted),
            problem: entry.problem.clone().or_else(|| lacks_memory.then(memory)),
        })
    }

    /// Distributes memory to the settings, and ends the instances that no setting uses.
    fn apply(&self, entries: &mut BTreeMap<String, ProvisionedFunction>) {
        let queue = &self.0.queue;
        allot(entries, queue.memory_bytes() / 2);
        let wanted = entries.values().filter_map(|entry| {
            let start = entry.start.as_ref()?;
            Some((start.key.clone(), entry.allotted))
        });
        let wanted: Vec<_> = wanted.collect();
        let removed = queue.replace_provisioned(&wanted);
        if !removed.is_empty() {
            queue.end_idle_with(&removed);
        }
        self.0.provisioning.changed.notify_one();
    }

    fn instance_start(&self, invocation: &Invocation) -> Result<InstanceStart, String> {
        let inner = &self.0;
        if inner.isolation == Isolation::Process {
            return Err("functions run without isolation, so no instance is kept".to_owned());
        }
        if let Some(reason) = &inner.spawner.report().sandbox_error {
            return Err(reason.clone());
        }
        let mut invocation = invocation.for_preparation();
        let limits = &mut invocation.limits;
        limits.memory_bytes = limits.memory_bytes.min(inner.queue.memory_bytes());
        let key = inner.instance_keys.of(&invocation);
        let key = key.ok_or("the calls of the function do not use an instance again")?;
        Ok(InstanceStart { key, invocation: Arc::new(invocation) })
    }

    /// Starts missing instances, one after the other.
    async fn fill_provisioned(&self) {
        let inner = &self.0;
        let now = Instant::now();
        let due: Vec<(String, InstanceStart)> = {
            let entries = inner.provisioning.entries.lock();
            let due = entries.iter().filter(|(_, one)| one.retry_at.is_none_or(|at| at <= now));
            due.filter_map(|(name, one)| Some((name.clone(), one.start.clone()?))).collect()
        };
        for (name, start) in due {
            let memory_bytes = start.invocation.limits.memory_bytes;
            loop {
                let number = inner.calls.next_number();
                let reserved = inner.queue.reserve_provisioned(number, &start.key, memory_bytes);
                let ReservationResult::Reserved(reservation) = reserved else { break };
                let keep_alive = KeepAlive::provisioned(Instant::now());
                let invocation = &*start.invocation;
                let started =
                    Box::pin(self.prepare_instance(invocation, reservation, keep_alive)).await;
                let has_failed = started.is_err();
                self.record_start(&name, &start.key, started);
                if has_failed {
                    break;
                }
            }
        }
    }

    /// Records the result of a start, unless the setting has changed in the meantime.
    fn record_start(&self, name: &str, key: &InstanceKey, started: Result<(), String>) {
        if let Err(reason) = &started {
            tracing::debug!(function = name, reason, "a provisioned instance cannot be started");
        }
        let mut entries = self.0.provisioning.entries.lock();
        let Some(entry) = entries.get_mut(name) else { return };
        if entry.start.as_ref().is_some_and(|start| start.key == *key) {
            entry.record(started, Instant::now());
        }
    }
}

/// Starts missing instances, periodically until the runtime ends.
pub(crate) async fn fill_periodically(functions: Weak<Inner>) {
    loop {
        let Some(inner) = functions.upgrade() else { return };
        let changed = inner.provisioning.changed.clone();
        let has_entries = !inner.provisioning.entries.lock().is_empty();
        let handle = Functions(inner);
        if has_entries {
            tokio::select! {
                () = handle.fill_provisioned() => {}
                () = other_handles_end(&handle) => return,
            }
        }
        drop(handle);
        let _ = tokio::time::timeout(FILL_EVERY, changed.notified()).await;
    }
}

/// Waits until this handle is the last one, so that a start does not delay the end of the runtime.
async fn other_handles_end(handle: &Functions) {
    while Arc::strong_count(&handle.0) > 1 {
        tokio::time::sleep(END_CHECK).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(requested: usize) -> ProvisionedFunction {
        let (allotted, start, problem) = (0, None, None);
        ProvisionedFunction { requested, allotted, start, problem, failures: 0, retry_at: None }
    }

    #[test]
    fn the_next_attempt_after_failed_starts_waits_longer_up_to_a_maximum() {
        let (mut entry, now) = (entry(1), Instant::now());
        let mut waits = Vec::new();
        for _ in 0..12 {
            entry.record(Err("broken".to_owned()), now);
            waits.push(entry.retry_at.map_or(0, |at| (at - now).as_secs()));
        }
        assert_eq!(waits, [1, 2, 4, 8, 16, 32, 64, 128, 256, 300, 300, 300]);
        assert_eq!(entry.problem.as_deref(), Some("broken"));
        entry.record(Ok(()), now);
        assert_eq!((entry.failures, entry.retry_at, entry.problem), (0, None, None));
    }

    #[test]
    fn a_function_that_cannot_start_gets_no_memory() {
        let mut entries = BTreeMap::from([("f".to_owned(), entry(3))]);
        allot(&mut entries, 1 << 30);
        assert_eq!(entries["f"].allotted, 0);
    }
}
