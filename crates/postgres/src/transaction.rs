//! Transactions: statements between `BEGIN` and `COMMIT` read one commit, and their writes are
//! merged at `COMMIT`. A conflict is SQLSTATE 40001.

use headwater_model::{ErrorCode, Problem};
use headwater_service::OpenTransaction;

use crate::cursor::returns_rows;
use crate::reply::Status;
use crate::session::{MessageResult, Session};

impl Session {
    /// Begins a transaction at the current commit of the ref. Does nothing if a transaction is
    /// already open.
    pub async fn begin(&mut self) -> Result<&'static str, Problem> {
        if self.status == Status::Idle {
            let transactions = self.service.statements().transactions();
            let begun = transactions.begin(&self.principal, &self.reference).await?;
            self.transaction = Some(begun);
            self.status = Status::Transaction;
        }
        Ok("BEGIN")
    }

    /// Prepares the transaction for a statement of this kind: a write requires that the ref is a
    /// branch.
    pub async fn prepare_write(&mut self, name: &str) -> Result<(), Problem> {
        let Some(transaction) = &mut self.transaction else { return Ok(()) };
        if returns_rows(name) {
            return Ok(());
        }
        let transactions = self.service.statements().transactions();
        transactions.prepare_write(&self.principal, transaction).await
    }

    /// Commits the transaction, or rolls it back if the transaction has failed.
    pub async fn commit(&mut self) -> MessageResult<&'static str> {
        if self.status == Status::Failed {
            return Ok(self.roll_back().await);
        }
        if let Err(failure) = self.drop_temporary().await {
            self.roll_back().await;
            return Err(failure);
        }
        self.status = Status::Idle;
        self.portals.clear();
        if let Some(transaction) = self.transaction.take() {
            let transactions = self.service.statements().transactions();
            transactions.commit(&self.principal, transaction).await?;
        }
        Ok("COMMIT")
    }

    /// Adds a savepoint.
    pub async fn savepoint(&mut self, name: &str) -> Result<&'static str, Problem> {
        let transactions = self.service.statements().transactions();
        transactions.add_savepoint(self.open_transaction()?, name).await?;
        Ok("SAVEPOINT")
    }

    /// Releases a savepoint.
    pub fn release(&mut self, name: &str) -> Result<&'static str, Problem> {
        let transactions = self.service.statements().transactions();
        transactions.release_savepoint(self.open_transaction()?, name)?;
        Ok("RELEASE")
    }

    /// Rolls back to a savepoint, also after an error.
    pub async fn roll_back_to(&mut self, name: &str) -> Result<&'static str, Problem> {
        let transactions = self.service.statements().transactions();
        transactions.roll_back_to(self.open_transaction()?, name).await?;
        self.status = Status::Transaction;
        self.portals.clear();
        Ok("ROLLBACK")
    }

    fn open_transaction(&mut self) -> Result<&mut OpenTransaction, Problem> {
        self.transaction.as_mut().ok_or_else(|| {
            let message = "savepoints need a transaction";
            Problem::new(ErrorCode::InvalidArgument, message).with_hint("Send `BEGIN` first.")
        })
    }

    /// Rolls back the transaction, if one is open.
    pub async fn roll_back(&mut self) -> &'static str {
        self.status = Status::Idle;
        self.portals.clear();
        self.temporary.clear();
        if let Some(transaction) = self.transaction.take() {
            self.service.statements().transactions().roll_back(transaction).await;
        }
        "ROLLBACK"
    }
}
