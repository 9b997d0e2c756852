//! `headwater serve`.

use std::net::SocketAddr;

use clap::{Args, ValueEnum};

/// `headwater serve`
#[derive(Debug, Args)]
pub struct Serve {
    /// Listen for HTTP here; port 0 picks a free one and says which
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:4280")]
    pub http: SocketAddr,
    /// Ask for no token over HTTP; then every program and user of this machine can use the lake
    #[arg(long)]
    pub no_auth: bool,
    /// How functions are walled in
    #[arg(long, value_enum, default_value_t)]
    pub isolation: IsolationArgument,
    /// Let projects that say `arena = true` hand tables on without a copy; an experiment
    #[arg(long)]
    pub arena: bool,
    /// The memory for queries and functions together: `4GiB` [default: three quarters of the machine's]
    #[arg(long, value_name = "SIZE")]
    pub memory: Option<String>,
    /// Leave tables as they are written, until `headwater table maintain` is asked for
    #[arg(long)]
    pub no_upkeep: bool,
    /// Once a day, remove files of known tables that nothing has needed for three days
    #[arg(long, conflicts_with = "no_upkeep")]
    pub remove_orphans: bool,
    /// Keep tables in a bucket, as `s3://bucket/prefix`; for a lake that has none yet, which keeps it
    #[arg(long, value_name = "URL")]
    pub warehouse: Option<String>,
    /// Give the server's own keys to the bucket to Iceberg REST clients that ask for credentials
    #[arg(long)]
    pub vend_credentials: bool,
    /// Serve a command of this machine: on the Unix socket only, ending when idle
    #[arg(long, hide = true)]
    pub background: bool,
}

/// `--isolation`
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub enum IsolationArgument {
    /// Namespaces, a read-only root and limits
    #[default]
    Sandbox,
    /// A plain process, for hosts that forbid user namespaces; weak
    Process,
}
