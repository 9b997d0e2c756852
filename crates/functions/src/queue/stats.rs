//! Statistics of the queue, for users.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use super::state::{CallQueueState, MEMORY_UNIT, OwnerLoad};

/// Statistics of the queue.
#[derive(Debug, Default)]
pub(crate) struct QueueStats {
    pub(crate) permits_max: usize,
    pub(crate) running: usize,
    pub(crate) memory_bytes: u64,
    pub(crate) free_bytes: u64,
    /// Memory of idle instances, in bytes.
    pub(crate) idle_bytes: u64,
    /// For each owner: the number of running calls, and their memory in bytes.
    pub(crate) owners: BTreeMap<Arc<str>, (usize, u64)>,
    /// For the first calls of the queue, by call number: the position in the queue, from 1, and the
    /// memory that the call needs, in bytes.
    pub(crate) order: HashMap<u64, (usize, u64)>,
}

impl QueueStats {
    /// Returns the statistics without [`QueueStats::order`].
    pub(super) fn of<W>(state: &CallQueueState<W>, permits_max: usize, memory_units: u64) -> Self {
        let active = |(owner, load): (&Arc<str>, &OwnerLoad)| {
            (load.units > 0 || load.running > 0)
                .then(|| (owner.clone(), (load.running, load.units * MEMORY_UNIT)))
        };
        QueueStats {
            permits_max,
            running: state.running,
            memory_bytes: memory_units * MEMORY_UNIT,
            free_bytes: state.free_units * MEMORY_UNIT,
            idle_bytes: state.idle_units() * MEMORY_UNIT,
            owners: state.owners.iter().filter_map(active).collect(),
            order: HashMap::new(),
        }
    }
}
