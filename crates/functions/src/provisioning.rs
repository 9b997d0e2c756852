//! Provisioned concurrency: a number of instances of a function that are started before calls
//! arrive, and kept. Up to this number, concurrent calls need no cold start.
//!
//! Instances start in the same way as in advance of an expected call. An instance that ends is
//! replaced. After a failed start, and after many starts within a minute, the next start is
//! delayed. All provisioned instances together use at most half of the memory for functions, so
//! that other calls always get memory. If the last start of a function's instances failed, the
//! function keeps only the memory of its started instances; the other functions may use the rest.
//! Without provisioned concurrency, no instance starts here.

use std::collections::BTreeMap;
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tokio::sync::Notify;

use crate::functions::{Functions, FunctionsInner};
use crate::keep_alive::KeepAlive;
use crate::queue::{InstanceKey, ReservationResult};
use crate::{Invocation, Isolation};

/// Interval at which missing instances are started.
const FILL_EVERY: Duration = Duration::from_secs(1);

/// Delay of the next attempt after a failed start. Each further failure doubles the delay, up to
/// [`RETRY_AFTER_MAX`].
const RETRY_AFTER: Duration = Duration::from_secs(1);
const RETRY_AFTER_MAX: Duration = Duration::from_secs(300);

/// Starts of a function's instances are counted in periods of this length. If there are
/// [`STARTS_MAX`] starts plus two for each requested instance, the next start waits for the end of
/// the period.
const STARTS_PERIOD: Duration = Duration::from_secs(60);
const STARTS_MAX: usize = 4;

/// Interval at which the task that starts instances checks for the end of the runtime.
const END_CHECK: Duration = Duration::from_millis(100);

/// The state of a function's provisioned instances. A version of a function can have its own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProvisionedStatus {
    /// Number of requested instances.
    pub requested: usize,
    /// Number of instances for which memory was assigned to the function.
    pub allotted: usize,
    /// Number of started instances, idle or executing a call.
    pub ready: usize,
    /// The reason why instances are missing, if it is known.
    pub problem: Option<String>,
}

/// The functions with provisioned concurrency, by name.
#[derive(Debug, Default)]
pub(crate) struct ProvisionedFunctions {
    entries: Mutex<BTreeMap<String, ProvisionedFunction>>,
    changed: Arc<Notify>,
}

#[derive(Debug, Default)]
struct ProvisionedFunction {
    requested: usize,
    allotted: usize,
    /// Describes the instances to start; `None` if the function cannot have provisioned instances.
    start: Option<InstanceTemplate>,
    problem: Option<String>,
    /// Number of failed starts since the last successful start.
    failures: u32,
    /// No instance starts before this time.
    retry_at: Option<Instant>,
    /// Start of the period in which starts are counted, and the number of starts in it.
    period_start: Option<Instant>,
    starts: usize,
}

/// The key of the instances to start, and a call with their settings.
#[derive(Debug, Clone)]
struct InstanceTemplate {
    key: InstanceKey,
    invocation: Arc<Invocation>,
}

impl ProvisionedFunction {
    fn memory_bytes(&self) -> u64 {
        self.start.as_ref().map_or(0, |start| start.invocation.limits.memory_bytes)
    }

    /// Subtracts the memory of at most `count` instances from `memory_bytes`. Returns the number of
    /// instances that fit.
    fn take(&self, count: usize, memory_bytes: &mut u64) -> usize {
        let each = self.memory_bytes();
        let fitting = memory_bytes.checked_div(each).unwrap_or_default();
        let count = count.min(usize::try_from(fitting).unwrap_or(usize::MAX));
        *memory_bytes -= count as u64 * each;
        count
    }

    /// Returns the number of instances to keep. After a failed start, the next attempt may use any
    /// free memory, so this number is one more than the started instances even if no memory is
    /// assigned for it.
    fn wanted(&self, ready: usize) -> usize {
        if self.failures == 0 {
            return self.allotted;
        }
        self.allotted.max(self.requested.min(ready + 1))
    }

    fn record(&mut self, started: Result<(), String>, now: Instant) {
        match started {
            Ok(()) => {
                (self.failures, self.retry_at, self.problem) = (0, None, None);
                self.count_start(now);
            }
            Err(reason) => {
                let factor = 2u32.saturating_pow(self.failures.min(16));
                let wait = RETRY_AFTER.saturating_mul(factor).min(RETRY_AFTER_MAX);
                self.failures = self.failures.saturating_add(1);
                (self.retry_at, self.problem) = (Some(now + wait), Some(reason));
            }
        }
    }

