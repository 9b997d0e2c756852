//! Advisory locks: locks on numbers that clients choose, as in PostgreSQL. Migration tools take
//! such a lock so that only one of them changes a database at a time.
//!
//! Each database has its own numbers. An exclusive lock excludes all locks of other connections on
//! its number, and a shared lock excludes only exclusive ones. A connection can acquire a lock
//! several times, and must then release it the same number of times. The end of the connection
//! releases all its locks. A connection that waits for an exclusive lock does not prevent others
//! from acquiring shared locks.

use std::collections::BTreeMap;
use std::sync::{Arc, Weak};

use tokio_util::sync::CancellationToken;

/// Maximum number of locks that a connection can hold.
const LOCKS_MAX: usize = 1_000;

/// The number of a lock. Numbers of one part and of two parts are different locks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum AdvisoryKey {
    /// A number of 64 bits.
    One(i64),
    /// Two numbers of 32 bits.
    Two(i32, i32),
}

/// The event that releases a lock.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum LockScope {
    /// A call of the client, or the end of the connection.
    Session,
    /// The end of the transaction.
    Transaction,
}

/// The locks of other connections that a lock excludes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum LockMode {
    /// All locks.
    Exclusive,
    /// Exclusive locks.
    Shared,
}

/// The scope and the mode of a lock.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct LockKind {
    /// The event that releases the lock.
    pub scope: LockScope,
    /// The locks of other connections that the lock excludes.
    pub mode: LockMode,
}

/// The error for a connection that holds the maximum number of locks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TooManyLocks;

type LockName = (String, AdvisoryKey);

/// The numbers of times that a connection acquired a lock, without zeros.
type Counts = BTreeMap<LockKind, u64>;

/// A lock that at least one connection holds.
#[derive(Default)]
struct HeldLock {
    /// The connections that hold the lock, by their numbers. No value is empty.
    holders: BTreeMap<i32, Counts>,
    /// The signals of the connections that wait for the lock.
    waiting: Vec<Weak<CancellationToken>>,
}

impl HeldLock {
    /// Returns true if a lock of another connection excludes this mode.
    fn excludes(&self, process: i32, mode: LockMode) -> bool {
        let mut others = self.holders.iter().filter(|(holder, _)| **holder != process);
        others.any(|(_, counts)| {
            mode == LockMode::Exclusive
                || counts.keys().any(|kind| kind.mode == LockMode::Exclusive)
        })
    }

    /// Removes the locks of a connection for which `is_released` is true, and wakes the waiting
    /// connections. Returns true if another lock remains.
    fn retain(&mut self, process: i32, is_released: impl Fn(&LockKind, u64) -> bool) -> bool {
        let Some(counts) = self.holders.get_mut(&process) else { return true };
        let before = counts.len();
        counts.retain(|kind, count| !is_released(kind, *count));
        if counts.len() < before {
            let waiting = self.waiting.drain(..);
            waiting.filter_map(|signal| signal.upgrade()).for_each(|signal| signal.cancel());
        }
        self.holders.retain(|_, counts| !counts.is_empty());
        !self.holders.is_empty()
    }
}

/// The advisory locks of all connections.
#[derive(Default)]
pub(crate) struct AdvisoryLocks(BTreeMap<LockName, HeldLock>);

impl AdvisoryLocks {
    /// Acquires a lock. Returns false if the lock of another connection excludes it.
    pub(crate) fn acquire(
        &mut self,
        name: LockName,
        process: i32,
        kind: LockKind,
    ) -> Result<bool, TooManyLocks> {
        let holds = |lock: &HeldLock| lock.holders.contains_key(&process);
        let held = self.0.get(&name);
        if held.is_some_and(|lock| lock.excludes(process, kind.mode)) {
            return Ok(false);
        }
        if !held.is_some_and(holds) && self.0.values().filter(|it| holds(it)).count() >= LOCKS_MAX {
            return Err(TooManyLocks);
        }
        let counts = self.0.entry(name).or_default().holders.entry(process).or_default();
        *counts.entry(kind).or_default() += 1;
        Ok(true)
    }

    /// Returns a signal that is cancelled when a connection releases the lock; at once if no
    /// connection holds it.
    pub(crate) fn wait(&mut self, name: &LockName) -> Arc<CancellationToken> {
        let signal = Arc::new(CancellationToken::new());
        match self.0.get_mut(name) {
            Some(lock) => {
                lock.waiting.retain(|waiting| waiting.strong_count() > 0);
                lock.waiting.push(Arc::downgrade(&signal));
            }
            None => signal.cancel(),
        }
        signal
    }

