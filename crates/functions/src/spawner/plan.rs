//! What the server and the spawner say to each other. Every message is JSON; descriptors travel
//! beside it, in the order that [`Plan`] names.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::cgroup::Cgroups;

/// What the server asks for.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Request {
    /// Start a process. Descriptors: standard output, standard error, then, where the plan says so,
    /// the control socket and the files; none for a clone.
    Start { id: u64, plan: Plan },
    /// Have a clone begin. Descriptors: standard output, standard error, the control socket, the
    /// files. Until then it waits in its sandbox, ready but for these.
    Fill { id: u64 },
    /// Stops a process and all it started where they are, and asks what they have taken. One that still
    /// has any of these files, by inode, is not to go on.
    Pause { id: u64, inputs: Vec<u64> },
    /// Has them go on.
    Resume { id: u64 },
    /// It runs for long: from here on it gets what its memory entitles it to, and not what one gets that
    /// has just been called.
    Settle { id: u64 },
    /// Asks what a zygote has taken that no clone of it is metered by; from here on none will be.
    Meter { id: u64 },
    /// Asks what all have taken together.
    Total { id: u64 },
    /// Signal a process, if it is still there.
    Signal { id: u64, signal: Signal },
}

/// What the spawner answers.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Reply {
    /// It is ready; the first message.
    Ready(Report),
    /// What a process has taken so far; nothing where that is not known.
    Measured { id: u64, taken: Option<Taken> },
    /// The processor time that all have taken together, in microseconds; nothing where that is not
    /// known.
    Total { id: u64, cpu_us: Option<u64> },
    /// A process ended, or could not be started.
    Ended { id: u64, ended: Ended },
}

/// A process to start.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(crate) struct Plan {
    /// The program and its arguments.
    pub(crate) command: Vec<String>,
    /// Its environment variables, and no others unless `inherit` is set.
    pub(crate) variables: Vec<(String, String)>,
    /// Whether the spawner's own variables are passed on first.
    pub(crate) inherit: bool,
    /// Whether it gets a control socket, as descriptor 3.
    pub(crate) control: bool,
    /// What walls it in.
    pub(crate) walls: Work,
    /// The most memory, in bytes.
    pub(crate) memory_bytes: Option<u64>,
    /// The most processes and threads.
    pub(crate) processes_max: Option<u64>,
    /// The most processor time, in thousandths of a processor.
    pub(crate) cpu_millis: Option<u32>,
    /// Only when nothing else wants the processor.
    pub(crate) background: bool,
    /// Whether it is a zygote: it finds the socket of its orders as descriptor 4.
    pub(crate) zygote: bool,
}

impl Plan {
    /// Whether somebody waits for what it answers.
    pub(crate) fn serves_a_call(&self) -> bool {
        !self.zygote && !matches!(self.walls, Work::Tool)
    }
}

/// What walls a process in.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(crate) enum Work {
    /// Nothing: one of our own tools.
    #[default]
    Tool,
    /// A process of its own, in a folder of its own that holds the files and goes when it ends.
    Folder(PathBuf),
    /// A sandbox.
    Sandbox(Sandbox),
    /// A sandbox for a clone of a zygote. Of the plan, only limits and variables are for it.
    Clone(Copied),
}

/// A sandbox for a clone: as its zygote's, but for `/tmp`, the project and every namespace.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(crate) struct Copied {
    /// The zygote, by the number it was started under.
    pub(crate) zygote: u64,
    /// The size of `/tmp`, in bytes.
    pub(crate) temp_bytes: u64,
    /// Whether it has a network that the server serves.
    pub(crate) network: bool,
}

/// A sandbox: new namespaces over a root that holds little and can be written nowhere but in
/// `/tmp`.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(crate) struct Sandbox {
    /// Folders and files shown read-only: where they lie, and where they are shown.
    pub(crate) shown: Vec<(PathBuf, PathBuf)>,
    /// The size of `/tmp`, in bytes.
    pub(crate) temp_bytes: u64,
    /// Whether it has a network that the server serves.
    pub(crate) network: bool,
}

/// How to ask a process to end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Signal {
    /// SIGTERM, to the process itself.
    Terminate,
    /// SIGKILL, to it and all it started.
    Kill,
}

/// What the spawner found out about the host.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(crate) struct Report {
    /// Why sandboxes cannot be made, if they cannot.
    pub(crate) sandbox_error: Option<String>,
    /// Whether functions run as users that own nothing, and not as whoever runs the spawner.
    pub(crate) users_apart: bool,
    /// Whether the kernel enforces a memory limit on a process and all it starts.
    pub(crate) memory_limits: bool,
    /// Whether it counts their processes.
    pub(crate) process_limits: bool,
    /// Whether it can hold back their use of processors.
    pub(crate) cpu_limits: bool,
    /// The spawner, as a name begins that belongs to it.
    pub(crate) identity: String,
    /// The control groups: what stops and measures a process, and must be removed should it be killed.
    pub(super) groups: Cgroups,
}

/// What became of a process.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Ended {
    /// How it ended.
    pub(crate) exit: Exit,
    /// Processor time of it and all it started, in microseconds.
    pub(crate) cpu_us: u64,
    /// The most memory they held, in bytes.
    pub(crate) memory_bytes_peak: u64,
    /// Whether the kernel killed one of them for want of memory.
    pub(crate) out_of_memory: bool,
}

/// What a process that goes on has taken.
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize)]
pub(crate) struct Taken {
    /// Processor time since it began, in microseconds.
    pub(crate) cpu_us: u64,
    /// Of which its zygote took to fork it.
    pub(super) for_it_us: u64,
    /// The most memory it held since it was last asked, in bytes, where the kernel forgets that.
    pub(crate) memory_bytes_peak: u64,
}

impl Taken {
    /// The same with what its zygote took to fork it.
    pub(super) fn with(self, for_it_us: u64) -> Self {
        Taken { cpu_us: self.cpu_us + for_it_us, for_it_us, ..self }
    }
}

/// How a process ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Exit {
    /// By itself, with this code.
    Code(i32),
    /// By this signal.
    Signal(i32),
    /// It never ran: a step failed, with the system's answer.
    NotStarted { step: String, error: String },
}

impl Exit {
    /// For people.
    pub(crate) fn describe(&self) -> String {
        match self {
            Exit::Code(code) => format!("it exited with code {code}"),
            Exit::Signal(signal) => match name(*signal) {
                Some(name) => format!("it was killed by {name}"),
                None => format!("it was killed by signal {signal}"),
            },
            Exit::NotStarted { step, error } => format!("cannot {step}: {error}"),
        }
    }
}

fn name(signal: i32) -> Option<&'static str> {
    Some(match signal {
        libc::SIGSEGV => "SIGSEGV (a fault in native code)",
        libc::SIGABRT => "SIGABRT (native code gave up)",
        libc::SIGBUS => "SIGBUS",
        libc::SIGILL => "SIGILL (a processor instruction this machine lacks)",
        libc::SIGFPE => "SIGFPE",
        libc::SIGKILL => "SIGKILL",
        libc::SIGTERM => "SIGTERM",
        libc::SIGPIPE => "SIGPIPE",
        _ => return None,
    })
}
