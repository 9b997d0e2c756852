//! Handling of the server's requests in the spawner.

use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use super::cgroup::CpuWeight;
use super::main_loop::MainLoop;
use super::managed_process::{ManagedProcess, not_started};
use super::mounts;
use crate::channel::ChannelMessage;
use crate::spawner_protocol::{Reply, Request, ResourceUsage, Signal};

impl MainLoop {
    pub(super) fn handle(&mut self, received: ChannelMessage) {
        if received.cut {
            return self.fail_request(&received.bytes);
        }
        match serde_json::from_slice(&received.bytes) {
            Ok(Request::Start { id, spec }) => {
                if let Err(end) = self.start(id, spec, received.descriptors) {
                    self.reply(&Reply::Ended { id, end });
                }
            }
            Ok(Request::Begin { id, project }) => {
                self.begin(id, project.as_deref(), received.descriptors);
            }
            Ok(Request::Pause { id, inputs }) => {
                let usage = self.pause(id, &inputs);
                self.reply(&Reply::Measured { id, usage });
            }
            Ok(Request::Resume { id }) => {
                if let Some(process) = self.processes.get_mut(&id) {
                    process.group.set_weight(CpuWeight::Boosted);
                    // Ignore an error here: the process then stays frozen, which the client
                    // detects.
                    let _ = process.group.freeze(false);
                }
            }
            Ok(Request::EndBoost { id }) => {
                if let Some(process) = self.processes.get_mut(&id) {
                    process.group.set_weight(CpuWeight::Normal);
                } else if let Some(pending) = self.pending.get_mut(&id) {
                    pending.ends.group.set_weight(CpuWeight::Normal);
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
            // Ignore a malformed message, because it has no id for a reply. Client and spawner are
            // the same binary, so this does not happen.
            Err(_) => {}
        }
    }

    /// Fails a request whose descriptors were lost because the spawner has too many open files.
    fn fail_request(&mut self, request: &[u8]) {
        match serde_json::from_slice(request) {
            Ok(Request::Start { id, .. }) => {
                let end =
                    not_started("receive the descriptors of the request", "too many open files");
                self.reply(&Reply::Ended { id, end });
            }
            Ok(Request::Begin { id, .. }) => self.signal(id, Signal::Kill),
            _ => {}
        }
    }

    fn pause(&mut self, id: u64, inputs: &[u64]) -> Option<ResourceUsage> {
        // Read pending messages first: the message about the fork charges its CPU time to this
        // clone.
        self.read_status(id);
        let process = self.processes.get(&id).filter(|one| one.group.freeze(true).is_ok())?;
        if !inputs.is_empty() && process.has_any(inputs) {
            return None;
        }
        Some(process.group.usage()?.with_fork(process.fork_cpu_us))
    }

    /// Sends a clone the descriptors of its call, and a read-only mount of its project's folder, if
    /// any. If the sandbox of the clone is not complete, the message waits in the socket.
    fn begin(&mut self, id: u64, project: Option<&Path>, mut descriptors: Vec<OwnedFd>) {
        match project.map(|folder| mounts::clone_of(folder, mounts::READ_ONLY)).transpose() {
            Ok(mount) => descriptors.extend(mount),
            // The project's folder cannot be mounted, so kill the clone: its function cannot run
            // without the project. The server then starts another process, whose error contains the
            // path of the folder.
            Err(_) => return self.signal(id, Signal::Kill),
        }
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
