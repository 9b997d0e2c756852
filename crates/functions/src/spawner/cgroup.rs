//! Control groups: what limits and measures a process and all it starts.
//!
//! Hosts differ. Where version 2 has the controllers, one group does everything. On hybrid hosts
//! the limits are version 1's, and version 2 still kills and measures. Where none can be made,
//! which is what an ordinary user without delegation meets, [`Cgroups::memory`] says so.

use std::fs;
use std::io::{self, Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use serde::{Deserialize, Serialize};

use super::plan::{Plan, Taken};
use super::serve::PROMPT_SLICE;
use super::{identity, system};

/// What one hierarchy is good for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
enum Kind {
    /// Version 1, limits memory.
    Memory,
    /// Version 1, limits the number of processes.
    Processes,
    /// Version 1, counts processor time.
    Processor,
    /// Version 1, shares out processor time.
    Shares,
    /// Version 2: kills and measures, and limits where it has the controllers.
    Unified { limits: bool },
}

/// The groups this spawner may make. The server is told of them.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(crate) struct Cgroups {
    hierarchies: Vec<(Kind, PathBuf)>,
}

/// The groups of one process.
#[derive(Debug, Default)]
pub(super) struct Group {
    folders: Vec<(Kind, PathBuf)>,
    /// Version 2's file of the most memory, once it was made to forget.
    peak: OnceLock<fs::File>,
    /// What it weighs, and where that stands for others.
    weight: Weight,
    share: Option<Share>,
}

/// What a group weighs against others that want the same processors.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) enum Weight {
    /// That of one that has just been called: more than any that runs for long.
    Prompt,
    /// By the memory it may hold.
    #[default]
    Settled,
}

/// The file of a group's share of the processors, and the two that it may have.
#[derive(Debug)]
struct Share {
    file: PathBuf,
    prompt: u64,
    settled: u64,
}

/// What the groups of a process measured.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Measured {
    pub(super) cpu_us: Option<u64>,
    pub(super) memory_bytes_peak: Option<u64>,
    pub(super) out_of_memory: bool,
}

/// Folders are called `headwater-<pid>-<start time>`, so that what a dead spawner left is known.
pub(super) const PREFIX: &str = "headwater-";

impl Cgroups {
    /// Finds what this host offers, and removes what dead spawners left.
    pub(super) fn open() -> Self {
        let own = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
        let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
        let name = format!("{PREFIX}{}", identity::own());
        let mut hierarchies = Vec::new();
        for (kind, controller) in [
            (Kind::Memory, "memory"),
            (Kind::Processes, "pids"),
            (Kind::Processor, "cpuacct"),
            (Kind::Shares, "cpu"),
        ] {
            if let Some(base) = folder_of(&own, &mounts, Some(controller)) {
                let folder = base.join(&name);
                // Two controllers may be one hierarchy.
                let shared = hierarchies.iter().any(|(_, other)| *other == folder);
                if !shared {
                    remove_stale(&base);
                }
                if shared || fs::create_dir(&folder).is_ok() {
                    match kind {
                        Kind::Shares => {
                            let _ = set(folder.join("cpu.shares"), SHARES.to_string());
                        }
                        Kind::Processes => bound_processes(&base, &folder),
                        _ => {}
                    }
                    hierarchies.push((kind, folder));
                }
            }
        }
        let limited = hierarchies.iter().any(|(kind, _)| *kind == Kind::Memory);
        if let Some(base) = folder_of(&own, &mounts, None) {
            hierarchies.extend(unified(&base, &name, !limited));
        }
        Cgroups { hierarchies }
    }

    /// The folders that hold this spawner's groups.
    pub(super) fn folders(&self) -> Vec<PathBuf> {
        self.hierarchies.iter().map(|(_, folder)| folder.clone()).collect()
    }

    /// Whether memory is limited for a process and all it starts together.
    pub(super) fn memory(&self) -> bool {
        self.any(Kind::Memory)
    }

    /// Whether the number of processes is limited.
    pub(super) fn processes(&self) -> bool {
        self.any(Kind::Processes)
    }

    /// Whether processor time is shared out.
    pub(super) fn processor_shares(&self) -> bool {
        let has_file = |(_, folder): &(Kind, PathBuf)| folder.join("cpu.weight").exists();
        self.any(Kind::Shares)
            && (self.hierarchies.iter().any(|(kind, _)| *kind == Kind::Shares)
                || self.hierarchies.iter().any(has_file))
    }

