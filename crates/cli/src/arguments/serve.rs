//! `headwater serve`.

use std::net::SocketAddr;

use clap::{Args, ValueEnum};

/// `headwater serve`
#[derive(Debug, Args)]
pub struct Serve {
    /// The address for HTTP; port 0 picks a free port and prints it
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:4280")]
    pub http: SocketAddr,
    /// Require no token over HTTP: any program and user of this machine can use the lake
    #[arg(long)]
    pub no_auth: bool,
    /// How functions are isolated
    #[arg(long, value_enum, default_value_t)]
    pub isolation: IsolationArgument,
    /// The memory for queries and functions together: `4GiB` [default: 75 % of the machine's]
    #[arg(long, value_name = "SIZE")]
    pub memory: Option<String>,
    /// Disable automatic table maintenance
    #[arg(long)]
    pub no_maintenance: bool,
    /// Once a day, remove files of known tables that were unreferenced for three days
    #[arg(long, conflicts_with = "no_maintenance")]
    pub remove_orphans: bool,
    /// Store the tables of a new lake in a bucket, `s3://bucket/prefix`
    #[arg(long, value_name = "URL")]
    pub warehouse: Option<String>,
    /// Give the server's bucket credentials to Iceberg REST clients that request them
    #[arg(long)]
    pub vend_credentials: bool,
    /// Listen only on the Unix socket and exit when idle
    #[arg(long, hide = true)]
    pub background: bool,
}

/// `--isolation`
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub enum IsolationArgument {
    /// Namespaces, a read-only root and resource limits
    #[default]
    Sandbox,
    /// A plain process, for hosts without user namespaces; weak
    Process,
}
