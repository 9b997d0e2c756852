//! The spawner's own loop: takes requests, reports the end of what it started.

use std::collections::HashMap;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec};

use super::cgroup::{Cgroups, Group, Weight};
use super::child::Note;
use super::children::{self, Child};
use super::coming::Coming;
use super::memory::SAMPLE_EVERY;
use super::plan::{Ended, Exit, Plan, Reply, Report, Request, Sandbox, Signal, Taken, Work};
use super::start::users_first;
use super::{Channel, Received, identity, system};

/// How often what is left over is looked at again.
const SOON: Duration = Duration::from_millis(50);

/// How long nobody must want anything before what was left over is removed.
const AT_ONCE: Duration = Duration::from_millis(5);

/// How many groups may be left over while somebody always wants something.
const LEFTOVERS_MAX: usize = 64;

/// How long the end of everything may take.
const END_MAX: Duration = Duration::from_secs(10);

/// How long a thread that answers somebody uses a processor at a time.
pub(super) const PROMPT_SLICE: Duration = Duration::from_micros(100);

/// Has this thread, and those it starts, get a processor soon after they wake: for those that hand calls
/// and answers on.
pub fn answer_promptly() {
    system::take_turns_of(Some(PROMPT_SLICE));
}

/// Undoes [`answer_promptly`]: for threads that calculate.
pub fn work_steadily() {
    system::take_turns_of(None);
}

/// What the spawner process runs, before any thread or runtime starts. Its standard input is the
/// socket to the server; it ends when the other end closes.
pub fn spawner_main() -> ExitCode {
    let _ = rustix::process::setsid();
    let _ = rustix::thread::set_name(c"hw-spawner");
    // Those who wait for it have been called; what it starts works steadily.
    answer_promptly();
    crate::network::raise_limit();
    let _ = std::env::set_current_dir("/");
    rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o022));
    let Ok(socket) = rustix::stdio::stdin().try_clone_to_owned() else {
        return ExitCode::FAILURE;
    };
    super::network::look_at_the_host();
    let mut spawner = Serve::open(Channel::from(socket));
    spawner.probe();
    let served = spawner.serve();
    spawner.end();
    if served.is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// How sandboxes are made on this host.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Means {
    /// With root's own privileges.
    Root,
    /// With those that a new user namespace gives.
    UserNamespace,
}

pub(super) struct Serve {
    server: Channel,
    pub(super) cgroups: Cgroups,
    pub(super) means: Means,
    /// The first of the users to switch to; none where this user namespace has no room for them.
    pub(super) users_first: Option<u32>,
    pub(super) children: HashMap<u64, Child>,
    /// Clones whose sandboxes are being made.
    pub(super) coming: HashMap<u64, Coming>,
    /// Guides that have done their part, and have to be collected.
    pub(super) guides: Vec<(i32, OwnedFd)>,
    /// Whether there may be children that nobody has told of.
    pub(super) strays: bool,
    /// Groups to be removed once nobody waits for anything: the kernel may take long.
    pub(super) leftovers: Vec<Group>,
    /// Whether there are some among them that nobody has tried to remove yet.
    fresh: bool,
    /// When the memory of functions was sampled last.
    pub(super) sampled: Option<Instant>,
}

