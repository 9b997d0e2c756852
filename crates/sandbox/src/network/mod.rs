//! Network access of sandboxes.
//!
//! A sandbox has its own network namespace, in which every TCP connection leads to one listener of
//! the server. The server checks the original destination against the call's [`EgressPolicy`]. If
//! it is allowed, the server connects there itself and forwards the bytes. DNS queries take the
//! same way. So a sandbox never holds a socket of the host, and reaches neither the host nor
//! another sandbox.

mod connection_cap;
mod denials;
mod dns;
mod egress_policy;
mod host_addresses;
mod proxy;

pub use connection_cap::ConnectionCap;
pub(crate) use connection_cap::raise_descriptor_limit;
pub use denials::DeniedHosts;
pub use dns::nameservers;
pub(crate) use egress_policy::NAMESERVER;
pub use egress_policy::{EgressPolicy, Host, Network};
pub use proxy::{Messages, ProxySockets, serve_proxy};
