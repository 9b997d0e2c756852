//! The spawner's own loop: takes requests, starts children, reports their end.

use std::collections::HashMap;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::pipe::PipeFlags;

use super::cgroup::{Cgroups, Group, Measured};
use super::child::{self, Birth, Identity, Note};
use super::identity;
use super::plan::{Ended, Exit, Plan, Reply, Report, Request, Sandbox, Signal, Work};
use super::system::{self, Cloned, Waited};
use super::{Channel, Received};

/// Users that sandboxed programs run as when the spawner is root; nobody else has them.
const USERS_FIRST: u32 = 1_213_661_184;
const USERS: u32 = 1 << 16;

/// The user that a user namespace shows.
const USER_SHOWN: u32 = 1000;

/// What the spawner process runs, before any thread or runtime starts. Its standard input is the
/// socket to the server; it ends when the other end closes.
pub fn spawner_main() -> ExitCode {
    let _ = rustix::process::setsid();
    let _ = rustix::thread::set_name(c"hw-spawner");
    let _ = std::env::set_current_dir("/");
    rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o022));
    let Ok(socket) = rustix::stdio::stdin().try_clone_to_owned() else {
        return ExitCode::FAILURE;
    };
    let mut spawner = Serve::open(Channel::from(socket));
    spawner.probe();
    let served = spawner.serve();
    spawner.end();
    if served.is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// How sandboxes are made on this host.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Means {
    /// With root's own privileges.
    Root,
    /// With those that a new user namespace gives.
    UserNamespace,
}

struct Serve {
    server: Channel,
    cgroups: Cgroups,
    means: Means,
    /// The first of the users to switch to; none where this user namespace has no room for them.
    users_first: Option<u32>,
    children: HashMap<u64, Child>,
    /// Groups that could not be removed at once.
    leftovers: Vec<Group>,
}

struct Child {
    pid: i32,
    descriptor: OwnedFd,
    status: OwnedFd,
    group: Group,
    folder: Option<PathBuf>,
    sandboxed: bool,
}

impl Serve {
    fn open(server: Channel) -> Self {
        let root = rustix::process::geteuid().is_root();
        Serve {
            server,
            cgroups: Cgroups::open(),
            means: if root { Means::Root } else { Means::UserNamespace },
            users_first: users_first(),
            children: HashMap::new(),
            leftovers: Vec::new(),
        }
    }

    /// Tries to make a sandbox, and tells the server how that went.
    fn probe(&mut self) {
        let mut error = self.try_sandbox();
        if error.is_some() && self.means == Means::Root && !is_real_root() {
            self.means = Means::UserNamespace;
            error = self.try_sandbox().and(error);
        }
        let report = Report {
            sandbox_error: error,
            memory_limits: self.cgroups.memory(),
            process_limits: self.cgroups.processes(),
            identity: identity::own(),
            groups: self.cgroups.folders(),
        };
        self.reply(&Reply::Ready(report));
    }

    fn try_sandbox(&mut self) -> Option<String> {
        let plan = Plan { walls: Work::Sandbox(Sandbox::default()), ..Plan::default() };
        let (Ok(stdout), Ok(stderr)) = (null(), null()) else {
            return Some("/dev/null cannot be opened".to_owned());
        };
        let received = Received { bytes: Vec::new(), descriptors: vec![stdout, stderr] };
        if let Err(ended) = self.start(0, plan, received.descriptors) {
            return Some(ended.exit.describe());
        }
        let child = self.children.remove(&0)?;
        wait_until(&child.descriptor, Duration::from_secs(10));
        match self.collect(child).exit {
            Exit::Code(0) => None,
            other => Some(other.describe()),
        }
    }

    /// Serves until the server's end of the socket closes.
    fn serve(&mut self) -> io::Result<()> {
        loop {
            let (readable, ended) = self.poll()?;
            for id in ended {
                if let Some(child) = self.children.remove(&id) {
                    let ended = self.collect(child);
                    self.reply(&Reply::Ended { id, ended });
                }
            }
            self.leftovers.retain_mut(|group| !group.remove());
            if readable {
                match self.server.receive()? {
                    Some(received) => self.handle(received),
                    None => return Ok(()),
                }
            }
        }
    }

    /// Waits for a request or the end of a child: whether there is one, and which children ended.
    fn poll(&self) -> io::Result<(bool, Vec<u64>)> {
        let ids: Vec<u64> = self.children.keys().copied().collect();
        let mut polled = vec![PollFd::new(&self.server, PollFlags::IN)];
        polled.extend(
            ids.iter()
                .filter_map(|id| self.children.get(id))
                .map(|child| PollFd::new(&child.descriptor, PollFlags::IN)),
        );
        let soon = Timespec { tv_sec: 0, tv_nsec: 50_000_000 };
        let timeout = (!self.leftovers.is_empty()).then_some(&soon);
        rustix::io::retry_on_intr(|| rustix::event::poll(&mut polled, timeout))?;
        let ready = |polled: &PollFd<'_>| !polled.revents().is_empty();
        let ended = ids.into_iter().zip(&polled[1..]).filter(|(_, polled)| ready(polled));
        Ok((ready(&polled[0]), ended.map(|(id, _)| id).collect()))
    }

