//! Sandbox of a clone, created inside the sandbox of its zygote.
//!
//! A zygote has no privileges, so it cannot create namespaces or mounts. The spawner cannot create
//! a process with the zygote's memory. So the work is divided between the spawner and the zygote:
//!
//! 1. The spawner starts a *fork helper*. The helper enters the zygote's namespaces, switches to
//!    the zygote's user and clones the first process of a new sandbox. This process is in a new
//!    user namespace, which belongs to the zygote's user and owns all other new namespaces.
//! 2. The first process mounts the clone's own file systems, drops its privileges and sends the
//!    zygote an order with its namespaces.
//! 3. The zygote forks. The fork may enter the namespaces, because its user owns them. To enter the
//!    pid namespace, it forks again. The new process drops the gained privileges, and waits.
//!
//! All these steps happen before the call. At the start of the call, the first process mounts the
//! project, drops its last privilege and sends the clone its descriptors. If the project is in a
//! folder of the host, the spawner sends a detached read-only mount of this folder. So the sandbox
//! can reach no other folder. The end of the spawner kills the first process, which ends all
//! processes of the sandbox.

use std::collections::BTreeMap;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::process::DumpableBehavior;
use rustix::thread::{Gid, Uid};
use serde::Serialize;

use super::memory_sampling::data_bytes_max;
use super::process_setup::{self, ProcessSetup, ProcessUser};
use super::root_filesystem::{self, StepResult, step};
use super::system_calls::CloneResult;
use super::{landlock, seccomp, system_calls};
use crate::channel::Channel;
use crate::spawner_protocol::CloneSpec;

/// The user id inside a clone's sandbox.
pub(super) const USER_SHOWN: u32 = 1000;

/// Returns the user mapping that the spawner writes for a clone's user namespace.
pub(super) fn identity(identity: ProcessUser) -> ProcessUser {
    match identity {
        ProcessUser::Switch(user) => ProcessUser::Shown(user),
        // The spawner cannot write the mapping, because it is outside the zygote's user namespace.
        // So the clone maps its own user.
        ProcessUser::Mapped(_) | ProcessUser::Shown(_) | ProcessUser::Same => ProcessUser::Same,
    }
}

/// Maps this process's user to the same id in the parent user namespace.
fn map_current_user() -> io::Result<()> {
    std::fs::write("/proc/self/setgroups", "deny")?;
    let map = format!("{USER_SHOWN} {USER_SHOWN} 1");
    std::fs::write("/proc/self/gid_map", &map)?;
    std::fs::write("/proc/self/uid_map", &map)
}

/// Report of the first fork helper: it has cloned the second fork helper.
pub(super) const FORK_HELPER: &[u8] = b"helper";

/// Report of the second fork helper: it has cloned the first process of the sandbox.
const SANDBOX: &[u8] = b"sandbox";

/// A zygote's namespaces, in which the sandboxes of its clones are created, and its socket.
#[derive(Debug)]
pub(super) struct ZygoteNamespaces {
    /// The user namespace, if the zygote has its own.
    user: Option<OwnedFd>,
    mounts: OwnedFd,
    processes: OwnedFd,
    identity: ProcessUser,
    /// Socket for orders to the zygote to fork a clone.
    orders: Channel,
}

impl ZygoteNamespaces {
    /// Opens the namespaces of a zygote that was just cloned and has not run yet.
    pub(super) fn open(pid: i32, identity: ProcessUser, orders: Channel) -> io::Result<Self> {
        let namespace = |name: &str| -> io::Result<OwnedFd> {
            Ok(std::fs::File::open(format!("/proc/{pid}/ns/{name}"))?.into())
        };
        let user = match identity {
            ProcessUser::Mapped(_) => Some(namespace("user")?),
            ProcessUser::Switch(_) | ProcessUser::Shown(_) | ProcessUser::Same => None,
        };
        let (mounts, processes) = (namespace("mnt")?, namespace("pid")?);
        Ok(ZygoteNamespaces { user, mounts, processes, identity, orders })
    }

