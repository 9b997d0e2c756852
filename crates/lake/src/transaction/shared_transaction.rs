//! A place for a transaction that several statements use in turn.

use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::Mutex;

use super::Transaction;

/// A transaction that is handed to statements, and that its owner commits.
#[derive(Default)]
pub struct SharedTransaction {
    is_open: AtomicBool,
    /// `None` while a statement uses the transaction.
    idle: Mutex<Option<Box<Transaction>>>,
}

impl SharedTransaction {
    /// Opens the slot with a transaction.
    pub fn open(&self, transaction: Transaction) {
        self.put(transaction);
        self.is_open.store(true, Ordering::Release);
    }

    /// Returns true between `open` and `close`.
    pub fn is_open(&self) -> bool {
        self.is_open.load(Ordering::Acquire)
    }

    /// Takes the transaction; `None` if another statement uses it.
    pub fn take(&self) -> Option<Transaction> {
        self.idle.lock().take().map(|transaction| *transaction)
    }

    /// Returns the transaction after [`SharedTransaction::take`].
    pub fn put(&self, transaction: Transaction) {
        *self.idle.lock() = Some(Box::new(transaction));
    }

    /// Closes the slot, and returns its transaction unless a statement lost it.
    pub fn close(&self) -> Option<Transaction> {
        self.is_open.store(false, Ordering::Release);
        self.take()
    }
}
