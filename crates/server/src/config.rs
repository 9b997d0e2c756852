//! What a server is told when it starts; the command line fills it in from flags and the
//! environment.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use headwater_service::ServiceConfig;

use crate::SpawnCommand;

/// What a server is told when it starts.
#[derive(Debug, Clone)]
pub struct ServerConfig {
    /// The components below the protocols.
    pub service: ServiceConfig,
    /// Whether clients of Iceberg's REST catalog that ask for the server's own credentials for the
    /// warehouse get them.
    pub vend_credentials: bool,
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
}

impl ServerConfig {
    /// A server of this lake with no door: half the processors' worth of functions, 4 GiB of
    /// memory.
    pub fn new(lake_dir: &Path, spawner: SpawnCommand) -> Self {
        ServerConfig {
            service: ServiceConfig::new(lake_dir, spawner),
            vend_credentials: false,
            http: None,
            auth: true,
            stall: Duration::from_secs(300),
            head: Duration::from_secs(30),
            socket: None,
            idle: None,
            lock_wait: Duration::ZERO,
            drain: Duration::from_secs(600),
            grace: Duration::from_secs(10),
        }
    }
}
