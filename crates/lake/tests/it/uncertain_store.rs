//! A store that can apply a batch and still return an error.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use headwater_store::{BatchResult, Error, MemoryStore, Result, Store, StoreWrapper, WriteBatch};
use tokio::sync::Semaphore;

/// The store. Each batch waits for a permit before it is applied.
#[derive(Debug)]
pub struct UncertainStore {
    inner: MemoryStore,
    pub permits: Semaphore,
    /// The number of received batches.
    pub asked: AtomicUsize,
    pub loses: AtomicBool,
    /// If true, the store simulates another process that always updates the branch first.
    pub overtakes: AtomicBool,
}

impl UncertainStore {
    /// Creates a store without faults.
    pub fn new() -> Arc<Self> {
        let (permits, asked) = (Semaphore::new(1_000_000), AtomicUsize::new(0));
        let (inner, loses) = (MemoryStore::new(), AtomicBool::new(false));
        let overtakes = AtomicBool::new(false);
        Arc::new(UncertainStore { inner, permits, asked, loses, overtakes })
    }
}

#[async_trait::async_trait]
impl StoreWrapper for UncertainStore {
    fn inner(&self) -> &dyn Store {
        &self.inner
    }

    async fn apply(&self, batch: WriteBatch) -> Result<BatchResult> {
        self.asked.fetch_add(1, Ordering::SeqCst);
        self.permits.acquire().await.expect("never closed").forget();
        let branch = batch.refs.iter().find(|change| change.name.starts_with("branch/"));
        if let Some(branch) = branch.filter(|_| self.overtakes.load(Ordering::SeqCst)) {
            return Err(Error::Conflict { name: branch.name.clone() });
        }
        let applied = self.inner.apply(batch).await;
        if self.loses.load(Ordering::SeqCst) {
            let source = Arc::new(std::io::Error::other("the answer was lost"));
            return Err(Error::Storage { what: "apply a batch".to_owned(), source });
        }
        applied
    }
}
