//! The spawner's own loop: takes requests, starts children, reports their end.

use std::collections::HashMap;
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::pipe::PipeFlags;

use super::cgroup::{Cgroups, Group, Measured};
use super::child::{self, Birth, Identity, Note};
use super::clone::{self, Nest, USER_SHOWN};
use super::identity;
use super::plan::{Copied, Ended, Exit, Plan, Reply, Report, Request, Sandbox, Signal, Work};
use super::system::{self, Cloned, Waited};
use super::{Channel, Received};

/// Users that sandboxed programs run as when the spawner is root; nobody else has them.
const USERS_FIRST: u32 = 1_213_661_184;
const USERS: u32 = 1 << 16;

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

/// How long a guide may take; everybody else waits meanwhile.
const GUIDE_MAX: Duration = Duration::from_secs(10);

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

/// What a wait ended with.
struct Polled {
    /// Whether the server asks for something.
    readable: bool,
    /// Children that ended.
    ended: Vec<u64>,
    /// Children that told something.
    told: Vec<u64>,
}

struct Child {
    pid: i32,
    descriptor: OwnedFd,
    status: OwnedFd,
    group: Group,
    folder: Option<PathBuf>,
    sandboxed: bool,
    /// What it told so far.
    notes: Vec<Note>,
    /// The beginning of a note whose end has not come yet.
    unread: Vec<u8>,
    /// Whether it can tell nothing more.
    silent: bool,
    /// Of a zygote: where its clones' sandboxes are made.
    nest: Option<Nest>,
    /// Of a clone: its zygote, and where it is told to begin.
    zygote: Option<u64>,
    seat: Option<Channel>,
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
            let Polled { readable, ended, told } = self.poll()?;
            for id in told {
                self.listen(id);
            }
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

    /// Waits for a request, for the end of a child, or for what zygotes and clones tell.
    fn poll(&self) -> io::Result<Polled> {
        let ids: Vec<u64> = self.children.keys().copied().collect();
        let telling: Vec<u64> =
            self.children.iter().filter(|(_, c)| c.tells()).map(|(id, _)| *id).collect();
        let mut polled = vec![PollFd::new(&self.server, PollFlags::IN)];
        polled
            .extend(ids.iter().map(|id| PollFd::new(&self.children[id].descriptor, PollFlags::IN)));
        polled
            .extend(telling.iter().map(|id| PollFd::new(&self.children[id].status, PollFlags::IN)));
        let soon = Timespec { tv_sec: 0, tv_nsec: 50_000_000 };
        let timeout = (!self.leftovers.is_empty()).then_some(&soon);
        rustix::io::retry_on_intr(|| rustix::event::poll(&mut polled, timeout))?;
        let ready: Vec<PollFlags> = polled.iter().map(PollFd::revents).collect();
        let (ended, told) = ready[1..].split_at(ids.len());
        let those = |ids: Vec<u64>, ready: &[PollFlags], wanted: PollFlags| -> Vec<u64> {
            let all = ids.into_iter().zip(ready);
            all.filter(|(_, ready)| ready.intersects(wanted)).map(|(id, _)| id).collect()
        };
        Ok(Polled {
            readable: !ready[0].is_empty(),
            ended: those(ids, ended, PollFlags::all()),
            told: those(telling, told, PollFlags::all()),
        })
    }

    /// Hears what a zygote or a clone tells: a clone's function may have ended, or never begun.
    fn listen(&mut self, id: u64) {
        let Some(child) = self.children.get_mut(&id) else { return };
        let told = child.hear();
        if child.zygote.is_some() && child.failed() {
            child.kill();
        }
        for note in told {
            if let Note::Reaped { pid, status } = note {
                self.reaped(id, pid, status);
            }
        }
    }

    /// Ends the clone whose function was reaped. What else a zygote's first process reaps is of no
    /// interest.
    fn reaped(&mut self, zygote: u64, pid: i32, status: i32) {
        for clone in self.children.values_mut().filter(|child| child.zygote == Some(zygote)) {
            // It was told before the function could end.
            clone.hear();
            if clone
                .notes
                .iter()
                .any(|note| matches!(note, Note::Cloned { pid: own } if *own == pid))
            {
                clone.notes.push(Note::Exited { status });
                clone.kill();
            }
        }
    }

