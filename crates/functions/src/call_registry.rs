//! Registry of running and queued calls. Users can list these calls.

use std::collections::BTreeMap;
use std::time::SystemTime;

use headwater_model::{FunctionCall, JobId};
use parking_lot::Mutex;

use crate::error::size;
use crate::functions::Functions;
use crate::queue::QueueStats;
use crate::{CallOwner, Invocation};

/// The registered calls, in order of arrival.
#[derive(Debug, Default)]
pub(crate) struct CallRegistry(Mutex<CallRegistryState>);

#[derive(Debug, Default)]
struct CallRegistryState {
    next: u64,
    calls: BTreeMap<u64, Call>,
}

#[derive(Debug)]
struct Call {
    label: String,
    environment: String,
    memory_bytes: u64,
    share: CallOwner,
    since: SystemTime,
    runs: bool,
}

/// Maximum number of owners that are named in the reason why a call waits.
const NAMED_MAX: usize = 5;

/// A call in the registry. Dropping this value removes the call from the registry.
#[derive(Debug)]
pub(crate) struct RegisteredCall<'a> {
    calls: &'a CallRegistry,
    number: u64,
}

impl CallRegistry {
    /// Returns an unused sequence number.
    pub(crate) fn next_number(&self) -> u64 {
        let mut state = self.0.lock();
        state.next += 1;
        state.next - 1
    }

    /// Registers a queued call.
    pub(crate) fn add(&self, invocation: &Invocation) -> RegisteredCall<'_> {
        let mut state = self.0.lock();
        let number = state.next;
        state.next += 1;
        let call = Call {
            label: invocation.label.clone(),
            environment: invocation.environment.id.clone(),
            memory_bytes: invocation.limits.memory_bytes,
            share: invocation.share.clone(),
            since: SystemTime::now(),
            runs: false,
        };
        state.calls.insert(number, call);
        RegisteredCall { calls: self, number }
    }
}

impl RegisteredCall<'_> {
    /// Returns the sequence number of the call.
    pub(crate) fn number(&self) -> u64 {
        self.number
    }

    /// Marks the call as running.
    pub(crate) fn runs(&self) {
        if let Some(call) = self.calls.0.lock().calls.get_mut(&self.number) {
            (call.runs, call.since) = (true, SystemTime::now());
        }
    }
}

impl Drop for RegisteredCall<'_> {
    fn drop(&mut self) {
        self.calls.0.lock().calls.remove(&self.number);
    }
}

impl Functions {
    /// Returns the running and queued calls. For a queued call, includes the reason why it waits.
    pub fn calls(&self) -> Vec<FunctionCall> {
        self.calls_where(|_| true)
    }

    /// Returns the running and queued calls of a job.
    pub fn calls_of(&self, job: JobId) -> Vec<FunctionCall> {
        self.calls_where(|share| share.job == Some(job))
    }

    fn calls_where(&self, wanted: impl Fn(&CallOwner) -> bool) -> Vec<FunctionCall> {
        let of_these = |call: &Call| wanted(&call.share);
        if !self.0.calls.0.lock().calls.values().any(of_these) {
            return Vec::new();
        }
        let stats = self.0.queue.stats();
        let told = |(number, call): (&u64, &Call)| FunctionCall {
            label: call.label.clone(),
            environment: call.environment.clone(),
            memory_bytes: call.memory_bytes,
            owner: call.share.owner.to_string(),
            job: call.share.job,
            priority: call.share.priority,
            since: call.since.into(),
            waits_for: (!call.runs).then(|| reason(call, *number, &stats)),
        };
        let state = self.0.calls.0.lock();
        state.calls.iter().filter(|(_, call)| of_these(call)).map(told).collect()
    }
}

/// Returns the reason why a call waits, as text for users. `number` is the number of the call.
fn reason(call: &Call, number: u64, stats: &QueueStats) -> String {
    let Some((position, wanted)) = stats.order.get(&number).copied() else {
        return "queued: the call is about to start, or many calls are ahead of it".to_owned();
    };
    let position = match position - 1 {
        0 => "first in the queue".to_owned(),
        before => format!("behind {before} calls in the queue"),
    };
    if wanted > stats.free_bytes && stats.running < 2 * stats.permits_max {
        let mut holders = holders(stats, |(_, bytes)| size(bytes));
        if stats.idle_bytes > 0 {
            holders.push(format!("memory of idle instances: {}", size(stats.idle_bytes)));
        }
        return format!(
            "memory: the call needs {}, but only {} of {} are free ({}); {position}",
            size(call.memory_bytes),
            size(stats.free_bytes),
            size(stats.memory_bytes),
            holders.join(", "),
        );
    }
    if stats.running < stats.permits_max {
        return format!("an earlier call that waits for memory; {position}");
    }
    format!(
        "a free instance: the maximum of {} calls are running ({}); {position}",
        stats.permits_max,
        holders(stats, |(running, _)| running.to_string()).join(", "),
    )
}

/// Returns the owners whose running calls use most of a resource, as texts. `shown` formats an
/// owner's number of calls or bytes.
fn holders(stats: &QueueStats, shown: impl Fn((usize, u64)) -> String) -> Vec<String> {
    let mut owners: Vec<_> = stats.owners.iter().collect();
    owners.sort_by_key(|(_, (running, bytes))| std::cmp::Reverse((*bytes, *running)));
    let named = owners.iter().take(NAMED_MAX);
    let mut named: Vec<String> =
        named.map(|(owner, held)| format!("{owner}: {}", shown(**held))).collect();
    let others = owners.len().saturating_sub(NAMED_MAX);
    if others > 0 {
        named.push(format!("{others} other owners: the rest"));
    }
    named
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_waiting_call_names_the_owners_of_running_calls() {
        let call = Call {
            label: "f".to_owned(),
            environment: "e".to_owned(),
            memory_bytes: 2 << 30,
            share: CallOwner::default(),
            since: SystemTime::now(),
            runs: false,
        };
        let mut stats = QueueStats {
            permits_max: 2,
            running: 2,
            memory_bytes: 4 << 30,
            free_bytes: 1 << 30,
            idle_bytes: 1 << 29,
            owners: [("run 1".into(), (2, 3 << 30))].into(),
            order: [(7, (1, 2 << 30))].into(),
        };
        assert_eq!(
            reason(&call, 7, &stats),
            "memory: the call needs 2 GiB, but only 1 GiB of 4 GiB are free (run 1: 3 GiB, memory \
             of idle instances: 512 MiB); first in the queue"
        );
        stats.free_bytes = 3 << 30;
        stats.order = [(7, (3, 2 << 30))].into();
        assert_eq!(
            reason(&call, 7, &stats),
            "a free instance: the maximum of 2 calls are running (run 1: 2); behind 2 calls in the \
             queue"
        );
    }
}
