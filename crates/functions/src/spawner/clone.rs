//! The sandbox of a clone, which is made inside its zygote's.
//!
//! A zygote has no privilege, so that it cannot make namespaces or mounts; and the spawner cannot
//! make a process that has the zygote's memory. So each does its part. The spawner starts a *guide*
//! that enters the zygote's namespaces, becomes the zygote's user and there clones the first process
//! of a new sandbox: in a user namespace that belongs to the zygote's user, with every other
//! namespace inside it. That process mounts what a clone has for its own, gives up every privilege,
//! and sends the zygote an order that carries its namespaces. The zygote forks; the fork, whose user
//! owns the namespace, may enter; it forks once more, to be in the new pid namespace too, gives up
//! what it gained, and becomes the function.
//!
//! All this is done before anybody calls, for the next one who does: the clone then waits for what it
//! begins with. When the call comes, the first process mounts its project, gives up its last
//! privilege, and hands the clone its descriptors.
//!
//! The first process of the sandbox dies with the spawner, and everything in it with that process.

use std::collections::BTreeMap;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::process::DumpableBehavior;
use rustix::thread::{Gid, Uid};
use serde::Serialize;

use super::Channel;
use super::child::{self, Birth, Identity};
use super::memory::data_bytes_max;
use super::plan::Copied;
use super::root::{self, StepResult, step};
use super::system::Cloned;
use super::{landlock, seccomp, system};

/// The user that a clone sees itself as.
pub(super) const USER_SHOWN: u32 = 1000;

/// How the spawner is to have a clone's user namespace show the user it runs as.
pub(super) fn identity(identity: Identity) -> Identity {
    match identity {
        Identity::Switch(user) => Identity::Shown(user),
        // The spawner is not in the namespace above, whose users are meant.
        Identity::Mapped(_) | Identity::Shown(_) | Identity::Same => Identity::Same,
    }
}

/// Has this process's user namespace show its own user, who is the same one level above.
fn map_own_user() -> io::Result<()> {
    std::fs::write("/proc/self/setgroups", "deny")?;
    let map = format!("{USER_SHOWN} {USER_SHOWN} 1");
    std::fs::write("/proc/self/gid_map", &map)?;
    std::fs::write("/proc/self/uid_map", &map)
}

/// What a guide says it has cloned.
pub(super) const GUIDE: &[u8] = b"guide";
const SANDBOX: &[u8] = b"sandbox";

/// What the spawner keeps of a zygote, to make sandboxes inside its own.
#[derive(Debug)]
pub(super) struct Nest {
    /// The zygote's user namespace, where it has one of its own.
    user: Option<OwnedFd>,
    mounts: OwnedFd,
    processes: OwnedFd,
    identity: Identity,
    /// Where the zygote takes its orders.
    orders: Channel,
}

impl Nest {
    /// The nest of a zygote that was just cloned and has done nothing yet.
    pub(super) fn open(pid: i32, identity: Identity, orders: Channel) -> io::Result<Nest> {
        let namespace = |name: &str| -> io::Result<OwnedFd> {
            Ok(std::fs::File::open(format!("/proc/{pid}/ns/{name}"))?.into())
        };
        let user = match identity {
            Identity::Mapped(_) => Some(namespace("user")?),
            Identity::Switch(_) | Identity::Shown(_) | Identity::Same => None,
        };
        let (mounts, processes) = (namespace("mnt")?, namespace("pid")?);
        Ok(Nest { user, mounts, processes, identity, orders })
    }

    /// What a guide needs of it.
    pub(super) fn descriptors(&self) -> Vec<BorrowedFd<'_>> {
        let user = self.user.iter().map(AsFd::as_fd);
        user.chain([self.mounts.as_fd(), self.processes.as_fd(), self.orders.as_fd()]).collect()
    }
}

/// Runs the guides, and in the clone of the second the first process of the new sandbox. Each sends
/// the spawner, through `born`, a descriptor of the process that it cloned.
pub(super) fn run(birth: Birth, nest: &Nest, copied: &Copied, born: &Channel) -> ! {
    let mut kept = nest.descriptors();
    kept.push(born.as_fd());
    child::leave_the_spawner_behind(&birth, &kept);
    match guide(nest, born) {
        Ok(Place::Guide) => system::exit(0),
        Ok(Place::Sandbox) => child::run_until_done(birth, |birth| live(birth, nest, copied)),
        Err(failed) => {
            child::report(&birth.status, &failed);
            system::exit(127)
        }
    }
}

/// Which process it is.
enum Place {
    Guide,
    Sandbox,
}

/// Enters the nest and clones the first process of a sandbox in it.
fn guide(nest: &Nest, born: &Channel) -> StepResult<Place> {
    if let Some(user) = &nest.user {
        step("enter the zygote's user namespace", system::enter_namespace(user.as_fd()))?;
    }
    step("enter the zygote's mounts", system::enter_namespace(nest.mounts.as_fd()))?;
    step("enter the zygote's processes", system::enter_namespace(nest.processes.as_fd()))?;
    if beget(0, born, GUIDE)? {
        return Ok(Place::Guide);
    }
    if let Identity::Switch(user) = nest.identity {
        child::become_nobody(user)?;
    }
    // After a change of user the files of this process in `/proc` would be root's alone.
    let own = rustix::process::set_dumpable_behavior(DumpableBehavior::Dumpable);
    step("be seen by the spawner", own)?;
    let flags = libc::CLONE_NEWUSER
        | libc::CLONE_NEWNS
        | libc::CLONE_NEWPID
        | libc::CLONE_NEWIPC
        | libc::CLONE_NEWUTS
        | libc::CLONE_NEWNET;
    Ok(if beget(flags, born, SANDBOX)? { Place::Guide } else { Place::Sandbox })
}

