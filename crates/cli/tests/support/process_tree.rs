//! A process and its descendants in `/proc`, and the kernel resources that can outlive them.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// A process: its id and its start time, in ticks since boot.
pub type Process = (i32, u64);

/// Details of a process.
pub struct Member {
    pub parent: i32,
    /// The command line.
    pub command: String,
    /// The process name (`comm`).
    pub name: String,
}

/// Lists the processes of this machine, without zombies.
pub fn processes() -> BTreeMap<Process, Member> {
    let mut found = BTreeMap::new();
    for entry in fs::read_dir("/proc").expect("/proc").flatten() {
        let Ok(pid) = entry.file_name().to_string_lossy().parse::<i32>() else { continue };
        let Ok(stat) = fs::read_to_string(entry.path().join("stat")) else { continue };
        let Some((start, rest)) = stat.rsplit_once(") ") else { continue };
        let fields: Vec<&str> = rest.split_whitespace().collect();
        let command = fs::read(entry.path().join("cmdline")).unwrap_or_default();
        let command = String::from_utf8_lossy(&command).replace('\0', " ");
        let name = start.split_once('(').map_or("", |(_, name)| name).to_owned();
        if fields[0] != "Z" {
            let started = fields[19].parse().expect("a start time");
            let parent = fields[1].parse().expect("a parent");
            found.insert((pid, started), Member { parent, command, name });
        }
    }
    found
}

/// Returns a process and its descendants.
pub fn family(root: i32) -> BTreeMap<Process, Member> {
    let all = processes();
    let mut members = BTreeSet::from([root]);
    loop {
        let more = all.iter().filter(|(_, member)| members.contains(&member.parent));
        let more: Vec<i32> = more.map(|((pid, _), _)| *pid).collect();
        let before = members.len();
        members.extend(more);
        if members.len() == before {
            break;
        }
    }
    all.into_iter().filter(|((pid, _), _)| members.contains(pid)).collect()
}

/// Returns true if any of these processes is alive.
pub fn alive(some: &BTreeSet<Process>) -> bool {
    let all = processes();
    some.iter().any(|process| all.contains_key(process))
}

/// Returns the nesting depth of a process's PID namespace. A zygote is one level below its server,
/// and its clones are two levels below.
pub fn depth(pid: i32) -> usize {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("NSpid:"));
    line.map_or(0, |line| line.split_whitespace().count())
}

/// Returns the current time in ticks since boot.
pub fn now() -> u64 {
    let uptime = fs::read_to_string("/proc/uptime").expect("the machine's time");
    let (whole, rest) = uptime.split_once(' ').expect("a time").0.split_once('.').expect("parts");
    whole.parse::<u64>().expect("seconds") * 100 + rest.parse::<u64>().expect("hundredths")
}

/// Unnamed kernel resources of processes: namespaces and unlinked files.
#[derive(Default, Clone)]
pub struct Held {
    pub namespaces: BTreeSet<String>,
    pub files: BTreeSet<String>,
}

impl Held {
    /// Collects the resources that processes hold, except the resources that the test process also
    /// holds.
    pub fn by(some: impl IntoIterator<Item = i32>) -> Held {
        let mut held = Held::default();
        for pid in some {
            held.add(pid);
        }
        let mut own = Held::default();
        own.add(i32::try_from(std::process::id()).expect("a pid"));
        held.without(&own)
    }

    pub fn without(&self, other: &Held) -> Held {
        Held {
            namespaces: self.namespaces.difference(&other.namespaces).cloned().collect(),
            files: self.files.difference(&other.files).cloned().collect(),
        }
    }

    fn overlaps(&self, other: &Held) -> bool {
        !self.namespaces.is_disjoint(&other.namespaces) || !self.files.is_disjoint(&other.files)
    }

