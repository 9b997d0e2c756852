//! What the connections of all calls share: the host that they must not reach, and its descriptors,
//! of which they may not take those that the server itself lives on.

use std::net::IpAddr;
use std::sync::Arc;

use rustix::process::{Resource, Rlimit};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::own;

/// The most connections of one call at once.
const OF_ONE_CALL_MAX: usize = 1024;

/// The most connections of all calls at once, where nothing else limits them.
const OF_ALL_MAX: u64 = 1 << 16;

/// A connection has one end inside and one outside, and half of all descriptors is left to others.
const DESCRIPTORS_OF_EACH: u64 = 4;

/// The gate that every connection of a function goes through.
#[derive(Debug)]
pub(crate) struct Gate {
    /// The host's own addresses that count as another's.
    exempt: Vec<IpAddr>,
    places: Arc<Semaphore>,
    most: usize,
}

impl Gate {
    /// A gate for so many connections at once.
    pub(crate) fn new(exempt: Vec<IpAddr>, most: usize) -> Self {
        Gate { exempt, places: Arc::new(Semaphore::new(most)), most }
    }

    /// A gate for as many as this process has descriptors for, after it was given all it may have.
    pub(crate) fn open(exempt: Vec<IpAddr>, most: Option<usize>) -> Self {
        let descriptors = raise_limit();
        let fit = (descriptors / DESCRIPTORS_OF_EACH).clamp(16, OF_ALL_MAX) as usize;
        Gate::new(exempt, most.unwrap_or(fit))
    }

    /// Whether an address is the host's, as its routes say now.
    pub(super) fn is_own(&self, address: IpAddr) -> bool {
        !self.exempt.contains(&address) && own::is_own(address)
    }

    /// The most connections of one call.
    pub(super) fn of_one_call(&self) -> usize {
        OF_ONE_CALL_MAX.min(self.most.div_ceil(2))
    }

    /// A place for a connection, or why there is none.
    pub(super) fn enter(&self) -> Result<OwnedSemaphorePermit, String> {
        let full = |_| {
            let most = self.most;
            format!(
                "functions hold {most} connections, the most that this server has descriptors for; \
                 a higher `ulimit -n` for the server allows more"
            )
        };
        self.places.clone().try_acquire_owned().map_err(full)
    }
}

/// Raises the most descriptors of this process as far as it may; how many that are.
pub(crate) fn raise_limit() -> u64 {
    let limit = rustix::process::getrlimit(Resource::Nofile);
    let raised = Rlimit { current: limit.maximum, maximum: limit.maximum };
    // Where this fails what there is has to do.
    let _ = rustix::process::setrlimit(Resource::Nofile, raised);
    rustix::process::getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX)
}