    /// The processor time of everything in the groups, ever, in microseconds.
    pub(super) fn total(&self) -> Option<u64> {
        let of = |(kind, folder): &(Kind, PathBuf)| match kind {
            Kind::Processor => number(folder, "cpuacct.usage").map(|nanos| nanos / 1000),
            Kind::Unified { .. } => keyed(folder, "cpu.stat", "usage_usec"),
            Kind::Memory | Kind::Processes | Kind::Shares => None,
        };
        self.hierarchies.iter().rev().find_map(of)
    }

    fn any(&self, wanted: Kind) -> bool {
        let full = Kind::Unified { limits: true };
        self.hierarchies.iter().any(|(kind, _)| *kind == wanted || *kind == full)
    }

    /// The groups of a process that has been started, for whoever only stops and measures it.
    pub(super) fn of(&self, id: u64) -> Group {
        let folder = |(kind, base): &(Kind, PathBuf)| (*kind, base.join(id.to_string()));
        Group { folders: self.hierarchies.iter().map(folder).collect(), ..Group::default() }
    }

    /// Groups that can kill and nothing else.
    #[cfg(test)]
    pub(super) fn killing(folders: Vec<PathBuf>) -> Self {
        let of = |folder| (Kind::Unified { limits: false }, folder);
        Cgroups { hierarchies: folders.into_iter().map(of).collect() }
    }

    /// Makes the groups for one process.
    pub(super) fn create(&self, id: u64, plan: &Plan) -> io::Result<Group> {
        let mut group = Group::default();
        match self.fill(&mut group, &id.to_string(), plan) {
            Ok(()) => Ok(group),
            Err(error) => {
                group.remove();
                Err(error)
            }
        }
    }

    fn fill(&self, group: &mut Group, name: &str, plan: &Plan) -> io::Result<()> {
        let (memory_bytes, processes_max) = (plan.memory_bytes, plan.processes_max);
        for (kind, base) in &self.hierarchies {
            let folder = base.join(name);
            if !group.folders.iter().any(|(_, other)| *other == folder) {
                fs::create_dir(&folder)?;
            }
            group.folders.push((*kind, folder.clone()));
            match kind {
                Kind::Memory => write(&folder, "memory.limit_in_bytes", memory_bytes)?,
                Kind::Processes => write(&folder, "pids.max", processes_max)?,
                Kind::Unified { limits: true } => {
                    write(&folder, "memory.max", memory_bytes)?;
                    write(&folder, "pids.max", processes_max)?;
                    // Without these a host with swap would only become slow.
                    let _ = set(folder.join("memory.swap.max"), "0");
                    let _ = set(folder.join("memory.oom.group"), "1");
                    group.share = share_out(&folder, plan, ["cpu.weight", "cpu.max"])?;
                }
                Kind::Shares => {
                    group.share = share_out(&folder, plan, ["cpu.shares", "cpu.cfs_quota_us"])?;
                }
                Kind::Processor | Kind::Unified { limits: false } => {}
            }
            if *kind == Kind::Memory {
                let _ = write(&folder, "memory.memsw.limit_in_bytes", memory_bytes);
            }
        }
        // Tools and zygotes have nobody who waits for their answer.
        if plan.serves_a_call() {
            group.weigh(Weight::Prompt);
        }
        Ok(())
    }

    /// Removes every group; what is still in one is killed.
    pub(super) fn remove_all(&self) {
        for (_, folder) in &self.hierarchies {
            remove_tree(folder);
        }
    }
}

impl Group {
    /// Puts a process into the groups.
    pub(super) fn add(&self, pid: i32) -> io::Result<()> {
        for (_, folder) in &self.folders {
            set(folder.join("cgroup.procs"), pid.to_string())?;
        }
        Ok(())
    }

    /// Files into which a process writes `0` to join the groups.
    pub(super) fn doors(&self) -> io::Result<Vec<OwnedFd>> {
        let doors = self.folders.iter().map(|(_, folder)| folder.join("cgroup.procs"));
        doors.map(|door| Ok(fs::OpenOptions::new().write(true).open(door)?.into())).collect()
    }

