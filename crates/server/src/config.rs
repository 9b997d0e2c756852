//! Configuration of a server, which the command line creates from options and environment
//! variables.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use headwater_flight::FlightLimits;
use headwater_service::ServiceConfig;

use crate::{NetworkConfig, SpawnerCommand};

/// Configuration of a server.
#[derive(Debug, Clone)]
pub struct ServerConfig {
    /// Configuration of the service, which executes the operations for all protocols.
    pub service: ServiceConfig,
    /// Address of the HTTP listener; port 0 selects a free port. `None` for no TCP listener.
    pub http: Option<SocketAddr>,
    /// TLS of all listeners, and the allowed hosts and origins of the HTTP listener.
    pub network: NetworkConfig,
    /// Address of the PostgreSQL listener; port 0 selects a free port. `None` for no listener.
    pub postgres: Option<SocketAddr>,
    /// Maximum number of PostgreSQL connections.
    pub postgres_connections_max: usize,
    /// Address of the S3 listener; port 0 selects a free port. `None` for no listener.
    pub s3: Option<SocketAddr>,
    /// Limits of the clients of Arrow Flight SQL.
    pub flight: FlightLimits,
    /// True to require a token for requests over TCP. The server's token is in a file in the lake's
    /// folder.
    pub auth: bool,
    /// Time after which the server disconnects a TCP client that does not continue to read its
    /// response.
    pub write_timeout: Duration,
    /// Time limit for receiving the head of a request.
    pub header_timeout: Duration,
    /// Path of the Unix socket; `None` for no socket.
    pub socket: Option<PathBuf>,
    /// The time without requests and jobs after which the server shuts down; `None` to run forever.
    /// A server with triggers is never idle.
    pub idle: Option<Duration>,
    /// Maximum time to wait until another server releases the lake.
    pub lock_wait: Duration,
    /// Maximum time for running jobs to finish after a shutdown request.
    pub drain: Duration,
    /// Maximum time for running jobs to finish after [`crate::ServerHandle::shutdown`], for example
    /// on a signal.
    pub grace: Duration,
}

impl ServerConfig {
    /// Creates the configuration of a server without listeners.
    pub fn new(lake_dir: &Path, spawner: SpawnerCommand) -> Self {
        ServerConfig {
            service: ServiceConfig::new(lake_dir, spawner),
            http: None,
            network: NetworkConfig::default(),
            postgres: None,
            s3: None,
            flight: FlightLimits::default(),
            postgres_connections_max: 100,
            auth: true,
            write_timeout: Duration::from_secs(300),
            header_timeout: Duration::from_secs(30),
            socket: None,
            idle: None,
            lock_wait: Duration::ZERO,
            drain: Duration::from_secs(600),
            grace: Duration::from_secs(10),
        }
    }
}