    /// Counts a start. After too many starts within a period, delays the next start until the end
    /// of the period. This limits the CPU time of instances that end soon after their start.
    fn count_start(&mut self, now: Instant) {
        let is_current = |start: &Instant| now.saturating_duration_since(*start) < STARTS_PERIOD;
        let start = self.period_start.filter(is_current).unwrap_or(now);
        self.starts = if self.period_start == Some(start) { self.starts + 1 } else { 1 };
        self.period_start = Some(start);
        if self.starts >= STARTS_MAX + 2 * self.requested {
            self.retry_at = Some(start + STARTS_PERIOD);
            let starts = self.starts;
            self.problem =
                Some(format!("its instances end too often: {starts} were started within a minute"));
        }
    }
}

/// Assigns memory to the functions in the order of their names. A function whose last instance
/// start failed keeps the memory of its started instances, and gets more only if the other
/// functions do not need it. `ready` contains each function's number of started instances.
fn allot(
    entries: &mut BTreeMap<String, ProvisionedFunction>,
    ready: &BTreeMap<String, usize>,
    mut memory_bytes: u64,
) {
    for (name, entry) in entries.iter_mut() {
        let started = ready.get(name).copied().unwrap_or_default();
        let count = if entry.failures == 0 { usize::MAX } else { started };
        entry.allotted = entry.take(count.min(entry.requested), &mut memory_bytes);
    }
    for entry in entries.values_mut().filter(|entry| entry.failures > 0) {
        entry.allotted += entry.take(entry.requested - entry.allotted, &mut memory_bytes);
    }
}

impl Functions {
    /// Sets the number of provisioned instances of a function. `name` identifies this setting; it
    /// is, for example, the name of the function with a version. `invocation` describes a call of
    /// the function, or is the reason why the function cannot have provisioned instances.
    pub fn provision(&self, name: &str, count: usize, invocation: Result<Invocation, String>) {
        let inner = &self.0;
        let start = invocation.and_then(|invocation| self.instance_start(&invocation));
        let (start, problem) = match start {
            Ok(start) => (Some(start), None),
            Err(reason) => (None, Some(reason)),
        };
        let mut entries = inner.provisioning.entries.lock();
        let known = entries.get(name);
        let key = |start: &Option<InstanceTemplate>| start.as_ref().map(|start| start.key.clone());
        if known.is_some_and(|known| {
            known.requested == count && known.start.is_some() && key(&known.start) == key(&start)
        }) {
            return;
        }
        let entry = ProvisionedFunction {
            requested: count,
            start,
            problem,
            ..ProvisionedFunction::default()
        };
        entries.insert(name.to_owned(), entry);
        self.apply(&mut entries);
    }

    /// Removes the settings for whose name `keeps` returns false, and ends their idle instances.
    /// Running calls are not affected.
    pub fn retain_provisioned(&self, keeps: impl Fn(&str) -> bool) {
        let mut entries = self.0.provisioning.entries.lock();
        let before = entries.len();
        entries.retain(|name, _| keeps(name));
        if entries.len() < before {
            self.apply(&mut entries);
        }
    }

    /// Returns the state of the provisioned instances of the setting `name`; `None` if there is no
    /// such setting.
    pub fn provisioned(&self, name: &str) -> Option<ProvisionedStatus> {
        let entries = self.0.provisioning.entries.lock();
        let entry = entries.get(name)?;
        let instances =
            entry.start.as_ref().map_or(0, |start| self.0.queue.provisioned_instances(&start.key));
        let lacks_memory = entry.allotted < entry.requested && entry.start.is_some();
        let memory = || {
            "the limit of all provisioned instances, half of the memory for functions, is reached"
                .to_owned()
        };
        Some(ProvisionedStatus {
            requested: entry.requested,
            allotted: entry.allotted,
            ready: instances.min(entry.allotted),
            problem: entry.problem.clone().or_else(|| lacks_memory.then(memory)),
        })
    }

    /// Assigns memory to the provisioned functions, and ends the instances that are no longer
    /// needed.
    fn apply(&self, entries: &mut BTreeMap<String, ProvisionedFunction>) {
        let queue = &self.0.queue;
        let ready = entries.iter().filter_map(|(name, entry)| {
            let start = entry.start.as_ref()?;
            Some((name.clone(), queue.provisioned_instances(&start.key)))
        });
        let ready: BTreeMap<String, usize> = ready.collect();
        allot(entries, &ready, queue.memory_bytes() / 2);
        let wanted = entries.iter().filter_map(|(name, entry)| {
            let start = entry.start.as_ref()?;
            let started = ready.get(name).copied().unwrap_or_default();
            Some((start.key.clone(), entry.wanted(started)))
        });
        let wanted: Vec<_> = wanted.collect();
        let removed = queue.replace_provisioned(&wanted);
        if !removed.is_empty() {
            queue.end_idle_with(&removed);
        }
        self.0.provisioning.changed.notify_one();
    }

