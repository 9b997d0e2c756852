//! The permits of running calls, released on drop.

use std::sync::Arc;

use super::{MEMORY_UNIT, Queue, QueueKey, State};

/// The permits of a running call, released on drop.
#[derive(Debug)]
pub(crate) struct Permit {
    pub(crate) place: RunPermit,
    pub(crate) memory: Memory,
}

/// A permit to run.
#[derive(Debug)]
pub(crate) struct RunPermit {
    pub(super) queue: Arc<Queue>,
    pub(super) of: QueueKey,
}

/// Memory that is reserved for a call or an idle instance.
#[derive(Debug)]
pub(crate) struct Memory {
    pub(super) queue: Arc<Queue>,
    pub(super) units: u64,
    /// None while an idle instance holds it.
    pub(super) owner: Option<Arc<str>>,
}

impl Drop for RunPermit {
    fn drop(&mut self) {
        let mut state = self.queue.state.lock();
        state.running -= 1;
        state.change(&self.of, |party| party.running -= 1);
        drop(state);
        self.queue.give();
    }
}

impl Memory {
    /// Returns the reserved bytes.
    pub(crate) fn bytes(&self) -> u64 {
        self.units * MEMORY_UNIT
    }

    /// Assigns it to another owner; to none for an idle instance.
    pub(crate) fn belong_to(&mut self, owner: Option<Arc<str>>) {
        self.queue.state.lock().move_units(self.units, self.owner.as_ref(), owner.as_ref());
        self.owner = owner;
    }
}

impl State {
    fn move_units(&mut self, units: u64, from: Option<&Arc<str>>, to: Option<&Arc<str>>) {
        self.let_go(units, from);
        match to {
            Some(owner) => self.owners.entry(owner.clone()).or_default().units += units,
            None => self.idle_units += units,
        }
    }

    fn let_go(&mut self, units: u64, from: Option<&Arc<str>>) {
        let Some(owner) = from else {
            self.idle_units -= units;
            return;
        };
        let party = self.owners.entry(owner.clone()).or_default();
        party.units -= units;
        if party.is_idle() {
            self.owners.remove(owner);
        }
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        if self.units == 0 {
            return;
        }
        let mut state = self.queue.state.lock();
        state.let_go(self.units, self.owner.as_ref());
        state.free_units += self.units;
        drop(state);
        self.queue.give();
    }
}
