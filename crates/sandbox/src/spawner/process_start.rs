//! Starts processes: creates their control groups, pipes and namespaces.

use std::io;
use std::os::fd::OwnedFd;
use std::time::Duration;

use rustix::pipe::PipeFlags;

use super::cgroup::ProcessCgroups;
use super::clone_sandbox::{self, USER_SHOWN, ZygoteNamespaces};
use super::main_loop::{MainLoop, Privilege, null, wait_until};
use super::managed_process::{ManagedProcess, not_started};
use super::memory_sampling::MemorySampler;
use super::pending_clone::{NewClone, PendingClone};
use super::process_setup::{self, ProcessSetup, ProcessUser};
use super::system_calls::{self, CloneResult};
use crate::channel::Channel;
use crate::spawner_protocol::{CloneSpec, ProcessEnd, ProcessIsolation, ProcessSpec};

/// First user id for sandboxes if the spawner is root. The host should have no users with these
/// ids.
const USERS_FIRST: u32 = 1_213_661_184;
const USERS: u32 = 1 << 16;

/// The spawner's ends of the pipes to a new process, and the control groups of the process.
pub(super) struct SpawnerPipes {
    pub(super) group: ProcessCgroups,
    /// Pipe on which the spawner sends the byte that lets the process continue.
    pub(super) start: OwnedFd,
    /// Pipe on which the spawner receives status messages.
    pub(super) status: OwnedFd,
    /// The memory sampler, used if no control group limits the memory.
    pub(super) sampler: MemorySampler,
}

/// The new process's ends of the pipes.
struct ProcessPipes {
    go: OwnedFd,
    status: OwnedFd,
}

fn failed(step: &str) -> impl FnOnce(io::Error) -> ProcessEnd {
    move |error| not_started(step, error)
}

impl MainLoop {
    pub(super) fn start(
        &mut self,
        id: u64,
        spec: ProcessSpec,
        descriptors: Vec<OwnedFd>,
    ) -> Result<(), ProcessEnd> {
        match spec.confinement.clone() {
            ProcessIsolation::Clone(clone) => self.start_clone(id, spec, &clone),
            ProcessIsolation::Tool | ProcessIsolation::Folder(_) | ProcessIsolation::Sandbox(_) => {
                self.start_fresh(id, spec, descriptors)
            }
        }
    }

    fn create_ends(
        &self,
        id: u64,
        spec: &ProcessSpec,
    ) -> Result<(SpawnerPipes, ProcessPipes), ProcessEnd> {
        let pipe = || rustix::pipe::pipe_with(PipeFlags::CLOEXEC).map_err(io::Error::from);
        let (go, start) = pipe().map_err(failed("make a pipe"))?;
        let (read_status, status) = pipe().map_err(failed("make a pipe"))?;
        let group = self.cgroups.create(id, spec).map_err(failed("create a control group"))?;
        let sampler = MemorySampler::new(spec.memory_bytes.filter(|_| !self.cgroups.memory()));
        let own = SpawnerPipes { group, start, status: read_status, sampler };
        Ok((own, ProcessPipes { go, status }))
    }

    /// Starts a process that is not a clone of a zygote.
    fn start_fresh(
        &mut self,
        id: u64,
        spec: ProcessSpec,
        descriptors: Vec<OwnedFd>,
    ) -> Result<(), ProcessEnd> {
        let sandboxed = matches!(spec.confinement, ProcessIsolation::Sandbox(_));
        let folder = match &spec.confinement {
            ProcessIsolation::Folder(folder) => Some(folder.clone()),
            _ => None,
        };
        let identity = self.identity(id, sandboxed);
        let flags = self.namespaces(&spec.confinement);
        let orders = spec.zygote.then(Channel::pair).transpose();
        let (orders, zygote_end) = orders.map_err(failed("create a socket"))?.unzip();
        let mut descriptors = descriptors.into_iter();
        let (Some(stdout), Some(stderr)) = (descriptors.next(), descriptors.next()) else {
            return Err(not_started("receive the descriptors", "too few descriptors were sent"));
        };
        let (ends, process_ends) = self.create_ends(id, &spec)?;
        let setup = ProcessSetup {
            control: if spec.control { descriptors.next() } else { None },
            files: descriptors.next(),
            orders: zygote_end.map(OwnedFd::from),
            start_channel: None,
            cgroup_files: Vec::new(),
            limit_process: !self.cgroups.memory(),
            spec,
            identity,
            stdout,
            stderr,
            go: process_ends.go,
            status: process_ends.status,
        };
        let (pid, descriptor) = match system_calls::clone_process(flags) {
            Ok(CloneResult::Child) => {
                // The child has its own copies. Drop the spawner's, because they would keep the
                // pipes open after the child has ended.
                drop(ends);
                process_setup::run(setup)
            }
            Ok(CloneResult::Parent { pid, descriptor }) => (pid, descriptor),
            Err(error) => return Err(not_cloned(ends, "clone a process", &error)),
        };
        drop(setup);
        let namespaces = orders.map(|orders| ZygoteNamespaces::open(pid, identity, orders));
        let SpawnerPipes { group, start, status, sampler } = ends;
        let mut process = ManagedProcess::new(pid, descriptor, status, group);
        (process.folder, process.sandboxed, process.sampler) = (folder, sandboxed, sampler);
        match namespaces.transpose() {
            Ok(namespaces) => process.namespaces = namespaces,
            Err(error) => return Err(self.discard(process, &error)),
        }
        self.finish_start(id, process, &start, identity)
    }

