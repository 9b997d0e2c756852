//! What a new process does between its birth and its program.
//!
//! In a sandbox the clone becomes the first process of its pid namespace: it builds the root, gives
//! up every privilege, starts the program as its child, and then does nothing but pass SIGTERM on
//! and collect the dead. When the program ends it ends too, and the kernel kills whatever is left
//! in the namespace. A function without a sandbox has such a first process, too, which all its
//! orphans come to and which kills them. One of our own tools is the clone itself.

use std::collections::BTreeMap;
use std::ffi::CString;
use std::fs;
use std::io::{self, Read, Seek};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::process::{DumpableBehavior, Resource, Rlimit};
use rustix::thread::CapabilitySet;
use rustix::thread::{Gid, Uid};
use serde::{Deserialize, Serialize};

use super::Channel;
use super::clone::USER_SHOWN;
use super::memory::data_bytes_max;
use super::network::Network;
use super::plan::{Plan, Sandbox, Work};
use super::root::{self, StepError, StepResult, step};
use super::seccomp::For;
use super::serve::work_steadily;
use super::system::Waited;
use super::{landlock, seccomp, system};

/// The most descriptors of one process of a function.
const OPEN_FILES_MAX: u64 = 16_384;

/// The most memory that a function may keep from being swapped out.
const LOCKED_BYTES_MAX: u64 = 8 << 20;

/// What a child tells the spawner through its status pipe, one line each.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) enum Note {
    /// A zygote's fork became the function; its id is that in the zygote's pid namespace.
    Cloned { pid: i32 },
    /// A function that a zygote forked has ended, with this status of wait.
    Reaped { pid: i32, status: i32 },
    /// A step failed; the program never ran.
    Failed { step: String, error: String },
    /// The program ended, with this status of wait.
    Exited { status: i32 },
}

/// Tells the first process of a function without a sandbox to kill all it started, and end.
pub(super) const END_ALL: rustix::process::Signal = rustix::process::Signal::USR1;

/// As whom a sandboxed program runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Identity {
    /// Root changes to this user and group of the host, which own nothing.
    Switch(u32),
    /// The user namespace shows the spawner's own user as this one.
    Mapped(u32),
    /// A clone's user namespace shows this user of the host, who owns nothing.
    Shown(u32),
    /// As whoever the spawner runs as.
    Same,
}

/// What a child is born with.
pub(super) struct Birth {
    pub(super) plan: Plan,
    pub(super) identity: Identity,
    /// Whether the spawner samples its memory, because no control group limits it.
    pub(super) limit_process: bool,
    pub(super) stdout: OwnedFd,
    pub(super) stderr: OwnedFd,
    pub(super) control: Option<OwnedFd>,
    pub(super) files: Option<OwnedFd>,
    /// Where a zygote takes its orders.
    pub(super) orders: Option<OwnedFd>,
    /// Where the first process of a clone's sandbox is told to have it begin.
    pub(super) seat: Option<Channel>,
    /// What a clone passes through to join its control groups.
    pub(super) doors: Vec<OwnedFd>,
    /// Readable once the spawner has done its part; closed without a byte where it could not.
    pub(super) go: OwnedFd,
    pub(super) status: OwnedFd,
}

/// Runs the child's part to its end.
pub(super) fn run(birth: Birth) -> ! {
    leave_the_spawner_behind(&birth, &[]);
    run_until_done(birth, live)
}

/// Waits for the spawner to have done its part, lives, and reports where that fails.
pub(super) fn run_until_done(birth: Birth, live: impl FnOnce(Birth) -> StepResult<i32>) -> ! {
    let mut byte = [0];
    if rustix::io::read(&birth.go, &mut byte) != Ok(1) {
        system::exit(1);
    }
    let status = birth.status.as_fd().try_clone_to_owned();
    let failed = match live(birth) {
        Ok(code) => system::exit(code),
        Err(failed) => failed,
    };
    if let Ok(status) = status {
        report(&status, &failed);
    }
    system::exit(127)
}

