//! Setup of a new process until its program starts.
//!
//! In a sandbox, the cloned process is the first process of its pid namespace. It builds the root
//! file system, drops all privileges and starts the program as its child. After that, it only
//! forwards SIGTERM and reaps processes. It exits when the program ends, and the kernel then kills
//! all other processes of the namespace. A function without a sandbox also has such a first
//! process, which adopts and kills its orphans. For a tool, the cloned process itself executes the
//! program.

use std::collections::BTreeMap;
use std::ffi::CString;
use std::fs;
use std::io::{self, Read, Seek};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;

use headwater_model::ProjectFiles;
use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::process::{DumpableBehavior, Resource, Rlimit};
use rustix::thread::CapabilitySet;
use rustix::thread::{Gid, Uid};
use serde::{Deserialize, Serialize};

use super::clone_sandbox::USER_SHOWN;
use super::memory_sampling::data_bytes_max;
use super::root_filesystem::{self, SetupError, StepResult, step};
use super::sandbox_sockets::SandboxSockets;
use super::seccomp::ProcessKind;
use super::system_calls::ReapedChild;
use super::time_slice::set_default_time_slice;
use super::{landlock, seccomp, system_calls};
use crate::channel::Channel;
use crate::spawner_protocol::{ProcessIsolation, ProcessSpec, SandboxSpec};

/// Maximum number of open file descriptors of a process.
const OPEN_FILES_MAX: u64 = 16_384;

/// Maximum locked memory of a process, in bytes.
const LOCKED_BYTES_MAX: u64 = 8 << 20;

/// Message to the spawner about a process, as one line of JSON in the status pipe.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) enum StatusMessage {
    /// A zygote has forked the function of a clone; `pid` is its id in the zygote's pid namespace.
    Cloned { pid: i32 },
    /// A function that a zygote forked has ended, with this wait status.
    Reaped { pid: i32, status: i32 },
    /// A step of the setup failed, so the program did not start.
    Failed { step: String, error: String },
    /// The program ended, with this wait status.
    Exited { status: i32 },
}

/// Signal to the first process of a function without a sandbox, to kill all descendants and exit.
pub(super) const END_ALL: rustix::process::Signal = rustix::process::Signal::USR1;

/// The user as which a sandboxed program runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ProcessUser {
    /// The user and group of the host with this id, which own no files. The spawner is root, and
    /// the process switches to this user.
    Switch(u32),
    /// The spawner's user, with this id inside the sandbox's user namespace.
    Mapped(u32),
    /// The user of the host with this id, which owns no files, mapped into a clone's user
    /// namespace.
    Shown(u32),
    /// The spawner's user. The spawner writes no user mapping.
    Same,
}

/// Settings and descriptors for the setup of a process.
pub(super) struct ProcessSetup {
    pub(super) spec: ProcessSpec,
    pub(super) identity: ProcessUser,
    /// True if no control group limits the memory. The setup then limits the address space of the
    /// process.
    pub(super) limit_process: bool,
    pub(super) stdout: OwnedFd,
    pub(super) stderr: OwnedFd,
    pub(super) control: Option<OwnedFd>,
    pub(super) files: Option<OwnedFd>,
    /// For a zygote: the socket on which it receives orders to fork clones.
    pub(super) orders: Option<OwnedFd>,
    /// For the first process of a clone's sandbox: the socket on which it receives the message that
    /// begins the call.
    pub(super) start_channel: Option<Channel>,
    /// For a clone: the `cgroup.procs` files, through which it joins its control groups.
    pub(super) cgroup_files: Vec<OwnedFd>,
    /// A pipe that receives a byte when the spawner has finished its part of the setup. If the
    /// spawner's part fails, the pipe is closed without a byte.
    pub(super) go: OwnedFd,
    pub(super) status: OwnedFd,
}

/// Runs a new process until it ends: its setup, then its program.
pub(super) fn run(setup: ProcessSetup) -> ! {
    close_spawner_descriptors(&setup, &[]);
    run_until_done(setup, set_up)
}

/// Waits until the spawner has finished its part of the setup. Then calls `run` and exits. If `run`
/// fails, first reports the error to the spawner.
pub(super) fn run_until_done(
    setup: ProcessSetup,
    run: impl FnOnce(ProcessSetup) -> StepResult<i32>,
) -> ! {
    let mut byte = [0];
    if rustix::io::read(&setup.go, &mut byte) != Ok(1) {
        system_calls::exit(1);
    }
    let status = setup.status.as_fd().try_clone_to_owned();
    let failed = match run(setup) {
        Ok(code) => system_calls::exit(code),
        Err(failed) => failed,
    };
    if let Ok(status) = status {
        report(&status, &failed);
    }
    system_calls::exit(127)
}

