//! What the spawner keeps of a process that it made, from its birth until it was collected.

use std::io::{self, Read};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::PathBuf;

use super::Channel;
use super::cgroup::{Group, Measured};
use super::child::{self, Identity, Note};
use super::clone::{Nest, USER_SHOWN};
use super::memory::Watch;
use super::plan::{Ended, Exit};
use super::system::{self, Waited};

/// A process of the spawner's.
pub(super) struct Child {
    pub(super) pid: i32,
    pub(super) descriptor: OwnedFd,
    pub(super) status: OwnedFd,
    pub(super) group: Group,
    pub(super) folder: Option<PathBuf>,
    pub(super) sandboxed: bool,
    /// What it told so far.
    pub(super) notes: Vec<Note>,
    /// The beginning of a note whose end has not come yet.
    unread: Vec<u8>,
    /// Whether it can tell nothing more.
    silent: bool,
    /// Of a zygote: where its clones' sandboxes are made.
    pub(super) nest: Option<Nest>,
    /// Of a clone: its zygote, and where it is told to begin.
    pub(super) zygote: Option<u64>,
    pub(super) seat: Option<Channel>,
    /// Whether a call has come to it.
    pub(super) filled: bool,
    /// Processor time of its zygote's that it is metered by, in microseconds.
    pub(super) for_it_us: u64,
    /// Of a zygote: up to where its processor time is metered, and that of clones which nobody has called.
    pub(super) metered_us: u64,
    pub(super) owed_us: u64,
    /// Its memory, where no control group limits it.
    pub(super) watch: Watch,
}

impl Child {
    /// One that was just born.
    pub(super) fn new((pid, descriptor): (i32, OwnedFd), status: OwnedFd, group: Group) -> Self {
        Child {
            pid,
            descriptor,
            status,
            group,
            folder: None,
            sandboxed: true,
            notes: Vec::new(),
            unread: Vec::new(),
            silent: false,
            nest: None,
            zygote: None,
            seat: None,
            filled: false,
            for_it_us: 0,
            metered_us: 0,
            owed_us: 0,
            watch: Watch::default(),
        }
    }

    /// The spawner's part of a birth: the user namespace's map and the control groups. A clone joins
    /// those by itself, for the kernel may take long to let somebody in, and the spawner has others to
    /// see to.
    pub(super) fn prepare(&self, identity: Identity) -> io::Result<()> {
        let pid = self.pid;
        let mapped = match identity {
            Identity::Mapped(shown) => {
                let (user, group) = (rustix::process::geteuid(), rustix::process::getegid());
                Some((shown, user.as_raw(), group.as_raw()))
            }
            Identity::Shown(user) => Some((USER_SHOWN, user, user)),
            Identity::Switch(_) | Identity::Same => None,
        };
        if let Some((shown, user, group)) = mapped {
            std::fs::write(format!("/proc/{pid}/setgroups"), "deny")?;
            std::fs::write(format!("/proc/{pid}/gid_map"), format!("{shown} {group} 1"))?;
            std::fs::write(format!("/proc/{pid}/uid_map"), format!("{shown} {user} 1"))?;
        }
        if self.zygote.is_some() { Ok(()) } else { self.group.add(pid) }
    }

    /// Whether it is listened to while it lives.
    pub(super) fn tells(&self) -> bool {
        !self.silent && (self.nest.is_some() || (self.zygote.is_some() && self.notes.is_empty()))
    }

    /// What it has told since.
    pub(super) fn hear(&mut self) -> Vec<Note> {
        let (told, over) = take_notes(&self.status, &mut self.unread);
        self.silent = over;
        self.notes.extend(told.iter().filter(|note| !matches!(note, Note::Reaped { .. })).cloned());
        if self.zygote.is_some() && over && self.notes.is_empty() {
            let (step, error) = ("clone the zygote".to_owned(), "its fork ended".to_owned());
            self.notes.push(Note::Failed { step, error });
        }
        told
    }

    /// What it told of its end, or what there is to say of a clone that the zygote never filled.
    pub(super) fn last_note(&self) -> Option<Note> {
        let told = |note: &&Note| matches!(note, Note::Failed { .. } | Note::Exited { .. });
        let unborn = || {
            let (step, error) = ("clone the zygote".to_owned(), "it ended".to_owned());
            (self.zygote.is_some() && self.notes.is_empty()).then_some(Note::Failed { step, error })
        };
        self.notes.iter().find(told).cloned().or_else(unborn)
    }

