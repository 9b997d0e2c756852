//! Main loop of the spawner: handles requests and reports the exits of processes.

use std::collections::HashMap;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec};

use super::cgroup::{CgroupHierarchies, ProcessCgroups};
use super::managed_process::{ManagedProcess, end_of};
use super::memory_sampling::SAMPLE_EVERY;
use super::mounts;
use super::pending_clone::PendingClone;
use super::process_setup::StatusMessage;
use super::process_start::users_first;
use super::system_calls;
use super::time_slice::set_short_time_slice;
use crate::channel::Channel;
use crate::process_identity::current_identity;
use crate::spawner_protocol::{
    ExitStatus, HostReport, ProcessEnd, ProcessIsolation, ProcessSpec, Reply, SandboxSpec,
};

/// Interval between attempts to remove groups and to reap unknown processes.
const RETRY_EVERY: Duration = Duration::from_millis(50);

/// Time without events after which the main loop first tries to remove the groups of ended
/// processes.
const IDLE: Duration = Duration::from_millis(5);

/// If more groups than this are not removed yet, the main loop removes them without waiting for
/// idle time.
const UNREMOVED_GROUPS_MAX: usize = 64;

/// The maximum time that the spawner waits at its end for killed processes.
const SHUTDOWN_MAX: Duration = Duration::from_secs(10);

/// Runs the spawner process. Must be called before any thread or runtime starts. Standard input is
/// the socket to the server. Returns after the server has closed its end.
pub fn spawner_main() -> ExitCode {
    let _ = rustix::process::setsid();
    let _ = rustix::thread::set_name(c"hw-spawner");
    // Calls wait for replies of the spawner, so the spawner has a short time slice. Tools that it
    // starts have the default slice.
    set_short_time_slice();
    crate::network::raise_descriptor_limit();
    let _ = std::env::set_current_dir("/");
    rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o022));
    let Ok(socket) = rustix::stdio::stdin().try_clone_to_owned() else {
        return ExitCode::FAILURE;
    };
    super::sandbox_sockets::detect_ipv6();
    let mut spawner = MainLoop::new(Channel::from(socket));
    spawner.report_host();
    let served = spawner.run();
    spawner.shutdown();
    if served.is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// The privilege with which the spawner creates sandboxes on this host.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Privilege {
    /// The spawner has root privileges.
    Root,
    /// Each sandbox has a new user namespace, which grants the privileges to set it up.
    UserNamespace,
}

/// State of the spawner.
pub(super) struct MainLoop {
    pub(super) server: Channel,
    pub(super) cgroups: CgroupHierarchies,
    pub(super) privilege: Privilege,
    /// The first of the user ids for sandboxes; `None` if the spawner's user namespace lacks these
    /// ids.
    pub(super) users_first: Option<u32>,
    pub(super) processes: HashMap<u64, ManagedProcess>,
    /// Clones whose sandboxes are being created.
    pub(super) pending: HashMap<u64, PendingClone>,
    /// Fork helpers that have finished their work but are not reaped yet.
    pub(super) fork_helpers: Vec<(i32, OwnedFd)>,
    /// True if this process may have children that a fork helper cloned but did not report.
    pub(super) unknown_children: bool,
    /// Groups of ended processes. They are removed during idle time, because the kernel may need a
    /// long time to remove a group.
    pub(super) unremoved_groups: Vec<ProcessCgroups>,
    /// True if `unremoved_groups` contains groups that the main loop has not tried to remove yet.
    untried_groups: bool,
    /// The time when the memory of the functions was last sampled.
    pub(super) sampled: Option<Instant>,
}

/// An event that the main loop handles.
enum Event {
    /// A process sent a status message.
    Status(u64),
    /// A process ended.
    Ended(u64),
    /// A fork helper sent a message.
    Forked(u64),
    /// A fork helper ended.
    ForkHelperEnded(i32),
    /// The server sent a request.
    Request,
}

impl MainLoop {
    fn new(server: Channel) -> Self {
        let root = rustix::process::geteuid().is_root();
        MainLoop {
            server,
            cgroups: CgroupHierarchies::open(),
            privilege: if root { Privilege::Root } else { Privilege::UserNamespace },
            users_first: users_first(),
            processes: HashMap::new(),
            pending: HashMap::new(),
            fork_helpers: Vec::new(),
            unknown_children: false,
            unremoved_groups: Vec::new(),
            untried_groups: false,
            sampled: None,
        }
    }

    /// Creates a sandbox as a test, and reports the capabilities of the host to the server.
    fn report_host(&mut self) {
        let mut error = self.try_sandbox();
        if error.is_some() && self.privilege == Privilege::Root && !is_real_root() {
            self.privilege = Privilege::UserNamespace;
            error = self.try_sandbox().and(error);
        }
        let report = HostReport {
            sandbox_error: error,
            separate_users: self.privilege == Privilege::Root,
            folder_mounts: self.mounts_folders(),
            memory_limits: self.cgroups.memory(),
            process_limits: self.cgroups.processes(),
            cpu_limits: self.cgroups.processor_shares(),
            identity: current_identity(),
            groups: self.cgroups.clone(),
        };
        self.reply(&Reply::Ready(report));
    }