    /// Returns the descriptors that a fork helper needs.
    fn descriptors(&self) -> Vec<BorrowedFd<'_>> {
        let user = self.user.iter().map(AsFd::as_fd);
        user.chain([self.mounts.as_fd(), self.processes.as_fd(), self.orders.as_fd()]).collect()
    }
}

/// Runs the two fork helpers. Each helper reports the process that it has cloned on the socket
/// `spawner`. The process that the second helper clones continues as the first process of the new
/// sandbox.
pub(super) fn run(
    setup: ProcessSetup,
    zygote: &ZygoteNamespaces,
    clone: &CloneSpec,
    spawner: &Channel,
) -> ! {
    let mut kept = zygote.descriptors();
    kept.push(spawner.as_fd());
    process_setup::close_spawner_descriptors(&setup, &kept);
    match fork_helpers(zygote, spawner) {
        Ok(CloneRole::ForkHelper) => system_calls::exit(0),
        Ok(CloneRole::FirstProcess) => {
            process_setup::run_until_done(setup, |setup| run_first_process(setup, zygote, clone))
        }
        Err(failed) => {
            process_setup::report(&setup.status, &failed);
            system_calls::exit(127)
        }
    }
}

/// Role of the current process after [`fork_helpers`], which returns in several processes.
enum CloneRole {
    ForkHelper,
    FirstProcess,
}

/// Enters the zygote's namespaces and clones the first process of a sandbox there.
fn fork_helpers(zygote: &ZygoteNamespaces, spawner: &Channel) -> StepResult<CloneRole> {
    if let Some(user) = &zygote.user {
        step("join the original user namespace", system_calls::enter_namespace(user.as_fd()))?;
    }
    step(
        "join the original mount namespace",
        system_calls::enter_namespace(zygote.mounts.as_fd()),
    )?;
    step(
        "join the original PID namespace",
        system_calls::enter_namespace(zygote.processes.as_fd()),
    )?;
    if clone_and_report(0, spawner, FORK_HELPER)? {
        return Ok(CloneRole::ForkHelper);
    }
    if let ProcessUser::Switch(user) = zygote.identity {
        process_setup::switch_user(user)?;
    }
    // Make the process dumpable: otherwise, its files in `/proc` belong to root after the switch to
    // another user.
    let own = rustix::process::set_dumpable_behavior(DumpableBehavior::Dumpable);
    step("make the process dumpable", own)?;
    let flags = libc::CLONE_NEWUSER
        | libc::CLONE_NEWNS
        | libc::CLONE_NEWPID
        | libc::CLONE_NEWIPC
        | libc::CLONE_NEWUTS
        | libc::CLONE_NEWNET;
    let is_helper = clone_and_report(flags, spawner, SANDBOX)?;
    Ok(if is_helper { CloneRole::ForkHelper } else { CloneRole::FirstProcess })
}

/// Clones a sibling, which is a child of the spawner, and sends the spawner the `report` with the
/// sibling's pidfd. Returns false in the new process.
fn clone_and_report(flags: i32, spawner: &Channel, report: &[u8]) -> StepResult<bool> {
    match step("clone a process", system_calls::clone_sibling(flags))? {
        CloneResult::Child => Ok(false),
        CloneResult::Parent { descriptor, .. } => {
            step("report to the spawner", spawner.send(report, &[descriptor.as_fd()]))?;
            Ok(true)
        }
    }
}

