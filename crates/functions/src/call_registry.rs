//! The registry of running and queued calls, for display.

use std::collections::BTreeMap;
use std::time::SystemTime;

use headwater_model::{FunctionCall, JobId};
use parking_lot::Mutex;

use crate::error::size;
use crate::functions::Functions;
use crate::queue::QueueStats;
use crate::{Invocation, Share};

/// Calls in the order of arrival.
#[derive(Debug, Default)]
pub(crate) struct CallRegistry(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    next: u64,
    calls: BTreeMap<u64, Call>,
}

#[derive(Debug)]
struct Call {
    label: String,
    environment: String,
    memory_bytes: u64,
    share: Share,
    since: SystemTime,
    runs: bool,
}

/// Maximum number of owners that are named as holders of resources.
const NAMED_MAX: usize = 5;

/// A registered call; dropping it removes it.
#[derive(Debug)]
pub(crate) struct RegisteredCall<'a> {
    calls: &'a CallRegistry,
    number: u64,
}

impl CallRegistry {
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
    /// Returns the number of the call.
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
    /// Returns the running and queued calls, with what they wait for.
    pub fn calls(&self) -> Vec<FunctionCall> {
        self.calls_where(|_| true)
    }

    /// Returns the calls of a job.
    pub fn calls_of(&self, job: JobId) -> Vec<FunctionCall> {
        self.calls_where(|share| share.job == Some(job))
    }

    fn calls_where(&self, wanted: impl Fn(&Share) -> bool) -> Vec<FunctionCall> {
        let of_these = |call: &Call| wanted(&call.share);
        if !self.0.calls.0.lock().calls.values().any(of_these) {
            return Vec::new();
        }
        let standing = self.0.queue.standing();
        let told = |(number, call): (&u64, &Call)| FunctionCall {
            label: call.label.clone(),
            environment: call.environment.clone(),
            memory_bytes: call.memory_bytes,
            owner: call.share.owner.to_string(),
            job: call.share.job,
            priority: call.share.priority,
            since: call.since.into(),
            waits_for: (!call.runs).then(|| reason(call, *number, &standing)),
        };
        let state = self.0.calls.0.lock();
        state.calls.iter().filter(|(_, call)| of_these(call)).map(told).collect()
    }
}

/// Returns what a call waits for, as text.
fn reason(call: &Call, number: u64, standing: &QueueStats) -> String {
    let Some((place, wanted)) = standing.order.get(&number).copied() else {
        return "its turn: it is about to run, or far behind in the queue".to_owned();
    };
    let place = match place - 1 {
        0 => "first in the queue".to_owned(),
        before => format!("behind {before} in the queue"),
    };
    let held = |tell: &dyn Fn(&str, usize, u64) -> String| {
        let mut owners: Vec<_> = standing.owners.iter().collect();
        owners.sort_by_key(|(_, (running, bytes))| std::cmp::Reverse((*bytes, *running)));
        let named = owners.into_iter().take(NAMED_MAX);
        let mut named: Vec<String> =
            named.map(|(owner, (running, bytes))| tell(owner, *running, *bytes)).collect();
        let others = standing.owners.len().saturating_sub(NAMED_MAX);
        if others > 0 {
            named.push(format!("{others} others hold the rest"));
        }
        named
    };
    if wanted > standing.free_bytes {
        let mut named = held(&|owner, _, bytes| format!("{owner} holds {}", size(bytes)));
        if standing.idle_bytes > 0 {
            named.push(format!("processes that wait hold {}", size(standing.idle_bytes)));
        }
        return format!(
            "memory, {place}: it may hold {}, and of {} there are {} free; {}",
            size(call.memory_bytes),
            size(standing.memory_bytes),
            size(standing.free_bytes),
            named.join(", ")
        );
    }
    if standing.running < standing.places {
        return format!("its turn, {place}: one before it waits for memory");
    }
    let named = held(&|owner, running, _| format!("{owner} has {running}"));
    format!("a free place of {}, {place}; {}", standing.places, named.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_waiting_call_names_the_holders() {
        let call = Call {
            label: "f".to_owned(),
            environment: "e".to_owned(),
            memory_bytes: 2 << 30,
            share: Share::default(),
            since: SystemTime::now(),
            runs: false,
        };
        let mut standing = QueueStats {
            places: 2,
            running: 2,
            memory_bytes: 4 << 30,
            free_bytes: 1 << 30,
            idle_bytes: 0,
            owners: [("run 1".into(), (2, 3 << 30))].into(),
            order: [(7, (1, 2 << 30))].into(),
        };
        assert_eq!(
            reason(&call, 7, &standing),
            "memory, first in the queue: it may hold 2 GiB, and of 4 GiB there are 1 GiB free; run 1 \
             holds 3 GiB"
        );
        standing.free_bytes = 3 << 30;
        standing.order = [(7, (3, 2 << 30))].into();
        assert_eq!(
            reason(&call, 7, &standing),
            "a free place of 2, behind 2 in the queue; run 1 has 2"
        );
    }
}
