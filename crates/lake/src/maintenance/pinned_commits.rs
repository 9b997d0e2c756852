//! Pins: commits in use by reads and writes of this process, whose files must not be removed.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;
use std::time::SystemTime;

use headwater_model::{CommitId, Timestamp};
use parking_lot::Mutex;

/// The commits in use in this process. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub(crate) struct PinnedCommits(Arc<Mutex<PinState>>);

#[derive(Debug, Default)]
struct PinState {
    next: u64,
    pins: BTreeMap<u64, CommitUse>,
    /// The metadata locations of states scheduled for removal.
    scheduled: HashSet<String>,
}

/// A commit in use, and the start time of the use. The system clock's time is compared with file
/// times, the lake's clock with snapshot times.
#[derive(Debug)]
struct CommitUse {
    commit: CommitId,
    since: SystemTime,
    since_lake: Timestamp,
}

/// A guard that keeps a commit in use until its last clone is dropped.
#[derive(Debug, Clone)]
pub(crate) struct CommitPin {
    _release: Arc<PinRelease>,
}

#[derive(Debug)]
struct PinRelease {
    pins: PinnedCommits,
    number: u64,
}

impl Drop for PinRelease {
    fn drop(&mut self) {
        self.pins.0.lock().pins.remove(&self.number);
    }
}

impl PinnedCommits {
    /// Marks a commit as in use.
    pub fn pin(&self, commit: CommitId, now: Timestamp) -> CommitPin {
        let mut held = self.0.lock();
        let number = held.next;
        held.next += 1;
        let since = SystemTime::now();
        held.pins.insert(number, CommitUse { commit, since, since_lake: now });
        CommitPin { _release: Arc::new(PinRelease { pins: self.clone(), number }) }
    }

    /// Returns the commits in use.
    pub fn commits(&self) -> Vec<CommitId> {
        let held = self.0.lock();
        let commits: HashSet<CommitId> = held.pins.values().map(|held| held.commit).collect();
        commits.into_iter().collect()
    }

    /// Returns the earliest start time of all uses, by the system clock.
    pub fn oldest(&self) -> Option<Timestamp> {
        self.0.lock().pins.values().map(|held| Timestamp::from(held.since)).min()
    }

    /// Returns the earliest start time of all uses, by the lake's clock.
    pub fn oldest_in_lake(&self) -> Option<Timestamp> {
        self.0.lock().pins.values().map(|held| held.since_lake).min()
    }

    /// Sets the states scheduled for removal; an empty set ends the removal.
    pub fn schedule_removal(&self, states: HashSet<String>) {
        self.0.lock().scheduled = states;
    }

    /// Returns true if a state is scheduled for removal.
    pub fn is_scheduled(&self, metadata_location: &str) -> bool {
        self.0.lock().scheduled.contains(metadata_location)
    }
}