/// Runs the first process of a sandbox. It creates the sandbox, orders the zygote to fork the
/// clone, and passes the descriptors of the call to the clone. After that, it only forwards SIGTERM
/// and reaps processes until it is killed.
fn run_first_process(
    setup: ProcessSetup,
    zygote: &ZygoteNamespaces,
    clone: &CloneSpec,
) -> StepResult<i32> {
    for file in &setup.cgroup_files {
        step("join the control groups", rustix::io::write(file, b"0"))?;
    }
    if zygote.user.is_some() {
        step("map the user", map_current_user())?;
    }
    let (user, group) = (Uid::from_raw(USER_SHOWN), Gid::from_raw(USER_SHOWN));
    step("change the group", rustix::thread::set_thread_res_gid(group, group, group))?;
    step("change the user", rustix::thread::set_thread_res_uid(user, user, user))?;
    root_filesystem::enter_copy(clone.temp_bytes)?;
    step("change to the root folder", std::env::set_current_dir("/"))?;
    let network = process_setup::set_up_network(clone.network)?;
    let rules = step("create the Landlock rules", landlock::rules())?;
    let namespaces = namespaces()?;
    process_setup::drop_privileges(&setup)?;
    let hidden = rustix::process::set_dumpable_behavior(DumpableBehavior::NotDumpable);
    step("disable core dumps of the process", hidden)?;
    system_calls::block_signals();
    let (own, other) = step("create a socket", Channel::pair())?;
    send_order(&setup, zygote, &other, rules.as_ref(), &namespaces)?;
    drop(other);
    let begin = setup.start_channel.as_ref().and_then(|channel| channel.receive().ok().flatten());
    let Some(begin) = begin else { return Ok(0) };
    if let (Some(network), Some(server)) = (network, begin.descriptors.get(2)) {
        let server = step("copy a socket", server.try_clone())?;
        network.send_to(&Channel::from(server))?;
    }
    begin_clone(&own, &begin.descriptors)?;
    // This process needs no descriptors any more: the exit of the clone is reported in the status
    // pipe of its zygote.
    process_setup::close_everything();
    reap_processes()
}

/// Mounts the project, drops the last privilege and starts the call of the clone.
fn begin_clone(clone: &Channel, descriptors: &[OwnedFd]) -> StepResult {
    root_filesystem::show_files(&process_setup::read_files(descriptors.get(3))?)?;
    if let Some(project) = descriptors.get(4) {
        root_filesystem::show_project(project)?;
    }
    process_setup::drop_capabilities()?;
    let descriptors: Vec<BorrowedFd<'_>> = descriptors.iter().take(3).map(AsFd::as_fd).collect();
    step("start the cloned process", clone.send(b"begin", &descriptors))
}

/// Opens this process's namespaces, in a valid order for entering them.
fn namespaces() -> StepResult<Vec<OwnedFd>> {
    let names = ["user", "mnt", "pid", "ipc", "uts", "net"].into_iter();
    let opened = names.map(|name| std::fs::File::open(format!("/proc/self/ns/{name}")));
    let opened = opened.map(|file| file.map(OwnedFd::from)).collect::<io::Result<_>>();
    step("open the namespaces", opened)
}

/// Order to the zygote to fork a clone. Descriptors: the clone's socket, the status pipe, the
/// landlock rules if any, the namespaces, and the files for joining the control groups.
#[derive(Debug, Serialize)]
struct CloneRequest<'a> {
    rules: bool,
    namespaces: usize,
    groups: usize,
    user: u32,
    data_bytes_max: Option<u64>,
    variables: BTreeMap<&'a str, &'a str>,
    filter: String,
}

fn send_order(
    setup: &ProcessSetup,
    zygote: &ZygoteNamespaces,
    clone: &Channel,
    rules: Option<&OwnedFd>,
    namespaces: &[OwnedFd],
) -> StepResult {
    let order = CloneRequest {
        rules: rules.is_some(),
        namespaces: namespaces.len(),
        groups: setup.cgroup_files.len(),
        user: USER_SHOWN,
        data_bytes_max: setup.spec.memory_bytes.filter(|_| setup.limit_process).map(data_bytes_max),
        variables: setup.spec.variables.iter().map(|(n, v)| (n.as_str(), v.as_str())).collect(),
        filter: seccomp::digits(),
    };
    let mut descriptors = vec![clone.as_fd(), setup.status.as_fd()];
    let others = rules.into_iter().chain(namespaces).chain(&setup.cgroup_files);
    descriptors.extend(others.map(AsFd::as_fd));
    let order = step("write the clone request", serde_json::to_vec(&order))?;
    step("send the clone request", zygote.orders.send(&order, &descriptors))
}

fn reap_processes() -> ! {
    loop {
        if system_calls::wait_for_signal() == libc::SIGTERM {
            // The function is the second process of this pid namespace, after the first process. So
            // its id is 2.
            system_calls::kill(2, libc::SIGTERM);
        }
        while system_calls::wait_child(-1).is_some() {}
    }
}
