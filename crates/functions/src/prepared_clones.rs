//! Clones of a zygote that are created before any call needs them.

use std::time::{Duration, Instant};

use headwater_sandbox::{RunningProcess, Spawner};
use parking_lot::Mutex;

use crate::instance_spec::clone_plan;
use crate::{Limits, Result};

/// During a burst of calls, the number of clones that are prepared, and the time for which they are
/// kept after the last call.
const COUNT_BUSY: usize = 4;
const BUSY: Duration = Duration::from_secs(5);

/// Age at which a prepared clone has probably finished its start.
const STARTED_AFTER: Duration = Duration::from_millis(100);

/// Prepared clones of one zygote. Each clone can serve only a call with the limits for which the
/// clone was created.
#[derive(Debug, Default)]
pub(crate) struct PreparedClones(Mutex<PreparedClonesState>);

#[derive(Debug, Default)]
struct PreparedClonesState {
    /// The prepared clones, oldest first.
    clones: Vec<PreparedClone>,
    /// Until this time, several clones are prepared, because calls arrived faster than clones
    /// started.
    busy_until: Option<Instant>,
}

#[derive(Debug)]
struct PreparedClone {
    limits: Limits,
    running: RunningProcess,
    since: Instant,
}

impl PreparedClonesState {
    /// Returns the number of clones that should be prepared.
    fn wanted(&self) -> usize {
        let busy = self.busy_until.is_some_and(|until| Instant::now() < until);
        if busy { COUNT_BUSY } else { 1 }
    }

    fn take(&mut self, limits: &Limits) -> Option<PreparedClone> {
        let fits = |clone: &mut PreparedClone| {
            limits.is_compatible_with(&clone.limits) && clone.running.is_alive()
        };
        let found = (0..self.clones.len()).find(|at| fits(&mut self.clones[*at]));
        let clone = found.map(|at| self.clones.remove(at));
        if clone.as_ref().is_none_or(|clone| clone.since.elapsed() < STARTED_AFTER) {
            self.busy_until = Some(Instant::now() + BUSY);
        }
        clone
    }
}

impl PreparedClones {
    /// Returns a clone of a zygote for a call: a prepared clone if there is one, otherwise a new
    /// clone.
    pub(crate) fn take(
        &self,
        zygote: u64,
        spawner: &Spawner,
        limits: &Limits,
    ) -> Result<RunningProcess> {
        match self.0.lock().take(limits) {
            Some(clone) => Ok(clone.running),
            None => Ok(spawner.run(clone_plan(zygote, limits), &[])?),
        }
    }

    /// Prepares at most one additional clone for later calls. Later calls usually have the same
    /// limits.
    pub(crate) fn prepare(&self, zygote: u64, spawner: &Spawner, limits: &Limits) {
        let mut state = self.0.lock();
        state.clones.retain_mut(|clone| clone.running.is_alive());
        let fitting = state.clones.iter().filter(|clone| limits.is_compatible_with(&clone.limits));
        if fitting.count() >= state.wanted() {
            return;
        }
        // Ignore an error: the next call tries to create a clone, and reports the error.
        if let Ok(running) = spawner.run(clone_plan(zygote, limits), &[]) {
            let (limits, since) = (limits.clone(), Instant::now());
            state.clones.push(PreparedClone { limits, running, since });
        }
        let oldest = (state.clones.len() > COUNT_BUSY).then(|| state.clones.remove(0));
        drop(state);
        drop(oldest);
    }

    /// Removes the clones that were prepared for a burst and are no longer needed.
    pub(crate) fn remove_surplus(&self) {
        let mut state = self.0.lock();
        let surplus = state.clones.len().saturating_sub(state.wanted());
        let surplus: Vec<PreparedClone> = state.clones.drain(..surplus).collect();
        drop(state);
        drop(surplus);
    }
}
