//! Open transactions of clients. The server does not see the end of a gRPC connection, so an unused
//! transaction expires and is rolled back.

use std::sync::Arc;
use std::time::Instant;

use headwater_model::{ErrorCode, Principal, Problem};
use headwater_service::{OpenTransaction, Service, Transactions};
use tokio::runtime::Handle;
use tokio::sync::Mutex;
use tonic::Status;

use crate::caller::Caller;
use crate::client_handles::{ClientHandles, EntryGuard};
use crate::grpc_status::to_status;
use crate::limits::FlightLimits;
use crate::ticket::SavepointId;

/// The transaction of a client; `None` once it has ended. The lock is held while a statement
/// starts.
pub type ClientTransaction = Mutex<Option<OpenTransaction>>;

/// The open transactions.
pub struct ClientTransactions {
    service: Service,
    open: ClientHandles<ClientTransaction>,
}

impl ClientTransactions {
    /// Creates an empty set.
    pub fn new(service: Service, limits: &FlightLimits) -> Self {
        let hint = "Commit a transaction, or roll it back.";
        let (max, idle) = (limits.transactions_max, limits.transaction_idle);
        ClientTransactions {
            service,
            open: ClientHandles::new("open transactions", hint, max, idle),
        }
    }

    /// Begins a transaction. Returns its id.
    ///
    /// Errors: the principal has too many transactions.
    pub async fn begin(&self, caller: &Caller) -> Result<String, Status> {
        let operations = self.operations();
        let begun = operations.begin(&caller.principal, &caller.reference);
        let begun = Box::pin(begun).await.map_err(to_status)?;
        match self.open.add(caller, Mutex::new(Some(begun))) {
            Ok(id) => Ok(id),
            Err((begun, status)) => {
                self.roll_back(&begun).await;
                Err(status)
            }
        }
    }

    /// Returns a transaction of the client. The transaction does not expire while the returned
    /// value exists.
    pub fn get(
        &self,
        principal: &Principal,
        id: &str,
    ) -> Result<EntryGuard<ClientTransaction>, Status> {
        self.open.get(principal, id).ok_or_else(ended)
    }

    /// Rolls back the transactions that expired or whose session ended, and those of principals
    /// that are no longer valid. Each rollback runs in a separate task, because it may wait for a
    /// statement that is starting.
    pub fn roll_back_expired(self: &Arc<Self>, now: Instant) {
        let accounts = self.service.access_control();
        let is_valid = |principal: &Principal| accounts.credential_state(principal).is_ok();
        for expired in self.open.remove_expired(now, is_valid) {
            let transactions = Arc::clone(self);
            tokio::spawn(async move { transactions.roll_back(&expired).await });
        }
    }

    /// Rolls back the transactions of a session.
    pub async fn roll_back_session(&self, session: &str) {
        for transaction in self.open.remove_session(session) {
            self.roll_back(&transaction).await;
        }
    }

    async fn roll_back(&self, transaction: &ClientTransaction) {
        if let Some(open) = transaction.lock().await.take() {
            self.operations().roll_back(open).await;
        }
    }

    /// Commits a transaction, or rolls it back.
    pub async fn end(
        &self,
        principal: &Principal,
        id: &str,
        is_commit: bool,
    ) -> Result<(), Status> {
        let transaction = self.get(principal, id)?;
        let open = transaction.lock().await.take().ok_or_else(ended)?;
        self.open.remove(principal, id);
        if !is_commit {
            self.operations().roll_back(open).await;
            return Ok(());
        }
        Box::pin(self.operations().commit(principal, open)).await.map_err(to_status)
    }

    /// Adds a savepoint.
    pub async fn add_savepoint(
        &self,
        principal: &Principal,
        savepoint: &SavepointId,
    ) -> Result<(), Status> {
        let transaction = self.get(principal, &savepoint.transaction)?;
        let mut open = transaction.lock().await;
        let open = open.as_mut().ok_or_else(ended)?;
        Box::pin(self.operations().add_savepoint(open, &savepoint.name)).await.map_err(to_status)
    }

    /// Releases a savepoint, or undoes the changes since the savepoint.
    pub async fn end_savepoint(
        &self,
        principal: &Principal,
        savepoint: &SavepointId,
        is_release: bool,
    ) -> Result<(), Status> {
        let SavepointId { transaction, name } = savepoint;
        let transaction = self.get(principal, transaction)?;
        let mut open = transaction.lock().await;
        let open = open.as_mut().ok_or_else(ended)?;
        if is_release {
            return self.operations().release_savepoint(open, name).map_err(to_status);
        }
        Box::pin(self.operations().roll_back_to(open, name)).await.map_err(to_status)
    }

    fn operations(&self) -> Transactions {
        self.service.statements().transactions()
    }
}

/// Guard that rolls a transaction back when it is dropped, unless [`RollbackGuard::disarm`] was
/// called. If the client ends its request, the guard is dropped.
pub struct RollbackGuard {
    transactions: Arc<ClientTransactions>,
    principal: Principal,
    id: Option<String>,
}

impl RollbackGuard {
    /// Creates the guard of a transaction.
    pub fn new(transactions: &Arc<ClientTransactions>, principal: &Principal, id: &str) -> Self {
        RollbackGuard {
            transactions: transactions.clone(),
            principal: principal.clone(),
            id: Some(id.to_owned()),
        }
    }

    /// Disarms the guard, because the caller has ended the transaction.
    pub fn disarm(mut self) {
        self.id = None;
    }
}

impl Drop for RollbackGuard {
    fn drop(&mut self) {
        let (Some(id), Ok(runtime)) = (self.id.take(), Handle::try_current()) else { return };
        let (transactions, principal) = (self.transactions.clone(), self.principal.clone());
        runtime.spawn(async move {
            // If the transaction has already ended, there is nothing to roll back.
            let _ = transactions.end(&principal, &id, false).await;
        });
    }
}

/// Returns the error for a transaction that has ended or never existed.
pub fn ended() -> Status {
    let message = "the transaction does not exist, has ended or was unused for too long";
    to_status(Problem::new(ErrorCode::TransactionFailed, message).with_hint("Begin a new one."))
}
