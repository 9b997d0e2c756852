//! Pins: the commits that reads and writes of this process use. The files of pinned commits must
//! not be removed.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;
use std::time::SystemTime;

use headwater_model::{CommitId, Timestamp};
use parking_lot::Mutex;

/// The commits that this process uses. Clones share the list.
#[derive(Debug, Clone, Default)]
pub(crate) struct PinnedCommits(Arc<Mutex<PinState>>);

#[derive(Debug, Default)]
struct PinState {
    next: u64,
    pins: BTreeMap<u64, PinnedCommit>,
    /// The metadata locations of table states whose files will be removed.
    scheduled: HashSet<String>,
}

/// A commit in use, and the time since which it is in use, by two clocks. `since`, by the system
/// clock, is compared with file times. `since_lake`, by the lake's clock, is compared with snapshot
/// times.
#[derive(Debug)]
struct PinnedCommit {
    commit: CommitId,
    since: SystemTime,
    since_lake: Timestamp,
}

/// A guard that keeps a commit in use until the last clone of the guard is dropped.
#[derive(Debug, Clone)]
pub(crate) struct CommitPin {
    _release: Arc<PinRelease>,
}

/// The entry of a pinned commit, which is removed from the list when this value is dropped.
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
        held.pins.insert(number, PinnedCommit { commit, since, since_lake: now });
        CommitPin { _release: Arc::new(PinRelease { pins: self.clone(), number }) }
    }

    /// Returns the commits in use.
    pub fn commits(&self) -> Vec<CommitId> {
        let held = self.0.lock();
        let commits: HashSet<CommitId> = held.pins.values().map(|held| held.commit).collect();
        commits.into_iter().collect()
    }

    /// Returns the time at which the oldest current use of a commit started, by the system clock.
    pub fn oldest(&self) -> Option<Timestamp> {
        self.0.lock().pins.values().map(|held| Timestamp::from(held.since)).min()
    }

    /// Returns the time at which the oldest current use of a commit started, by the lake's clock.
    pub fn oldest_in_lake(&self) -> Option<Timestamp> {
        self.0.lock().pins.values().map(|held| held.since_lake).min()
    }

    /// Sets the table states whose files will be removed. With an empty set, no removal is
    /// scheduled.
    pub fn schedule_removal(&self, states: HashSet<String>) {
        self.0.lock().scheduled = states;
    }

    /// Returns true if the files of a state will be removed.
    pub fn is_scheduled(&self, metadata_location: &str) -> bool {
        self.0.lock().scheduled.contains(metadata_location)
    }
}