    fn add(&mut self, pid: i32) {
        let folder = PathBuf::from(format!("/proc/{pid}"));
        for entry in fs::read_dir(folder.join("ns")).into_iter().flatten().flatten() {
            self.namespaces.extend(link(&entry.path()));
        }
        for entry in fs::read_dir(folder.join("fd")).into_iter().flatten().flatten() {
            let Some(target) = link(&entry.path()) else { continue };
            if is_namespace(&target) {
                self.namespaces.insert(target);
            } else if has_no_name(&target)
                && let Ok(file) = fs::metadata(entry.path())
            {
                let (major, minor) = (rustix::fs::major(file.dev()), rustix::fs::minor(file.dev()));
                self.files.insert(format!("{major:02x}:{minor:02x} {}", file.ino()));
            }
        }
        for line in fs::read_to_string(folder.join("maps")).unwrap_or_default().lines() {
            let fields: Vec<&str> = line.split_whitespace().collect();
            if fields.get(5..).is_some_and(|path| has_no_name(&path.join(" "))) {
                self.files.insert(format!("{} {}", fields[3], fields[4]));
            }
        }
    }
}

fn link(path: &Path) -> Option<String> {
    Some(fs::read_link(path).ok()?.to_string_lossy().into_owned())
}

/// Returns true if a file never had a name: a memfd, a file of an internal mount, or an
/// `O_TMPFILE`. A deleted file, such as a rebuilt program, is not unnamed.
fn has_no_name(target: &str) -> bool {
    let Some(path) = target.strip_suffix(" (deleted)") else { return false };
    let last = path.rsplit('/').next().unwrap_or_default();
    path.starts_with("/memfd:") || last.starts_with('#') || path.matches('/').count() == 1
}

fn is_namespace(target: &str) -> bool {
    let kinds = ["cgroup", "ipc", "mnt", "net", "pid", "time", "user", "uts"];
    target.split_once(":[").is_some_and(|(kind, _)| kinds.contains(&kind))
}

/// Returns the processes started before `time` that still hold any of these resources. Skips later
/// processes, because they can reuse inode numbers.
pub fn holders(held: &Held, time: u64) -> Vec<i32> {
    let older = processes().into_keys().filter(|(_, started)| *started < time);
    older.map(|(pid, _)| pid).filter(|pid| Held::by([*pid]).overlaps(held)).collect()
}

/// Lists the control groups of these spawners.
pub fn groups(spawners: &BTreeSet<i32>) -> Vec<PathBuf> {
    fn below(folder: &Path, depth: u32, found: &mut Vec<PathBuf>) {
        for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            if name.starts_with("headwater-") {
                found.push(entry.path());
            } else if depth > 0 && entry.path().is_dir() {
                below(&entry.path(), depth - 1, found);
            }
        }
    }
    let mut found = Vec::new();
    below(Path::new("/sys/fs/cgroup"), 4, &mut found);
    let ours = |path: &PathBuf| {
        let name = path.file_name().expect("a name").to_string_lossy().into_owned();
        let pid = name.split('-').nth(1).and_then(|pid| pid.parse().ok());
        pid.is_some_and(|pid: i32| spawners.contains(&pid))
    };
    found.into_iter().filter(ours).collect()
}

/// Lists the mounts below a folder and the mounts that pin a namespace, in this process's mount
/// namespace.
pub fn mounts(folder: &Path) -> BTreeSet<String> {
    let folder = folder.to_string_lossy().into_owned();
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    let ours = |line: &&str| line.contains(&folder) || line.contains(" - nsfs ");
    mounts.lines().filter(ours).map(str::to_owned).collect()
}

/// Returns the memory of shared-memory files, including huge pages, in bytes.
pub fn shared_bytes() -> u64 {
    let text = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let of = |name: &str| -> u64 {
        let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
        let number = line.and_then(|line| line.split_whitespace().next()?.parse().ok());
        number.unwrap_or(0)
    };
    let huge = (of("HugePages_Total") - of("HugePages_Free")) * of("Hugepagesize");
    (of("Shmem") + huge) << 10
}