/// Closes the spawner's own descriptors but these, above all its socket to the server, and those of
/// the other children.
pub(super) fn leave_the_spawner_behind(birth: &Birth, more: &[BorrowedFd<'_>]) {
    // What a zygote does is short, and its clones do as it does.
    if matches!(birth.plan.walls, Work::Tool) {
        work_steadily();
    }
    let mut kept = vec![&birth.stdout, &birth.stderr, &birth.go, &birth.status];
    kept.extend(&birth.control);
    kept.extend(&birth.files);
    kept.extend(&birth.orders);
    kept.extend(&birth.doors);
    let mut kept: Vec<i32> = kept.into_iter().map(AsRawFd::as_raw_fd).collect();
    kept.extend(birth.seat.iter().map(AsRawFd::as_raw_fd));
    kept.extend(more.iter().map(AsRawFd::as_raw_fd));
    system::close_all_but(&kept);
    if let Ok(null) = fs::File::open("/dev/null") {
        let _ = system::duplicate_onto(null.as_raw_fd(), 0);
    }
}

/// Closes everything but the standard descriptors, for a process that uses nothing of it again.
pub(super) fn close_everything() {
    system::close_all_but(&[]);
    for descriptor in [1, 2] {
        let _ = system::duplicate_onto(0, descriptor);
    }
}

/// Reports a step that failed.
pub(super) fn report(status: &OwnedFd, failed: &StepError) {
    let (step, error) = (failed.step.clone(), failed.error.to_string());
    let _ = tell(status, &Note::Failed { step, error });
}

fn tell(status: &OwnedFd, note: &Note) -> io::Result<()> {
    let mut line = serde_json::to_vec(note)?;
    line.push(b'\n');
    // Shorter than a pipe takes at once.
    rustix::io::write(status, &line)?;
    Ok(())
}

fn live(birth: Birth) -> StepResult<i32> {
    system::be_expendable();
    if birth.plan.background {
        system::run_in_background();
    }
    let files = read_files(birth.files.as_ref())?;
    match birth.plan.walls.clone() {
        Work::Tool => {
            give_up(&birth)?;
            execute(&birth)
        }
        Work::Folder(folder) => {
            step("write the files", root::write_files(&folder, &files))?;
            step("make a temporary folder", fs::create_dir_all(folder.join("tmp")))?;
            let project = folder.join("project");
            step("make a folder", fs::create_dir_all(&project))?;
            step("enter the project", std::env::set_current_dir(&project))?;
            adopt_orphans()?;
            // Before anything can send them.
            system::block_signals();
            give_up(&birth)?;
            let ended = supervise(birth);
            system::kill_descendants();
            ended
        }
        Work::Sandbox(sandbox) => {
            wall_in(&birth, &sandbox, &files)?;
            supervise(birth)
        }
        // Those are made where their zygote is.
        Work::Clone(_) => Ok(127),
    }
}

pub(super) fn read_files(files: Option<&OwnedFd>) -> StepResult<BTreeMap<String, String>> {
    let Some(files) = files else { return Ok(BTreeMap::new()) };
    let read = || -> io::Result<BTreeMap<String, String>> {
        let mut file = fs::File::from(files.try_clone()?);
        let mut text = Vec::new();
        file.rewind()?;
        file.read_to_end(&mut text)?;
        Ok(serde_json::from_slice(&text)?)
    };
    step("read the files", read())
}

/// Builds the sandbox around this process and gives up every privilege.
fn wall_in(birth: &Birth, sandbox: &Sandbox, files: &BTreeMap<String, String>) -> StepResult {
    let user = match birth.identity {
        Identity::Switch(user) | Identity::Mapped(user) => user,
        Identity::Shown(_) | Identity::Same => rustix::process::getuid().as_raw(),
    };
    root::enter(sandbox, files, if birth.plan.zygote { USER_SHOWN } else { user })?;
    let network = settle_in(sandbox.network)?;
    if let (Some(network), Some(server)) = (network, &birth.control) {
        let server = step("copy a socket", server.try_clone())?;
        network.hand_over(&Channel::from(server))?;
    }
    if let Identity::Switch(user) = birth.identity {
        become_nobody(user)?;
    }
    drop_capabilities()?;
    give_up(birth)
}

/// Names the host, brings up the loopback, and makes the network where there is to be one.
pub(super) fn settle_in(network: bool) -> StepResult<Option<Network>> {
    step("name the host", rustix::system::sethostname(b"headwater"))?;
    let socket =
        rustix::net::socket(rustix::net::AddressFamily::INET, rustix::net::SocketType::DGRAM, None);
    let socket = step("open a socket", socket)?;
    step("bring up the loopback", system::loopback_up(socket.as_fd()))?;
    network.then(Network::make).transpose()
}

pub(super) fn drop_capabilities() -> StepResult {
    let none = rustix::thread::CapabilitySets {
        effective: CapabilitySet::empty(),
        permitted: CapabilitySet::empty(),
        inheritable: CapabilitySet::empty(),
    };
    step("drop capabilities", rustix::thread::set_capabilities(None, none))
}

pub(super) fn become_nobody(user: u32) -> StepResult {
    for capability in CapabilitySet::all().iter() {
        // Those that this kernel does not know, or this process does not have, need no dropping.
        let _ = rustix::thread::remove_capability_from_bounding_set(capability);
    }
    let (uid, gid) = (Uid::from_raw(user), Gid::from_raw(user));
    step("drop groups", rustix::thread::set_thread_groups(&[]))?;
    step("change the group", rustix::thread::set_thread_res_gid(gid, gid, gid))?;
    step("change the user", rustix::thread::set_thread_res_uid(uid, uid, uid))
}

/// Makes this process the one that its descendants are left to when their parents end.
fn adopt_orphans() -> StepResult {
    let own = Some(rustix::process::getpid());
    step("adopt orphans", rustix::process::set_child_subreaper(own))
}

/// What every child gives up, sandbox or not; and from here on it dies with the spawner.
pub(super) fn give_up(birth: &Birth) -> StepResult {
    step("refuse new privileges", rustix::thread::set_no_new_privs(true))?;
    if !matches!(birth.plan.walls, Work::Tool) {
        // A session's keys are inherited, whatever namespaces and users change.
        step("leave the session's keys behind", system::join_new_keyring())?;
        limit_resources();
    }
    let signal = match birth.plan.walls {
        Work::Folder(_) => END_ALL,
        Work::Tool | Work::Sandbox(_) | Work::Clone(_) => rustix::process::Signal::KILL,
    };
    let tied = rustix::process::set_parent_process_death_signal(Some(signal));
    step("tie life to the spawner", tied)?;
    if orphaned(&birth.status) {
        system::exit(1);
    }
    if let (true, Some(bytes)) = (birth.limit_process, birth.plan.memory_bytes) {
        let most = Some(data_bytes_max(bytes));
        let limit = Rlimit { current: most, maximum: most };
        step("limit memory", rustix::process::setrlimit(Resource::Data, limit))?;
    }
    Ok(())
}

/// Ceilings that no function comes near and a runaway one meets.
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
        // Lowering a limit is always allowed; what the kernel does not know needs no limit.
        let _ = rustix::process::setrlimit(resource, limit);
    }
}

