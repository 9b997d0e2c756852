//! Messages between the server and the spawner, as JSON. [`Request`] documents the file descriptors
//! that are sent with each request, in their order.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::spawner::cgroup::CgroupHierarchies;

/// Request of the server to the spawner.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Request {
    /// Start a process. Descriptors: standard output, standard error, then the control socket and
    /// the project's files, if any. A clone gets its descriptors later, from [`Request::Begin`].
    Start { id: u64, spec: ProcessSpec },
    /// Begin the call of a clone that waits in its sandbox. Descriptors: standard output, standard
    /// error, the control socket, the files. `project` is a folder to mount at `/project`; `None`
    /// if the files already contain the project.
    Begin { id: u64, project: Option<PathBuf> },
    /// Freeze a process with its descendants, and measure them. Fails if one of these processes
    /// still has one of the files `inputs` (inode numbers) open or mapped.
    Pause { id: u64, inputs: Vec<u64> },
    /// Thaw a paused process and start a new CPU boost.
    Resume { id: u64 },
    /// End the CPU boost of a process. After that, the CPU weight of the process is derived from
    /// its memory limit.
    EndBoost { id: u64 },
    /// For a zygote: measure and reset its CPU time that was not charged to a clone.
    Meter { id: u64 },
    /// Measure the CPU time of all processes together.
    Total { id: u64 },
    /// Send a signal to a process, if it exists.
    Signal { id: u64, signal: Signal },
}

/// Reply of the spawner.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Reply {
    /// The spawner is ready. This is always the spawner's first message.
    Ready(HostReport),
    /// Usage of a process so far; `None` if unknown.
    Measured { id: u64, usage: Option<ResourceUsage> },
    /// CPU time of all processes, in microseconds; `None` if unknown.
    Total { id: u64, cpu_us: Option<u64> },
    /// A process ended or failed to start.
    Ended { id: u64, end: ProcessEnd },
}

/// A process for the spawner to start.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct ProcessSpec {
    /// The program and its arguments.
    pub command: Vec<String>,
    /// The environment variables, in addition to those that `inherit` adds.
    pub variables: Vec<(String, String)>,
    /// If true, the process inherits the spawner's environment variables.
    pub inherit: bool,
    /// If true, the process gets a control socket as descriptor 3.
    pub control: bool,
    /// The isolation of the process.
    pub confinement: ProcessIsolation,
    /// Memory limit in bytes.
    pub memory_bytes: Option<u64>,
    /// Maximum number of processes and threads.
    pub processes_max: Option<u64>,
    /// CPU limit in thousandths of a processor.
    pub cpu_millis: Option<u32>,
    /// If true, the process runs only when processors are idle.
    pub background: bool,
    /// If true, the process is a zygote and gets the socket for clone requests as descriptor 4.
    pub zygote: bool,
}

impl ProcessSpec {
    /// Returns true for the process of a call. Returns false for zygotes and tools, which no call
    /// waits for.
    pub(crate) fn serves_a_call(&self) -> bool {
        !self.zygote && !matches!(self.confinement, ProcessIsolation::Tool)
    }
}

/// Isolation of a process.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub enum ProcessIsolation {
    /// No isolation, for tools that Headwater runs.
    #[default]
    Tool,
    /// No sandbox. The folder contains the files of this process, and is removed after the process
    /// ends.
    Folder(PathBuf),
    /// A new sandbox.
    Sandbox(SandboxSpec),
    /// A sandbox for a clone of a zygote. Only the limits and the variables of the [`ProcessSpec`]
    /// apply to a clone.
    Clone(CloneSpec),
}

/// Sandbox of a clone: a copy of the zygote's sandbox, with namespaces, `/tmp` and project of its
/// own.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct CloneSpec {
    /// The zygote's id, as returned by [`RunningProcess::id`](crate::RunningProcess::id).
    pub zygote: u64,
    /// Size of `/tmp` in bytes.
    pub temp_bytes: u64,
    /// If true, the sandbox has a network, and the server forwards its connections.
    pub network: bool,
}