    /// Starts a fork helper, which creates the first process of a clone's sandbox inside the
    /// zygote's sandbox.
    fn start_clone(
        &mut self,
        id: u64,
        spec: ProcessSpec,
        clone: &CloneSpec,
    ) -> Result<(), ProcessEnd> {
        let identity = self.identity(id, true);
        let zygote = self.processes.get(&clone.zygote);
        let namespaces = zygote.and_then(|zygote| zygote.namespaces.as_ref());
        let namespaces = namespaces
            .ok_or_else(|| not_started("clone a process", "the original process has ended"))?;
        let pair = || Channel::pair().map_err(failed("create a socket"));
        let ((start_channel, clone_end), (socket, helper_end)) = (pair()?, pair()?);
        let null = || null().map_err(failed("open /dev/null"));
        let (stdout, stderr) = (null()?, null()?);
        let (ends, process_ends) = self.create_ends(id, &spec)?;
        let cgroup_files = match ends.group.join_files() {
            Ok(files) => files,
            Err(error) => {
                return Err(not_cloned(ends, "open the control groups of the process", &error));
            }
        };
        let setup = ProcessSetup {
            control: None,
            files: None,
            orders: None,
            start_channel: Some(clone_end),
            cgroup_files,
            limit_process: !self.cgroups.memory(),
            spec,
            identity,
            stdout,
            stderr,
            go: process_ends.go,
            status: process_ends.status,
        };
        let helper = match system_calls::clone_process(0) {
            Ok(CloneResult::Child) => {
                drop((ends, start_channel, socket));
                clone_sandbox::run(setup, namespaces, clone, &helper_end)
            }
            Ok(CloneResult::Parent { pid, descriptor }) => (pid, descriptor),
            Err(error) => return Err(not_cloned(ends, "clone a process", &error)),
        };
        let zygote = clone.zygote;
        let new = NewClone { socket, helper, zygote, identity, ends, start_channel };
        self.pending.insert(id, PendingClone::new(new));
        Ok(())
    }

    /// Performs the spawner's part of the setup of a new process, and lets the process continue.
    pub(super) fn finish_start(
        &mut self,
        id: u64,
        process: ManagedProcess,
        start: &OwnedFd,
        identity: ProcessUser,
    ) -> Result<(), ProcessEnd> {
        let ready = process.prepare(identity);
        match ready.and_then(|()| Ok(rustix::io::write(start, b"g").map(drop)?)) {
            Ok(()) => {
                self.processes.insert(id, process);
                Ok(())
            }
            Err(error) => Err(self.discard(process, &error)),
        }
    }

    fn discard(&mut self, process: ManagedProcess, error: &io::Error) -> ProcessEnd {
        process.signal(rustix::process::Signal::KILL);
        wait_until(&process.descriptor, Duration::from_secs(1));
        self.collect(process);
        not_started("move a process to its control groups", error)
    }

    fn identity(&self, id: u64, sandboxed: bool) -> ProcessUser {
        match (sandboxed, self.privilege, self.users_first) {
            (true, Privilege::Root, Some(first)) => {
                ProcessUser::Switch(first + (id % u64::from(USERS)) as u32)
            }
            (true, Privilege::Root, None) => ProcessUser::Switch(65_534),
            (true, Privilege::UserNamespace, _) => ProcessUser::Mapped(USER_SHOWN),
            (false, _, _) => ProcessUser::Same,
        }
    }

    fn namespaces(&self, confinement: &ProcessIsolation) -> i32 {
        let ProcessIsolation::Sandbox(_) = confinement else { return 0 };
        let mut flags = libc::CLONE_NEWNS
            | libc::CLONE_NEWPID
            | libc::CLONE_NEWIPC
            | libc::CLONE_NEWUTS
            | libc::CLONE_NEWNET;
        if self.privilege == Privilege::UserNamespace {
            flags |= libc::CLONE_NEWUSER;
        }
        flags
    }
}

fn not_cloned(mut ends: SpawnerPipes, step: &str, error: &io::Error) -> ProcessEnd {
    ends.group.remove();
    not_started(step, error)
}

/// Returns the first of the user ids for sandboxes; `None` if the spawner's user namespace lacks
/// some of these ids.
pub(super) fn users_first() -> Option<u32> {
    let map = std::fs::read_to_string("/proc/self/uid_map").ok()?;
    map.lines().find_map(|line| {
        let mut fields = line.split_whitespace().filter_map(|field| field.parse::<u64>().ok());
        let (inside, _, count) = (fields.next()?, fields.next()?, fields.next()?);
        let (first, users) = (u64::from(USERS_FIRST), u64::from(USERS));
        (inside <= first && first + users <= inside + count).then_some(USERS_FIRST)
    })
}
