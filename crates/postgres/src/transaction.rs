//! Transactions: statements between `BEGIN` and `COMMIT` read one commit, and their writes are
//! merged at `COMMIT`. A conflict is SQLSTATE 40001.

use headwater_model::{ErrorCode, Problem};
use headwater_service::{LockScope, OpenTransaction};

use crate::backend_message::TransactionStatus;
use crate::result_rows::returns_rows;
use crate::session::{MessageResult, Portal, PortalProgress, Session};
use crate::temporary_objects::TemporaryRelations;
use crate::transaction_modes::{self, TransactionModes};
use crate::transaction_settings::TransactionSettings;

impl Session {
    /// Begins a transaction at the current commit of the session's ref. If a transaction is already
    /// open, only changes its modes.
    pub async fn begin(&mut self, modes: TransactionModes) -> Result<&'static str, Problem> {
        if self.status == TransactionStatus::Idle {
            let transactions = self.service.statements().transactions();
            let begun = transactions.begin(&self.principal, &self.reference).await?;
            self.transaction = Some(begun);
            self.status = TransactionStatus::Transaction;
            self.is_read_only = self.settings.default_read_only();
            self.transaction_settings = Some(TransactionSettings::new(&self.settings));
        }
        self.is_read_only = modes.is_read_only.unwrap_or(self.is_read_only);
        Ok("BEGIN")
    }

    /// Changes the modes of the open transaction. `READ ONLY` would have no effect outside of a
    /// transaction, so it is an error there.
    pub(crate) fn set_transaction(
        &mut self,
        modes: TransactionModes,
    ) -> Result<&'static str, Problem> {
        if self.status != TransactionStatus::Idle {
            self.is_read_only = modes.is_read_only.unwrap_or(self.is_read_only);
        } else if modes.is_read_only == Some(true) {
            let message = "`SET TRANSACTION READ ONLY` needs a transaction";
            return Err(Problem::new(ErrorCode::InvalidArgument, message).with_hint(
                "Send `BEGIN READ ONLY`, or `SET default_transaction_read_only = on` for all \
                     later transactions.",
            ));
        }
        Ok("SET")
    }

    /// Returns true if the open transaction is read-only. Outside of a transaction, returns true if
    /// the default of transactions is read-only.
    pub(crate) fn rejects_writes(&self) -> bool {
        match self.status {
            TransactionStatus::Idle => self.settings.default_read_only(),
            TransactionStatus::Transaction | TransactionStatus::Failed => self.is_read_only,
        }
    }

    /// Fails if writes are rejected. `name` is the name of the statement that writes.
    pub(crate) fn check_writable(&self, name: &str) -> Result<(), Problem> {
        if !self.rejects_writes() {
            return Ok(());
        }
        Err(transaction_modes::read_only(name, self.status == TransactionStatus::Idle))
    }

    /// Prepares the transaction for a statement with this name. If the statement writes, the ref
    /// must be a branch, and the transaction must not be read-only.
    pub async fn prepare_write(&mut self, name: &str) -> Result<(), Problem> {
        if returns_rows(name) {
            return Ok(());
        }
        self.check_writable(name)?;
        let Some(transaction) = &mut self.transaction else { return Ok(()) };
        let transactions = self.service.statements().transactions();
        transactions.prepare_write(&self.principal, transaction).await
    }

    /// Commits the transaction, or rolls it back if the transaction has failed.
    pub async fn commit(&mut self) -> MessageResult<&'static str> {
        if self.status == TransactionStatus::Failed {
            return Ok(self.roll_back().await);
        }
        let prepared = match self.start_held().await {
            Ok(()) => self.drop_temporary().await,
            failed => failed,
        };
        if let Err(failure) = prepared {
            self.roll_back().await;
            return Err(failure);
        }
        self.is_read_only = false;
        self.temporary = TemporaryRelations::default();
        self.status = TransactionStatus::Idle;
        self.portals.retain(|_, portal| portal.is_held);
        let committed = match self.transaction.take() {
            Some(transaction) => {
                let transactions = self.service.statements().transactions();
                transactions.commit(&self.principal, transaction).await
            }
            None => Ok(()),
        };
        self.connection.release_locks(&[LockScope::Transaction]);
        self.end_transaction_settings(committed.is_ok());
        if committed.is_err() {
            self.portals.clear();
        }
        committed?;
        Ok("COMMIT")
    }

    /// Starts the cursors WITH HOLD that are not started yet, so that they read the state of the
    /// transaction.
    async fn start_held(&mut self) -> MessageResult {
        let is_bound =
            |portal: &Portal| portal.is_held && matches!(portal.progress, PortalProgress::Bound);
        let held = self.portals.iter().filter(|(_, portal)| is_bound(portal));
        let names: Vec<String> = held.map(|(name, _)| name.clone()).collect();
        for name in names {
            Box::pin(self.run_portal(&name, 0)).await?;
        }
        Ok(())
    }

    /// Adds a savepoint.
    pub async fn savepoint(&mut self, name: &str) -> Result<&'static str, Problem> {
        let transactions = self.service.statements().transactions();
        transactions.add_savepoint(self.open_transaction()?, name).await?;
        self.temporary.add_savepoint(name);
        if let Some(settings) = &mut self.transaction_settings {
            settings.add_savepoint(name, &self.settings);
        }
        Ok("SAVEPOINT")
    }

    /// Releases a savepoint.
    pub fn release(&mut self, name: &str) -> Result<&'static str, Problem> {
        let transactions = self.service.statements().transactions();
        transactions.release_savepoint(self.open_transaction()?, name)?;
        self.temporary.release(name);
        if let Some(settings) = &mut self.transaction_settings {
            settings.release(name);
        }
        Ok("RELEASE")
    }

    /// Rolls back to a savepoint. This is also possible after an error.
    pub async fn roll_back_to(&mut self, name: &str) -> Result<&'static str, Problem> {
        let transactions = self.service.statements().transactions();
        transactions.roll_back_to(self.open_transaction()?, name).await?;
        self.status = TransactionStatus::Transaction;
        self.portals.clear();
        self.temporary.roll_back_to(name);
        let settings = self.transaction_settings.as_mut();
        if let Some(settings) = settings.and_then(|it| it.roll_back_to(name)) {
            self.replace_settings(settings);
        }
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
        self.status = TransactionStatus::Idle;
        self.is_read_only = false;
        self.portals.clear();
        self.temporary = TemporaryRelations::default();
        if let Some(transaction) = self.transaction.take() {
            self.service.statements().transactions().roll_back(transaction).await;
        }
        self.connection.release_locks(&[LockScope::Transaction]);
        self.end_transaction_settings(false);
        "ROLLBACK"
    }
}