    /// Whether what it was to run never began.
    pub(super) fn failed(&self) -> bool {
        self.notes.iter().any(|note| matches!(note, Note::Failed { .. }))
    }

    /// The id, in its zygote's namespace, of what a clone became.
    pub(super) fn cloned(&self) -> Option<i32> {
        self.notes.iter().find_map(|note| match note {
            Note::Cloned { pid } => Some(*pid),
            _ => None,
        })
    }

    /// Whether this is the id, in its zygote's namespace, of what a clone became.
    pub(super) fn became(&self, pid: i32) -> bool {
        self.notes.iter().any(|note| matches!(note, Note::Cloned { pid: own } if *own == pid))
    }

    /// Processor time of a zygote that nobody is metered by yet, in microseconds, and that of clones which
    /// took it for nothing: of what it took to import its packages whoever it was started for asks, and of
    /// what it took to make a clone that clone.
    pub(super) fn due(&mut self) -> u64 {
        let now = self.group.measure().cpu_us.unwrap_or(self.metered_us);
        let before = std::mem::replace(&mut self.metered_us, now);
        now.saturating_sub(before) + std::mem::take(&mut self.owed_us)
    }

    /// Whether the function, or what it started, still has any of these files, by inode: mapped or
    /// open. What cannot be looked at, or takes long, may have anything. The first process of a sandbox
    /// runs nobody's code, and a worker that goes on has ended all others.
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

    /// Kills it and all it started.
    pub(super) fn kill(&self) {
        if self.folder.is_some() {
            // What it started is known to it alone where there are no control groups.
            self.signal(child::END_ALL);
        } else {
            self.signal(rustix::process::Signal::KILL);
        }
        self.kill_the_rest();
    }

    /// Kills what a child may have left behind. In a sandbox the kernel does that by itself.
    pub(super) fn kill_the_rest(&self) {
        if !self.sandboxed {
            self.group.kill();
            system::kill(-self.pid, libc::SIGKILL);
        }
    }
}

/// Everybody else waits meanwhile: so much is looked at, and no more.
const MAPS_BYTES_MAX: u64 = 4 << 20;
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
        // In a socket, beside that to the server, may be a file that nobody has taken out yet.
        sockets += usize::from(file.file_type().is_socket());
        if number >= FILES_MAX || sockets > 1 || inputs.contains(&file.ino()) {
            return Ok(true);
        }
    }
    Ok(false)
}

/// The notes that lie in a status pipe, and whether nobody is left to write any.
pub(super) fn take_notes(status: &OwnedFd, unread: &mut Vec<u8>) -> (Vec<Note>, bool) {
    let _ = rustix::io::ioctl_fionbio(status, true);
    let mut bytes = [0; 4096];
    let mut over = false;
    loop {
        match rustix::io::retry_on_intr(|| rustix::io::read(status, &mut bytes)) {
            Ok(0) => over = true,
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
    let notes = lines.split(|byte| *byte == b'\n').flat_map(serde_json::from_slice).collect();
    (notes, over)
}

/// What became of a process that never ran what it was to run.
pub(super) fn not_started(step: impl Into<String>, error: impl ToString) -> Ended {
    let exit = Exit::NotStarted { step: step.into(), error: error.to_string() };
    Ended { exit, cpu_us: 0, memory_bytes_peak: 0, out_of_memory: false }
}

/// What became of a process that was collected.
pub(super) fn ended(waited: Option<Waited>, measured: Measured, note: Option<Note>) -> Ended {
    let exit = match (note, waited) {
        (Some(Note::Failed { step, error }), _) => Exit::NotStarted { step, error },
        (Some(Note::Exited { status }), _) => decode(status),
        (_, Some(waited)) => decode(waited.status),
        (_, None) => Exit::Signal(libc::SIGKILL),
    };
    let by_kernel = waited.map_or((0, 0), |waited| (waited.cpu_us, waited.memory_bytes_peak));
    Ended {
        exit,
        cpu_us: measured.cpu_us.unwrap_or(by_kernel.0),
        memory_bytes_peak: measured.memory_bytes_peak.unwrap_or(by_kernel.1),
        out_of_memory: measured.out_of_memory,
    }
}

fn decode(status: i32) -> Exit {
    if libc::WIFSIGNALED(status) {
        Exit::Signal(libc::WTERMSIG(status))
    } else {
        Exit::Code(libc::WEXITSTATUS(status))
    }
}
