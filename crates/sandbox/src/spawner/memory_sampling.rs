//! Memory limits on hosts whose control groups cannot enforce them.
//!
//! The spawner samples the resident memory of each function's processes, and kills a function that
//! exceeds its limit. Only private memory counts, including swap. Inputs do not count, because they
//! are in shared memory. Memory that a clone inherits from its zygote does not count. A function
//! can exceed its limit between two samples. Therefore, [`data_bytes_max`] limits the memory that
//! it can allocate in that time.

use std::collections::{HashMap, HashSet};
use std::fs;
use std::time::{Duration, Instant};

use super::main_loop::MainLoop;
use super::managed_process::ManagedProcess;

/// The interval between two samples.
pub(super) const SAMPLE_EVERY: Duration = Duration::from_millis(20);

/// Bytes of address space that libraries reserve without using them, for allocator arenas and
/// thread stacks.
const RESERVED_BYTES: u64 = 8 << 30;

/// The maximum number of sampled processes per function.
const PROCESSES_MAX: usize = 10_000;

/// Returns the maximum private memory, in bytes, that a process may reserve in addition to its
/// initial memory. The limit is higher than the memory limit, because libraries reserve memory that
/// they do not use. It only prevents growth that is too fast for sampling.
pub(super) fn data_bytes_max(memory_bytes: u64) -> u64 {
    memory_bytes.saturating_mul(2).saturating_add(RESERVED_BYTES)
}

/// Samples the memory of one function, and enforces its limit.
#[derive(Debug, Default)]
pub(super) struct MemorySampler {
    /// The limit in bytes; `None` if a control group enforces it.
    limit: Option<u64>,
    /// The process of a clone's function, which is not a descendant of the first process of its
    /// sandbox.
    function: Option<i32>,
    /// Private memory that a clone still shares with its zygote, in bytes. It does not count.
    inherited_bytes: u64,
    /// The maximum of all memory samples, in bytes.
    pub(super) peak_bytes: u64,
    /// True if the function was killed because it exceeded its limit.
    pub(super) exceeded: bool,
}

impl MemorySampler {
    pub(super) fn new(limit: Option<u64>) -> Self {
        MemorySampler { limit, ..MemorySampler::default() }
    }

    /// Starts to sample the process of a clone that no call uses yet. The memory that the process
    /// shares with its zygote at this time does not count.
    fn begin(&mut self, function: i32) {
        self.function = Some(function);
        self.inherited_bytes = private_bytes(function);
    }

    /// Samples the memory of `first` and its descendants. Returns true if the memory exceeds the
    /// limit.
    fn sample(&mut self, first: i32) -> bool {
        let Some(limit) = self.limit else { return false };
        let processes = descendants([first].into_iter().chain(self.function));
        let own = |process: &i32| private_bytes(*process).saturating_sub(self.inherited_bytes);
        let mut bytes: u64 = processes.iter().map(own).sum();
        if bytes > limit && processes.len() > 2 {
            // Use proportional sizes, because forked processes share pages until they write to
            // them.
            let shares = processes.iter().map(|process| proportional_bytes(*process));
            let shared: Option<u64> = shares.sum();
            bytes = shared.map_or(bytes, |shared| shared.saturating_sub(self.inherited_bytes));
        }
        self.peak_bytes = self.peak_bytes.max(bytes);
        self.exceeded = bytes > limit;
        self.exceeded
    }
}

impl MainLoop {
    /// Returns true if control groups do not limit the memory of a running function, so that its
    /// memory must be sampled.
    pub(super) fn samples_memory(&self) -> bool {
        self.processes.values().any(is_sampled)
    }

    /// Kills the functions that exceed their limits.
    pub(super) fn limit_memory(&mut self) {
        let now = Instant::now();
        if self.sampled.is_some_and(|last| now.duration_since(last) < SAMPLE_EVERY) {
            return;
        }
        self.sampled = Some(now);
        self.find_clones();
        for process in self.processes.values_mut().filter(|process| is_sampled(process)) {
            if process.sampler.sample(process.pid) {
                process.kill();
            }
        }
    }

