//! Transactions: statements between `BEGIN` and `COMMIT` read one commit, and their writes are
//! merged at `COMMIT`. A conflict is SQLSTATE 40001.

use headwater_model::Problem;

use crate::cursor::returns_rows;
use crate::reply::Status;
use crate::session::Session;

impl Session {
    /// Begins a transaction at the current commit of the ref. Does nothing in a transaction.
    pub async fn begin(&mut self) -> Result<&'static str, Problem> {
        if self.status == Status::Idle {
            let transactions = self.service.statements().transactions();
            let begun = transactions.begin(&self.principal, &self.reference).await?;
            self.transaction = Some(begun);
            self.status = Status::Transaction;
        }
        Ok("BEGIN")
    }

    /// Prepares the transaction for a statement, whose name is given: a write needs a branch.
    pub async fn prepare_write(&mut self, name: &str) -> Result<(), Problem> {
        let Some(transaction) = &mut self.transaction else { return Ok(()) };
        if returns_rows(name) {
            return Ok(());
        }
        let transactions = self.service.statements().transactions();
        transactions.prepare_write(&self.principal, transaction).await
    }

    /// Commits the transaction, or undoes it if it has failed.
    pub async fn commit(&mut self) -> Result<&'static str, Problem> {
        if self.status == Status::Failed {
            return Ok(self.roll_back().await);
        }
        self.status = Status::Idle;
        self.portals.clear();
        if let Some(transaction) = self.transaction.take() {
            let transactions = self.service.statements().transactions();
            transactions.commit(&self.principal, transaction).await?;
        }
        Ok("COMMIT")
    }

    /// Undoes the transaction, if there is one.
    pub async fn roll_back(&mut self) -> &'static str {
        self.status = Status::Idle;
        self.portals.clear();
        if let Some(transaction) = self.transaction.take() {
            self.service.statements().transactions().roll_back(transaction).await;
        }
        "ROLLBACK"
    }
}
