//! Options of the function runtime. The caller provides the values that depend on the machine, such
//! as the folders in which to search for interpreters.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use headwater_sandbox::SpawnerCommand;
use headwater_telemetry::Telemetry;

/// The isolation of a function from the machine and from other functions.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Isolation {
    /// The function runs in separate namespaces with a read-only root, without capabilities, and
    /// with limits that the kernel enforces.
    #[default]
    Sandbox,
    /// The function runs in a separate process without a sandbox, for hosts without user
    /// namespaces. The function has the file access of the server's user, and unrestricted network
    /// access.
    Process,
}

impl std::str::FromStr for Isolation {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "sandbox" => Ok(Isolation::Sandbox),
            "process" => Ok(Isolation::Process),
            _ => Err(format!("isolation must be `sandbox` or `process`, not `{text}`")),
        }
    }
}

/// Settings for zygotes, and limits of idle zygotes.
#[derive(Debug, Clone)]
pub struct ZygoteOptions {
    /// True to use zygotes.
    pub enabled: bool,
    /// Idle time after which a zygote ends.
    pub idle_max: Duration,
    /// Maximum memory of all idle zygotes together, in bytes. A zygote that is starting does not
    /// count.
    pub memory_bytes_max: u64,
}

impl Default for ZygoteOptions {
    /// Returns the default: zygotes with at most ten minutes of idle time and 2 GiB of memory.
    fn default() -> Self {
        ZygoteOptions {
            enabled: true,
            idle_max: Duration::from_secs(600),
            memory_bytes_max: 2 << 30,
        }
    }
}

/// Options of [`Functions::start`](crate::Functions::start).
#[derive(Debug, Clone)]
pub struct FunctionsOptions {
    /// Command that starts the spawner.
    pub spawner: SpawnerCommand,
    /// Folder for this server's temporary files; created if missing.
    pub own_dir: PathBuf,
    /// Folder of the environments, which are in subfolders of it; created if missing. All servers
    /// of a user can share this folder.
    pub environments_dir: PathBuf,
    /// Folder into which `uv` is installed if the machine has no `uv`.
    pub tools_dir: PathBuf,
    /// Folder of uv's cache. The folder must be on the same file system as `environments_dir`, so
    /// that files are linked instead of copied.
    pub cache_dir: PathBuf,
    /// Maximum memory of all running functions, in bytes.
    pub memory_bytes_total: u64,
    /// Maximum number of running instances.
    pub concurrency: usize,
    /// Maximum number of queued calls. The limit for one owner is lower.
    pub waiting_max: usize,
    /// Folders in which to search for interpreters and `uv`, in this order: usually the folders in
    /// `PATH`.
    pub python_search: Vec<PathBuf>,
    /// DNS servers for functions with network access; by default the servers in `/etc/resolv.conf`.
    pub nameservers: Option<Vec<SocketAddr>>,
    /// Addresses of this host to which functions may connect, as an exception. Only for tests on a
    /// machine without a second host.
    pub reachable_own: Vec<IpAddr>,
    /// Maximum number of network connections of all functions. The default depends on the number of
    /// free file descriptors.
    pub connections_max: Option<usize>,
    /// The isolation of functions.
    pub isolation: Isolation,
    /// Limits of idle zygotes.
    pub zygotes: ZygoteOptions,
    /// Receives the traces of calls.
    pub telemetry: Telemetry,
}
