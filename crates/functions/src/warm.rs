//! Instances that wait to be called again, by the same function and nobody else.
//!
//! What they share with their next call is what a process shares with itself: modules, globals, what
//! native libraries hold. `/tmp`, the working folder, other processes and what was printed are not
//! handed on. One that waited for long ends.

use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tokio::io::unix::AsyncFd;
use tokio::net::unix::pipe::Receiver;

use crate::instance::reusable;
use crate::queue::{Kept, Memory};
use crate::rest::Rest;
use crate::spawner::{Channel, Running};
use crate::zygote::Zygote;
use crate::{Environment, Invocation};

/// How long one waits, and how many wait at most.
const IDLE_MAX: Duration = Duration::from_secs(60);
const WAITING_MAX: usize = 64;

/// An instance between two calls: its process, which is stopped wherever it is, and the server's ends of
/// what it speaks through.
#[derive(Debug)]
pub(crate) struct Warm {
    pub(crate) running: Running,
    /// The zygote it is a clone of, which must not end before it.
    pub(crate) zygote: Option<Arc<Zygote>>,
    pub(crate) channel: AsyncFd<Channel>,
    pub(crate) stdout: Receiver,
    pub(crate) stderr: Receiver,
    /// What was metered so far.
    pub(crate) cpu_us: u64,
}

/// Those that wait.
#[derive(Debug, Default)]
pub(crate) struct Waiting(Mutex<Vec<Idle>>);

#[derive(Debug)]
struct Idle {
    last: Invocation,
    warm: Warm,
    /// What it may hold is promised to nobody else.
    memory: Memory,
    since: Instant,
    rest: Rest,
}

impl Waiting {
    /// One that ran the same before, the latest to have done so.
    pub(crate) fn take(&self, invocation: &Invocation) -> Option<(Warm, Memory)> {
        let mut waiting = self.0.lock();
        let index = waiting.iter().rposition(|idle| same(&idle.last, invocation))?;
        let Idle { mut warm, memory, .. } = waiting.remove(index);
        drop(waiting);
        warm.running.is_alive().then_some((warm, memory))
    }

    /// Ends the one that has waited the longest; false where none waits.
    pub(crate) fn end_one(&self) -> bool {
        let mut waiting = self.0.lock();
        let longest = (!waiting.is_empty()).then(|| waiting.remove(0));
        drop(waiting);
        longest.is_some()
    }

    /// Has one wait; where too many do, the one that waits the longest ends.
    pub(crate) fn put(&self, invocation: Invocation, warm: Warm, memory: Memory) {
        // Arguments may hold much memory.
        let last = Invocation { arguments: Vec::new(), ..invocation };
        let rest = Rest::of(&warm);
        let mut waiting = self.0.lock();
        waiting.push(Idle { last, warm, memory, since: Instant::now(), rest });
        let longest = (waiting.len() > WAITING_MAX).then(|| waiting.remove(0));
        drop(waiting);
        drop(longest);
    }

    /// Has those that have waited for a while rest; whether some are at it.
    pub(crate) fn rest(&self) -> bool {
        let mut gone = Vec::new();
        let mut waiting = self.0.lock();
        for index in (0..waiting.len()).rev() {
            let idle = &mut waiting[index];
            match std::mem::replace(&mut idle.rest, Rest::Done).next(&mut idle.warm) {
                Some(rest) => idle.rest = rest,
                None => gone.push(waiting.remove(index)),
            }
        }
        let some = waiting.iter().any(|idle| idle.rest.is_under_way());
        drop(waiting);
        drop(gone);
        some
    }

    /// Ends those of the environments for which this holds.
    pub(crate) fn end_where(&self, holds: impl Fn(&Environment) -> bool) {
        self.end_all(|idle| holds(&idle.last.environment));
    }

    /// Ends those that have waited for too long.
    pub(crate) fn sweep(&self) {
        self.end_all(|idle| idle.since.elapsed() >= IDLE_MAX);
    }

    fn end_all(&self, ends: impl Fn(&Idle) -> bool) {
        let gone: Vec<Idle> = self.0.lock().extract_if(.., |idle| ends(idle)).collect();
        // Others need not wait while they end, and their memory is given away.
        drop(gone);
    }
}

/// Those that wait, as a call sees them.
#[derive(Debug)]
pub(crate) struct KeptFor<'a> {
    pub(crate) waiting: &'a Waiting,
    pub(crate) invocation: &'a Invocation,
}

impl Kept<Warm> for KeptFor<'_> {
    fn is_there(&self) -> bool {
        reusable(self.invocation)
            && self.waiting.0.lock().iter().any(|idle| same(&idle.last, self.invocation))
    }

    fn take(&self) -> Option<(Warm, Memory)> {
        reusable(self.invocation).then(|| self.waiting.take(self.invocation)).flatten()
    }

    fn end_one(&self) -> bool {
        self.waiting.end_one()
    }
}

/// Whether two calls are of one function, with one code, in one environment, within one sandbox.
fn same(one: &Invocation, other: &Invocation) -> bool {
    one.module == other.module
        && one.function == other.function
        && one.environment.is_as(&other.environment)
        && one.limits.as_made_for(&other.limits)
        && one.limits.variables == other.limits.variables
        && (Arc::ptr_eq(&one.files, &other.files) || one.files == other.files)
}
