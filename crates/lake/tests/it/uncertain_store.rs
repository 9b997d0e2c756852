//! A store that can apply a batch and still return an error.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use bytes::Bytes;
use headwater_model::ObjectId;
use headwater_store::{
    BatchResult, Error, JournalEntry, KeyRange, MemoryStore, Result, Store, WriteBatch,
};
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
impl Store for UncertainStore {
    async fn object(&self, id: &ObjectId) -> Result<Option<Bytes>> {
        self.inner.object(id).await
    }

    async fn objects(&self, ids: &[ObjectId]) -> Result<Vec<Option<Bytes>>> {
        self.inner.objects(ids).await
    }

    async fn objects_with_prefix(&self, digits: &str, limit: usize) -> Result<Vec<ObjectId>> {
        self.inner.objects_with_prefix(digits, limit).await
    }

    async fn reference(&self, name: &str) -> Result<Option<Bytes>> {
        self.inner.reference(name).await
    }

    async fn references(
        &self,
        prefix: &str,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Vec<(String, Bytes)>> {
        self.inner.references(prefix, after, limit).await
    }

    async fn latest(&self, journal: &str, key: &str) -> Result<Option<JournalEntry>> {
        self.inner.latest(journal, key).await
    }

    async fn scan(&self, journal: &str, range: &KeyRange) -> Result<Vec<JournalEntry>> {
        self.inner.scan(journal, range).await
    }

    async fn read(&self, journal: &str, after: u64, limit: usize) -> Result<Vec<JournalEntry>> {
        self.inner.read(journal, after, limit).await
    }

    async fn history(
        &self,
        journal: &str,
        key_prefix: &str,
        after: u64,
        limit: usize,
    ) -> Result<Vec<JournalEntry>> {
        self.inner.history(journal, key_prefix, after, limit).await
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

    async fn trim(&self, journal: &str, range: &KeyRange) -> Result<u64> {
        self.inner.trim(journal, range).await
    }
}
