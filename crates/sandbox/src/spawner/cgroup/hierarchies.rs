//! The cgroup hierarchies of this host.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::control_files::{keyed, number, remove_tree, set, write};
use super::process_cgroups::{CpuWeight, ProcessCgroups, set_cpu_limits};
use crate::process_identity::{current_identity, is_stale};
use crate::spawner_protocol::ProcessSpec;

/// Purpose of a cgroup hierarchy.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum HierarchyKind {
    /// Version 1 hierarchy that limits memory.
    Memory,
    /// Version 1 hierarchy that limits the number of processes.
    Processes,
    /// Version 1 hierarchy that counts CPU time.
    Processor,
    /// Version 1 hierarchy that distributes CPU time by weight.
    Shares,
    /// Version 2 hierarchy, which kills and measures processes. With `limits`, it also limits the
    /// resources of processes.
    Unified { limits: bool },
}

/// The hierarchies in which this spawner creates groups, as reported to the server.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(crate) struct CgroupHierarchies {
    hierarchies: Vec<(HierarchyKind, PathBuf)>,
}

/// Prefix of the names of the spawners' folders. A full name is `headwater-<pid>-<start time>`, so
/// that a later spawner can find and remove the folders of ended spawners.
pub(crate) const PREFIX: &str = "headwater-";

impl CgroupHierarchies {
    /// Detects the hierarchies of this host, creates this spawner's folders in them, and removes
    /// the folders of ended spawners.
    pub(crate) fn open() -> Self {
        let own = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
        let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
        let name = format!("{PREFIX}{}", current_identity());
        let mut hierarchies = Vec::new();
        for (kind, controller) in [
            (HierarchyKind::Memory, "memory"),
            (HierarchyKind::Processes, "pids"),
            (HierarchyKind::Processor, "cpuacct"),
            (HierarchyKind::Shares, "cpu"),
        ] {
            if let Some(base) = folder_of(&own, &mounts, Some(controller)) {
                let folder = base.join(&name);
                // Two controllers may share one hierarchy. If so, `hierarchies` already contains
                // the folder under the other controller.
                let shared = hierarchies.iter().any(|(_, other)| *other == folder);
                if !shared {
                    remove_stale(&base);
                }
                if shared || fs::create_dir(&folder).is_ok() {
                    match kind {
                        HierarchyKind::Shares => {
                            let _ = set(folder.join("cpu.shares"), SHARES.to_string());
                        }
                        HierarchyKind::Processes => bound_processes(&base, &folder),
                        _ => {}
                    }
                    hierarchies.push((kind, folder));
                }
            }
        }
        let limited = hierarchies.iter().any(|(kind, _)| *kind == HierarchyKind::Memory);
        if let Some(base) = folder_of(&own, &mounts, None) {
            hierarchies.extend(unified(&base, &name, !limited));
        }
        CgroupHierarchies { hierarchies }
    }

    /// Returns the folders that contain this spawner's groups.
    pub(crate) fn folders(&self) -> Vec<PathBuf> {
        self.hierarchies.iter().map(|(_, folder)| folder.clone()).collect()
    }

    /// Returns true if the memory of a process including its descendants can be limited.
    pub(crate) fn memory(&self) -> bool {
        self.any(HierarchyKind::Memory)
    }

    /// Returns true if the number of processes can be limited.
    pub(crate) fn processes(&self) -> bool {
        self.any(HierarchyKind::Processes)
    }

    /// Returns true if CPU time can be distributed by weight.
    pub(crate) fn processor_shares(&self) -> bool {
        let has_file = |(_, folder): &(HierarchyKind, PathBuf)| folder.join("cpu.weight").exists();
        self.any(HierarchyKind::Shares)
            && (self.hierarchies.iter().any(|(kind, _)| *kind == HierarchyKind::Shares)
                || self.hierarchies.iter().any(has_file))
    }

    /// Returns the CPU time of all processes that run or ran in the groups, in microseconds.
    pub(crate) fn total(&self) -> Option<u64> {
        let of = |(kind, folder): &(HierarchyKind, PathBuf)| match kind {
            HierarchyKind::Processor => number(folder, "cpuacct.usage").map(|nanos| nanos / 1000),
            HierarchyKind::Unified { .. } => keyed(folder, "cpu.stat", "usage_usec"),
            HierarchyKind::Memory | HierarchyKind::Processes | HierarchyKind::Shares => None,
        };
        self.hierarchies.iter().rev().find_map(of)
    }

    fn any(&self, wanted: HierarchyKind) -> bool {
        let full = HierarchyKind::Unified { limits: true };
        self.hierarchies.iter().any(|(kind, _)| *kind == wanted || *kind == full)
    }

    /// Returns the groups of a running process, for reading its usage.
    pub(crate) fn of(&self, id: u64) -> ProcessCgroups {
        let folder = |(kind, base): &(HierarchyKind, PathBuf)| (*kind, base.join(id.to_string()));
        ProcessCgroups::new(self.hierarchies.iter().map(folder).collect())
    }