    fn handle(&mut self, received: Received) {
        match serde_json::from_slice(&received.bytes) {
            Ok(Request::Start { id, plan }) => {
                if let Err(ended) = self.start(id, plan, received.descriptors) {
                    self.reply(&Reply::Ended { id, ended });
                }
            }
            Ok(Request::Signal { id, signal }) => self.signal(id, signal),
            // Both ends are of one build; a message that cannot be read has no id to answer to.
            Err(_) => {}
        }
    }

    fn start(&mut self, id: u64, plan: Plan, descriptors: Vec<OwnedFd>) -> Result<(), Ended> {
        let failed = |step: &str| {
            let step = step.to_owned();
            move |error: io::Error| not_started(step, &error)
        };
        let (memory, processes) = (plan.memory_bytes, plan.processes_max);
        let mut group =
            self.cgroups.create(id, memory, processes).map_err(failed("make a control group"))?;
        let pipe = || rustix::pipe::pipe_with(PipeFlags::CLOEXEC).map_err(io::Error::from);
        let (go, start) = pipe().map_err(failed("make a pipe"))?;
        let (status, report) = pipe().map_err(failed("make a pipe"))?;
        let sandboxed = matches!(plan.walls, Work::Sandbox(_));
        let folder = match &plan.walls {
            Work::Folder(folder) => Some(folder.clone()),
            _ => None,
        };
        let identity = self.identity(id, sandboxed);
        let flags = self.namespaces(&plan.walls);
        let mut descriptors = descriptors.into_iter();
        let (Some(stdout), Some(stderr)) = (descriptors.next(), descriptors.next()) else {
            return Err(not_started("take descriptors".to_owned(), &io::Error::other("too few")));
        };
        let birth = Birth {
            control: if plan.control { descriptors.next() } else { None },
            files: descriptors.next(),
            limit_process: !self.cgroups.memory(),
            plan,
            identity,
            stdout,
            stderr,
            go,
            status: report,
        };
        let (pid, descriptor) = match system::clone_process(flags) {
            Ok(Cloned::Child) => {
                // The child's copies of the spawner's ends would keep the pipes open.
                drop((start, status));
                child::run(birth)
            }
            Ok(Cloned::Parent { pid, descriptor }) => (pid, descriptor),
            Err(error) => {
                group.remove();
                return Err(not_started("clone a process".to_owned(), &error));
            }
        };
        drop(birth);
        let child = Child { pid, descriptor, status, group, folder, sandboxed };
        let ready =
            prepare(&child, identity).and_then(|()| Ok(rustix::io::write(&start, b"g").map(drop)?));
        if let Err(error) = ready {
            drop(start);
            wait_until(&child.descriptor, Duration::from_secs(10));
            self.collect(child);
            return Err(not_started("place a process".to_owned(), &error));
        }
        self.children.insert(id, child);
        Ok(())
    }

    fn identity(&self, id: u64, sandboxed: bool) -> Identity {
        match (sandboxed, self.means, self.users_first) {
            (true, Means::Root, Some(first)) => {
                Identity::Switch(first + (id % u64::from(USERS)) as u32)
            }
            (true, Means::Root, None) => Identity::Switch(65_534),
            (true, Means::UserNamespace, _) => Identity::Mapped(USER_SHOWN),
            (false, _, _) => Identity::Same,
        }
    }

    fn namespaces(&self, walls: &Work) -> i32 {
        let Work::Sandbox(sandbox) = walls else { return 0 };
        let mut flags =
            libc::CLONE_NEWNS | libc::CLONE_NEWPID | libc::CLONE_NEWIPC | libc::CLONE_NEWUTS;
        if !sandbox.network {
            flags |= libc::CLONE_NEWNET;
        }
        if self.means == Means::UserNamespace {
            flags |= libc::CLONE_NEWUSER;
        }
        flags
    }

    fn signal(&self, id: u64, signal: Signal) {
        let Some(child) = self.children.get(&id) else { return };
        match signal {
            Signal::Terminate => child.signal(rustix::process::Signal::TERM),
            Signal::Kill => child.kill(),
        }
    }

    /// Takes the end of a child that has ended, and cleans up behind it.
    fn collect(&mut self, mut child: Child) -> Ended {
        child.kill_the_rest();
        let waited = system::wait_child(child.pid);
        let measured = child.group.measure();
        let note = read_note(&child.status);
        if !child.group.remove() {
            self.leftovers.push(child.group);
        }
        if let Some(folder) = &child.folder {
            child::remove_folder(folder);
        }
        ended(waited, measured, note)
    }

