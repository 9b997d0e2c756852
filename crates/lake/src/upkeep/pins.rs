//! Commits that somebody reads or writes from right now, so that nothing they need is removed.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;
use std::time::SystemTime;

use headwater_model::{CommitId, Timestamp};
use parking_lot::Mutex;

/// The commits in use in this process; cheap to clone.
#[derive(Debug, Clone, Default)]
pub(crate) struct Pins(Arc<Mutex<Held>>);

#[derive(Debug, Default)]
struct Held {
    next: u64,
    pins: BTreeMap<u64, InUse>,
    /// Metadata files of states that are about to lose their files.
    doomed: HashSet<String>,
}

/// A commit in use: since when by the machine's clock, which files have, and by the lake's, which snapshots
/// have.
#[derive(Debug)]
struct InUse {
    commit: CommitId,
    since: SystemTime,
    since_lake: Timestamp,
}

/// A commit in use, until the last clone of this goes.
#[derive(Debug, Clone)]
pub(crate) struct Pin {
    _release: Arc<Release>,
}

#[derive(Debug)]
struct Release {
    pins: Pins,
    number: u64,
}

impl Drop for Release {
    fn drop(&mut self) {
        self.pins.0.lock().pins.remove(&self.number);
    }
}

impl Pins {
    /// Says that a commit is in use.
    pub fn pin(&self, commit: CommitId, now: Timestamp) -> Pin {
        let mut held = self.0.lock();
        let number = held.next;
        held.next += 1;
        let since = SystemTime::now();
        held.pins.insert(number, InUse { commit, since, since_lake: now });
        Pin { _release: Arc::new(Release { pins: self.clone(), number }) }
    }

    /// The commits in use.
    pub fn commits(&self) -> Vec<CommitId> {
        let held = self.0.lock();
        let commits: HashSet<CommitId> = held.pins.values().map(|held| held.commit).collect();
        commits.into_iter().collect()
    }

    /// Since when the oldest of them is in use.
    pub fn oldest(&self) -> Option<Timestamp> {
        self.0.lock().pins.values().map(|held| Timestamp::from(held.since)).min()
    }

    /// The same by the lake's clock.
    pub fn oldest_in_lake(&self) -> Option<Timestamp> {
        self.0.lock().pins.values().map(|held| held.since_lake).min()
    }

    /// Says which states are about to lose their files; none are, once this is empty.
    pub fn doom(&self, states: HashSet<String>) {
        self.0.lock().doomed = states;
    }

    /// Whether a state is about to lose its files.
    pub fn is_doomed(&self, metadata_location: &str) -> bool {
        self.0.lock().doomed.contains(metadata_location)
    }
}
