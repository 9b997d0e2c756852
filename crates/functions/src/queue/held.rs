//! What calls hold while they run, given back when it is dropped.

use std::sync::Arc;

use super::{MEMORY_UNIT, Of, Queue, State};

/// What a call may hold while it runs; given back when this is dropped.
#[derive(Debug)]
pub(crate) struct Turn {
    pub(crate) place: Place,
    pub(crate) memory: Memory,
}

/// A place among those that run.
#[derive(Debug)]
pub(crate) struct Place {
    pub(super) queue: Arc<Queue>,
    pub(super) of: Of,
}

/// Memory that is promised to a call, or to a process that waits for another.
#[derive(Debug)]
pub(crate) struct Memory {
    pub(super) queue: Arc<Queue>,
    pub(super) units: u64,
    /// None while it is held for a call to come.
    pub(super) owner: Option<Arc<str>>,
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut state = self.queue.state.lock();
        state.running -= 1;
        state.change(&self.of, |party| party.running -= 1);
        drop(state);
        self.queue.give();
    }
}

impl Memory {
    /// Bytes that are promised.
    pub(crate) fn bytes(&self) -> u64 {
        self.units * MEMORY_UNIT
    }

    /// Has it be another owner's; nobody's, where it is held for a call to come.
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