    fn instance_start(&self, invocation: &Invocation) -> Result<InstanceTemplate, String> {
        let inner = &self.0;
        if inner.isolation == Isolation::Process {
            return Err("functions run without isolation, so instances are not reused".to_owned());
        }
        if let Some(reason) = &inner.spawner.report().sandbox_error {
            return Err(reason.clone());
        }
        let mut invocation = invocation.for_preparation();
        let limits = &mut invocation.limits;
        limits.memory_bytes = limits.memory_bytes.min(inner.queue.memory_bytes());
        let key = inner.instance_keys.of(&invocation);
        let key = key.ok_or("each call of the function needs a new instance")?;
        Ok(InstanceTemplate { key, invocation: Arc::new(invocation) })
    }

    /// Starts missing instances, one after the other.
    async fn fill_provisioned(&self) {
        let inner = &self.0;
        let now = Instant::now();
        let due: Vec<(String, InstanceTemplate)> = {
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
                if !self.record_start(&name, &start.key, started) {
                    break;
                }
            }
        }
    }

    /// Records the result of a start, unless the setting has changed in the meantime. After the
    /// first failure, and after the first success that follows it, assigns the memory again.
    /// Returns true if another instance may start immediately.
    fn record_start(&self, name: &str, key: &InstanceKey, started: Result<(), String>) -> bool {
        if let Err(reason) = &started {
            tracing::debug!(function = name, reason, "a provisioned instance cannot be started");
        }
        let mut entries = self.0.provisioning.entries.lock();
        let Some(entry) = entries.get_mut(name) else { return false };
        if entry.start.as_ref().is_none_or(|start| start.key != *key) {
            return false;
        }
        let failed_before = entry.failures > 0;
        entry.record(started, Instant::now());
        let is_due = entry.retry_at.is_none();
        if failed_before != (entry.failures > 0) {
            self.apply(&mut entries);
        }
        is_due
    }
}

/// Starts missing instances periodically until the runtime ends.
pub(crate) async fn fill_periodically(functions: Weak<FunctionsInner>) {
    loop {
        let Some(inner) = functions.upgrade() else { return };
        let changed = inner.provisioning.changed.clone();
        let has_entries = !inner.provisioning.entries.lock().is_empty();
        let handle = Functions(inner);
        if has_entries {
            tokio::select! {
                () = handle.fill_provisioned() => {}
                () = wait_for_other_handles(&handle) => return,
            }
        }
        drop(handle);
        let _ = tokio::time::timeout(FILL_EVERY, changed.notified()).await;
    }
}

/// Waits until this is the only handle of the runtime. The caller then cancels the start of an
/// instance, which would otherwise delay the end of the runtime.
async fn wait_for_other_handles(handle: &Functions) {
    while Arc::strong_count(&handle.0) > 1 {
        tokio::time::sleep(END_CHECK).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(requested: usize) -> ProvisionedFunction {
        ProvisionedFunction { requested, ..ProvisionedFunction::default() }
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
    fn starts_are_delayed_after_too_many_within_a_minute() {
        let (mut entry, now) = (entry(1), Instant::now());
        let after = |seconds| now + Duration::from_secs(seconds);
        for seconds in 0..5 {
            entry.record(Ok(()), after(seconds));
            assert_eq!(entry.retry_at, None, "the start after {seconds} s");
        }
        entry.record(Ok(()), after(5));
        assert_eq!(entry.retry_at, Some(after(60)));
        assert!(entry.problem.is_some());
        entry.record(Ok(()), after(60));
        assert_eq!((entry.retry_at, entry.problem), (None, None));
    }

    #[test]
    fn a_function_that_cannot_start_gets_no_memory() {
        let mut entries = BTreeMap::from([("f".to_owned(), entry(3))]);
        allot(&mut entries, &BTreeMap::new(), 1 << 30);
        assert_eq!(entries["f"].allotted, 0);
    }

    #[test]
    fn one_more_instance_may_start_after_a_failure() {
        let mut entry = ProvisionedFunction { allotted: 2, ..entry(5) };
        assert_eq!(entry.wanted(2), 2);
        entry.record(Err("broken".to_owned()), Instant::now());
        assert_eq!([0, 2, 5].map(|ready| entry.wanted(ready)), [2, 3, 5]);
    }
}
