//! Open transactions of clients. A connection of gRPC has no end that the server sees, so an unused
//! transaction expires and is rolled back.

use std::sync::Arc;
use std::time::Duration;

use headwater_model::{ErrorCode, Identity, Principal, Problem};
use headwater_service::{OpenTransaction, Service, Transactions};
use moka::future::Cache;
use moka::policy::EvictionPolicy;
use tokio::sync::Mutex;
use tonic::Status;

use crate::caller::Caller;
use crate::status::to_status;
use crate::ticket::SavepointId;

/// Time without statements after which a transaction is rolled back.
const IDLE: Duration = Duration::from_secs(30 * 60);

/// Maximum number of open transactions. Beyond it, the one that has been unused for longest is
/// rolled back.
const TRANSACTIONS_MAX: u64 = 1_000;

/// A transaction of a client.
pub struct ClientTransaction {
    owner: Identity,
    /// The transaction; `None` once it has ended. Locked while a statement starts.
    pub open: Mutex<Option<OpenTransaction>>,
}

/// The open transactions.
pub struct ClientTransactions {
    service: Service,
    open: Cache<String, Arc<ClientTransaction>>,
}

impl ClientTransactions {
    /// Creates an empty set.
    pub fn new(service: Service) -> Self {
        let transactions = service.statements().transactions();
        let open = Cache::builder()
            .max_capacity(TRANSACTIONS_MAX)
            .eviction_policy(EvictionPolicy::lru())
            .time_to_idle(IDLE)
            .async_eviction_listener(move |_, transaction: Arc<ClientTransaction>, _| {
                let transactions = transactions.clone();
                // A transaction that ended is `None` here.
                Box::pin(async move {
                    if let Some(open) = transaction.open.lock().await.take() {
                        transactions.roll_back(open).await;
                    }
                })
            })
            .build();
        ClientTransactions { service, open }
    }

    /// Begins a transaction. Returns its id.
    pub async fn begin(&self, caller: &Caller) -> Result<String, Status> {
        let operations = self.operations();
        let begun = operations.begin(&caller.principal, &caller.reference);
        let begun = Box::pin(begun).await.map_err(to_status)?;
        let id = uuid::Uuid::new_v4().simple().to_string();
        let owner = caller.principal.identity().clone();
        let transaction = ClientTransaction { owner, open: Mutex::new(Some(begun)) };
        self.open.insert(id.clone(), Arc::new(transaction)).await;
        Ok(id)
    }

    /// Returns a transaction of the client.
    pub async fn get(
        &self,
        principal: &Principal,
        id: &str,
    ) -> Result<Arc<ClientTransaction>, Status> {
        let found = self.open.get(id).await.filter(|it| it.owner == *principal.identity());
        found.ok_or_else(ended)
    }

    /// Commits a transaction, or rolls it back.
    pub async fn end(
        &self,
        principal: &Principal,
        id: &str,
        is_commit: bool,
    ) -> Result<(), Status> {
        let transaction = self.get(principal, id).await?;
        let open = transaction.open.lock().await.take().ok_or_else(ended)?;
        self.open.invalidate(id).await;
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
        let transaction = self.get(principal, &savepoint.transaction).await?;
        let mut open = transaction.open.lock().await;
        let open = open.as_mut().ok_or_else(ended)?;
        Box::pin(self.operations().add_savepoint(open, &savepoint.name)).await.map_err(to_status)
    }

    /// Releases a savepoint, or undoes the changes since it.
    pub async fn end_savepoint(
        &self,
        principal: &Principal,
        savepoint: &SavepointId,
        is_release: bool,
    ) -> Result<(), Status> {
        let SavepointId { transaction, name } = savepoint;
        let transaction = self.get(principal, transaction).await?;
        let mut open = transaction.open.lock().await;
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

/// Returns the error for a transaction that does not exist.
pub fn ended() -> Status {
    let message = "the transaction does not exist, has ended or was unused for too long";
    to_status(Problem::new(ErrorCode::TransactionFailed, message).with_hint("Begin a new one."))
}