    /// Returns true if the spawner can mount folders in the sandboxes of clones. A root user of a
    /// user namespace cannot do this if its mount namespace belongs to another user namespace.
    fn mounts_folders(&self) -> bool {
        self.privilege == Privilege::Root
            && mounts::clone_of(Path::new("/dev/null"), mounts::READ_ONLY).is_ok()
    }

    fn try_sandbox(&mut self) -> Option<String> {
        let confinement = ProcessIsolation::Sandbox(SandboxSpec::default());
        let spec = ProcessSpec { confinement, ..ProcessSpec::default() };
        let (Ok(stdout), Ok(stderr)) = (null(), null()) else {
            return Some("/dev/null cannot be opened".to_owned());
        };
        if let Err(end) = self.start(0, spec, vec![stdout, stderr]) {
            return Some(end.exit.describe());
        }
        let process = self.processes.remove(&0)?;
        wait_until(&process.descriptor, Duration::from_secs(10));
        match self.collect(process).exit {
            ExitStatus::Code(0) => None,
            other => Some(other.describe()),
        }
    }

    /// Handles events until the server closes its end of the socket.
    fn run(&mut self) -> io::Result<()> {
        loop {
            let events = self.poll(false)?;
            let idle = events.is_empty();
            for event in events {
                match event {
                    Event::Status(id) => self.read_status(id),
                    Event::Ended(id) => self.ended(id),
                    Event::Forked(id) => self.forked(id),
                    Event::ForkHelperEnded(pid) => self.fork_helper_ended(pid),
                    Event::Request => match self.server.receive()? {
                        Some(received) => self.handle(received),
                        None => return Ok(()),
                    },
                }
            }
            if idle || self.unremoved_groups.len() > UNREMOVED_GROUPS_MAX {
                self.unremoved_groups.retain_mut(|group| !group.remove());
                self.untried_groups = false;
            }
            if self.samples_memory() {
                self.limit_memory();
            }
            self.fail_timed_out_clones();
            self.end_unknown_children();
        }
    }

    /// Waits for events. During the shutdown, ignores requests of the server.
    fn poll(&self, shutdown: bool) -> io::Result<Vec<Event>> {
        let processes = self.processes.iter();
        let status = processes.clone().filter(|(_, process)| process.has_status());
        let status = status.map(|(id, process)| (Event::Status(*id), process.status.as_fd()));
        let ended = processes.map(|(id, process)| (Event::Ended(*id), process.descriptor.as_fd()));
        let forked = self.pending.iter();
        let forked = forked.map(|(id, clone)| (Event::Forked(*id), clone.socket().as_fd()));
        let helpers = self.fork_helpers.iter();
        let helpers = helpers.map(|(pid, helper)| (Event::ForkHelperEnded(*pid), helper.as_fd()));
        let request = (!shutdown).then(|| (Event::Request, self.server.as_fd()));
        let all = status.chain(ended).chain(forked).chain(helpers).chain(request);
        let (events, mut polled): (Vec<_>, Vec<_>) =
            all.map(|(event, from)| (event, PollFd::from_borrowed_fd(from, PollFlags::IN))).unzip();
        let timeout = self.timeout(shutdown);
        rustix::io::retry_on_intr(|| rustix::event::poll(&mut polled, timeout.as_ref()))?;
        let ready =
            events.into_iter().zip(&polled).filter(|(_, polled)| !polled.revents().is_empty());
        Ok(ready.map(|(event, _)| event).collect())
    }

    fn timeout(&self, shutdown: bool) -> Option<Timespec> {
        let retry =
            self.unknown_children || !self.unremoved_groups.is_empty() || !self.pending.is_empty();
        let interval = if self.untried_groups { IDLE } else { RETRY_EVERY };
        if self.samples_memory() {
            Some(timespec(interval.min(SAMPLE_EVERY)))
        } else {
            (shutdown || retry).then(|| timespec(interval))
        }
    }

    /// Reads the status messages of a zygote or a clone, such as the end or failed start of a
    /// clone's function.
    pub(super) fn read_status(&mut self, id: u64) {
        let messages = self.receive_status(id);
        let Some(process) = self.processes.get(&id) else { return };
        if process.zygote.is_some() && process.failed() {
            process.kill();
        }
        for message in messages {
            if let StatusMessage::Reaped { pid, status } = message {
                self.reaped(id, pid, status);
            }
        }
    }

    /// Handles the report in a zygote's status pipe that a process was reaped. If the process is
    /// the function of a clone, the clone has ended. Other processes are ignored.
    fn reaped(&mut self, zygote: u64, pid: i32, status: i32) {
        let clones = self.processes.iter().filter(|(_, process)| process.zygote == Some(zygote));
        for id in clones.map(|(id, _)| *id).collect::<Vec<_>>() {
            // The message with the function's process id was sent before the function ended, so it
            // can be read now.
            self.receive_status(id);
            if let Some(clone) = self.processes.get_mut(&id)
                && clone.cloned() == Some(pid)
            {
                clone.messages.push(StatusMessage::Exited { status });
                clone.kill();
            }
        }
    }

