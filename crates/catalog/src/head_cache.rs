//! A cache of branch heads, and locks per branch.
//!
//! Another process may have moved a branch, so a cached head may be stale. It is used only as the
//! expected value of a compare-and-swap, so that a commit need not read the head first. A cached
//! head is never returned to a caller. Writers of a branch in this process take a lock, because of
//! several concurrent compare-and-swaps, only one can succeed.

use std::hash::{BuildHasher, BuildHasherDefault, DefaultHasher};
use std::sync::Arc;

use bytes::Bytes;
use moka::sync::Cache;
use tokio::sync::{Mutex, MutexGuard};

/// The maximum number of cached branches.
const HEADS_MAX: u64 = 1_000;

/// The number of locks; branches with the same hash share a lock.
const LOCKS: usize = 64;

/// A cache of the values of branch refs, as last read or written.
#[derive(Clone)]
pub(crate) struct HeadCache {
    values: Cache<String, Bytes>,
    locks: Arc<[Mutex<()>]>,
}

impl HeadCache {
    pub fn new() -> Self {
        let locks = (0..LOCKS).map(|_| Mutex::new(())).collect();
        HeadCache { values: Cache::new(HEADS_MAX), locks }
    }

    /// Returns the cached value of the branch's ref.
    pub fn get(&self, branch: &str) -> Option<Bytes> {
        self.values.get(branch)
    }

    /// Updates the cached value; `None` removes it.
    pub fn set(&self, branch: &str, value: Option<Bytes>) {
        match value {
            Some(value) => self.values.insert(branch.to_owned(), value),
            None => self.values.invalidate(branch),
        }
    }

    /// Locks the branch for changes. A task must not hold the locks of two branches.
    pub async fn lock(&self, branch: &str) -> MutexGuard<'_, ()> {
        let hash = BuildHasherDefault::<DefaultHasher>::default().hash_one(branch);
        self.locks[hash as usize % LOCKS].lock().await
    }
}
