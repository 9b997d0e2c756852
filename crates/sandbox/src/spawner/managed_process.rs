//! The spawner's state of a process that it has started, until the process is reaped.

use std::io::{self, Read};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::PathBuf;

use super::cgroup::{GroupUsage, ProcessCgroups};
use super::clone_sandbox::{USER_SHOWN, ZygoteNamespaces};
use super::memory_sampling::MemorySampler;
use super::process_setup::{END_ALL, ProcessUser, StatusMessage};
use super::system_calls::{self, ReapedChild};
use crate::channel::Channel;
use crate::spawner_protocol::{ExitStatus, ProcessEnd};

/// A process that the spawner has started.
pub(super) struct ManagedProcess {
    pub(super) pid: i32,
    pub(super) descriptor: OwnedFd,
    pub(super) status: OwnedFd,
    pub(super) group: ProcessCgroups,
    pub(super) folder: Option<PathBuf>,
    pub(super) sandboxed: bool,
    /// The status messages received so far.
    pub(super) messages: Vec<StatusMessage>,
    /// The received part of an incomplete status message.
    unread: Vec<u8>,
    /// True if the status pipe is closed.
    status_closed: bool,
    /// For a zygote: the namespaces in which the sandboxes of its clones are created.
    pub(super) namespaces: Option<ZygoteNamespaces>,
    /// For a clone: its zygote.
    pub(super) zygote: Option<u64>,
    /// For a clone: the spawner's end of the socket on which it sends the message that begins the
    /// call.
    pub(super) start_channel: Option<Channel>,
    /// True after a call has begun in the process.
    pub(super) begun: bool,
    /// For a clone: the CPU time that its zygote used to fork it, in microseconds.
    pub(super) fork_cpu_us: u64,
    /// For a zygote: the part of its CPU time that was already charged, in microseconds.
    metered_us: u64,
    /// For a zygote: the CPU time of its ended clones that no call used, in microseconds. Not
    /// charged yet.
    pub(super) unused_clones_cpu_us: u64,
    /// The memory sampler, used if no control group limits the memory.
    pub(super) sampler: MemorySampler,
}

impl ManagedProcess {
    /// Creates the state of a new process.
    pub(super) fn new(
        pid: i32,
        descriptor: OwnedFd,
        status: OwnedFd,
        group: ProcessCgroups,
    ) -> Self {
        ManagedProcess {
            pid,
            descriptor,
            status,
            group,
            folder: None,
            sandboxed: true,
            messages: Vec::new(),
            unread: Vec::new(),
            status_closed: false,
            namespaces: None,
            zygote: None,
            start_channel: None,
            begun: false,
            fork_cpu_us: 0,
            metered_us: 0,
            unused_clones_cpu_us: 0,
            sampler: MemorySampler::default(),
        }
    }

    /// Writes the user mapping of the process's user namespace, and moves the process into its
    /// control groups. A clone joins its groups itself, because joining may block.
    pub(super) fn prepare(&self, identity: ProcessUser) -> io::Result<()> {
        let pid = self.pid;
        let mapped = match identity {
            ProcessUser::Mapped(shown) => {
                let (user, group) = (rustix::process::geteuid(), rustix::process::getegid());
                Some((shown, user.as_raw(), group.as_raw()))
            }
            ProcessUser::Shown(user) => Some((USER_SHOWN, user, user)),
            ProcessUser::Switch(_) | ProcessUser::Same => None,
        };
        if let Some((shown, user, group)) = mapped {
            std::fs::write(format!("/proc/{pid}/setgroups"), "deny")?;
            std::fs::write(format!("/proc/{pid}/gid_map"), format!("{shown} {group} 1"))?;
            std::fs::write(format!("/proc/{pid}/uid_map"), format!("{shown} {user} 1"))?;
        }
        if self.zygote.is_some() { Ok(()) } else { self.group.add(pid) }
    }

    /// Returns true if the status pipe is still open and must be polled.
    pub(super) fn has_status(&self) -> bool {
        let clone_is_silent = self.zygote.is_some() && self.messages.is_empty();
        !self.status_closed && (self.namespaces.is_some() || clone_is_silent)
    }

    /// Reads and returns the new messages of the status pipe.
    pub(super) fn receive_status(&mut self) -> Vec<StatusMessage> {
        let (new, closed) = read_status(&self.status, &mut self.unread);
        self.status_closed = closed;
        let own = new.iter().filter(|one| !matches!(one, StatusMessage::Reaped { .. }));
        self.messages.extend(own.cloned());
        if self.zygote.is_some() && closed && self.messages.is_empty() {
            let (step, error) = ("clone a process".to_owned(), "the fork helper ended".to_owned());
            self.messages.push(StatusMessage::Failed { step, error });
        }
        new
    }

    /// Returns the message about the end of the process, if any. A clone without any message was
    /// never forked.
    pub(super) fn last_message(&self) -> Option<StatusMessage> {
        let is_end = |one: &&StatusMessage| {
            matches!(one, StatusMessage::Failed { .. } | StatusMessage::Exited { .. })
        };
        let not_forked = || {
            let (step, error) =
                ("clone a process".to_owned(), "the original process ended".to_owned());
            let failed = StatusMessage::Failed { step, error };
            (self.zygote.is_some() && self.messages.is_empty()).then_some(failed)
        };
        self.messages.iter().find(is_end).cloned().or_else(not_forked)
    }

    /// Returns true if the program failed to start.
    pub(super) fn failed(&self) -> bool {
        self.messages.iter().any(|one| matches!(one, StatusMessage::Failed { .. }))
    }

