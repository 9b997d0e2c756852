//! Idle instances, which wait for another call of the same function. Modules, globals and the state
//! of native libraries remain. `/tmp`, the working folder, child processes and output are not kept.
//! An instance that is idle for long ends.

use std::sync::Arc;
use std::time::{Duration, Instant};

use headwater_sandbox::{Channel, RunningProcess};
use parking_lot::Mutex;
use tokio::io::unix::AsyncFd;
use tokio::net::unix::pipe::Receiver;

use crate::idle_shrink::ShrinkState;
use crate::instance::reusable;
use crate::queue::{IdleSource, Memory};
use crate::zygote::Zygote;
use crate::{Environment, Invocation};

/// Maximum idle time, and maximum number of idle instances.
const IDLE_MAX: Duration = Duration::from_secs(60);
const WAITING_MAX: usize = 64;

/// An idle instance: its paused process, and the server's ends of its connections.
#[derive(Debug)]
pub(crate) struct WarmInstance {
    pub(crate) running: RunningProcess,
    /// The zygote that it was cloned from, which must live longer.
    pub(crate) zygote: Option<Arc<Zygote>>,
    pub(crate) channel: AsyncFd<Channel>,
    pub(crate) stdout: Receiver,
    pub(crate) stderr: Receiver,
    /// The usage so far.
    pub(crate) cpu_us: u64,
}

/// The idle instances.
#[derive(Debug, Default)]
pub(crate) struct WarmPool(Mutex<Vec<Idle>>);

#[derive(Debug)]
struct Idle {
    last: Invocation,
    warm: WarmInstance,
    /// Its memory is reserved.
    memory: Memory,
    since: Instant,
    rest: ShrinkState,
}

impl WarmPool {
    /// Returns the most recently used idle instance for the same call.
    pub(crate) fn take(&self, invocation: &Invocation) -> Option<(WarmInstance, Memory)> {
        let mut waiting = self.0.lock();
        let index = waiting.iter().rposition(|idle| same(&idle.last, invocation))?;
        let Idle { mut warm, memory, .. } = waiting.remove(index);
        drop(waiting);
        warm.running.is_alive().then_some((warm, memory))
    }

    /// Ends the instance with the longest idle time; false if there is none.
    pub(crate) fn end_one(&self) -> bool {
        let mut waiting = self.0.lock();
        let longest = (!waiting.is_empty()).then(|| waiting.remove(0));
        drop(waiting);
        longest.is_some()
    }

    /// Adds an instance; if there are too many, the one with the longest idle time ends.
    pub(crate) fn put(&self, invocation: Invocation, warm: WarmInstance, memory: Memory) {
        // Arguments may use much memory.
        let last = Invocation { arguments: Vec::new(), ..invocation };
        let rest = ShrinkState::of(&warm);
        let mut waiting = self.0.lock();
        waiting.push(Idle { last, warm, memory, since: Instant::now(), rest });
        let longest = (waiting.len() > WAITING_MAX).then(|| waiting.remove(0));
        drop(waiting);
        drop(longest);
    }

    /// Shrinks instances that have been idle for a while. Returns true if one is in progress.
    pub(crate) fn rest(&self) -> bool {
        let mut gone = Vec::new();
        let mut waiting = self.0.lock();
        for index in (0..waiting.len()).rev() {
            let idle = &mut waiting[index];
            match std::mem::replace(&mut idle.rest, ShrinkState::Done).next(&mut idle.warm) {
                Some(rest) => idle.rest = rest,
                None => gone.push(waiting.remove(index)),
            }
        }
        let some = waiting.iter().any(|idle| idle.rest.is_under_way());
        drop(waiting);
        drop(gone);
        some
    }

    /// Ends the instances of environments that satisfy a condition.
    pub(crate) fn end_where(&self, holds: impl Fn(&Environment) -> bool) {
        self.end_all(|idle| holds(&idle.last.environment));
    }

    /// Ends instances that have been idle for too long.
    pub(crate) fn sweep(&self) {
        self.end_all(|idle| idle.since.elapsed() >= IDLE_MAX);
    }

    fn end_all(&self, ends: impl Fn(&Idle) -> bool) {
        let gone: Vec<Idle> = self.0.lock().extract_if(.., |idle| ends(idle)).collect();
        // Ends them without blocking others, and releases their memory.
        drop(gone);
    }
}

/// The idle instances, as seen by one call.
#[derive(Debug)]
pub(crate) struct MatchingInstances<'a> {
    pub(crate) waiting: &'a WarmPool,
    pub(crate) invocation: &'a Invocation,
}

impl IdleSource<WarmInstance> for MatchingInstances<'_> {
    fn is_there(&self) -> bool {
        reusable(self.invocation)
            && self.waiting.0.lock().iter().any(|idle| same(&idle.last, self.invocation))
    }

    fn take(&self) -> Option<(WarmInstance, Memory)> {
        reusable(self.invocation).then(|| self.waiting.take(self.invocation)).flatten()
    }

    fn end_one(&self) -> bool {
        self.waiting.end_one()
    }
}

/// Returns true if two calls have the same function, code, environment and sandbox.
fn same(one: &Invocation, other: &Invocation) -> bool {
    one.module == other.module
        && one.function == other.function
        && one.environment.is_same_build(&other.environment)
        && one.limits.as_made_for(&other.limits)
        && one.limits.variables == other.limits.variables
        && (Arc::ptr_eq(&one.files, &other.files) || one.files == other.files)
}
