//! Configuration of the service, which the command line creates from options and environment
//! variables.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use headwater_functions::{Isolation, SpawnerCommand};
use headwater_jobs::KindLimits;
use headwater_lake::WarehouseOptions;
use headwater_model::JobKind;
use headwater_oidc::OidcConfig;
use headwater_secrets::KeySource;
use headwater_telemetry::Telemetry;

const GIB: u64 = 1 << 30;

/// Configuration of the service.
#[derive(Debug, Clone)]
pub struct ServiceConfig {
    /// The lake's folder, `.headwater`; created if missing.
    pub lake_dir: PathBuf,
    /// Location of the lake's tables, and credentials for cloud storage.
    pub warehouse: WarehouseOptions,
    /// The project's folder, whose `headwater.toml` contains the rate card and the triggers.
    pub project_dir: Option<PathBuf>,
    /// The version that the server reports. A command line program of another version restarts the
    /// server.
    pub version: String,
    /// True to fire triggers.
    pub triggers: bool,
    /// True to maintain tables automatically after writes.
    pub maintenance: bool,
    /// True to remove orphan files automatically.
    pub remove_orphans: bool,
    /// Command line that starts this program as the spawner, the process that creates function
    /// processes.
    pub spawner: SpawnerCommand,
    /// Folder of downloads and environments, shared by all lakes of the user.
    pub cache_dir: PathBuf,
    /// Folders to search for Python interpreters and `uv` before the default locations.
    pub python_search: Vec<PathBuf>,
    /// Memory limit in bytes, shared by queries, functions and the rows of runs.
    pub memory_bytes: u64,
    /// Memory limit of the decoded columns that queries keep, in bytes; 0 keeps none. `None` uses
    /// half of the memory of queries, and at most 16 GiB.
    pub decoded_cache_bytes: Option<u64>,
    /// Maximum number of threads for queries.
    pub threads: usize,
    /// Maximum number of functions that run at the same time.
    pub functions_concurrency: usize,
    /// Maximum number of concurrent project runs; at least 1. Further runs are queued.
    pub runs_concurrency: usize,
    /// True to give the server's own cloud credentials to Iceberg REST clients that request
    /// credentials for the warehouse.
    pub vend_credentials: bool,
    /// The key that encrypts secrets; by default `NAME.secret-key` next to the lake folder.
    pub secret_key: KeySource,
    /// Files and folders with credentials, which no import and no query reads.
    pub credentials: Vec<PathBuf>,
    /// Retention time of audit events; `None` uses the lake's setting.
    pub audit_kept: Option<Duration>,
    /// The OpenID provider for logins; `None` to accept only tokens and passwords.
    pub oidc: Option<OidcConfig>,
    /// A server address that other machines can reach, if any. The lake must then have a user.
    pub public_address: Option<SocketAddr>,
    /// Isolation of functions from each other.
    pub isolation: Isolation,
    /// The export of the server's traces; off by default.
    pub telemetry: Telemetry,
}

impl ServiceConfig {
    /// Creates the default configuration of a lake: one function per processor, 4 GiB of memory.
    pub fn new(lake_dir: &Path, spawner: SpawnerCommand) -> Self {
        let threads = std::thread::available_parallelism().map_or(2, std::num::NonZero::get);
        ServiceConfig {
            lake_dir: lake_dir.to_owned(),
            warehouse: WarehouseOptions::default(),
            project_dir: None,
            version: env!("CARGO_PKG_VERSION").to_owned(),
            triggers: true,
            maintenance: true,
            remove_orphans: false,
            spawner,
            cache_dir: lake_dir.join("cache"),
            python_search: Vec::new(),
            memory_bytes: 4 * GIB,
            decoded_cache_bytes: None,
            threads,
            functions_concurrency: threads,
            runs_concurrency: KindLimits::of(JobKind::Run).concurrency,
            vend_credentials: false,
            secret_key: KeySource::File(lake_dir.with_extension("secret-key")),
            credentials: Vec::new(),
            audit_kept: None,
            oidc: None,
            public_address: None,
            isolation: Isolation::Sandbox,
            telemetry: Telemetry::default(),
        }
    }
}