/// Closes all descriptors that the new process inherited from the spawner, except its own and
/// `more`.
pub(super) fn close_spawner_descriptors(setup: &ProcessSetup, more: &[BorrowedFd<'_>]) {
    // Tools get the default time slice. Zygotes and clones keep the spawner's short slice until
    // their CPU boost ends.
    if matches!(setup.spec.confinement, ProcessIsolation::Tool) {
        set_default_time_slice();
    }
    let mut kept = vec![&setup.stdout, &setup.stderr, &setup.go, &setup.status];
    kept.extend(&setup.control);
    kept.extend(&setup.files);
    kept.extend(&setup.orders);
    kept.extend(&setup.cgroup_files);
    let mut kept: Vec<i32> = kept.into_iter().map(AsRawFd::as_raw_fd).collect();
    kept.extend(setup.start_channel.iter().map(AsRawFd::as_raw_fd));
    kept.extend(more.iter().map(AsRawFd::as_raw_fd));
    system_calls::close_all_but(&kept);
    if let Ok(null) = fs::File::open("/dev/null") {
        let _ = system_calls::duplicate_onto(null.as_raw_fd(), 0);
    }
}

/// Redirects standard input, output and error to `/dev/null`, and closes all other descriptors.
pub(super) fn close_everything() {
    system_calls::close_all_but(&[]);
    for descriptor in [1, 2] {
        let _ = system_calls::duplicate_onto(0, descriptor);
    }
}

/// Reports a failed step in the status pipe.
pub(super) fn report(status: &OwnedFd, failed: &SetupError) {
    let (step, error) = (failed.step.clone(), failed.error.to_string());
    let _ = send(status, &StatusMessage::Failed { step, error });
}

fn send(status: &OwnedFd, note: &StatusMessage) -> io::Result<()> {
    let mut line = serde_json::to_vec(note)?;
    line.push(b'\n');
    // The line is short enough that the write to the pipe is atomic.
    rustix::io::write(status, &line)?;
    Ok(())
}

fn set_up(setup: ProcessSetup) -> StepResult<i32> {
    system_calls::be_expendable();
    if setup.spec.background {
        system_calls::run_in_background();
    }
    let files = read_files(setup.files.as_ref())?;
    match setup.spec.confinement.clone() {
        ProcessIsolation::Tool => {
            drop_privileges(&setup)?;
            execute(&setup)
        }
        ProcessIsolation::Folder(folder) => {
            step("write the files", root_filesystem::write_files(&folder, &files))?;
            step("create a temporary folder", fs::create_dir_all(folder.join("tmp")))?;
            let project = folder.join("project");
            step("create a folder", fs::create_dir_all(&project))?;
            step("change to the project's folder", std::env::set_current_dir(&project))?;
            adopt_orphans()?;
            // Block signals before another process can send a signal.
            system_calls::block_signals();
            drop_privileges(&setup)?;
            let ended = supervise(setup);
            system_calls::kill_descendants();
            ended
        }
        ProcessIsolation::Sandbox(sandbox) => {
            confine(&setup, &sandbox, &files)?;
            supervise(setup)
        }
        // Clones are set up by `clone_sandbox::run`.
        ProcessIsolation::Clone(_) => Ok(127),
    }
}

pub(super) fn read_files(files: Option<&OwnedFd>) -> StepResult<ProjectFiles> {
    let Some(files) = files else { return Ok(ProjectFiles::new()) };
    let read = || -> io::Result<ProjectFiles> {
        let mut file = fs::File::from(files.try_clone()?);
        let mut text = Vec::new();
        file.rewind()?;
        file.read_to_end(&mut text)?;
        Ok(serde_json::from_slice(&text)?)
    };
    step("read the files", read())
}

/// Creates the sandbox of this process and drops every privilege.
fn confine(setup: &ProcessSetup, sandbox: &SandboxSpec, files: &ProjectFiles) -> StepResult {
    let user = match setup.identity {
        ProcessUser::Switch(user) | ProcessUser::Mapped(user) => user,
        ProcessUser::Shown(_) | ProcessUser::Same => rustix::process::getuid().as_raw(),
    };
    root_filesystem::enter(sandbox, files, if setup.spec.zygote { USER_SHOWN } else { user })?;
    let network = set_up_network(sandbox.network)?;
    if let (Some(network), Some(server)) = (network, &setup.control) {
        let server = step("copy a socket", server.try_clone())?;
        network.send_to(&Channel::from(server))?;
    }
    if let ProcessUser::Switch(user) = setup.identity {
        switch_user(user)?;
    }
    drop_capabilities()?;
    drop_privileges(setup)
}

/// Sets the host name and brings up the loopback interface. If `network` is true, also creates the
/// network that the server serves.
pub(super) fn set_up_network(network: bool) -> StepResult<Option<SandboxSockets>> {
    step("set the host name", rustix::system::sethostname(b"headwater"))?;
    let socket =
        rustix::net::socket(rustix::net::AddressFamily::INET, rustix::net::SocketType::DGRAM, None);
    let socket = step("open a socket", socket)?;
    step("bring up the loopback interface", system_calls::bring_up_loopback(socket.as_fd()))?;
    network.then(SandboxSockets::create).transpose()
}

pub(super) fn drop_capabilities() -> StepResult {
    let none = rustix::thread::CapabilitySets {
        effective: CapabilitySet::empty(),
        permitted: CapabilitySet::empty(),
        inheritable: CapabilitySet::empty(),
    };
    step("drop capabilities", rustix::thread::set_capabilities(None, none))
}

/// Removes all capabilities from the bounding set, and switches to a user that owns no files.
pub(super) fn switch_user(user: u32) -> StepResult {
    for capability in CapabilitySet::all().iter() {
        // Ignore errors: the kernel may not know a capability, or the process may not have it.
        let _ = rustix::thread::remove_capability_from_bounding_set(capability);
    }
    let (uid, gid) = (Uid::from_raw(user), Gid::from_raw(user));
    step("drop groups", rustix::thread::set_thread_groups(&[]))?;
    step("change the group", rustix::thread::set_thread_res_gid(gid, gid, gid))?;
    step("change the user", rustix::thread::set_thread_res_uid(uid, uid, uid))
}

/// Makes this process the new parent of descendants whose parents have ended.
fn adopt_orphans() -> StepResult {
    let own = Some(rustix::process::getpid());
    step("become the reaper of orphaned processes", rustix::process::set_child_subreaper(own))
}

/// Drops the privileges that no process needs, with or without a sandbox. Makes the kernel kill
/// this process when the spawner ends.
pub(super) fn drop_privileges(setup: &ProcessSetup) -> StepResult {
    step("set no_new_privs", rustix::thread::set_no_new_privs(true))?;
    if !matches!(setup.spec.confinement, ProcessIsolation::Tool) {
        // Leave the session keyring, because keys are inherited across namespaces and users.
        step("join a new session keyring", system_calls::join_new_keyring())?;
        limit_resources();
    }
    let signal = match setup.spec.confinement {
        ProcessIsolation::Folder(_) => END_ALL,
        ProcessIsolation::Tool | ProcessIsolation::Sandbox(_) | ProcessIsolation::Clone(_) => {
            rustix::process::Signal::KILL
        }
    };
    let tied = rustix::process::set_parent_process_death_signal(Some(signal));
    step("set the parent-death signal", tied)?;
    if orphaned(&setup.status) {
        system_calls::exit(1);
    }
    if let (true, Some(bytes)) = (setup.limit_process, setup.spec.memory_bytes) {
        let most = Some(data_bytes_max(bytes));
        let limit = Rlimit { current: most, maximum: most };
        step("limit memory", rustix::process::setrlimit(Resource::Data, limit))?;
    }
    Ok(())
}

/// Sets resource limits that a correct function does not reach.
fn limit_resources() {
    for (resource, most) in [
        (Resource::Nofile, OPEN_FILES_MAX),
        (Resource::Memlock, LOCKED_BYTES_MAX),
        (Resource::Core, 0),
        (Resource::Rtprio, 0),
        (Resource::Nice, 0),
    ] {
        let maximum = rustix::process::getrlimit(resource).maximum.map_or(most, |m| m.min(most));
        let limit = Rlimit { current: Some(maximum), maximum: Some(maximum) };
        // Ignore errors: lowering a limit fails only if the kernel does not support this limit.
        let _ = rustix::process::setrlimit(resource, limit);
    }
}

/// Returns true if the spawner had already ended when this process requested to be killed at the
/// spawner's end. In that case, the spawner's end of the status pipe is closed.
fn orphaned(status: &OwnedFd) -> bool {
    let mut polled = [PollFd::new(status, PollFlags::empty())];
    let now = Timespec { tv_sec: 0, tv_nsec: 0 };
    let _ = rustix::event::poll(&mut polled, Some(&now));
    polled[0].revents().contains(PollFlags::ERR)
}

/// Starts the program and waits for its exit, as the first process of the sandbox.
fn supervise(setup: ProcessSetup) -> StepResult<i32> {
    if setup.spec.command.is_empty() {
        return Ok(0);
    }
    // Prevent the program, which runs as the same user, from tracing this process.
    let hidden = rustix::process::set_dumpable_behavior(DumpableBehavior::NotDumpable);
    step("disable core dumps of the process", hidden)?;
    system_calls::block_signals();
    let program = step("fork", system_calls::fork())?;
    if program == 0 {
        system_calls::unblock_signals();
        let failed = match restrict(&setup).and_then(|()| execute(&setup)) {
            Ok(code) => system_calls::exit(code),
            Err(failed) => failed,
        };
        report(&setup.status, &failed);
        system_calls::exit(127);
    }
    let ProcessSetup { status, stdout, stderr, control, files, orders, spec, .. } = setup;
    // Close this process's copies, so that the server reads the end of file when the program ends.
    drop((stdout, stderr, control, files, orders));
    let exited = wait_for(program, |waited| {
        if spec.zygote {
            // Writing fails only if the spawner has ended, which also kills this process.
            let _ =
                send(&status, &StatusMessage::Reaped { pid: waited.pid, status: waited.status });
        }
    });
    step("report", send(&status, &StatusMessage::Exited { status: exited }))?;
    Ok(0)
}

/// Applies the last restrictions before the program starts: landlock if the process has its own
/// root, and the system call filter. A zygote does not get landlock. Its clones apply landlock
/// themselves, because each clone has its own `/tmp`.
fn restrict(setup: &ProcessSetup) -> StepResult {
    if matches!(setup.spec.confinement, ProcessIsolation::Sandbox(_))
        && !setup.spec.zygote
        && let Some(rules) = step("write landlock's rules", landlock::rules())?
    {
        step("apply the Landlock rules", landlock::restrict(rules.as_fd()))?;
    }
    let whose = if setup.spec.zygote { ProcessKind::Zygote } else { ProcessKind::Function };
    step("filter system calls", seccomp::install(whose))
}

/// Forwards SIGTERM to the program and reaps processes until the program ends.
fn wait_for(program: i32, reaped: impl Fn(&ReapedChild)) -> i32 {
    loop {
        match system_calls::wait_for_signal() {
            libc::SIGTERM => system_calls::kill(program, libc::SIGTERM),
            libc::SIGUSR1 => {
                system_calls::kill_descendants();
                return libc::SIGKILL;
            }
            _ => {}
        }
        while let Some(waited) = system_calls::wait_child(-1) {
            if waited.pid == program {
                return waited.status;
            }
            reaped(&waited);
        }
    }
}

/// Executes the program in this process.
fn execute(setup: &ProcessSetup) -> StepResult<i32> {
    // Start a new session, so that signals of the terminal do not reach this process.
    let _ = rustix::process::setsid();
    let null = step("open /dev/null", fs::File::open("/dev/null"))?;
    // First copy the descriptors to numbers above all target numbers, so that no descriptor is
    // overwritten.
    let high = |fd: &dyn AsFd| rustix::io::fcntl_dupfd_cloexec(fd.as_fd(), 10);
    let mut wanted = vec![high(&null), high(&setup.stdout), high(&setup.stderr)];
    wanted.extend(setup.control.iter().chain(&setup.orders).map(|socket| high(socket)));
    for (target, descriptor) in wanted.into_iter().enumerate() {
        let descriptor = step("copy a descriptor", descriptor)?;
        step(
            "duplicate a descriptor to its target number",
            system_calls::duplicate_onto(descriptor.as_raw_fd(), target as i32),
        )?;
        std::mem::forget(descriptor);
    }
    let first = 3 + [&setup.control, &setup.orders].into_iter().flatten().count() as u32;
    step("close descriptors", system_calls::close_on_exec_from(first))?;
    let command =
        step("read the command", strings(setup.spec.command.iter().map(String::as_bytes)))?;
    let variables = step("read the variables", variables(&setup.spec))?;
    let program = setup.spec.command.first().cloned().unwrap_or_default();
    match system_calls::execute(&command, &variables) {
        Ok(never) => match never {},
        Err(error) => Err(SetupError { step: format!("start `{program}`"), error }),
    }
}

fn variables(spec: &ProcessSpec) -> io::Result<Vec<CString>> {
    let mut all: BTreeMap<Vec<u8>, Vec<u8>> = BTreeMap::new();
    if spec.inherit {
        all.extend(
            std::env::vars_os()
                .map(|(name, value)| (name.as_bytes().to_vec(), value.as_bytes().to_vec())),
        );
    }
    let own = spec.variables.iter();
    all.extend(own.map(|(name, value)| (name.clone().into_bytes(), value.clone().into_bytes())));
    strings(all.into_iter().map(|(name, value)| [name, value].join(&b'=')))
}

fn strings<T: Into<Vec<u8>>>(all: impl Iterator<Item = T>) -> io::Result<Vec<CString>> {
    Ok(all.map(CString::new).collect::<Result<_, _>>()?)
}