    /// Returns the groups in these folders. The result can be used only to kill the processes in
    /// the groups and to remove the groups.
    #[cfg(test)]
    pub(crate) fn killing(folders: Vec<PathBuf>) -> Self {
        let of = |folder| (HierarchyKind::Unified { limits: false }, folder);
        CgroupHierarchies { hierarchies: folders.into_iter().map(of).collect() }
    }

    /// Creates the groups of one process.
    pub(crate) fn create(&self, id: u64, spec: &ProcessSpec) -> io::Result<ProcessCgroups> {
        let mut group = ProcessCgroups::default();
        match self.fill(&mut group, &id.to_string(), spec) {
            Ok(()) => Ok(group),
            Err(error) => {
                group.remove();
                Err(error)
            }
        }
    }

    fn fill(&self, group: &mut ProcessCgroups, name: &str, spec: &ProcessSpec) -> io::Result<()> {
        let (memory_bytes, processes_max) = (spec.memory_bytes, spec.processes_max);
        for (kind, base) in &self.hierarchies {
            let folder = base.join(name);
            if !group.folders.iter().any(|(_, other)| *other == folder) {
                fs::create_dir(&folder)?;
            }
            group.folders.push((*kind, folder.clone()));
            match kind {
                HierarchyKind::Memory => write(&folder, "memory.limit_in_bytes", memory_bytes)?,
                HierarchyKind::Processes => write(&folder, "pids.max", processes_max)?,
                HierarchyKind::Unified { limits: true } => {
                    write(&folder, "memory.max", memory_bytes)?;
                    write(&folder, "pids.max", processes_max)?;
                    // Disable swap, so that a function that exceeds its limit is killed instead of
                    // slowing down the host.
                    let _ = set(folder.join("memory.swap.max"), "0");
                    let _ = set(folder.join("memory.oom.group"), "1");
                    group.share = set_cpu_limits(&folder, spec, ["cpu.weight", "cpu.max"])?;
                }
                HierarchyKind::Shares => {
                    group.share =
                        set_cpu_limits(&folder, spec, ["cpu.shares", "cpu.cfs_quota_us"])?;
                }
                HierarchyKind::Processor | HierarchyKind::Unified { limits: false } => {}
            }
            if *kind == HierarchyKind::Memory {
                let _ = write(&folder, "memory.memsw.limit_in_bytes", memory_bytes);
            }
        }
        // Boost only the processes of calls. Tools and zygotes keep their low weight, because no
        // call waits for them.
        if spec.serves_a_call() {
            group.set_weight(CpuWeight::Boosted);
        }
        Ok(())
    }

    /// Kills all processes in this spawner's groups, and removes the groups.
    pub(crate) fn remove_all(&self) {
        for (_, folder) in &self.hierarchies {
            remove_tree(folder);
        }
    }
}

/// Creates this spawner's folder in the version 2 hierarchy. With `limits`, the folder is a sibling
/// of this process's own group if possible, because a group that contains processes cannot delegate
/// controllers. Otherwise, the folder is a child of the own group.
fn unified(base: &Path, name: &str, limits: bool) -> Option<(HierarchyKind, PathBuf)> {
    let bases = [base.parent().filter(|_| limits), Some(base)];
    for base in bases.into_iter().flatten() {
        remove_stale(base);
        let folder = base.join(name);
        if fs::create_dir(&folder).is_err() {
            continue;
        }
        if !limits {
            return Some((HierarchyKind::Unified { limits }, folder));
        }
        for controllers in ["+memory +pids", "+cpu"] {
            let _ = set(base.join("cgroup.subtree_control"), controllers);
        }
        if set(folder.join("cgroup.subtree_control"), "+memory +pids").is_ok() {
            let _ = set(folder.join("cgroup.subtree_control"), "+cpu");
            let _ = set(folder.join("cpu.weight"), WEIGHT.to_string());
            bound_processes(base, &folder);
            return Some((HierarchyKind::Unified { limits: true }, folder));
        }
        let _ = fs::remove_dir(&folder);
    }
    let folder = base.join(name);
    fs::create_dir(&folder).is_ok().then_some((HierarchyKind::Unified { limits: false }, folder))
}

/// Limits the number of processes in all groups together. Half of all process ids remain for the
/// rest of the host.
fn bound_processes(base: &Path, folder: &Path) {
    let most = fs::read_to_string("/proc/sys/kernel/pid_max");
    let most = most.ok().and_then(|text| text.trim().parse::<u64>().ok());
    let most = most.into_iter().chain(number(base, "pids.max")).min();
    if let Some(most) = most {
        // Ignore an error: the file does not exist if the pids controller is not enabled.
        let _ = set(folder.join("pids.max"), (most / 2).max(1).to_string());
    }
}

/// Returns the path of this process's own group in the hierarchy of a version 1 controller. If
/// `controller` is `None`, returns the path of its group in version 2.
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

/// CPU weight of all groups together, in version 1 and in version 2. It is a quarter of the default
/// weight, which the server has.
const SHARES: u64 = 256;
const WEIGHT: u64 = 25;

/// Kills the remaining processes of ended spawners, and removes the folders of these spawners.
fn remove_stale(base: &Path) {
    for entry in fs::read_dir(base).into_iter().flatten().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        if name.strip_prefix(PREFIX).is_some_and(is_stale) {
            remove_tree(&entry.path());
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
