//! A slot for a transaction that several statements use one after the other.

use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::Mutex;

use super::Transaction;

/// A slot for a transaction that statements take and put back, and that its owner commits.
#[derive(Default)]
pub struct TransactionSlot {
    is_open: AtomicBool,
    /// The transaction; `None` while a statement uses it.
    idle: Mutex<Option<Box<Transaction>>>,
}

impl TransactionSlot {
    /// Puts a new transaction into the slot, so that statements can use it.
    pub fn open(&self, transaction: Transaction) {
        self.put(transaction);
        self.is_open.store(true, Ordering::Release);
    }

    /// Returns true after `open` and before `close`.
    pub fn is_open(&self) -> bool {
        self.is_open.load(Ordering::Acquire)
    }

    /// Takes the transaction; `None` if another statement is using it.
    pub fn take(&self) -> Option<Transaction> {
        self.idle.lock().take().map(|transaction| *transaction)
    }

    /// Puts the transaction back after [`TransactionSlot::take`].
    pub fn put(&self, transaction: Transaction) {
        *self.idle.lock() = Some(Box::new(transaction));
    }

    /// Closes the slot and returns the transaction; `None` if a statement has taken it.
    pub fn close(&self) -> Option<Transaction> {
        self.is_open.store(false, Ordering::Release);
        self.take()
    }
}