    /// Returns the pid of the process that the zygote forked for the function of a clone, in the
    /// zygote's pid namespace. `None` if no fork has been reported.
    pub(super) fn cloned(&self) -> Option<i32> {
        self.messages.iter().find_map(|one| match one {
            StatusMessage::Cloned { pid } => Some(*pid),
            _ => None,
        })
    }

    /// Returns the CPU time of a zygote since the last charge to a clone or since the last use of
    /// this method, in microseconds. Includes the CPU time of unused clones.
    pub(super) fn take_unmetered_cpu_us(&mut self) -> u64 {
        let now = self.group.measure().cpu_us.unwrap_or(self.metered_us);
        let before = std::mem::replace(&mut self.metered_us, now);
        now.saturating_sub(before) + std::mem::take(&mut self.unused_clones_cpu_us)
    }

    /// Returns true if the function or its descendants may still have one of the files `inputs`
    /// (inode numbers) open or mapped. Skips the first process of a sandbox, because it runs no
    /// user code. Also returns true if the group has more than two processes: an idle worker has
    /// exactly two.
    pub(super) fn has_any(&self, inputs: &[u64]) -> bool {
        let processes = self.group.processes();
        processes.is_empty()
            || processes.len() > 2
            || processes
                .into_iter()
                .any(|pid| pid != self.pid && has_any(pid, inputs).unwrap_or(true))
    }

    pub(super) fn signal(&self, signal: rustix::process::Signal) {
        let _ = rustix::process::pidfd_send_signal(&self.descriptor, signal);
    }

    /// Kills the process and its descendants.
    pub(super) fn kill(&self) {
        if self.folder.is_some() {
            // Without control groups, only the first process can find the descendants, so it kills
            // them.
            self.signal(END_ALL);
        } else {
            self.signal(rustix::process::Signal::KILL);
        }
        self.kill_descendants();
    }

    /// Kills the descendants of a process without a sandbox. In a sandbox, the kernel kills them
    /// when the first process ends.
    pub(super) fn kill_descendants(&self) {
        if !self.sandboxed {
            self.group.kill();
            system_calls::kill(-self.pid, libc::SIGKILL);
        }
    }
}

/// The maximum number of bytes to read from a process's list of memory maps, because reading blocks
/// the spawner.
const MAPS_BYTES_MAX: u64 = 4 << 20;

/// The maximum number of open files to check in one process.
const FILES_MAX: usize = 1_000;

fn has_any(pid: i32, inputs: &[u64]) -> io::Result<bool> {
    let mut maps = String::new();
    let file = std::fs::File::open(format!("/proc/{pid}/maps"))?;
    if file.take(MAPS_BYTES_MAX).read_to_string(&mut maps)? as u64 == MAPS_BYTES_MAX {
        return Ok(true);
    }
    let inode = |line: &str| line.split_ascii_whitespace().nth(4)?.parse().ok();
    if maps.lines().filter_map(inode).any(|inode| inputs.contains(&inode)) {
        return Ok(true);
    }
    let mut sockets = 0;
    for (number, entry) in std::fs::read_dir(format!("/proc/{pid}/fd"))?.enumerate() {
        let file = std::fs::metadata(entry?.path())?;
        // An idle worker has one socket. Another socket could contain an unreceived message with
        // one of the files.
        sockets += usize::from(file.file_type().is_socket());
        if number >= FILES_MAX || sockets > 1 || inputs.contains(&file.ino()) {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Reads the complete messages in a status pipe. `unread` keeps the start of an incomplete message.
/// Returns the messages, and true if the pipe is closed.
pub(super) fn read_status(status: &OwnedFd, unread: &mut Vec<u8>) -> (Vec<StatusMessage>, bool) {
    let _ = rustix::io::ioctl_fionbio(status, true);
    let mut bytes = [0; 4096];
    let mut closed = false;
    loop {
        match rustix::io::retry_on_intr(|| rustix::io::read(status, &mut bytes)) {
            Ok(0) => closed = true,
            Ok(length) => {
                unread.extend_from_slice(&bytes[..length]);
                continue;
            }
            Err(_) => {}
        }
        break;
    }
    let whole = unread.iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end + 1);
    let lines: Vec<u8> = unread.drain(..whole).collect();
    let messages = lines.split(|byte| *byte == b'\n').flat_map(serde_json::from_slice).collect();
    (messages, closed)
}

/// Returns the exit of a process that failed to start.
pub(super) fn not_started(step: impl Into<String>, error: impl ToString) -> ProcessEnd {
    let exit = ExitStatus::NotStarted { step: step.into(), error: error.to_string() };
    ProcessEnd { exit, cpu_us: 0, memory_bytes_peak: 0, out_of_memory: false }
}

/// Returns the exit of a reaped process.
pub(super) fn end_of(
    waited: Option<ReapedChild>,
    measured: GroupUsage,
    message: Option<StatusMessage>,
) -> ProcessEnd {
    let exit = match (message, waited) {
        (Some(StatusMessage::Failed { step, error }), _) => ExitStatus::NotStarted { step, error },
        (Some(StatusMessage::Exited { status }), _) => decode(status),
        (_, Some(waited)) => decode(waited.status),
        (_, None) => ExitStatus::Signal(libc::SIGKILL),
    };
    let by_kernel = waited.map_or((0, 0), |waited| (waited.cpu_us, waited.memory_bytes_peak));
    ProcessEnd {
        exit,
        cpu_us: measured.cpu_us.unwrap_or(by_kernel.0),
        memory_bytes_peak: measured.memory_bytes_peak.unwrap_or(by_kernel.1),
        out_of_memory: measured.out_of_memory,
    }
}

fn decode(status: i32) -> ExitStatus {
    if libc::WIFSIGNALED(status) {
        ExitStatus::Signal(libc::WTERMSIG(status))
    } else {
        ExitStatus::Code(libc::WEXITSTATUS(status))
    }
}