    /// Kills every process in the groups.
    pub(super) fn kill(&self) {
        for (_, folder) in &self.folders {
            kill_all(folder);
        }
    }

    /// The processes in the groups.
    pub(super) fn processes(&self) -> Vec<i32> {
        let Some((_, folder)) = self.folders.first() else { return Vec::new() };
        let listed = fs::read_to_string(folder.join("cgroup.procs")).unwrap_or_default();
        listed.lines().filter_map(|line| line.parse().ok()).collect()
    }

    /// What was measured so far.
    pub(super) fn measure(&self) -> Measured {
        let mut measured = Measured::default();
        // Version 2 is the last, and counts processor time more finely than version 1 does.
        for (kind, folder) in self.folders.iter().rev() {
            match kind {
                Kind::Memory => {
                    measured.memory_bytes_peak = number(folder, "memory.max_usage_in_bytes");
                    measured.out_of_memory |=
                        keyed(folder, "memory.oom_control", "oom_kill") > Some(0);
                }
                Kind::Processor if measured.cpu_us.is_none() => {
                    let nanos = number(folder, "cpuacct.usage");
                    measured.cpu_us = nanos.map(|nanos| nanos / 1000);
                }
                Kind::Unified { limits } => {
                    measured.cpu_us = keyed(folder, "cpu.stat", "usage_usec");
                    if *limits {
                        measured.memory_bytes_peak = self.peak(folder);
                        measured.out_of_memory |=
                            keyed(folder, "memory.events", "oom_kill") > Some(0);
                    }
                }
                Kind::Processor | Kind::Processes | Kind::Shares => {}
            }
        }
        measured
    }

    /// Has it weigh this against others.
    pub(super) fn weigh(&mut self, weight: Weight) {
        let Some(share) = self.share.as_ref().filter(|_| self.weight != weight) else { return };
        let number = if weight == Weight::Prompt { share.prompt } else { share.settled };
        // A host whose controller is somebody else's has no such file.
        let _ = set(&share.file, number.to_string());
        self.weight = weight;
        self.take_turns();
    }

    /// Has what came into it, of a zygote whose turns are short, do as its weight says.
    pub(super) fn came(&self) {
        if self.weight == Weight::Settled {
            self.take_turns();
        }
    }

    /// Has its threads, and what they start, take turns as its weight says: what answers shortly need not
    /// wait until another's turn is over, and what calculates for long has turns that end for it.
    fn take_turns(&self) {
        let slice = (self.weight == Weight::Prompt).then_some(PROMPT_SLICE);
        let Some((kind, folder)) = self.folders.first() else { return };
        let list = if matches!(kind, Kind::Unified { .. }) { "cgroup.threads" } else { "tasks" };
        let threads = fs::read_to_string(folder.join(list)).unwrap_or_default();
        for thread in threads.lines().filter_map(|line| line.parse().ok()) {
            system::have_turns_of(thread, slice);
        }
    }

    /// Stops every process in the groups where it is, or has it go on.
    pub(super) fn freeze(&self, frozen: bool) -> io::Result<()> {
        let unified = self.folders.iter().find(|(kind, _)| matches!(kind, Kind::Unified { .. }));
        let (_, folder) = unified.ok_or(io::ErrorKind::Unsupported)?;
        set(folder.join("cgroup.freeze"), if frozen { "1" } else { "0" })
    }

    /// The most memory held since that was last forgotten.
    fn peak(&self, folder: &Path) -> Option<u64> {
        let Some(file) = self.peak.get() else { return number(folder, "memory.peak") };
        let mut text = [0; 32];
        let length = file.read_at(&mut text, 0).ok()?;
        std::str::from_utf8(&text[..length]).ok()?.trim().parse().ok()
    }

    /// Forgets it. The kernel does so for one open file alone; one of old remembers it for ever.
    fn forget_peak(&self, folder: &Path) -> io::Result<()> {
        if self.peak.get().is_none() {
            let path = folder.join("memory.peak");
            let file = fs::OpenOptions::new().read(true).write(true).open(path)?;
            let _ = self.peak.set(file);
        }
        self.peak.get().map_or(Ok(()), |file| file.write_all_at(b"0", 0))
    }