    fn handle(&mut self, received: Received) {
        match serde_json::from_slice(&received.bytes) {
            Ok(Request::Start { id, plan }) => {
                if let Err(ended) = self.start(id, plan, received.descriptors) {
                    self.reply(&Reply::Ended { id, ended });
                }
            }
            Ok(Request::Fill { id }) => self.fill(id, &received.descriptors),
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
        let sandboxed = matches!(plan.walls, Work::Sandbox(_) | Work::Clone(_));
        let (folder, copied) = match &plan.walls {
            Work::Folder(folder) => (Some(folder.clone()), None),
            Work::Clone(copied) => (None, Some(copied.clone())),
            Work::Tool | Work::Sandbox(_) => (None, None),
        };
        let identity = self.identity(id, sandboxed);
        let flags = self.namespaces(&plan.walls);
        let orders = plan.zygote.then(Channel::pair).transpose();
        let orders = orders.map_err(failed("make a socket"))?;
        let (orders, theirs) = orders.map_or((None, None), |(one, other)| (Some(one), Some(other)));
        let seat = copied.as_ref().map(|_| Channel::pair()).transpose();
        let (seat, seated) = seat.map_err(failed("make a socket"))?.unzip();
        let mut descriptors = descriptors;
        if copied.is_some() {
            let null = [null(), null()].into_iter().collect::<io::Result<Vec<_>>>();
            descriptors = null.map_err(failed("open /dev/null"))?;
        }
        let mut descriptors = descriptors.into_iter();
        let (Some(stdout), Some(stderr)) = (descriptors.next(), descriptors.next()) else {
            return Err(not_started("take descriptors".to_owned(), &io::Error::other("too few")));
        };
        let birth = Birth {
            control: if plan.control { descriptors.next() } else { None },
            files: descriptors.next(),
            orders: theirs.map(OwnedFd::from),
            seat: seated,
            doors: if copied.is_some() { group.doors().unwrap_or_default() } else { Vec::new() },
            limit_process: !self.cgroups.memory(),
            plan,
            identity,
            stdout,
            stderr,
            go,
            status: report,
        };
        let cloned = match &copied {
            Some(copied) => self.clone_inside(birth, copied, &status),
            None => match system::clone_process(flags) {
                Ok(Cloned::Child) => {
                    // The child's copies of the spawner's ends would keep the pipes open.
                    drop((start, status));
                    child::run(birth)
                }
                Ok(Cloned::Parent { pid, descriptor }) => {
                    drop(birth);
                    Ok((pid, descriptor))
                }
                Err(error) => Err(not_started("clone a process".to_owned(), &error)),
            },
        };
        let (pid, descriptor) = cloned.inspect_err(|_| {
            group.remove();
        })?;
        let zygote = copied.map(|copied| copied.zygote);
        let nest = orders.map(|orders| Nest::open(pid, identity, orders)).transpose();
        let (notes, unread, silent) = (Vec::new(), Vec::new(), false);
        let (nest, broken) = nest.map_or_else(|error| (None, Some(error)), |nest| (nest, None));
        let child = Child {
            pid,
            descriptor,
            status,
            group,
            folder,
            sandboxed,
            notes,
            unread,
            silent,
            nest,
            zygote,
            seat,
        };
        let identity = if zygote.is_some() { clone::identity(identity) } else { identity };
        let ready = broken.map_or_else(|| prepare(&child, identity), Err);
        let ready = ready.and_then(|()| Ok(rustix::io::write(&start, b"g").map(drop)?));
        if let Err(error) = ready {
            drop(start);
            wait_until(&child.descriptor, Duration::from_secs(10));
            self.collect(child);
            return Err(not_started("place a process".to_owned(), &error));
        }
        self.children.insert(id, child);
        Ok(())
    }

    /// Has a guide make the first process of a clone's sandbox, inside its zygote's.
    fn clone_inside(
        &self,
        birth: Birth,
        copied: &Copied,
        status: &OwnedFd,
    ) -> Result<(i32, OwnedFd), Ended> {
        let gone = || io::Error::other("it has ended");
        let nest = self.children.get(&copied.zygote).and_then(|zygote| zygote.nest.as_ref());
        let nest = nest.ok_or_else(|| not_started("reach the zygote".to_owned(), &gone()))?;
        let failed = |error: io::Error| not_started("clone a process".to_owned(), &error);
        let (born, told) = Channel::pair().map_err(failed)?;
        let guide = match system::clone_process(0).map_err(failed)? {
            Cloned::Child => clone::run(birth, nest, copied, &told),
            Cloned::Parent { pid, .. } => pid,
        };
        drop((birth, told));
        let mut guides = vec![guide];
        let mut first_of_sandbox = None;
        // Each of the two tells by itself, in whichever order they come to it.
        while guides.len() < 2 || first_of_sandbox.is_none() {
            match next_born(&born) {
                Some((pid, _, true)) => guides.push(pid),
                Some((pid, descriptor, false)) => first_of_sandbox = Some((pid, descriptor)),
                None => break,
            }
        }
        for guide in guides {
            if first_of_sandbox.is_none() {
                system::kill(guide, libc::SIGKILL);
            }
            system::wait_for_child(guide);
        }
        first_of_sandbox.ok_or_else(|| {
            let note = take_notes(status, &mut Vec::new()).0.into_iter().next();
            match note {
                Some(Note::Failed { step, error }) => not_started(step, &io::Error::other(error)),
                _ => failed(io::Error::other("the guide ended")),
            }
        })
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

    /// Hands a clone what it begins with. One that has ended needs nothing.
    fn fill(&self, id: u64, descriptors: &[OwnedFd]) {
        if let Some(seat) = self.children.get(&id).and_then(|child| child.seat.as_ref()) {
            let descriptors: Vec<_> = descriptors.iter().map(AsFd::as_fd).collect();
            let _ = seat.send(b"fill", &descriptors);
        }
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
        child.hear();
        let told = |note: &&Note| matches!(note, Note::Failed { .. } | Note::Exited { .. });
        let note = child.notes.iter().find(told).cloned().or_else(|| child.unborn());
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
        let mut children: Vec<Child> = self.children.drain().map(|(_, child)| child).collect();
        // A zygote's end waits until its clones are collected.
        children.sort_by_key(|child| child.nest.is_some());
        for child in children {
            wait_until(&child.descriptor, Duration::from_secs(10));
            self.collect(child);
        }
        self.cgroups.remove_all();
    }
}

impl Child {
    /// Whether it is listened to while it lives.
    fn tells(&self) -> bool {
        !self.silent && (self.nest.is_some() || (self.zygote.is_some() && self.notes.is_empty()))
    }

    /// What it has told since.
    fn hear(&mut self) -> Vec<Note> {
        let (told, over) = take_notes(&self.status, &mut self.unread);
        self.silent = over;
        self.notes.extend(told.iter().filter(|note| !matches!(note, Note::Reaped { .. })).cloned());
        if self.zygote.is_some() && over && self.notes.is_empty() {
            let (step, error) = ("clone the zygote".to_owned(), "its fork ended".to_owned());
            self.notes.push(Note::Failed { step, error });
        }
        told
    }

    /// What there is to say of a clone that the zygote never filled.
    fn unborn(&self) -> Option<Note> {
        let (step, error) = ("clone the zygote".to_owned(), "it ended".to_owned());
        (self.zygote.is_some() && self.notes.is_empty()).then_some(Note::Failed { step, error })
    }

    /// Whether what it was to run never began.
    fn failed(&self) -> bool {
        self.notes.iter().any(|note| matches!(note, Note::Failed { .. }))
    }

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
    let mapped = match identity {
        Identity::Mapped(shown) => {
            Some((shown, rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw()))
        }
        Identity::Shown(user) => Some((USER_SHOWN, user, user)),
        Identity::Switch(_) | Identity::Same => None,
    };
    if let Some((shown, user, group)) = mapped {
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

/// Whether user 0 here is user 0 of the machine: then a user namespace would not make it anyone less.
fn is_real_root() -> bool {
    let map = std::fs::read_to_string("/proc/self/uid_map").unwrap_or_default();
    map.split_whitespace().take(2).eq(["0", "0"])
}

/// The next process that a guide cloned, by id and by descriptor, and whether it is a guide, too.
fn next_born(born: &Channel) -> Option<(i32, OwnedFd, bool)> {
    if !readable_within(born, GUIDE_MAX) {
        return None;
    }
    let mut received = born.receive().ok()??;
    let descriptor = received.descriptors.pop()?;
    let information = format!("/proc/self/fdinfo/{}", descriptor.as_raw_fd());
    let information = std::fs::read_to_string(information).ok()?;
    let pid = information.lines().find_map(|line| line.strip_prefix("Pid:"))?;
    Some((pid.trim().parse().ok()?, descriptor, received.bytes == clone::GUIDE))
}

/// The notes that lie in a status pipe, and whether nobody is left to write any.
fn take_notes(status: &OwnedFd, unread: &mut Vec<u8>) -> (Vec<Note>, bool) {
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

fn not_started(step: String, error: &io::Error) -> Ended {
    let exit = Exit::NotStarted { step, error: error.to_string() };
    Ended { exit, cpu_us: 0, memory_bytes_peak: 0, out_of_memory: false }
}

fn null() -> io::Result<OwnedFd> {
    Ok(std::fs::OpenOptions::new().write(true).open("/dev/null")?.into())
}

/// Waits until a process has ended, or the time is over.
fn wait_until(process: &OwnedFd, timeout: Duration) {
    readable_within(process, timeout);
}

/// Waits for something to be read, or for the end of who writes it; false where neither comes.
fn readable_within(descriptor: &impl AsFd, timeout: Duration) -> bool {
    let until = Instant::now() + timeout;
    loop {
        let left = until.saturating_duration_since(Instant::now());
        let left =
            Timespec { tv_sec: left.as_secs() as i64, tv_nsec: i64::from(left.subsec_nanos()) };
        let mut polled = [PollFd::from_borrowed_fd(descriptor.as_fd(), PollFlags::IN)];
        match rustix::event::poll(&mut polled, Some(&left)) {
            Err(rustix::io::Errno::INTR) => {}
            polled => return polled.is_ok_and(|ready| ready > 0),
        }
    }
}
