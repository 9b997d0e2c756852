//! Network access of sandboxes.
//!
//! A sandbox has its own network namespace, in which every TCP connection is redirected to a socket
//! that the server listens on. The server checks the original destination against the call's
//! [`EgressPolicy`]. If the destination is allowed, the server connects to it and forwards the
//! bytes. DNS queries are forwarded in the same way. A sandbox therefore never has a socket in the
//! host's network. It can reach neither the host nor another sandbox.

mod connection_cap;
mod denied_connections;
mod dns;
mod egress_policy;
mod host_addresses;
mod proxy;

pub use connection_cap::ConnectionCap;
pub(crate) use connection_cap::raise_descriptor_limit;
pub use denied_connections::DeniedHosts;
pub use dns::nameservers;
pub(crate) use egress_policy::NAMESERVER;
pub use egress_policy::{AllowedHost, EgressPolicy, NetworkAccess};
pub use host_addresses::is_own_address;
pub use proxy::{MessageCallback, ProxySockets, serve_proxy};