/// Clones a child of the spawner and sends the spawner its descriptor, under the name of what it is;
/// false in the child.
fn beget(flags: i32, born: &Channel, what: &[u8]) -> StepResult<bool> {
    match step("clone a process", system::clone_sibling(flags))? {
        Cloned::Child => Ok(false),
        Cloned::Parent { descriptor, .. } => {
            step("tell the spawner", born.send(what, &[descriptor.as_fd()]))?;
            Ok(true)
        }
    }
}

/// The first process of a sandbox: makes it, has the zygote fill it, hands over what the clone begins
/// with, and then does nothing but pass SIGTERM on and collect the dead, until it is killed.
fn live(birth: Birth, nest: &Nest, copied: &Copied) -> StepResult<i32> {
    for door in &birth.doors {
        step("join the control groups", rustix::io::write(door, b"0"))?;
    }
    if nest.user.is_some() {
        step("map the user", map_own_user())?;
    }
    let (user, group) = (Uid::from_raw(USER_SHOWN), Gid::from_raw(USER_SHOWN));
    step("change the group", rustix::thread::set_thread_res_gid(group, group, group))?;
    step("change the user", rustix::thread::set_thread_res_uid(user, user, user))?;
    root::enter_copy(copied.temp_bytes)?;
    step("enter the root", std::env::set_current_dir("/"))?;
    let network = child::settle_in(copied.network)?;
    let rules = step("write landlock's rules", landlock::rules())?;
    let namespaces = namespaces()?;
    child::give_up(&birth)?;
    let hidden = rustix::process::set_dumpable_behavior(DumpableBehavior::NotDumpable);
    step("hide from the program", hidden)?;
    system::block_signals();
    let (mine, clones) = step("make a socket", Channel::pair())?;
    send_order(&birth, nest, &clones, rules.as_ref(), &namespaces)?;
    drop(clones);
    let Some(given) = birth.seat.as_ref().and_then(|seat| seat.receive().ok().flatten()) else {
        return Ok(0);
    };
    if let (Some(network), Some(server)) = (network, given.descriptors.get(2)) {
        let server = step("copy a socket", server.try_clone())?;
        network.hand_over(&Channel::from(server))?;
    }
    hand_over(&mine, &given.descriptors)?;
    // The clone says in the status pipe what becomes of it.
    child::close_everything();
    collect_the_dead()
}

/// Shows the clone its project, gives up the last privilege, and has the clone begin.
fn hand_over(clone: &Channel, given: &[OwnedFd]) -> StepResult {
    root::show_files(&child::read_files(given.last())?)?;
    child::drop_capabilities()?;
    let given: Vec<BorrowedFd<'_>> = given.iter().take(3).map(AsFd::as_fd).collect();
    step("have the clone begin", clone.send(b"begin", &given))
}

/// This process's own namespaces, in the order in which they can be entered.
fn namespaces() -> StepResult<Vec<OwnedFd>> {
    let names = ["user", "mnt", "pid", "ipc", "uts", "net"].into_iter();
    let opened = names.map(|name| std::fs::File::open(format!("/proc/self/ns/{name}")));
    let opened = opened.map(|file| file.map(OwnedFd::from)).collect::<io::Result<_>>();
    step("open the namespaces", opened)
}

/// What the zygote is told beside the descriptors: the socket on which the clone is told to begin, the
/// status pipe, landlock's rules if there are any, the namespaces, the doors of the groups.
#[derive(Debug, Serialize)]
struct Order<'a> {
    rules: bool,
    namespaces: usize,
    groups: usize,
    user: u32,
    data_bytes_max: Option<u64>,
    variables: BTreeMap<&'a str, &'a str>,
    filter: String,
}

fn send_order(
    birth: &Birth,
    nest: &Nest,
    clones: &Channel,
    rules: Option<&OwnedFd>,
    namespaces: &[OwnedFd],
) -> StepResult {
    let order = Order {
        rules: rules.is_some(),
        namespaces: namespaces.len(),
        groups: birth.doors.len(),
        user: USER_SHOWN,
        data_bytes_max: birth.plan.memory_bytes.filter(|_| birth.limit_process).map(data_bytes_max),
        variables: birth.plan.variables.iter().map(|(n, v)| (n.as_str(), v.as_str())).collect(),
        filter: seccomp::digits(),
    };
    let mut descriptors = vec![clones.as_fd(), birth.status.as_fd()];
    let others = rules.into_iter().chain(namespaces).chain(&birth.doors);
    descriptors.extend(others.map(AsFd::as_fd));
    let order = step("write the order", serde_json::to_vec(&order))?;
    step("send the zygote an order", nest.orders.send(&order, &descriptors))
}

fn collect_the_dead() -> ! {
    loop {
        if system::wait_for_signal() == libc::SIGTERM {
            // The function is the first that comes into this pid namespace, so it is number 2.
            system::kill(2, libc::SIGTERM);
        }
        while system::wait_child(-1).is_some() {}
    }
}
