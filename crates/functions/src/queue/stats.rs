//! Statistics of the queue, shown to users.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use super::state::{Load, MEMORY_UNIT, State};

/// Statistics of the queue.
#[derive(Debug, Default)]
pub(crate) struct QueueStats {
    pub(crate) permits_max: usize,
    pub(crate) running: usize,
    pub(crate) memory_bytes: u64,
    pub(crate) free_bytes: u64,
    /// Memory of idle instances.
    pub(crate) idle_bytes: u64,
    /// Running calls and reserved bytes, by owner.
    pub(crate) owners: BTreeMap<Arc<str>, (usize, u64)>,
    /// Positions in the queue, from 1, and memory of an instance in bytes, by call number. Contains
    /// only the first calls of the queue.
    pub(crate) order: HashMap<u64, (usize, u64)>,
}

impl QueueStats {
    /// Returns the statistics without the order.
    pub(super) fn of<W>(state: &State<W>, permits_max: usize, memory_units: u64) -> Self {
        let active = |(owner, load): (&Arc<str>, &Load)| {
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
