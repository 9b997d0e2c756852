//! Limits shared by all sandboxes: the host's own addresses, which sandboxes must not reach, and
//! the maximum number of connections. The maximum keeps enough file descriptors free for the
//! server.

use std::net::IpAddr;
use std::sync::Arc;

use rustix::process::{Resource, Rlimit};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::host_addresses::is_own_address;

/// The maximum number of concurrent connections of one call.
const PER_CALL_MAX: usize = 1024;

/// The maximum number of concurrent connections of all calls together.
const TOTAL_MAX: u64 = 1 << 16;

/// The maximum number of connections is the descriptor limit of this process divided by this
/// number: a connection uses two descriptors, and half of all descriptors must stay free.
const DESCRIPTORS_PER_CONNECTION: u64 = 4;

/// The maximum number of connections of all calls, and the check for the host's own addresses.
#[derive(Debug)]
pub struct ConnectionCap {
    /// The host's own addresses that sandboxes may reach, as an exception.
    exempt: Vec<IpAddr>,
    permits: Arc<Semaphore>,
    max: usize,
}

impl ConnectionCap {
    /// Creates a limit of `max` connections. If `max` is `None`, raises the descriptor limit of
    /// this process and computes the maximum from it. `exempt` are the host's own addresses that
    /// sandboxes may reach nevertheless.
    pub fn new(exempt: Vec<IpAddr>, max: Option<usize>) -> Self {
        let descriptors = raise_descriptor_limit();
        let default = (descriptors / DESCRIPTORS_PER_CONNECTION).clamp(16, TOTAL_MAX) as usize;
        let max = max.unwrap_or(default);
        ConnectionCap { exempt, permits: Arc::new(Semaphore::new(max)), max }
    }

    /// Returns true if an address belongs to the host, according to its current routes, and is not
    /// exempt.
    pub(super) fn is_host_address(&self, address: IpAddr) -> bool {
        !self.exempt.contains(&address) && is_own_address(address)
    }

    /// Returns the maximum number of connections of one call.
    pub(super) fn per_call(&self) -> usize {
        PER_CALL_MAX.min(self.max.div_ceil(2))
    }

    /// Acquires a permit for one connection. Returns an error text if no permit is free.
    pub(super) fn acquire(&self) -> Result<OwnedSemaphorePermit, String> {
        let full = |_| {
            let max = self.max;
            format!(
                "all functions together have reached the limit of {max} connections; raise the \
                 server's `ulimit -n` to allow more"
            )
        };
        self.permits.clone().try_acquire_owned().map_err(full)
    }
}

/// Raises the descriptor limit of this process to the hard limit, and returns it.
pub(crate) fn raise_descriptor_limit() -> u64 {
    let limit = rustix::process::getrlimit(Resource::Nofile);
    let raised = Rlimit { current: limit.maximum, maximum: limit.maximum };
    // If this fails, the current limit stays in effect.
    let _ = rustix::process::setrlimit(Resource::Nofile, raised);
    rustix::process::getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX)
}
