//! Statements that are part of a caller's transaction.

use headwater_lake::Transaction;
use headwater_sql::IntoStatement;

use crate::error::{Error, Result};
use crate::session::Session;
use crate::statement_result::StatementResult;

impl Session {
    /// Runs a change of rows in a transaction, which the caller commits. The statement sees the
    /// transaction's earlier changes of its target table. The result has no commit. Its metrics
    /// exclude the written bytes, because the transaction counts them. The session must not run
    /// another statement at the same time. If the statement fails, the transaction is discarded.
    pub async fn execute_in(
        &self,
        transaction: Transaction,
        statement: impl IntoStatement,
    ) -> Result<(Transaction, StatementResult)> {
        self.shared.open(transaction);
        let result = self.execute(statement).await;
        let transaction = self.shared.close();
        let result = result?;
        Ok((transaction.ok_or_else(in_use)?, result))
    }
}

pub(crate) fn in_use() -> Error {
    Error::Internal { message: "the transaction is used by another statement".to_owned() }
}
