//! Handles the server's requests to the spawner.

use std::os::fd::{AsFd, OwnedFd};

use super::cgroup::Weight;
use super::main_loop::MainLoop;
use super::managed_process::{ManagedProcess, not_started};
use crate::channel::Received;
use crate::protocol::{Reply, Request, ResourceUsage, Signal};

impl MainLoop {
    pub(super) fn handle(&mut self, received: Received) {
        if received.cut {
            return self.fail_request(&received.bytes);
        }
        match serde_json::from_slice(&received.bytes) {
            Ok(Request::Start { id, spec }) => {
                if let Err(end) = self.start(id, spec, received.descriptors) {
                    self.reply(&Reply::Ended { id, end });
                }
            }
            Ok(Request::Begin { id }) => self.begin(id, &received.descriptors),
            Ok(Request::Pause { id, inputs }) => {
                let usage = self.pause(id, &inputs);
                self.reply(&Reply::Measured { id, usage });
            }
            Ok(Request::Resume { id }) => {
                if let Some(process) = self.processes.get_mut(&id) {
                    process.group.set_weight(Weight::Boosted);
                    // Ignore an error: the client detects that the process is still frozen.
                    let _ = process.group.freeze(false);
                }
            }
            Ok(Request::EndBoost { id }) => {
                if let Some(process) = self.processes.get_mut(&id) {
                    process.group.set_weight(Weight::Normal);
                } else if let Some(pending) = self.pending.get_mut(&id) {
                    pending.ends.group.set_weight(Weight::Normal);
                }
            }
            Ok(Request::Signal { id, signal }) => self.signal(id, signal),
            Ok(Request::Meter { id }) => {
                let cpu_us = self.processes.get_mut(&id).map(ManagedProcess::take_unmetered_cpu_us);
                let usage =
                    cpu_us.map(|cpu_us| ResourceUsage { cpu_us, ..ResourceUsage::default() });
                self.reply(&Reply::Measured { id, usage });
            }
            Ok(Request::Total { id }) => {
                self.reply(&Reply::Total { id, cpu_us: self.cgroups.total() });
            }
            // Ignore a malformed message, which has no id for a reply. It does not occur, because
            // both ends are the same build.
            Err(_) => {}
        }
    }

    /// Fails a request whose descriptors were dropped because this process has too many open files.
    fn fail_request(&mut self, request: &[u8]) {
        match serde_json::from_slice(request) {
            Ok(Request::Start { id, .. }) => {
                let end = not_started("take its descriptors", "too many open files");
                self.reply(&Reply::Ended { id, end });
            }
            Ok(Request::Begin { id }) => self.signal(id, Signal::Kill),
            _ => {}
        }
    }

    fn pause(&mut self, id: u64, inputs: &[u64]) -> Option<ResourceUsage> {
        // Read the pending messages, because they determine the CPU time of the fork.
        self.read_status(id);
        let process = self.processes.get(&id).filter(|one| one.group.freeze(true).is_ok())?;
        if !inputs.is_empty() && process.has_any(inputs) {
            return None;
        }
        Some(process.group.usage()?.with_fork(process.fork_cpu_us))
    }

    /// Sends a clone its descriptors. If its sandbox is incomplete, the descriptors wait in the
    /// socket.
    fn begin(&mut self, id: u64, descriptors: &[OwnedFd]) {
        let placed = self.processes.get_mut(&id);
        let placed = placed.and_then(|one| Some((&mut one.begun, one.start_channel.as_ref()?)));
        let pending = self.pending.get_mut(&id).map(|one| (&mut one.begun, &one.start_channel));
        let Some((begun, start_channel)) = placed.or(pending) else { return };
        let descriptors: Vec<_> = descriptors.iter().map(AsFd::as_fd).collect();
        let _ = start_channel.send(b"begin", &descriptors);
        *begun = true;
    }

    fn signal(&mut self, id: u64, signal: Signal) {
        if let Some(pending) = self.pending.get_mut(&id) {
            pending.cancelled = true;
        }
        let Some(process) = self.processes.get(&id) else { return };
        match signal {
            Signal::Terminate => process.signal(rustix::process::Signal::TERM),
            Signal::Kill => process.kill(),
        }
    }
}
