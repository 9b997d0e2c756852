//! Sandboxed processes: namespaces, control groups, system call filters and network access.
//!
//! The server never forks. [`Spawner`] starts a small single-threaded process, which runs
//! [`spawner_main`] and creates every other process from a [`ProcessSpec`]. A zygote is cloned into
//! a new sandbox for each call. A [`RunningProcess`] can be paused, resumed, measured and killed.
//! [`EgressPolicy`] and [`serve_proxy`] control the network access of a sandbox, and
//! [`ConnectionPolicy`] the connections that the server makes on behalf of a user.
//!
//! This crate does not depend on Python, Arrow or tables.

mod channel;
mod error;
mod limits;
mod netlink;
mod network;
mod process_identity;
mod server_connection_policy;
mod spawner;
mod spawner_client;
mod spawner_protocol;

pub use channel::{Channel, ChannelMessage};
pub use error::{Error, Result};
pub use limits::{EnvironmentVariables, LimitSource, Limits};
pub use network::{
    AllowedHost, ConnectionCap, DeniedHosts, EgressPolicy, MessageCallback, NetworkAccess,
    ProxySockets, is_own_address, nameservers, serve_proxy,
};
pub use process_identity::{current_identity, is_stale};
pub use server_connection_policy::{ConnectionPolicy, LocationCheck, ServerAddress};
pub use spawner::{set_default_time_slice, set_short_time_slice, spawner_main, tmpfs};
pub use spawner_client::{RunningProcess, Spawner, SpawnerCommand};
pub use spawner_protocol::{
    CloneSpec, ExitStatus, HostReport, ProcessEnd, ProcessIsolation, ProcessSpec, ResourceUsage,
    SandboxSpec, Signal,
};
