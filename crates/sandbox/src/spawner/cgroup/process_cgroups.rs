//! Control groups of one process.

use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use super::super::system_calls;
use super::super::time_slice::SHORT_SLICE;
use super::control_files::{ControlFile, kill_all, set};
use super::hierarchies::HierarchyKind;
use crate::spawner_protocol::{ProcessSpec, ResourceUsage};

/// File with the peak memory in bytes, cgroup version 2.
const MEMORY_PEAK: &str = "memory.peak";
/// File with the peak memory in bytes, cgroup version 1.
const MEMORY_PEAK_V1: &str = "memory.max_usage_in_bytes";

/// The control groups of one process, one in each cgroup hierarchy.
#[derive(Debug, Default)]
pub(crate) struct ProcessCgroups {
    pub(super) folders: Vec<(HierarchyKind, PathBuf)>,
    files: UsageFiles,
    weight: CpuWeight,
    pub(super) share: Option<CpuWeightFile>,
}

/// The files from which a process is measured. They stay open, because a process that serves many
/// calls is measured after each call.
#[derive(Debug, Default)]
struct UsageFiles {
    cpu: ControlFile,
    /// The file of the peak memory. Writing to it resets the peak; in version 2, the reset affects
    /// only later reads of the same open file.
    peak: ControlFile,
    out_of_memory: ControlFile,
}

/// The two CPU weights that the groups of a process can have.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) enum CpuWeight {
    /// The weight during a CPU boost, at the start of a call.
    Boosted,
    /// The weight derived from the memory limit.
    #[default]
    Normal,
}

/// The CPU weight file of a group, and the two weights that can be written to it.
#[derive(Debug)]
pub(super) struct CpuWeightFile {
    file: PathBuf,
    boosted: u64,
    normal: u64,
}

/// Resource usage, as read from the control files of the groups.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct GroupUsage {
    pub(crate) cpu_us: Option<u64>,
    pub(crate) memory_bytes_peak: Option<u64>,
    pub(crate) out_of_memory: bool,
}

impl ProcessCgroups {
    pub(super) fn new(folders: Vec<(HierarchyKind, PathBuf)>) -> Self {
        ProcessCgroups { folders, ..ProcessCgroups::default() }
    }

    /// Moves a process into the groups.
    pub(crate) fn add(&self, pid: i32) -> io::Result<()> {
        for (_, folder) in &self.folders {
            set(folder.join("cgroup.procs"), pid.to_string())?;
        }
        Ok(())
    }

    /// Opens the `cgroup.procs` files. A process that writes `0` to them joins the groups.
    pub(crate) fn join_files(&self) -> io::Result<Vec<OwnedFd>> {
        let files = self.folders.iter().map(|(_, folder)| folder.join("cgroup.procs"));
        files.map(|file| Ok(fs::OpenOptions::new().write(true).open(file)?.into())).collect()
    }

    /// Kills every process in the groups.
    pub(crate) fn kill(&self) {
        for (_, folder) in &self.folders {
            kill_all(folder);
        }
    }

    /// Returns the processes in the groups.
    pub(crate) fn processes(&self) -> Vec<i32> {
        let Some((_, folder)) = self.folders.first() else { return Vec::new() };
        let listed = fs::read_to_string(folder.join("cgroup.procs")).unwrap_or_default();
        listed.lines().filter_map(|line| line.parse().ok()).collect()
    }

    /// Reads the usage so far from the control files.
    pub(crate) fn measure(&self) -> GroupUsage {
        let mut measured = GroupUsage::default();
        let UsageFiles { cpu, peak, out_of_memory } = &self.files;
        // Start with the folder of version 2, which is the last one, because its CPU time has a
        // finer resolution.
        for (kind, folder) in self.folders.iter().rev() {
            match kind {
                HierarchyKind::Memory => {
                    measured.memory_bytes_peak = peak.number(folder, MEMORY_PEAK_V1);
                    measured.out_of_memory |=
                        out_of_memory.keyed(folder, "memory.oom_control", "oom_kill") > Some(0);
                }
                HierarchyKind::Processor if measured.cpu_us.is_none() => {
                    let nanos = cpu.number(folder, "cpuacct.usage");
                    measured.cpu_us = nanos.map(|nanos| nanos / 1000);
                }
                HierarchyKind::Unified { limits } => {
                    measured.cpu_us = cpu.keyed(folder, "cpu.stat", "usage_usec");
                    if *limits {
                        measured.memory_bytes_peak = peak.number(folder, MEMORY_PEAK);
                        measured.out_of_memory |=
                            out_of_memory.keyed(folder, "memory.events", "oom_kill") > Some(0);
                    }
                }
                HierarchyKind::Processor | HierarchyKind::Processes | HierarchyKind::Shares => {}
            }
        }
        measured
    }