/// A new sandbox: new namespaces, and a minimal root file system, which is read-only except for
/// `/tmp`.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct SandboxSpec {
    /// Files and folders to mount read-only. Each has its path on the host and its path in the
    /// sandbox.
    pub read_only: Vec<(PathBuf, PathBuf)>,
    /// Size of `/tmp` in bytes.
    pub temp_bytes: u64,
    /// If true, the sandbox has a network, and the server forwards its connections.
    pub network: bool,
}

/// Signal that the server can request for a process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Signal {
    /// SIGTERM to the process itself.
    Terminate,
    /// SIGKILL to the process and its descendants.
    Kill,
}

/// Capabilities of the host, as the spawner detected them at its start.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct HostReport {
    /// The reason why sandboxes cannot be created; `None` if sandboxes can be created.
    pub sandbox_error: Option<String>,
    /// True if each sandbox runs as its own user of the host, which owns no files. False if all
    /// sandboxes run as the spawner's user.
    pub separate_users: bool,
    /// True if the spawner can mount a folder in the sandbox of a clone. Requires that functions
    /// run as another user than the server.
    pub folder_mounts: bool,
    /// True if the kernel can limit the memory of a process including its descendants.
    pub memory_limits: bool,
    /// True if the kernel can limit the number of processes.
    pub process_limits: bool,
    /// True if the kernel supports weights and limits of CPU time.
    pub cpu_limits: bool,
    /// Identity of the spawner process: its id and start time.
    pub(crate) identity: String,
    /// The spawner's control groups. The server reads the usage from them, and removes them if the
    /// spawner is killed.
    pub(crate) groups: CgroupHierarchies,
}

/// Exit status and resource usage of an ended process.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ProcessEnd {
    /// The exit status.
    pub exit: ExitStatus,
    /// CPU time of the process and its descendants, in microseconds.
    pub cpu_us: u64,
    /// Peak memory in bytes.
    pub memory_bytes_peak: u64,
    /// True if the memory limit was exceeded.
    pub out_of_memory: bool,
}

/// Resource usage of a running process.
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize)]
pub struct ResourceUsage {
    /// CPU time since the start of the process, in microseconds. Includes `fork_cpu_us`.
    pub cpu_us: u64,
    /// The CPU time that the zygote used to fork the process, in microseconds.
    pub(crate) fork_cpu_us: u64,
    /// Peak memory in bytes: since the last measurement if the kernel can reset the peak, otherwise
    /// since the start of the process.
    pub memory_bytes_peak: u64,
}

impl ResourceUsage {
    /// Returns the usage including the CPU time that the zygote used to fork the process.
    pub(crate) fn with_fork(self, fork_cpu_us: u64) -> Self {
        ResourceUsage { cpu_us: self.cpu_us + fork_cpu_us, fork_cpu_us, ..self }
    }
}

/// The exit status of a process.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum ExitStatus {
    /// The process exited with this code.
    Code(i32),
    /// The process was killed by this signal.
    Signal(i32),
    /// The process failed to start.
    NotStarted {
        /// The step of the start that failed.
        step: String,
        /// The system's error.
        error: String,
    },
}

impl ExitStatus {
    /// Describes the exit status in a phrase for messages to users.
    pub fn describe(&self) -> String {
        match self {
            ExitStatus::Code(code) => format!("the process exited with code {code}"),
            ExitStatus::Signal(signal) => match name(*signal) {
                Some(name) => format!("the process was killed by {name}"),
                None => format!("the process was killed by signal {signal}"),
            },
            ExitStatus::NotStarted { step, error } => format!("cannot {step}: {error}"),
        }
    }
}

fn name(signal: i32) -> Option<&'static str> {
    Some(match signal {
        libc::SIGSEGV => "SIGSEGV (a fault in native code)",
        libc::SIGABRT => "SIGABRT (native code aborted)",
        libc::SIGBUS => "SIGBUS",
        libc::SIGILL => "SIGILL (an instruction that this processor does not support)",
        libc::SIGFPE => "SIGFPE",
        libc::SIGKILL => "SIGKILL",
        libc::SIGTERM => "SIGTERM",
        libc::SIGPIPE => "SIGPIPE",
        _ => return None,
    })
}