/// Whether the spawner, which holds the other end of the pipe, was gone before it could be noticed.
fn orphaned(status: &OwnedFd) -> bool {
    let mut polled = [PollFd::new(status, PollFlags::empty())];
    let now = Timespec { tv_sec: 0, tv_nsec: 0 };
    let _ = rustix::event::poll(&mut polled, Some(&now));
    polled[0].revents().contains(PollFlags::ERR)
}

/// Starts the program and waits for it, as the first process of the sandbox.
fn supervise(birth: Birth) -> StepResult<i32> {
    if birth.plan.command.is_empty() {
        return Ok(0);
    }
    // The program, which is of the same user, must not trace its way into this process.
    let hidden = rustix::process::set_dumpable_behavior(DumpableBehavior::NotDumpable);
    step("hide from the program", hidden)?;
    system::block_signals();
    let program = step("fork", system::fork())?;
    if program == 0 {
        system::unblock_signals();
        let failed = match wall_off(&birth).and_then(|()| execute(&birth)) {
            Ok(code) => system::exit(code),
            Err(failed) => failed,
        };
        report(&birth.status, &failed);
        system::exit(127);
    }
    let Birth { status, stdout, stderr, control, files, orders, plan, .. } = birth;
    // Whoever reads these must see their end when the program is gone.
    drop((stdout, stderr, control, files, orders));
    let exited = wait_for(program, |waited| {
        if plan.zygote {
            // Where this fails the spawner is gone, and this process about to be.
            let _ = tell(&status, &Note::Reaped { pid: waited.pid, status: waited.status });
        }
    });
    step("report", tell(&status, &Note::Exited { status: exited }))?;
    Ok(0)
}