    /// Undoes one acquisition of a lock in this mode by the session. The lock is released when each
    /// acquisition is undone. Returns false if the connection does not hold such a lock.
    pub(crate) fn release(&mut self, name: &LockName, process: i32, mode: LockMode) -> bool {
        let released = LockKind { scope: LockScope::Session, mode };
        let Some(lock) = self.0.get_mut(name) else { return false };
        let counts = lock.holders.get_mut(&process);
        let Some(count) = counts.and_then(|counts| counts.get_mut(&released)) else {
            return false;
        };
        *count -= 1;
        if !lock.retain(process, |kind, count| *kind == released && count == 0) {
            self.0.remove(name);
        }
        true
    }

    /// Releases all locks of a connection that have one of the scopes.
    pub(crate) fn release_all(&mut self, process: i32, scopes: &[LockScope]) {
        self.0.retain(|_, lock| lock.retain(process, |kind, _| scopes.contains(&kind.scope)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SESSION: LockKind = LockKind { scope: LockScope::Session, mode: LockMode::Exclusive };
    const TRANSACTION: LockKind = LockKind { scope: LockScope::Transaction, ..SESSION };
    const SHARED: LockKind = LockKind { mode: LockMode::Shared, ..SESSION };

    fn name(number: i64) -> LockName {
        ("main".to_owned(), AdvisoryKey::One(number))
    }

    fn release(locks: &mut AdvisoryLocks, process: i32) -> bool {
        locks.release(&name(1), process, LockMode::Exclusive)
    }

    #[test]
    fn a_lock_is_released_as_often_as_it_was_acquired() {
        let mut locks = AdvisoryLocks::default();
        for _ in 0..2 {
            assert_eq!(locks.acquire(name(1), 7, SESSION), Ok(true));
        }
        assert_eq!(locks.acquire(name(1), 8, SESSION), Ok(false));
        let other = ("dev".to_owned(), AdvisoryKey::One(1));
        assert_eq!(locks.acquire(other, 8, SESSION), Ok(true));
        let two = ("main".to_owned(), AdvisoryKey::Two(0, 1));
        assert_eq!(locks.acquire(two, 8, SESSION), Ok(true));
        let signal = locks.wait(&name(1));
        assert!(!release(&mut locks, 8), "another connection holds the lock");
        assert!(release(&mut locks, 7) && !signal.is_cancelled());
        assert!(release(&mut locks, 7) && signal.is_cancelled());
        assert!(!release(&mut locks, 7));
        assert!(locks.wait(&name(1)).is_cancelled());
        assert_eq!(locks.acquire(name(1), 8, SESSION), Ok(true));
    }

    #[test]
    fn the_end_of_a_transaction_keeps_the_locks_of_the_session() {
        let mut locks = AdvisoryLocks::default();
        for kind in [SESSION, TRANSACTION] {
            assert_eq!(locks.acquire(name(1), 7, kind), Ok(true));
        }
        assert_eq!(locks.acquire(name(2), 7, TRANSACTION), Ok(true));
        locks.release_all(7, &[LockScope::Transaction]);
        assert_eq!(locks.acquire(name(2), 8, SESSION), Ok(true));
        assert_eq!(locks.acquire(name(1), 8, SESSION), Ok(false));
        locks.release_all(7, &[LockScope::Session]);
        assert_eq!(locks.acquire(name(1), 8, SESSION), Ok(true));
    }

    #[test]
    fn a_connection_holds_a_limited_number_of_locks() {
        let mut locks = AdvisoryLocks::default();
        for number in 0..LOCKS_MAX as i64 {
            assert_eq!(locks.acquire(name(number), 7, SESSION), Ok(true));
        }
        assert_eq!(locks.acquire(name(-1), 7, SESSION), Err(TooManyLocks));
        assert_eq!(locks.acquire(name(-1), 8, SESSION), Ok(true));
    }

    #[test]
    fn shared_locks_exclude_only_exclusive_locks() {
        let mut locks = AdvisoryLocks::default();
        for process in [7, 7, 8] {
            assert_eq!(locks.acquire(name(1), process, SHARED), Ok(true));
        }
        assert_eq!(locks.acquire(name(1), 7, SESSION), Ok(false));
        assert!(!release(&mut locks, 7), "the session holds only shared locks");
        let signal = locks.wait(&name(1));
        assert!(locks.release(&name(1), 8, LockMode::Shared) && signal.is_cancelled());
        assert_eq!(locks.acquire(name(1), 7, SESSION), Ok(true), "the only connection");
        assert_eq!(locks.acquire(name(1), 8, SHARED), Ok(false));
        let signal = locks.wait(&name(1));
        assert!(release(&mut locks, 7) && signal.is_cancelled());
        let shared = LockKind { scope: LockScope::Transaction, ..SHARED };
        assert_eq!(locks.acquire(name(1), 8, shared), Ok(true));
        locks.release_all(7, &[LockScope::Session]);
        assert_eq!(locks.acquire(name(1), 9, SESSION), Ok(false), "a transaction holds a lock");
        locks.release_all(8, &[LockScope::Transaction]);
        assert_eq!(locks.acquire(name(1), 9, SESSION), Ok(true));
    }
}
