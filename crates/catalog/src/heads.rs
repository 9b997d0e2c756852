//! The heads of branches as they were last seen here, and turns at changing them.
//!
//! Another process may have moved a branch since, so that a head seen earlier is good for trying a
//! compare-and-swap, which saves reading it, and never for an answer. Those who change one branch from
//! this process take turns, since only one of them could win.

use std::hash::{BuildHasher, BuildHasherDefault, DefaultHasher};
use std::sync::Arc;

use bytes::Bytes;
use moka::sync::Cache;
use tokio::sync::{Mutex, MutexGuard};

/// How many branches are remembered.
const HEADS_MAX: u64 = 1_000;

/// Branches whose names fall on the same number share a turn.
const TURNS: usize = 64;

/// What each branch's ref held when it was last read or written.
#[derive(Clone)]
pub(crate) struct Heads {
    seen: Cache<String, Bytes>,
    turns: Arc<[Mutex<()>]>,
}

impl Heads {
    pub fn new() -> Self {
        let turns = (0..TURNS).map(|_| Mutex::new(())).collect();
        Heads { seen: Cache::new(HEADS_MAX), turns }
    }

    /// What the branch's ref held; none where that is not known.
    pub fn seen(&self, branch: &str) -> Option<Bytes> {
        self.seen.get(branch)
    }

    /// The branch's ref holds this; none where there is no such branch.
    pub fn set(&self, branch: &str, value: Option<Bytes>) {
        match value {
            Some(value) => self.seen.insert(branch.to_owned(), value),
            None => self.seen.invalidate(branch),
        }
    }

    /// Waits for a turn at changing the branch. Nobody holds two.
    pub async fn turn(&self, branch: &str) -> MutexGuard<'_, ()> {
        let hash = BuildHasherDefault::<DefaultHasher>::default().hash_one(branch);
        self.turns[hash as usize % TURNS].lock().await
    }
}
