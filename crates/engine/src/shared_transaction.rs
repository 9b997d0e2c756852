//! Statements that are part of a caller's transaction: the statement makes its changes there, and
//! the caller commits them together with others.

use std::sync::atomic::{AtomicBool, Ordering};

use headwater_lake::Transaction;
use headwater_sql::IntoStatement;
use parking_lot::Mutex;

use crate::error::{Error, Result};
use crate::session::Session;
use crate::statement_result::StatementResult;

/// The transaction of a session's caller, while a statement runs in it.
#[derive(Default)]
pub(crate) struct SharedTransaction {
    is_set: AtomicBool,
    /// `None` while the statement uses it.
    idle: Mutex<Option<Box<Transaction>>>,
}

impl SharedTransaction {
    /// Returns true if the session's statements are part of a caller's transaction.
    pub fn is_set(&self) -> bool {
        self.is_set.load(Ordering::Acquire)
    }

    /// Returns the transaction for one statement.
    pub fn take(&self) -> Result<Transaction> {
        let message = || "the transaction is used by another statement".to_owned();
        let idle = self.idle.lock().take();
        idle.map(|transaction| *transaction).ok_or_else(|| Error::Internal { message: message() })
    }

    /// Returns the transaction of [`SharedTransaction::take`] after the statement.
    pub fn put(&self, transaction: Transaction) {
        *self.idle.lock() = Some(Box::new(transaction));
    }
}

impl Session {
    /// Runs a change of rows in a transaction, which the caller commits. The statement sees the
    /// transaction's earlier changes of its target table. Its result has no commit, and its metrics
    /// do not count the written bytes, which are part of the transaction. The session runs no
    /// other statement meanwhile. If the statement fails, the transaction is discarded.
    pub async fn execute_in(
        &self,
        transaction: Transaction,
        statement: impl IntoStatement,
    ) -> Result<(Transaction, StatementResult)> {
        self.shared.put(transaction);
        self.shared.is_set.store(true, Ordering::Release);
        let result = self.execute(statement).await;
        self.shared.is_set.store(false, Ordering::Release);
        let transaction = self.shared.take();
        let result = result?;
        Ok((transaction?, result))
    }
}
