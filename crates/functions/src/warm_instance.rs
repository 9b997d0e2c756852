//! Instances that can execute another call of their function.
//!
//! Modules, globals and the state of native libraries are kept between calls. Files in `/tmp` and
//! the working folder, child processes and output are removed. An instance ends when its idle time
//! exceeds a limit.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use headwater_sandbox::{Channel, RunningProcess};
use tokio::io::unix::AsyncFd;
use tokio::net::unix::pipe::Receiver;

use crate::Environment;
use crate::idle_shrink::ShrinkState;
use crate::project_folders::ProjectFolder;
use crate::queue::Queue;
use crate::unreleased_files::UnreleasedFiles;
use crate::zygote::Zygote;

/// Maximum idle time.
const IDLE_MAX: Duration = Duration::from_secs(60);

/// An instance between two calls: its process, and the server's ends of its connections.
#[derive(Debug)]
pub(crate) struct WarmInstance {
    pub(crate) running: RunningProcess,
    /// The zygote from which the instance was cloned. The zygote must not end before the instance.
    pub(crate) zygote: Option<Arc<Zygote>>,
    /// The folder that the sandbox mounts. It must not be removed before the instance ends.
    pub(crate) project: Option<Arc<ProjectFolder>>,
    pub(crate) channel: AsyncFd<Channel>,
    pub(crate) stdout: Receiver,
    pub(crate) stderr: Receiver,
    /// The CPU time of all calls of the process so far, in microseconds.
    pub(crate) cpu_us: u64,
    /// The input files of earlier calls that the process may still hold.
    pub(crate) unreleased: UnreleasedFiles,
}

/// A warm instance that waits for a call, with its environment.
#[derive(Debug)]
pub(crate) struct IdleInstance {
    warm: WarmInstance,
    environment: Arc<Environment>,
    shrink: ShrinkState,
}

impl IdleInstance {
    pub(crate) fn new(warm: WarmInstance, environment: Arc<Environment>) -> Self {
        IdleInstance { shrink: ShrinkState::of(&warm), warm, environment }
    }

    /// Pauses the process, unless it is paused already or is returning memory.
    fn pause(&mut self) {
        if !self.shrink.is_under_way() {
            self.warm.running.pause_later();
        }
    }

    /// Returns the instance if its process still exists.
    pub(crate) fn into_warm(mut self) -> Option<WarmInstance> {
        self.warm.running.is_alive().then_some(self.warm)
    }
}

impl Queue<IdleInstance> {
    /// Shrinks instances that have been idle for a while. Returns true if an instance is currently
    /// shrinking.
    pub(crate) fn shrink_idle(self: &Arc<Self>) -> bool {
        let is_under_way = std::cell::Cell::new(false);
        self.end_idle(|idle, _| {
            match std::mem::replace(&mut idle.shrink, ShrinkState::Done).next(&mut idle.warm) {
                Some(next) => {
                    is_under_way.set(is_under_way.get() || next.is_under_way());
                    idle.shrink = next;
                    false
                }
                None => true,
            }
        });
        is_under_way.get()
    }

    /// Pauses the instances that have been idle for at least `after`. Returns true if other idle
    /// instances are left, and stores this result in `is_left`.
    pub(crate) fn pause_idle(&self, after: Duration, is_left: &AtomicBool) -> bool {
        self.with_idle(|instances| {
            let mut left = false;
            for (idle, time) in instances {
                if time >= after {
                    idle.pause();
                } else {
                    left = true;
                }
            }
            // The flag is set while the queue is locked, because instances are also added under
            // this lock.
            is_left.store(left, Ordering::Release);
            left
        })
    }

    /// Ends the idle instances whose environments satisfy a condition.
    pub(crate) fn end_idle_of(self: &Arc<Self>, holds: impl Fn(&Environment) -> bool) {
        self.end_idle(|idle, _| holds(&idle.environment));
    }

    /// Ends instances that have been idle for too long.
    pub(crate) fn end_long_idle(self: &Arc<Self>) {
        self.end_idle(|_, time| time >= IDLE_MAX);
    }
}
