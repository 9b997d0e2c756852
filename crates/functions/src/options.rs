//! How the function runtime is set up. Everything a library must not find out by itself, such as
//! where to look for interpreters, comes in here.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

/// How to start the spawner: the same binary with an argument that makes it call
/// [`spawner_main`](crate::spawner_main).
#[derive(Debug, Clone)]
pub struct SpawnCommand {
    /// The program, usually the running one.
    pub program: PathBuf,
    /// Its arguments, such as `__spawner`.
    pub arguments: Vec<String>,
}

/// How far a function is kept from the machine and from other functions.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Isolation {
    /// Its own namespaces, a read-only root, no capabilities, limits by the kernel.
    #[default]
    Sandbox,
    /// Only a process of its own, for hosts that forbid user namespaces. The function can read what
    /// the server's user can read, and use the network.
    Process,
}

impl std::str::FromStr for Isolation {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "sandbox" => Ok(Isolation::Sandbox),
            "process" => Ok(Isolation::Process),
            _ => Err(format!("isolation is `sandbox` or `process`, not `{text}`")),
        }
    }
}

/// How long, and how many, processes that hold packages imported are kept for functions to come.
#[derive(Debug, Clone)]
pub struct ZygoteOptions {
    /// Whether there are any.
    pub enabled: bool,
    /// One that was not used for so long ends.
    pub idle_max: Duration,
    /// The most memory they hold together while nobody uses them, in bytes; the one that is being
    /// started stays.
    pub memory_bytes_max: u64,
}

impl Default for ZygoteOptions {
    /// Ten minutes, 2 GiB.
    fn default() -> Self {
        ZygoteOptions {
            enabled: true,
            idle_max: Duration::from_secs(600),
            memory_bytes_max: 2 << 30,
        }
    }
}

/// What [`Functions::start`](crate::Functions::start) needs to know.
#[derive(Debug, Clone)]
pub struct FunctionsOptions {
    /// How to start the spawner.
    pub spawner: SpawnCommand,
    /// Where this server keeps what nobody else needs while it runs; made where it is missing.
    pub own_dir: PathBuf,
    /// Where environments lie, one folder each; made where it is missing. All servers of a user may
    /// share it.
    pub environments_dir: PathBuf,
    /// Where `uv` is put when the machine has none.
    pub tools_dir: PathBuf,
    /// uv's cache. On the file system of `environments_dir`, so that files are linked, not copied.
    pub cache_dir: PathBuf,
    /// The most memory that running functions may be promised together, in bytes.
    pub memory_bytes_total: u64,
    /// The most instances at once.
    pub concurrency: usize,
    /// The most calls that wait for their turn, of which one owner has at most what it leaves to others.
    pub waiting_max: usize,
    /// Folders in which interpreters and `uv` are looked for, in order: usually those of `PATH`.
    pub python_search: Vec<PathBuf>,
    /// Who resolves names for functions with the network; those of `/etc/resolv.conf` where nothing
    /// is said.
    pub nameservers: Option<Vec<SocketAddr>>,
    /// Addresses of this host that functions with the network reach as if they were another's. None in
    /// a server; for whoever tests the network on a machine that has no other beside it.
    pub reachable_own: Vec<IpAddr>,
    /// The most connections of all functions at once; none for as many as this process has descriptors
    /// for and to spare.
    pub connections_max: Option<usize>,
    /// How functions are kept apart.
    pub isolation: Isolation,
    /// Whether calls may have their large allocations in the file that their table is handed over in, so
    /// that it is not copied.
    pub arena: bool,
    /// What holds packages imported.
    pub zygotes: ZygoteOptions,
}
