//! What a server is told when it starts; the command line fills it in from flags and the
//! environment.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::{Isolation, SpawnCommand, WarehouseOptions};

const GIB: u64 = 1 << 30;

/// What a server is told when it starts.
#[derive(Debug, Clone)]
pub struct ServerConfig {
    /// The lake's folder, `.headwater`; made where it is not there.
    pub lake_dir: PathBuf,
    /// Where the lake's tables are to lie, and how clouds are reached.
    pub warehouse: WarehouseOptions,
    /// Whether clients of Iceberg's REST catalog that ask for the server's own credentials for the
    /// warehouse get them.
    pub vend_credentials: bool,
    /// The project's folder, whose `headwater.toml` gives the rate card and the triggers.
    pub project_dir: Option<PathBuf>,
    /// The version that the server says it is; a command of another version replaces it.
    pub version: String,
    /// Where to listen for HTTP; port 0 picks one. `None` opens no such door.
    pub http: Option<SocketAddr>,
    /// Whether who asks over TCP must show the token that lies in the lake's folder.
    pub auth: bool,
    /// How long who asks over TCP may read nothing of an answer before it is cut.
    pub stall: Duration,
    /// How long a client may take to say what it asks for before its connection is cut.
    pub head: Duration,
    /// The Unix socket to listen on. `None` opens no such door.
    pub socket: Option<PathBuf>,
    /// End after so long without a request and without a job; never where nothing is said, nor
    /// while the deployed version has triggers.
    pub idle: Option<Duration>,
    /// How long to wait for another holder of the lake to end before giving up.
    pub lock_wait: Duration,
    /// How long jobs under way may go on once a request tells the server to end.
    pub drain: Duration,
    /// How long jobs under way may go on once whoever started the server ends it, by a signal as a
    /// rule.
    pub grace: Duration,
    /// Whether the project's triggers are acted on.
    pub triggers: bool,
    /// Whether tables that were written to are kept without being asked for.
    pub upkeep: bool,
    /// Whether files that nothing needs are removed without being asked for.
    pub remove_orphans: bool,
    /// This program's hidden spawner command.
    pub spawner: SpawnCommand,
    /// Where what is downloaded for functions is kept, and environments are put together: shared by every
    /// lake of the user.
    pub cache_dir: PathBuf,
    /// Folders in which Python interpreters and `uv` are looked for, before `PATH`-like defaults.
    pub python_search: Vec<PathBuf>,
    /// The memory that queries, functions and the rows of runs may hold, together.
    pub memory_bytes: u64,
    /// Processors that queries may use at once.
    pub threads: usize,
    /// Functions that may run at once.
    pub functions_concurrency: usize,
    /// How functions are kept apart.
    pub isolation: Isolation,
    /// Whether functions of projects that ask for it have their large allocations in the files that tables
    /// are handed over in.
    pub arena: bool,
}

impl ServerConfig {
    /// A server of this lake with no door: half the processors' worth of functions, 4 GiB of
    /// memory.
    pub fn new(lake_dir: &Path, spawner: SpawnCommand) -> Self {
        let threads = std::thread::available_parallelism().map_or(2, std::num::NonZero::get);
        ServerConfig {
            lake_dir: lake_dir.to_owned(),
            warehouse: WarehouseOptions::default(),
            vend_credentials: false,
            project_dir: None,
            version: env!("CARGO_PKG_VERSION").to_owned(),
            http: None,
            auth: true,
            stall: Duration::from_secs(300),
            head: Duration::from_secs(30),
            socket: None,
            idle: None,
            lock_wait: Duration::ZERO,
            drain: Duration::from_secs(600),
            grace: Duration::from_secs(10),
            triggers: true,
            upkeep: true,
            remove_orphans: false,
            spawner,
            cache_dir: lake_dir.join("cache"),
            python_search: Vec::new(),
            memory_bytes: 4 * GIB,
            threads,
            functions_concurrency: threads,
            isolation: Isolation::Sandbox,
            arena: false,
        }
    }
}