    /// Sets the CPU weight.
    pub(crate) fn set_weight(&mut self, weight: CpuWeight) {
        let Some(share) = self.share.as_ref().filter(|_| self.weight != weight) else { return };
        let number = if weight == CpuWeight::Boosted { share.boosted } else { share.normal };
        // Ignore an error: the file is missing if the controller is not delegated.
        let _ = set(&share.file, number.to_string());
        self.weight = weight;
        self.apply_slice();
    }

    /// Sets the default time slice for a new clone. The fork has inherited the short slice of the
    /// zygote.
    pub(crate) fn apply_slice_to_clone(&self) {
        if self.weight == CpuWeight::Normal {
            self.apply_slice();
        }
    }

    /// Sets the time slice of all threads in the groups: short while the weight is boosted,
    /// otherwise the default.
    fn apply_slice(&self) {
        let slice = (self.weight == CpuWeight::Boosted).then_some(SHORT_SLICE);
        let Some((kind, folder)) = self.folders.first() else { return };
        let list =
            if matches!(kind, HierarchyKind::Unified { .. }) { "cgroup.threads" } else { "tasks" };
        let threads = fs::read_to_string(folder.join(list)).unwrap_or_default();
        for thread in threads.lines().filter_map(|line| line.parse().ok()) {
            system_calls::set_slice(thread, slice);
        }
    }

    /// Freezes or thaws every process in the groups.
    pub(crate) fn freeze(&self, frozen: bool) -> io::Result<()> {
        let unified =
            self.folders.iter().find(|(kind, _)| matches!(kind, HierarchyKind::Unified { .. }));
        let (_, folder) = unified.ok_or(io::ErrorKind::Unsupported)?;
        set(folder.join("cgroup.freeze"), if frozen { "1" } else { "0" })
    }

    /// Returns the usage so far, and resets the peak memory for the next measurement. Returns
    /// `None` if the usage is unknown, or if the process ran out of memory.
    pub(crate) fn usage(&self) -> Option<ResourceUsage> {
        let GroupUsage { cpu_us, memory_bytes_peak, out_of_memory } = self.measure();
        if out_of_memory {
            return None;
        }
        for (kind, folder) in &self.folders {
            // Ignore an error: old kernels cannot reset the peak memory in version 2.
            let _ = match kind {
                HierarchyKind::Memory => self.files.peak.write(folder, MEMORY_PEAK_V1, "0"),
                HierarchyKind::Unified { limits: true } => {
                    self.files.peak.write(folder, MEMORY_PEAK, "0")
                }
                _ => Ok(()),
            };
        }
        Some(ResourceUsage {
            cpu_us: cpu_us?,
            fork_cpu_us: 0,
            memory_bytes_peak: memory_bytes_peak?,
        })
    }

    /// Removes the groups. Returns false if a group still has processes.
    pub(crate) fn remove(&mut self) -> bool {
        self.folders.retain(|(_, folder)| fs::remove_dir(folder).is_err() && folder.exists());
        self.folders.is_empty()
    }
}

/// The memory limit, in bytes, at which a group gets the kernel's default CPU weight.
const USUAL_MEMORY: u64 = 4 << 30;
const PERIOD_US: u64 = 100_000;

/// Sets the CPU weight of a group in proportion to its memory limit, and its CPU limit, if any.
/// `file` and `limit` are the names of the control files, which depend on the cgroup version.
pub(super) fn set_cpu_limits(
    folder: &Path,
    spec: &ProcessSpec,
    [file, limit]: [&str; 2],
) -> io::Result<Option<CpuWeightFile>> {
    let (usual, period) = if file == "cpu.weight" { (100, true) } else { (1024, false) };
    let boosted = usual * 8;
    let normal = match spec.memory_bytes.filter(|_| spec.serves_a_call()) {
        Some(memory) => (usual * memory / USUAL_MEMORY).clamp(usual / 16, boosted),
        None if spec.background => 2,
        // Tools and zygotes get a low weight, because no call waits for them.
        None => usual / 8,
    };
    let share = CpuWeightFile { file: folder.join(file), boosted, normal };
    // Ignore an error: the file is missing if the controller is not delegated.
    let _ = set(&share.file, share.normal.to_string());
    let share = Some(share);
    let Some(millis) = spec.cpu_millis else { return Ok(share) };
    let quota = (u64::from(millis) * PERIOD_US / 1000).max(1000);
    let text = if period { format!("{quota} {PERIOD_US}") } else { quota.to_string() };
    match set(folder.join(limit), text) {
        // The server has already warned at startup that CPU time cannot be limited.
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(share),
        done => done.map(|()| share),
    }
}
