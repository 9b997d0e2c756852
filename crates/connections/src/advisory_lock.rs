//! Advisory locks: exclusive locks on numbers that clients choose, as in PostgreSQL. Migration
//! tools take such a lock so that only one of them changes a database at a time.
//!
//! Each database has its own numbers. A connection can acquire a lock several times, and must then
//! release it the same number of times. The end of the connection releases all its locks.

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
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LockScope {
    /// A call of the client, or the end of the connection.
    Session,
    /// The end of the transaction.
    Transaction,
}

/// The error for a connection that holds the maximum number of locks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TooManyLocks;

type LockName = (String, AdvisoryKey);

/// A lock that a connection holds.
struct HeldLock {
    process: i32,
    /// Number of times that the session acquired the lock.
    session: u64,
    /// Number of times that the transaction acquired the lock.
    transaction: u64,
    /// The signals of the connections that wait for the lock.
    waiting: Vec<Weak<CancellationToken>>,
}

impl HeldLock {
    fn count(&mut self, scope: LockScope) -> &mut u64 {
        match scope {
            LockScope::Session => &mut self.session,
            LockScope::Transaction => &mut self.transaction,
        }
    }

    fn is_free(&self) -> bool {
        self.session == 0 && self.transaction == 0
    }

    fn wake(&self) {
        self.waiting.iter().filter_map(Weak::upgrade).for_each(|signal| signal.cancel());
    }
}

/// The advisory locks of all connections.
#[derive(Default)]
pub(crate) struct AdvisoryLocks(BTreeMap<LockName, HeldLock>);

impl AdvisoryLocks {
    /// Acquires a lock. Returns false if another connection holds it.
    pub(crate) fn acquire(
        &mut self,
        name: LockName,
        process: i32,
        scope: LockScope,
    ) -> Result<bool, TooManyLocks> {
        if let Some(lock) = self.0.get_mut(&name) {
            let is_own = lock.process == process;
            *lock.count(scope) += u64::from(is_own);
            return Ok(is_own);
        }
        if self.0.values().filter(|lock| lock.process == process).count() >= LOCKS_MAX {
            return Err(TooManyLocks);
        }
        let mut lock = HeldLock { process, session: 0, transaction: 0, waiting: Vec::new() };
        *lock.count(scope) += 1;
        self.0.insert(name, lock);
        Ok(true)
    }

    /// Returns a signal that is cancelled when the lock is released; at once if the lock is free.
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

    /// Undoes one acquisition of a lock by the session. The lock is released when each acquisition
    /// is undone. Returns false if the connection does not hold such a lock.
    pub(crate) fn release(&mut self, name: &LockName, process: i32) -> bool {
        let Some(lock) = self.0.get_mut(name) else { return false };
        if lock.process != process || lock.session == 0 {
            return false;
        }
        lock.session -= 1;
        if lock.is_free() {
            lock.wake();
            self.0.remove(name);
        }
        true
    }

    /// Releases all locks of a connection that have one of the scopes.
    pub(crate) fn release_all(&mut self, process: i32, scopes: &[LockScope]) {
        self.0.retain(|_, lock| {
            if lock.process != process {
                return true;
            }
            for scope in scopes {
                *lock.count(*scope) = 0;
            }
            if lock.is_free() {
                lock.wake();
            }
            !lock.is_free()
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(number: i64) -> LockName {
        ("main".to_owned(), AdvisoryKey::One(number))
    }

    #[test]
    fn a_lock_is_released_as_often_as_it_was_acquired() {
        let mut locks = AdvisoryLocks::default();
        for _ in 0..2 {
            assert_eq!(locks.acquire(name(1), 7, LockScope::Session), Ok(true));
        }
        assert_eq!(locks.acquire(name(1), 8, LockScope::Session), Ok(false));
        let other = ("dev".to_owned(), AdvisoryKey::One(1));
        assert_eq!(locks.acquire(other, 8, LockScope::Session), Ok(true));
        let two = ("main".to_owned(), AdvisoryKey::Two(0, 1));
        assert_eq!(locks.acquire(two, 8, LockScope::Session), Ok(true));
        let signal = locks.wait(&name(1));
        assert!(!locks.release(&name(1), 8), "another connection holds the lock");
        assert!(locks.release(&name(1), 7) && !signal.is_cancelled());
        assert!(locks.release(&name(1), 7) && signal.is_cancelled());
        assert!(!locks.release(&name(1), 7));
        assert!(locks.wait(&name(1)).is_cancelled());
        assert_eq!(locks.acquire(name(1), 8, LockScope::Session), Ok(true));
    }

    #[test]
    fn the_end_of_a_transaction_keeps_the_locks_of_the_session() {
        let mut locks = AdvisoryLocks::default();
        for scope in [LockScope::Session, LockScope::Transaction] {
            assert_eq!(locks.acquire(name(1), 7, scope), Ok(true));
        }
        assert_eq!(locks.acquire(name(2), 7, LockScope::Transaction), Ok(true));
        locks.release_all(7, &[LockScope::Transaction]);
        assert_eq!(locks.acquire(name(2), 8, LockScope::Session), Ok(true));
        assert_eq!(locks.acquire(name(1), 8, LockScope::Session), Ok(false));
        locks.release_all(7, &[LockScope::Session]);
        assert_eq!(locks.acquire(name(1), 8, LockScope::Session), Ok(true));
    }

    #[test]
    fn a_connection_holds_a_limited_number_of_locks() {
        let mut locks = AdvisoryLocks::default();
        for number in 0..LOCKS_MAX as i64 {
            assert_eq!(locks.acquire(name(number), 7, LockScope::Session), Ok(true));
        }
        assert_eq!(locks.acquire(name(-1), 7, LockScope::Session), Err(TooManyLocks));
        assert_eq!(locks.acquire(name(-1), 8, LockScope::Session), Ok(true));
    }
}
