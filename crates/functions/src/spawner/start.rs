//! Starting a process: its control groups, its pipes, its namespaces, and its part in them.

use std::io;
use std::os::fd::OwnedFd;
use std::time::Duration;

use rustix::pipe::PipeFlags;

use super::Channel;
use super::cgroup::Group;
use super::child::{self, Birth, Identity};
use super::children::{Child, not_started};
use super::clone::{self, Nest, USER_SHOWN};
use super::coming::Coming;
use super::memory::Watch;
use super::plan::{Copied, Ended, Plan, Work};
use super::serve::{Means, Serve, wait_until};
use super::system::{self, Cloned};

/// Users that sandboxed programs run as when the spawner is root; nobody else has them.
const USERS_FIRST: u32 = 1_213_661_184;
const USERS: u32 = 1 << 16;

/// What the spawner has of a process before it is born.
pub(super) struct Held {
    pub(super) group: Group,
    /// Where it is told to live.
    pub(super) start: OwnedFd,
    /// Where it tells.
    pub(super) status: OwnedFd,
    /// Its memory, where no control group limits it.
    pub(super) watch: Watch,
}

/// The other ends, which the process is born with.
struct Given {
    go: OwnedFd,
    report: OwnedFd,
}

fn failed(step: &str) -> impl FnOnce(io::Error) -> Ended {
    move |error| not_started(step, error)
}

impl Serve {
    pub(super) fn start(
        &mut self,
        id: u64,
        plan: Plan,
        descriptors: Vec<OwnedFd>,
    ) -> Result<(), Ended> {
        match plan.walls.clone() {
            Work::Clone(copied) => self.start_clone(id, plan, &copied),
            Work::Tool | Work::Folder(_) | Work::Sandbox(_) => {
                self.start_fresh(id, plan, descriptors)
            }
        }
    }

    fn hold(&self, id: u64, plan: &Plan) -> Result<(Held, Given), Ended> {
        let pipe = || rustix::pipe::pipe_with(PipeFlags::CLOEXEC).map_err(io::Error::from);
        let (go, start) = pipe().map_err(failed("make a pipe"))?;
        let (status, report) = pipe().map_err(failed("make a pipe"))?;
        let group = self.cgroups.create(id, plan).map_err(failed("make a control group"))?;
        let watch = Watch::new(plan.memory_bytes.filter(|_| !self.cgroups.memory()));
        Ok((Held { group, start, status, watch }, Given { go, report }))
    }

    /// Starts a process that is a clone of nobody.
    fn start_fresh(&mut self, id: u64, plan: Plan, descriptors: Vec<OwnedFd>) -> Result<(), Ended> {
        let sandboxed = matches!(plan.walls, Work::Sandbox(_));
        let folder = match &plan.walls {
            Work::Folder(folder) => Some(folder.clone()),
            _ => None,
        };
        let identity = self.identity(id, sandboxed);
        let flags = self.namespaces(&plan.walls);
        let orders = plan.zygote.then(Channel::pair).transpose();
        let (orders, theirs) = orders.map_err(failed("make a socket"))?.unzip();
        let mut descriptors = descriptors.into_iter();
        let (Some(stdout), Some(stderr)) = (descriptors.next(), descriptors.next()) else {
            return Err(not_started("take descriptors", "too few"));
        };
        let (held, given) = self.hold(id, &plan)?;
        let birth = Birth {
            control: if plan.control { descriptors.next() } else { None },
            files: descriptors.next(),
            orders: theirs.map(OwnedFd::from),
            seat: None,
            doors: Vec::new(),
            limit_process: !self.cgroups.memory(),
            plan,
            identity,
            stdout,
            stderr,
            go: given.go,
            status: given.report,
        };
        let process = match system::clone_process(flags) {
            Ok(Cloned::Child) => {
                // The child's copies of the spawner's ends would keep the pipes open.
                drop(held);
                child::run(birth)
            }
            Ok(Cloned::Parent { pid, descriptor }) => (pid, descriptor),
            Err(error) => return Err(unborn(held, "clone a process", &error)),
        };
        drop(birth);
        let nest = orders.map(|orders| Nest::open(process.0, identity, orders)).transpose();
        let Held { group, start, status, watch } = held;
        let mut child = Child::new(process, status, group);
        (child.folder, child.sandboxed, child.watch) = (folder, sandboxed, watch);
        match nest {
            Ok(nest) => child.nest = nest,
            Err(error) => return Err(self.misplaced(child, &error)),
        }
        self.place(id, child, &start, identity)
    }