    /// What was taken so far, where all is known and well; the peak of memory begins anew.
    pub(super) fn taken(&self) -> Option<Taken> {
        let Measured { cpu_us, memory_bytes_peak, out_of_memory } = self.measure();
        if out_of_memory {
            return None;
        }
        for (kind, folder) in &self.folders {
            let _ = match kind {
                Kind::Memory => set(folder.join("memory.max_usage_in_bytes"), "0"),
                Kind::Unified { limits: true } => self.forget_peak(folder),
                _ => Ok(()),
            };
        }
        Some(Taken { cpu_us: cpu_us?, for_it_us: 0, memory_bytes_peak: memory_bytes_peak? })
    }

    /// Removes the groups; false where something is still in one.
    pub(super) fn remove(&mut self) -> bool {
        self.folders.retain(|(_, folder)| fs::remove_dir(folder).is_err() && folder.exists());
        self.folders.is_empty()
    }
}

/// Version 2: where the controllers are wanted, beside this process's group or below it.
fn unified(base: &Path, name: &str, limits: bool) -> Option<(Kind, PathBuf)> {
    let bases = [base.parent().filter(|_| limits), Some(base)];
    for base in bases.into_iter().flatten() {
        remove_stale(base);
        let folder = base.join(name);
        if fs::create_dir(&folder).is_err() {
            continue;
        }
        if !limits {
            return Some((Kind::Unified { limits }, folder));
        }
        for controllers in ["+memory +pids", "+cpu"] {
            let _ = set(base.join("cgroup.subtree_control"), controllers);
        }
        if set(folder.join("cgroup.subtree_control"), "+memory +pids").is_ok() {
            let _ = set(folder.join("cgroup.subtree_control"), "+cpu");
            let _ = set(folder.join("cpu.weight"), WEIGHT.to_string());
            bound_processes(base, &folder);
            return Some((Kind::Unified { limits: true }, folder));
        }
        let _ = fs::remove_dir(&folder);
    }
    let folder = base.join(name);
    fs::create_dir(&folder).is_ok().then_some((Kind::Unified { limits: false }, folder))
}

/// Leaves the rest of the host half of the processes that there may be.
fn bound_processes(base: &Path, folder: &Path) {
    let most = fs::read_to_string("/proc/sys/kernel/pid_max");
    let most = most.ok().and_then(|text| text.trim().parse::<u64>().ok());
    let most = most.into_iter().chain(number(base, "pids.max")).min();
    if let Some(most) = most {
        // Where there is no such file nothing counts them.
        let _ = set(folder.join("pids.max"), (most / 2).max(1).to_string());
    }
}

/// This process's folder in the hierarchy of a version 1 controller, or in version 2.
fn folder_of(own: &str, mounts: &str, controller: Option<&str>) -> Option<PathBuf> {
    let path = own.lines().find_map(|line| {
        let mut parts = line.splitn(3, ':').skip(1);
        let controllers = parts.next()?;
        let path = parts.next()?;
        let found = match controller {
            Some(wanted) => controllers.split(',').any(|one| one == wanted),
            None => controllers.is_empty(),
        };
        found.then_some(path)
    })?;
    mounts.lines().find_map(|line| {
        let (before, after) = line.split_once(" - ")?;
        let mut after = after.split(' ');
        let kind = after.next()?;
        let options = after.nth(1)?;
        let found = match controller {
            Some(wanted) => kind == "cgroup" && options.split(',').any(|one| one == wanted),
            None => kind == "cgroup2",
        };
        let mut fields = before.split(' ').skip(3);
        let (root, point) = (fields.next()?, fields.next()?);
        let below = Path::new(path).strip_prefix(root).ok()?;
        found.then(|| Path::new(point).join(below))
    })
}

/// What all groups together weigh against a busy program beside them, in version 1 and in version 2: a
/// quarter of it. The server is such a program, and everything waits for the server.
const SHARES: u64 = 256;
const WEIGHT: u64 = 25;

/// What a group has that weighs as much as is usual.
const USUAL_MEMORY: u64 = 4 << 30;
const PERIOD_US: u64 = 100_000;