/// The last walls before the program: landlock where there is a root of its own, and the filter of
/// system calls. A zygote's clones have another `/tmp`, so that they put up landlock themselves.
fn wall_off(birth: &Birth) -> StepResult {
    if matches!(birth.plan.walls, Work::Sandbox(_))
        && !birth.plan.zygote
        && let Some(rules) = step("write landlock's rules", landlock::rules())?
    {
        step("restrict by landlock", landlock::restrict(rules.as_fd()))?;
    }
    let whose = if birth.plan.zygote { For::Zygote } else { For::Function };
    step("filter system calls", seccomp::install(whose))
}

/// Passes SIGTERM on to the program and collects the dead, until the program is one of them.
fn wait_for(program: i32, collected: impl Fn(&Waited)) -> i32 {
    loop {
        match system::wait_for_signal() {
            libc::SIGTERM => system::kill(program, libc::SIGTERM),
            libc::SIGUSR1 => {
                system::kill_descendants();
                return libc::SIGKILL;
            }
            _ => {}
        }
        while let Some(waited) = system::wait_child(-1) {
            if waited.pid == program {
                return waited.status;
            }
            collected(&waited);
        }
    }
}

/// Becomes the program.
fn execute(birth: &Birth) -> StepResult<i32> {
    // A tool keeps the terminal's process group out of its life, too.
    let _ = rustix::process::setsid();
    let null = step("open /dev/null", fs::File::open("/dev/null"))?;
    // Out of the way of the numbers that are about to be given.
    let high = |fd: &dyn AsFd| rustix::io::fcntl_dupfd_cloexec(fd.as_fd(), 10);
    let mut wanted = vec![high(&null), high(&birth.stdout), high(&birth.stderr)];
    wanted.extend(birth.control.iter().chain(&birth.orders).map(|socket| high(socket)));
    for (target, descriptor) in wanted.into_iter().enumerate() {
        let descriptor = step("copy a descriptor", descriptor)?;
        step("place a descriptor", system::duplicate_onto(descriptor.as_raw_fd(), target as i32))?;
        std::mem::forget(descriptor);
    }
    let first = 3 + [&birth.control, &birth.orders].into_iter().flatten().count() as u32;
    step("close descriptors", system::close_on_exec_from(first))?;
    let command =
        step("read the command", strings(birth.plan.command.iter().map(String::as_bytes)))?;
    let variables = step("read the variables", variables(&birth.plan))?;
    let program = birth.plan.command.first().cloned().unwrap_or_default();
    match system::execute(&command, &variables) {
        Ok(never) => match never {},
        Err(error) => Err(StepError { step: format!("start `{program}`"), error }),
    }
}

fn variables(plan: &Plan) -> io::Result<Vec<CString>> {
    let mut all: BTreeMap<Vec<u8>, Vec<u8>> = BTreeMap::new();
    if plan.inherit {
        all.extend(
            std::env::vars_os()
                .map(|(name, value)| (name.as_bytes().to_vec(), value.as_bytes().to_vec())),
        );
    }
    let own = plan.variables.iter();
    all.extend(own.map(|(name, value)| (name.clone().into_bytes(), value.clone().into_bytes())));
    strings(all.into_iter().map(|(name, value)| [name, value].join(&b'=')))
}

fn strings<T: Into<Vec<u8>>>(all: impl Iterator<Item = T>) -> io::Result<Vec<CString>> {
    Ok(all.map(CString::new).collect::<Result<_, _>>()?)
}

/// Removes a folder of files that a child was given.
pub(super) fn remove_folder(folder: &Path) {
    let _ = fs::remove_dir_all(folder);
}