    /// Finds the processes of the clones' functions in the spawner's pid namespace. The zygotes
    /// report only their ids in the zygotes' pid namespaces.
    pub(super) fn find_clones(&mut self) {
        let missing = |one: &&mut ManagedProcess| {
            one.sampler.limit.is_some() && one.sampler.function.is_none()
        };
        let zygotes: HashMap<u64, i32> =
            self.processes.iter().map(|(id, one)| (*id, one.pid)).collect();
        for clone in self.processes.values_mut().filter(missing) {
            let zygote = clone.zygote.and_then(|zygote| zygotes.get(&zygote));
            let (Some(zygote), Some(pid)) = (zygote, clone.cloned()) else { continue };
            let mut processes = descendants([*zygote].into_iter()).into_iter();
            if let Some(process) = processes.find(|one| pid_below(*one) == Some(pid)) {
                clone.sampler.begin(process);
            }
        }
    }
}

/// Returns true if the process must be sampled. Zygotes are excluded, because the descendants of a
/// zygote are its clones, which are sampled separately. Clones without a call are also excluded.
fn is_sampled(process: &ManagedProcess) -> bool {
    let waits = process.zygote.is_some() && !process.begun;
    let is_zygote = process.namespaces.is_some();
    process.sampler.limit.is_some() && !process.sampler.exceeded && !is_zygote && !waits
}

/// Returns the processes `of` and all their descendants.
fn descendants(of: impl Iterator<Item = i32>) -> HashSet<i32> {
    let mut processes: HashSet<i32> = of.collect();
    let mut left: Vec<i32> = processes.iter().copied().collect();
    while let Some(process) = left.pop()
        && processes.len() < PROCESSES_MAX
    {
        left.extend(children_of(process).into_iter().filter(|child| processes.insert(*child)));
    }
    processes
}

/// Returns the children of all threads of a process.
fn children_of(process: i32) -> Vec<i32> {
    let threads = fs::read_dir(format!("/proc/{process}/task")).into_iter().flatten().flatten();
    let lists =
        threads.filter_map(|thread| fs::read_to_string(thread.path().join("children")).ok());
    let numbers = |list: String| -> Vec<i32> {
        list.split_ascii_whitespace().filter_map(|pid| pid.parse().ok()).collect()
    };
    lists.flat_map(numbers).collect()
}

/// Returns the private memory of a process, in bytes; 0 if it has ended.
fn private_bytes(process: i32) -> u64 {
    let status = read(process, "status");
    kibibytes(&status, "RssAnon:").unwrap_or(0) + kibibytes(&status, "VmSwap:").unwrap_or(0)
}

/// Returns the proportional private memory of a process, in bytes: a page shared by n processes
/// counts as 1/n. Returns `None` if the memory cannot be read.
fn proportional_bytes(process: i32) -> Option<u64> {
    let rollup = read(process, "smaps_rollup");
    Some(kibibytes(&rollup, "Pss_Anon:")? + kibibytes(&rollup, "SwapPss:").unwrap_or(0))
}

/// Returns the id of a process in the pid namespace directly below the spawner's, such as a
/// zygote's.
fn pid_below(process: i32) -> Option<i32> {
    let status = read(process, "status");
    let ids = status.lines().find_map(|line| line.strip_prefix("NSpid:"))?;
    ids.split_ascii_whitespace().nth(1)?.parse().ok()
}

fn read(process: i32, file: &str) -> String {
    fs::read_to_string(format!("/proc/{process}/{file}")).unwrap_or_default()
}

fn kibibytes(text: &str, key: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(key))?;
    line.split_ascii_whitespace().next()?.parse::<u64>().ok().map(|number| number << 10)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_and_its_children_are_sampled() {
        let own = std::process::id() as i32;
        assert!(private_bytes(own) > 0 && proportional_bytes(own) > Some(0));
        let mut child = std::process::Command::new("sleep").arg("60").spawn().unwrap();
        assert!(children_of(own).contains(&(child.id() as i32)));
        let mut sampler = MemorySampler::new(Some(u64::MAX));
        assert!(!sampler.sample(own) && sampler.peak_bytes > 0);
        let mut sampler = MemorySampler::new(Some(1));
        assert!(sampler.sample(own) && sampler.exceeded);
        assert!(!MemorySampler::new(None).sample(own));
        child.kill().unwrap();
        child.wait().unwrap();
        assert_eq!(private_bytes(child.id() as i32), 0);
    }
}