/// Gives a group its share of the processors, by the memory it may hold, and its limit, if any.
/// Both files have the same form in both versions but for the usual share and the period.
fn share_out(folder: &Path, plan: &Plan, [file, limit]: [&str; 2]) -> io::Result<Option<Share>> {
    let (usual, period) = if file == "cpu.weight" { (100, true) } else { (1024, false) };
    let prompt = usual * 8;
    let settled = match plan.memory_bytes.filter(|_| plan.serves_a_call()) {
        Some(memory) => (usual * memory / USUAL_MEMORY).clamp(usual / 16, prompt),
        None if plan.background => 2,
        // Tools and zygotes, which several may wait for, but nobody's call is.
        None => usual / 8,
    };
    let share = Share { file: folder.join(file), prompt, settled };
    // A host whose controller is somebody else's has no such file.
    let _ = set(&share.file, share.settled.to_string());
    let share = Some(share);
    let Some(millis) = plan.cpu_millis else { return Ok(share) };
    let quota = (u64::from(millis) * PERIOD_US / 1000).max(1000);
    let text = if period { format!("{quota} {PERIOD_US}") } else { quota.to_string() };
    match set(folder.join(limit), text) {
        // The server has said when it started that nothing holds back functions here.
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(share),
        done => done.map(|()| share),
    }
}

fn write(folder: &Path, file: &str, limit: Option<u64>) -> io::Result<()> {
    match limit {
        Some(limit) => set(folder.join(file), limit.to_string()),
        None => Ok(()),
    }
}

/// Writes a control file that is there: a file system of another kind would gladly make a new one.
fn set(path: impl AsRef<Path>, text: impl AsRef<str>) -> io::Result<()> {
    fs::OpenOptions::new().write(true).open(path)?.write_all(text.as_ref().as_bytes())
}

fn number(folder: &Path, file: &str) -> Option<u64> {
    text(folder, file)?.trim().parse().ok()
}

/// What a control file with a few numbers says. The kernel gives it whole to a single read, and each call
/// to it that can be done without is one that no answer waits for.
fn text(folder: &Path, file: &str) -> Option<String> {
    let mut bytes = [0; 4096];
    let length = fs::File::open(folder.join(file)).ok()?.read(&mut bytes).ok()?;
    String::from_utf8(bytes[..length].to_vec()).ok()
}

fn keyed(folder: &Path, file: &str, key: &str) -> Option<u64> {
    let text = text(folder, file)?;
    let line = text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(' '))?;
    line.trim().parse().ok()
}

/// Removes the folders of spawners that are gone.
fn remove_stale(base: &Path) {
    for entry in fs::read_dir(base).into_iter().flatten().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        if name.strip_prefix(PREFIX).is_some_and(identity::is_stale) {
            remove_tree(&entry.path());
        }
    }
}

/// Kills what is in a group and in those below it, and removes them all.
pub(super) fn remove_tree(folder: &Path) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        if entry.path().is_dir() {
            remove_tree(&entry.path());
        }
    }
    // A process takes a moment to leave its group after it was killed.
    for _ in 0..200 {
        if fs::remove_dir(folder).is_ok() || !folder.exists() {
            return;
        }
        kill_all(folder);
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
}

fn kill_all(folder: &Path) {
    if set(folder.join("cgroup.kill"), "1").is_ok() {
        return;
    }
    let processes = fs::read_to_string(folder.join("cgroup.procs")).unwrap_or_default();
    for pid in processes.lines().filter_map(|line| line.parse::<i32>().ok()) {
        // 0 is a process of another pid namespace, and would be this one's own group.
        if pid > 0 {
            super::system::kill(pid, libc::SIGKILL);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MOUNTS: &str = "\
30 24 0:26 / /sys/fs/cgroup/memory rw,relatime - cgroup cgroup rw,memory
31 24 0:27 / /sys/fs/cgroup/cpu,cpuacct rw,relatime - cgroup cgroup rw,cpu,cpuacct
32 24 0:28 /docker/abc /sys/fs/cgroup/unified rw,nosuid - cgroup2 cgroup2 rw";

    #[test]
    fn this_processs_folders_are_found() {
        let own = "4:memory:/api/16ec\n2:cpu,cpuacct:/\n0::/docker/abc/x";
        let check = |controller, path: Option<&str>| {
            assert_eq!(folder_of(own, MOUNTS, controller), path.map(PathBuf::from));
        };
        check(Some("memory"), Some("/sys/fs/cgroup/memory/api/16ec"));
        check(Some("cpuacct"), Some("/sys/fs/cgroup/cpu,cpuacct"));
        check(Some("pids"), None);
        check(None, Some("/sys/fs/cgroup/unified/x"));
    }
}