    fn receive_status(&mut self, id: u64) -> Vec<StatusMessage> {
        let Some(process) = self.processes.get_mut(&id) else { return Vec::new() };
        let (messages, zygote) = (process.receive_status(), process.zygote);
        let fork_cpu_us = self.take_fork_cpu_us(&messages, zygote);
        if let Some(process) = self.processes.get_mut(&id) {
            process.fork_cpu_us += fork_cpu_us;
            if messages.iter().any(|one| matches!(one, StatusMessage::Cloned { .. })) {
                process.group.apply_slice_to_clone();
                // Find the processes of new clones for memory sampling, before they run user code.
                self.find_clones();
            }
        }
        messages
    }

    /// Returns the CPU time that the zygote used to fork the clone that sent these messages, and
    /// resets it in the zygote. Without the reset, this time would count twice in the total CPU
    /// time of all processes.
    fn take_fork_cpu_us(&mut self, messages: &[StatusMessage], zygote: Option<u64>) -> u64 {
        let forked = messages.iter().any(|one| matches!(one, StatusMessage::Cloned { .. }));
        let zygote = zygote.filter(|_| forked).and_then(|zygote| self.processes.get_mut(&zygote));
        zygote.map_or(0, ManagedProcess::take_unmetered_cpu_us)
    }

    fn ended(&mut self, id: u64) {
        if let Some(process) = self.processes.remove(&id) {
            let end = self.collect(process);
            self.reply(&Reply::Ended { id, end });
        }
    }

    /// Reaps an ended process, and releases its resources.
    pub(super) fn collect(&mut self, mut process: ManagedProcess) -> ProcessEnd {
        process.kill_descendants();
        let waited = system_calls::wait_child(process.pid);
        let mut measured = process.group.measure();
        measured.out_of_memory |= process.sampler.exceeded;
        if process.sampler.peak_bytes > 0 {
            measured.memory_bytes_peak =
                measured.memory_bytes_peak.or(Some(process.sampler.peak_bytes));
        }
        let messages = process.receive_status();
        process.fork_cpu_us += self.take_fork_cpu_us(&messages, process.zygote);
        measured.cpu_us = measured.cpu_us.map(|cpu_us| cpu_us + process.fork_cpu_us);
        if !process.begun
            && let Some(zygote) = process.zygote.and_then(|id| self.processes.get_mut(&id))
        {
            // No call used this clone. `unused_clones_cpu_us` keeps its CPU time, which is charged
            // to the call that uses the next clone of this zygote.
            zygote.unused_clones_cpu_us += measured.cpu_us.unwrap_or_default();
        }
        let message = process.last_message();
        self.unremoved_groups.push(process.group);
        self.untried_groups = true;
        if let Some(folder) = &process.folder {
            let _ = std::fs::remove_dir_all(folder);
        }
        end_of(waited, measured, message)
    }

    pub(super) fn reply(&self, reply: &Reply) {
        // Sending fails only if the server has ended. The main loop detects this next.
        let _ = self.server.send(&serde_json::to_vec(reply).unwrap_or_default(), &[]);
    }

    /// Kills all processes and removes all groups. Waits for all processes together, because a
    /// zygote ends only after its clones and their fork helpers are reaped.
    fn shutdown(&mut self) {
        self.pending.values().for_each(PendingClone::kill);
        self.processes.values().for_each(ManagedProcess::kill);
        self.pending.clear();
        self.fork_helpers.clear();
        self.unknown_children = true;
        let until = Instant::now() + SHUTDOWN_MAX;
        while (self.unknown_children || !self.processes.is_empty()) && Instant::now() < until {
            for event in self.poll(true).unwrap_or_default() {
                if let Event::Ended(id) = event
                    && let Some(process) = self.processes.remove(&id)
                {
                    self.collect(process);
                }
            }
            self.end_unknown_children();
        }
        for process in std::mem::take(&mut self.processes).into_values() {
            self.collect(process);
        }
        self.cgroups.remove_all();
    }
}

/// Returns true if user 0 in this process is root of the host, that is, if this process is in no
/// other user namespace.
fn is_real_root() -> bool {
    let map = std::fs::read_to_string("/proc/self/uid_map").unwrap_or_default();
    map.split_whitespace().take(2).eq(["0", "0"])
}

pub(super) fn null() -> io::Result<OwnedFd> {
    Ok(std::fs::OpenOptions::new().write(true).open("/dev/null")?.into())
}

/// Waits for the exit of a process, or for `timeout`.
pub(super) fn wait_until(process: &OwnedFd, timeout: Duration) {
    let until = Instant::now() + timeout;
    loop {
        let left = timespec(until.saturating_duration_since(Instant::now()));
        let mut polled = [PollFd::from_borrowed_fd(process.as_fd(), PollFlags::IN)];
        match rustix::event::poll(&mut polled, Some(&left)) {
            Err(rustix::io::Errno::INTR) => {}
            _ => return,
        }
    }
}

fn timespec(duration: Duration) -> Timespec {
    Timespec { tv_sec: duration.as_secs() as i64, tv_nsec: i64::from(duration.subsec_nanos()) }
}