    /// Sends a guide to make the first process of a clone's sandbox, inside its zygote's.
    fn start_clone(&mut self, id: u64, plan: Plan, copied: &Copied) -> Result<(), Ended> {
        let identity = self.identity(id, true);
        let nest = self.children.get(&copied.zygote).and_then(|zygote| zygote.nest.as_ref());
        let nest = nest.ok_or_else(|| not_started("reach the zygote", "it has ended"))?;
        let (seat, seated) = Channel::pair().map_err(failed("make a socket"))?;
        let (born, told) = Channel::pair().map_err(failed("make a socket"))?;
        let null = || super::serve::null().map_err(failed("open /dev/null"));
        let (stdout, stderr) = (null()?, null()?);
        let (held, given) = self.hold(id, &plan)?;
        let doors = match held.group.doors() {
            Ok(doors) => doors,
            Err(error) => return Err(unborn(held, "open its control groups", &error)),
        };
        let birth = Birth {
            control: None,
            files: None,
            orders: None,
            seat: Some(seated),
            doors,
            limit_process: !self.cgroups.memory(),
            plan,
            identity,
            stdout,
            stderr,
            go: given.go,
            status: given.report,
        };
        let guide = match system::clone_process(0) {
            Ok(Cloned::Child) => {
                drop((held, seat, born));
                clone::run(birth, nest, copied, &told)
            }
            Ok(Cloned::Parent { pid, descriptor }) => (pid, descriptor),
            Err(error) => return Err(unborn(held, "clone a process", &error)),
        };
        let coming = Coming::new(born, guide, (copied.zygote, identity), (held, seat));
        self.coming.insert(id, coming);
        Ok(())
    }

    /// Does the spawner's part for a process that was just born, and has it live.
    pub(super) fn place(
        &mut self,
        id: u64,
        child: Child,
        start: &OwnedFd,
        identity: Identity,
    ) -> Result<(), Ended> {
        let ready = child.prepare(identity);
        match ready.and_then(|()| Ok(rustix::io::write(start, b"g").map(drop)?)) {
            Ok(()) => {
                self.children.insert(id, child);
                Ok(())
            }
            Err(error) => Err(self.misplaced(child, &error)),
        }
    }

    fn misplaced(&mut self, child: Child, error: &io::Error) -> Ended {
        child.signal(rustix::process::Signal::KILL);
        wait_until(&child.descriptor, Duration::from_secs(1));
        self.collect(child);
        not_started("place a process", error)
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
        let Work::Sandbox(_) = walls else { return 0 };
        let mut flags = libc::CLONE_NEWNS
            | libc::CLONE_NEWPID
            | libc::CLONE_NEWIPC
            | libc::CLONE_NEWUTS
            | libc::CLONE_NEWNET;
        if self.means == Means::UserNamespace {
            flags |= libc::CLONE_NEWUSER;
        }
        flags
    }
}

fn unborn(mut held: Held, step: &str, error: &io::Error) -> Ended {
    held.group.remove();
    not_started(step, error)
}

/// Where the users for sandboxes begin, if this user namespace has them.
pub(super) fn users_first() -> Option<u32> {
    let map = std::fs::read_to_string("/proc/self/uid_map").ok()?;
    map.lines().find_map(|line| {
        let mut fields = line.split_whitespace().filter_map(|field| field.parse::<u64>().ok());
        let (inside, _, count) = (fields.next()?, fields.next()?, fields.next()?);
        let (first, users) = (u64::from(USERS_FIRST), u64::from(USERS));
        (inside <= first && first + users <= inside + count).then_some(USERS_FIRST)
    })
}