    fn reply(&self, reply: &Reply) {
        // Where this fails the server is gone, and the loop is about to notice.
        let _ = self.server.send(&serde_json::to_vec(reply).unwrap_or_default(), &[]);
    }

    /// Kills everything and removes every trace.
    fn end(&mut self) {
        for child in self.children.values() {
            child.kill();
        }
        let children: Vec<Child> = self.children.drain().map(|(_, child)| child).collect();
        for child in children {
            wait_until(&child.descriptor, Duration::from_secs(10));
            self.collect(child);
        }
        self.cgroups.remove_all();
    }
}

impl Child {
    fn signal(&self, signal: rustix::process::Signal) {
        let _ = rustix::process::pidfd_send_signal(&self.descriptor, signal);
    }

    /// Kills it and all it started.
    fn kill(&self) {
        if self.folder.is_some() {
            // What it started is known to it alone where there are no control groups.
            self.signal(child::END_ALL);
        } else {
            self.signal(rustix::process::Signal::KILL);
        }
        self.kill_the_rest();
    }

    /// Kills what a child may have left behind. In a sandbox the kernel does that by itself.
    fn kill_the_rest(&self) {
        if !self.sandboxed {
            self.group.kill();
            system::kill(-self.pid, libc::SIGKILL);
        }
    }
}

/// The spawner's part of a birth: the user namespace's map and the control groups.
fn prepare(child: &Child, identity: Identity) -> io::Result<()> {
    let pid = child.pid;
    if let Identity::Mapped(shown) = identity {
        let user = rustix::process::geteuid().as_raw();
        let group = rustix::process::getegid().as_raw();
        std::fs::write(format!("/proc/{pid}/setgroups"), "deny")?;
        std::fs::write(format!("/proc/{pid}/gid_map"), format!("{shown} {group} 1"))?;
        std::fs::write(format!("/proc/{pid}/uid_map"), format!("{shown} {user} 1"))?;
    }
    child.group.add(pid)
}

/// Where the users for sandboxes begin, if this user namespace has them.
fn users_first() -> Option<u32> {
    let map = std::fs::read_to_string("/proc/self/uid_map").ok()?;
    map.lines().find_map(|line| {
        let mut fields = line.split_whitespace().filter_map(|field| field.parse::<u64>().ok());
        let (inside, _, count) = (fields.next()?, fields.next()?, fields.next()?);
        let (first, users) = (u64::from(USERS_FIRST), u64::from(USERS));
        (inside <= first && first + users <= inside + count).then_some(USERS_FIRST)
    })
}

fn ended(waited: Option<Waited>, measured: Measured, note: Option<Note>) -> Ended {
    let exit = match (note, waited) {
        (Some(Note::Failed { step, error }), _) => Exit::NotStarted { step, error },
        (Some(Note::Exited { status }), _) => decode(status),
        (None, Some(waited)) => decode(waited.status),
        (None, None) => Exit::Signal(libc::SIGKILL),
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

/// Whether user 0 here is user 0 of the machine: then a user namespace would not make it anyone less.
fn is_real_root() -> bool {
    let map = std::fs::read_to_string("/proc/self/uid_map").unwrap_or_default();
    map.split_whitespace().take(2).eq(["0", "0"])
}

fn read_note(status: &OwnedFd) -> Option<Note> {
    let _ = rustix::io::ioctl_fionbio(status, true);
    let mut bytes = [0; 4096];
    let length = rustix::io::read(status, &mut bytes).ok()?;
    // A program that could not be started says so first; that its process ended is said after.
    serde_json::Deserializer::from_slice(bytes.get(..length)?).into_iter().next()?.ok()
}

fn not_started(step: String, error: &io::Error) -> Ended {
    let exit = Exit::NotStarted { step, error: error.to_string() };
    Ended { exit, cpu_us: 0, memory_bytes_peak: 0, out_of_memory: false }
}

fn null() -> io::Result<OwnedFd> {
    Ok(std::fs::OpenOptions::new().write(true).open("/dev/null")?.into())
}

/// Waits until a process has ended, or the time is over.
fn wait_until(process: &OwnedFd, timeout: Duration) {
    let until = Instant::now() + timeout;
    loop {
        let left = until.saturating_duration_since(Instant::now());
        let left =
            Timespec { tv_sec: left.as_secs() as i64, tv_nsec: i64::from(left.subsec_nanos()) };
        let mut polled = [PollFd::from_borrowed_fd(process.as_fd(), PollFlags::IN)];
        match rustix::event::poll(&mut polled, Some(&left)) {
            Err(rustix::io::Errno::INTR) => {}
            _ => return,
        }
    }
}
