//! Warm instances: they have executed a call and can execute another call of their function.
//!
//! Modules, globals and the state of native libraries are kept between calls. Files in `/tmp` and
//! in the working folder, child processes and output are removed. An instance ends when its
//! keep-alive time has passed.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use headwater_sandbox::{Channel, RunningProcess};
use tokio::io::unix::AsyncFd;
use tokio::net::unix::pipe::Receiver;

use crate::idle_shrink::ShrinkState;
use crate::keep_alive::KeepAlive;
use crate::project_folders::ProjectFolder;
use crate::queue::Queue;
use crate::unreleased_files::UnreleasedFiles;
use crate::zygote::{Zygote, Zygotes};
use crate::{Environment, Invocation};

/// An instance between two calls: its process, and the server's ends of the connections to it.
#[derive(Debug)]
pub(crate) struct WarmInstance {
    pub(crate) running: RunningProcess,
    /// The zygote from which the instance was cloned. It is kept here because it must not end
    /// before the instance.
    pub(crate) zygote: Option<Arc<Zygote>>,
    /// The folder that the sandbox mounts. It is kept here because it must not be removed before
    /// the instance ends.
    pub(crate) project: Option<Arc<ProjectFolder>>,
    pub(crate) channel: AsyncFd<Channel>,
    pub(crate) stdout: Receiver,
    pub(crate) stderr: Receiver,
    /// The CPU time of all calls that the process has executed, in microseconds.
    pub(crate) cpu_us: u64,
    /// The input files of earlier calls that the process may still hold.
    pub(crate) unreleased: UnreleasedFiles,
}

/// A warm instance that waits for a call, with its environment.
#[derive(Debug)]
pub(crate) struct IdleInstance {
    warm: WarmInstance,
    pub(crate) environment: Arc<Environment>,
    /// The label of the function that the instance last executed, or for which it was started.
    pub(crate) label: String,
    /// The memory limit of the instance, in bytes.
    pub(crate) memory_bytes: u64,
    pub(crate) keep_alive: KeepAlive,
    /// The CPU time of the instance's start, if it was started in advance and no call has used it.
    uncharged: Option<UnchargedCpu>,
    shrink: ShrinkState,
}

/// CPU time that must still be charged to a call. If this value is dropped, the time is charged to
/// the next call that looks up the environment's zygote.
#[derive(Debug)]
pub(crate) struct UnchargedCpu {
    pub(crate) zygotes: Arc<Zygotes>,
    pub(crate) environment: Arc<Environment>,
    pub(crate) cpu_us: u64,
}

impl UnchargedCpu {
    /// Returns the CPU time in microseconds, and resets it. The caller must charge it to a call.
    fn take(&mut self) -> u64 {
        std::mem::take(&mut self.cpu_us)
    }
}

impl Drop for UnchargedCpu {
    fn drop(&mut self) {
        let cpu_us = self.take();
        if cpu_us > 0 {
            self.zygotes.charge_next_call(&self.environment, cpu_us);
        }
    }
}

impl IdleInstance {
    pub(crate) fn new(warm: WarmInstance, last: &Invocation, keep_alive: KeepAlive) -> Self {
        IdleInstance {
            shrink: ShrinkState::of(&warm),
            warm,
            environment: last.environment.clone(),
            label: last.label.clone(),
            memory_bytes: last.limits.memory_bytes,
            keep_alive,
            uncharged: None,
        }
    }

    /// Sets the uncharged CPU time of the start of an instance that has executed no call.
    pub(crate) fn with_uncharged(self, uncharged: UnchargedCpu) -> Self {
        IdleInstance { uncharged: Some(uncharged), ..self }
    }

    /// Pauses the process, unless it is already paused or is just returning memory to the kernel.
    fn pause(&mut self) {
        if !self.shrink.is_in_progress() {
            self.warm.running.start_pause();
        }
    }

    /// Returns false if the process has ended.
    pub(crate) fn is_alive(&mut self) -> bool {
        self.warm.running.is_alive()
    }

    /// Returns the instance if its process still exists, with the CPU time of its start that is not
    /// charged yet, in microseconds.
    pub(crate) fn into_warm(mut self) -> Option<(WarmInstance, u64)> {
        if !self.is_alive() {
            return None;
        }
        let uncharged_us = self.uncharged.as_mut().map_or(0, UnchargedCpu::take);
        Some((self.warm, uncharged_us))
    }
}

impl Queue<IdleInstance> {
    /// Makes instances that have been idle for a while return unneeded memory. Returns true if an
    /// instance is doing this now.
    pub(crate) fn shrink_idle(self: &Arc<Self>) -> bool {
        let is_in_progress = std::cell::Cell::new(false);
        self.end_idle(|idle, _| {
            match std::mem::replace(&mut idle.shrink, ShrinkState::Done).next(&mut idle.warm) {
                Some(next) => {
                    is_in_progress.set(is_in_progress.get() || next.is_in_progress());
                    idle.shrink = next;
                    false
                }
                None => true,
            }
        });
        is_in_progress.get()
    }

    /// Pauses the instances that have been idle for at least `after`. Returns true if there are
    /// still idle instances that are not paused, and stores this result in `is_left`.
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
            // Set the flag while the queue is locked: instances are also added under this lock, so
            // none is missed.
            is_left.store(left, Ordering::Release);
            left
        })
    }

    /// Ends the idle instances for whose environment `holds` returns true.
    pub(crate) fn end_idle_of(self: &Arc<Self>, holds: impl Fn(&Environment) -> bool) {
        self.end_idle(|idle, _| holds(&idle.environment));
    }

    /// Ends the idle instances that are kept only for a regular call, because the usual time has
    /// passed.
    pub(crate) fn end_extended(self: &Arc<Self>, now: Instant) {
        self.end_idle(|idle, _| idle.keep_alive.is_extended(now));
    }

    /// Stops keeping the idle instances of a function for a regular call. The instances then end
    /// after the usual time.
    pub(crate) fn end_extensions_of(&self, label: &str) {
        self.with_idle(|instances| {
            for (idle, _) in instances.filter(|(idle, _)| idle.label == label) {
                idle.keep_alive.end_extension();
            }
        });
    }

    /// Renews the keep-alive times of the provisioned instances.
    pub(crate) fn extend_provisioned(&self, now: Instant) {
        self.for_each_provisioned(|idle| idle.keep_alive = KeepAlive::provisioned(now));
    }

    /// Ends the instances whose keep-alive time has passed, and removes those whose processes have
    /// ended.
    pub(crate) fn end_expired(self: &Arc<Self>, now: Instant) {
        self.end_idle(|idle, _| idle.keep_alive.until <= now || !idle.is_alive());
    }
}
