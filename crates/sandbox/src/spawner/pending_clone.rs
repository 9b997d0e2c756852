//! Clones whose sandboxes fork helpers are creating. This takes milliseconds, and much longer on a
//! busy machine. Meanwhile, the spawner handles other requests.
//!
//! A process that a fork helper clones is a child of the spawner even before the helper reports it.
//! If a helper fails or hangs, the spawner finds its unreported children in `/proc` and kills them.

use std::os::fd::{AsRawFd, OwnedFd};
use std::time::{Duration, Instant};

use super::main_loop::MainLoop;
use super::managed_process::{ManagedProcess, not_started, read_status};
use super::process_setup::{ProcessUser, StatusMessage};
use super::process_start::SpawnerPipes;
use super::{clone_sandbox, system_calls};
use crate::channel::Channel;
use crate::spawner_protocol::Reply;

/// The maximum time that the fork helpers of one clone may run.
const FORK_HELPER_MAX: Duration = Duration::from_secs(10);

/// A clone whose sandbox is being created.
pub(super) struct PendingClone {
    /// The socket on which the fork helpers report the processes that they have cloned.
    socket: Channel,
    helpers: Vec<(i32, OwnedFd)>,
    /// The first process of the sandbox; `None` until a fork helper reports it.
    first: Option<(i32, OwnedFd)>,
    pub(super) ends: SpawnerPipes,
    identity: ProcessUser,
    zygote: u64,
    pub(super) start_channel: Channel,
    /// True if the server has requested to kill the clone. It is killed as soon as its process
    /// exists.
    pub(super) cancelled: bool,
    /// True after a call was assigned to the clone.
    pub(super) begun: bool,
    until: Instant,
}

/// Report of a fork helper.
enum ForkReport {
    Helper((i32, OwnedFd)),
    First((i32, OwnedFd)),
    /// The socket closed, or the message was malformed.
    Failed,
}

/// The fields of a new [`PendingClone`].
pub(super) struct NewClone {
    pub(super) socket: Channel,
    pub(super) helper: (i32, OwnedFd),
    pub(super) zygote: u64,
    pub(super) identity: ProcessUser,
    pub(super) ends: SpawnerPipes,
    pub(super) start_channel: Channel,
}

impl PendingClone {
    pub(super) fn new(new: NewClone) -> Self {
        PendingClone {
            socket: new.socket,
            helpers: vec![new.helper],
            first: None,
            ends: new.ends,
            identity: new.identity,
            zygote: new.zygote,
            start_channel: new.start_channel,
            cancelled: false,
            begun: false,
            until: Instant::now() + FORK_HELPER_MAX,
        }
    }

    pub(super) fn socket(&self) -> &Channel {
        &self.socket
    }

    fn receive(&self) -> ForkReport {
        let Ok(Some(mut received)) = self.socket.receive() else { return ForkReport::Failed };
        let process = received.descriptors.pop().and_then(|descriptor| {
            let pid = pid_of(&descriptor)?;
            Some((pid, descriptor))
        });
        match process {
            Some(process) if received.bytes == clone_sandbox::FORK_HELPER => {
                ForkReport::Helper(process)
            }
            Some(process) => ForkReport::First(process),
            None => ForkReport::Failed,
        }
    }

    /// Kills the processes of the clone that were reported so far.
    pub(super) fn kill(&self) {
        for (_, descriptor) in self.helpers.iter().chain(&self.first) {
            let _ = rustix::process::pidfd_send_signal(descriptor, rustix::process::Signal::KILL);
        }
    }
}

impl MainLoop {
    /// Receives the report of a fork helper, and starts the clone if its sandbox is complete.
    pub(super) fn forked(&mut self, id: u64) {
        let Some(mut pending) = self.pending.remove(&id) else { return };
        match pending.receive() {
            ForkReport::Helper(helper) => pending.helpers.push(helper),
            ForkReport::First(first) => pending.first = Some(first),
            ForkReport::Failed => return self.fail_clone(id, pending, "the fork helper ended"),
        }
        // The report about the second helper and the report about the first process may arrive in
        // any order.
        match pending.first.take() {
            Some((pid, descriptor)) if pending.helpers.len() == 2 => {
                self.place_clone(id, pending, pid, descriptor);
            }
            first => {
                pending.first = first;
                self.pending.insert(id, pending);
            }
        }
    }

    fn place_clone(&mut self, id: u64, pending: PendingClone, pid: i32, descriptor: OwnedFd) {
        self.fork_helpers.extend(pending.helpers);
        let SpawnerPipes { group, start, status, sampler } = pending.ends;
        let mut process = ManagedProcess::new(pid, descriptor, status, group);
        process.zygote = Some(pending.zygote);
        process.start_channel = Some(pending.start_channel);
        process.begun = pending.begun;
        process.sampler = sampler;
        match self.finish_start(id, process, &start, clone_sandbox::identity(pending.identity)) {
            Ok(()) if pending.cancelled => self.processes[&id].kill(),
            Ok(()) => {}
            Err(end) => self.reply(&Reply::Ended { id, end }),
        }
    }

    /// Reports to the server that a clone failed because its fork helpers failed.
    fn fail_clone(&mut self, id: u64, pending: PendingClone, why: &str) {
        pending.kill();
        self.fork_helpers.extend(pending.helpers.into_iter().chain(pending.first));
        self.unknown_children = true;
        let SpawnerPipes { mut group, status, .. } = pending.ends;
        let message = read_status(&status, &mut Vec::new()).0.into_iter().next();
        let end = match message {
            Some(StatusMessage::Failed { step, error }) => not_started(step, error),
            _ => not_started("clone a process", why),
        };
        if !group.remove() {
            self.unremoved_groups.push(group);
        }
        self.reply(&Reply::Ended { id, end });
    }

    /// Fails the clones whose fork helpers exceed their timeout.
    pub(super) fn fail_timed_out_clones(&mut self) {
        let now = Instant::now();
        let late = self.pending.iter().filter(|(_, pending)| pending.until <= now);
        for id in late.map(|(id, _)| *id).collect::<Vec<_>>() {
            if let Some(pending) = self.pending.remove(&id) {
                self.fail_clone(id, pending, "the fork helper did not report in time");
            }
        }
    }

    /// Reaps a fork helper.
    pub(super) fn fork_helper_ended(&mut self, pid: i32) {
        system_calls::wait_child(pid);
        self.fork_helpers.retain(|(helper, _)| *helper != pid);
    }

    /// Kills and reaps children that no fork helper has reported. Does nothing while any clone is
    /// pending, because the children could belong to it.
    pub(super) fn end_unknown_children(&mut self) {
        if !self.unknown_children || !self.pending.is_empty() {
            return;
        }
        let known = |pid: &i32| {
            self.processes.values().any(|process| process.pid == *pid)
                || self.fork_helpers.iter().any(|(helper, _)| helper == pid)
        };
        let unknown = system_calls::child_processes().into_iter().filter(|pid| !known(pid));
        self.unknown_children = unknown.fold(false, |_, pid| {
            system_calls::kill(pid, libc::SIGKILL);
            system_calls::wait_child(pid);
            true
        });
    }
}

/// Returns the process id to which a pidfd refers.
fn pid_of(descriptor: &OwnedFd) -> Option<i32> {
    let information = format!("/proc/self/fdinfo/{}", descriptor.as_raw_fd());
    let information = std::fs::read_to_string(information).ok()?;
    let pid = information.lines().find_map(|line| line.strip_prefix("Pid:"))?;
    pid.trim().parse().ok().filter(|pid| *pid > 0)
}
