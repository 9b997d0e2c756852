//! Options of the function runtime. The caller provides values that depend on the machine, such as
//! the locations of interpreters.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use headwater_sandbox::SpawnCommand;

/// The isolation of a function from the machine and from other functions.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Isolation {
    /// Separate namespaces, a read-only root, no capabilities, limits enforced by the kernel.
    #[default]
    Sandbox,
    /// Only a separate process, for hosts without user namespaces. The function can read what the
    /// server's user can read, and can use the network.
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

/// Limits of idle zygotes.
#[derive(Debug, Clone)]
pub struct ZygoteOptions {
    /// Whether zygotes are used.
    pub enabled: bool,
    /// Idle time after which a zygote ends.
    pub idle_max: Duration,
    /// Maximum memory of all idle zygotes in bytes, except a zygote that is starting.
    pub memory_bytes_max: u64,
}

impl Default for ZygoteOptions {
    /// Returns limits of ten minutes of idle time and 2 GiB of memory.
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
    pub spawner: SpawnCommand,
    /// Folder of this server's temporary files; created if missing.
    pub own_dir: PathBuf,
    /// Folder of the environments, one subfolder each; created if missing. All servers of a user
    /// may share it.
    pub environments_dir: PathBuf,
    /// Folder into which `uv` is installed if the machine has none.
    pub tools_dir: PathBuf,
    /// uv's cache. It is on the same file system as `environments_dir`, so that files are linked
    /// instead of copied.
    pub cache_dir: PathBuf,
    /// Maximum memory of all running functions, in bytes.
    pub memory_bytes_total: u64,
    /// Maximum number of running instances.
    pub concurrency: usize,
    /// Maximum number of queued calls; an owner may use only a part of it.
    pub waiting_max: usize,
    /// Folders with interpreters and `uv`, in order: usually those of `PATH`.
    pub python_search: Vec<PathBuf>,
    /// DNS servers for functions with network access; by default those of `/etc/resolv.conf`.
    pub nameservers: Option<Vec<SocketAddr>>,
    /// Addresses of this host that functions may reach. Only for tests on a machine without a
    /// second host.
    pub reachable_own: Vec<IpAddr>,
    /// Maximum number of connections of all functions; by default as many as free file descriptors
    /// allow.
    pub connections_max: Option<usize>,
    /// The isolation of functions.
    pub isolation: Isolation,
    /// Limits of idle zygotes.
    pub zygotes: ZygoteOptions,
}