/// What a wait ended with.
enum Woken {
    /// A child told something.
    Told(u64),
    /// A child ended.
    Ended(u64),
    /// A guide told something.
    Born(u64),
    /// A guide ended.
    GuideEnded(i32),
    /// The server asks for something.
    Asked,
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
            coming: HashMap::new(),
            guides: Vec::new(),
            strays: false,
            leftovers: Vec::new(),
            fresh: false,
            sampled: None,
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
            users_apart: self.means == Means::Root,
            memory_limits: self.cgroups.memory(),
            process_limits: self.cgroups.processes(),
            cpu_limits: self.cgroups.processor_shares(),
            identity: identity::own(),
            groups: self.cgroups.clone(),
        };
        self.reply(&Reply::Ready(report));
    }

    fn try_sandbox(&mut self) -> Option<String> {
        let plan = Plan { walls: Work::Sandbox(Sandbox::default()), ..Plan::default() };
        let (Ok(stdout), Ok(stderr)) = (null(), null()) else {
            return Some("/dev/null cannot be opened".to_owned());
        };
        if let Err(ended) = self.start(0, plan, vec![stdout, stderr]) {
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
            let all = self.poll(false)?;
            let idle = all.is_empty();
            for woken in all {
                match woken {
                    Woken::Told(id) => self.listen(id),
                    Woken::Ended(id) => self.ended(id),
                    Woken::Born(id) => self.born(id),
                    Woken::GuideEnded(pid) => self.guide_ended(pid),
                    Woken::Asked => match self.server.receive()? {
                        Some(received) => self.handle(received),
                        None => return Ok(()),
                    },
                }
            }
            if idle || self.leftovers.len() > LEFTOVERS_MAX {
                self.leftovers.retain_mut(|group| !group.remove());
                self.fresh = false;
            }
            if self.samples_memory() {
                self.limit_memory();
            }
            self.give_up_late();
            self.end_strays();
        }
    }

    /// Waits for a request, for the end of a child, or for what zygotes, clones and guides tell.
    /// In the end the server, who asks for nothing more, is not waited for.
    fn poll(&self, at_the_end: bool) -> io::Result<Vec<Woken>> {
        let children = self.children.iter();
        let told = children.clone().filter(|(_, child)| child.tells());
        let told = told.map(|(id, child)| (Woken::Told(*id), child.status.as_fd()));
        let ended = children.map(|(id, child)| (Woken::Ended(*id), child.descriptor.as_fd()));
        let born = self.coming.iter().map(|(id, one)| (Woken::Born(*id), one.born().as_fd()));
        let guides = self.guides.iter();
        let guides = guides.map(|(pid, guide)| (Woken::GuideEnded(*pid), guide.as_fd()));
        let asked = (!at_the_end).then(|| (Woken::Asked, self.server.as_fd()));
        let all = told.chain(ended).chain(born).chain(guides).chain(asked);
        let (woken, mut polled): (Vec<_>, Vec<_>) =
            all.map(|(one, from)| (one, PollFd::from_borrowed_fd(from, PollFlags::IN))).unzip();
        let again = self.strays || !self.leftovers.is_empty() || !self.coming.is_empty();
        let soon = if self.fresh { AT_ONCE } else { SOON };
        let timeout = if self.samples_memory() {
            Some(timespec(soon.min(SAMPLE_EVERY)))
        } else {
            (at_the_end || again).then(|| timespec(soon))
        };
        rustix::io::retry_on_intr(|| rustix::event::poll(&mut polled, timeout.as_ref()))?;
        let ready =
            woken.into_iter().zip(&polled).filter(|(_, polled)| !polled.revents().is_empty());
        Ok(ready.map(|(woken, _)| woken).collect())
    }

    /// Hears what a zygote or a clone tells: a clone's function may have ended, or never begun.
    fn listen(&mut self, id: u64) {
        let told = self.hear(id);
        let Some(child) = self.children.get(&id) else { return };
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
        let clones = self.children.iter().filter(|(_, child)| child.zygote == Some(zygote));
        for id in clones.map(|(id, _)| *id).collect::<Vec<_>>() {
            // It was told before the function could end.
            self.hear(id);
            if let Some(clone) = self.children.get_mut(&id)
                && clone.became(pid)
            {
                clone.notes.push(Note::Exited { status });
                clone.kill();
            }
        }
    }

    /// Hears what a child tells.
    fn hear(&mut self, id: u64) -> Vec<Note> {
        let Some(child) = self.children.get_mut(&id) else { return Vec::new() };
        let (told, zygote) = (child.hear(), child.zygote);
        let due = self.due(&told, zygote);
        if let Some(child) = self.children.get_mut(&id) {
            child.for_it_us += due;
            if told.iter().any(|note| matches!(note, Note::Cloned { .. })) {
                child.group.came();
                // Before it runs anything of its own.
                self.find_clones();
            }
        }
        told
    }

    /// What a clone that tells this is metered by beside its own: what its zygote took to fork it, of which
    /// nothing is left out of the sum over all.
    fn due(&mut self, told: &[Note], zygote: Option<u64>) -> u64 {
        let forked = told.iter().any(|note| matches!(note, Note::Cloned { .. }));
        let zygote = zygote.filter(|_| forked).and_then(|zygote| self.children.get_mut(&zygote));
        zygote.map_or(0, Child::due)
    }

    fn ended(&mut self, id: u64) {
        if let Some(child) = self.children.remove(&id) {
            let ended = self.collect(child);
            self.reply(&Reply::Ended { id, ended });
        }
    }

    fn handle(&mut self, received: Received) {
        if received.cut {
            return self.refuse(&received.bytes);
        }
        match serde_json::from_slice(&received.bytes) {
            Ok(Request::Start { id, plan }) => {
                if let Err(ended) = self.start(id, plan, received.descriptors) {
                    self.reply(&Reply::Ended { id, ended });
                }
            }
            Ok(Request::Fill { id }) => self.fill(id, &received.descriptors),
            Ok(Request::Pause { id, inputs }) => {
                // What it took to fork it is known from then on.
                self.listen(id);
                let paused =
                    self.children.get(&id).filter(|child| child.group.freeze(true).is_ok());
                let clean = paused.filter(|child| inputs.is_empty() || !child.has_any(&inputs));
                let taken = clean.and_then(|child| {
                    let taken = child.group.taken()?;
                    Some(taken.with(child.for_it_us))
                });
                self.reply(&Reply::Measured { id, taken });
            }
            Ok(Request::Resume { id }) => {
                if let Some(child) = self.children.get_mut(&id) {
                    child.group.weigh(Weight::Prompt);
                    // What cannot go on is found out by whoever waits for it.
                    let _ = child.group.freeze(false);
                }
            }
            Ok(Request::Settle { id }) => {
                if let Some(child) = self.children.get_mut(&id) {
                    child.group.weigh(Weight::Settled);
                } else if let Some(coming) = self.coming.get_mut(&id) {
                    coming.held.group.weigh(Weight::Settled);
                }
            }
            Ok(Request::Signal { id, signal }) => self.signal(id, signal),
            Ok(Request::Meter { id }) => {
                let due = self.children.get_mut(&id).map(Child::due);
                let taken = due.map(|cpu_us| Taken { cpu_us, ..Taken::default() });
                self.reply(&Reply::Measured { id, taken });
            }
            Ok(Request::Total { id }) => {
                self.reply(&Reply::Total { id, cpu_us: self.cgroups.total() });
            }
            // Both ends are of one build; a message that cannot be read has no id to answer to.
            Err(_) => {}
        }
    }

    /// Fails what was asked for where there was no room for its descriptors, and nothing else.
    fn refuse(&mut self, request: &[u8]) {
        match serde_json::from_slice(request) {
            Ok(Request::Start { id, .. }) => {
                let (step, error) = ("take its descriptors".into(), "too many open files".into());
                let exit = Exit::NotStarted { step, error };
                let ended = Ended { exit, cpu_us: 0, memory_bytes_peak: 0, out_of_memory: false };
                self.reply(&Reply::Ended { id, ended });
            }
            Ok(Request::Fill { id }) => self.signal(id, Signal::Kill),
            _ => {}
        }
    }

    /// Hands a clone what it begins with, as soon as it is there. One that has ended needs nothing.
    fn fill(&mut self, id: u64, descriptors: &[OwnedFd]) {
        let placed = self.children.get_mut(&id);
        let placed = placed.and_then(|child| Some((&mut child.filled, child.seat.as_ref()?)));
        let coming = self.coming.get_mut(&id).map(|coming| (&mut coming.filled, &coming.seat));
        let Some((filled, seat)) = placed.or(coming) else { return };
        let descriptors: Vec<_> = descriptors.iter().map(AsFd::as_fd).collect();
        let _ = seat.send(b"fill", &descriptors);
        *filled = true;
    }

    fn signal(&mut self, id: u64, signal: Signal) {
        if let Some(coming) = self.coming.get_mut(&id) {
            coming.unwanted = true;
        }
        let Some(child) = self.children.get(&id) else { return };
        match signal {
            Signal::Terminate => child.signal(rustix::process::Signal::TERM),
            Signal::Kill => child.kill(),
        }
    }

    /// Takes the end of a child that has ended, and cleans up behind it.
    pub(super) fn collect(&mut self, mut child: Child) -> Ended {
        child.kill_the_rest();
        let waited = system::wait_child(child.pid);
        let mut measured = child.group.measure();
        measured.out_of_memory |= child.watch.exceeded;
        if child.watch.peak_bytes > 0 {
            measured.memory_bytes_peak =
                measured.memory_bytes_peak.or(Some(child.watch.peak_bytes));
        }
        let told = child.hear();
        child.for_it_us += self.due(&told, child.zygote);
        measured.cpu_us = measured.cpu_us.map(|cpu_us| cpu_us + child.for_it_us);
        if !child.filled
            && let Some(zygote) = child.zygote.and_then(|zygote| self.children.get_mut(&zygote))
        {
            // Nobody has called it: the next clone is metered by what it took.
            zygote.owed_us += measured.cpu_us.unwrap_or_default();
        }
        let note = child.last_note();
        self.leftovers.push(child.group);
        self.fresh = true;
        if let Some(folder) = &child.folder {
            super::child::remove_folder(folder);
        }
        children::ended(waited, measured, note)
    }

    pub(super) fn reply(&self, reply: &Reply) {
        // Where this fails the server is gone, and the loop is about to notice.
        let _ = self.server.send(&serde_json::to_vec(reply).unwrap_or_default(), &[]);
    }

    /// Kills everything and removes every trace. A zygote's end waits until its clones and their
    /// guides are collected, so that all are waited for together.
    fn end(&mut self) {
        self.coming.values().for_each(Coming::kill);
        self.children.values().for_each(Child::kill);
        self.coming.clear();
        self.guides.clear();
        self.strays = true;
        let until = Instant::now() + END_MAX;
        while (self.strays || !self.children.is_empty()) && Instant::now() < until {
            for woken in self.poll(true).unwrap_or_default() {
                if let Woken::Ended(id) = woken
                    && let Some(child) = self.children.remove(&id)
                {
                    self.collect(child);
                }
            }
            self.end_strays();
        }
        for child in std::mem::take(&mut self.children).into_values() {
            self.collect(child);
        }
        self.cgroups.remove_all();
    }
}

/// Whether user 0 here is user 0 of the machine: then a user namespace would not make it anyone less.
fn is_real_root() -> bool {
    let map = std::fs::read_to_string("/proc/self/uid_map").unwrap_or_default();
    map.split_whitespace().take(2).eq(["0", "0"])
}

pub(super) fn null() -> io::Result<OwnedFd> {
    Ok(std::fs::OpenOptions::new().write(true).open("/dev/null")?.into())
}

/// Waits until a process has ended, or the time is over.
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
