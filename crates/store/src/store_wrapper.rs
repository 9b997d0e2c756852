//! Stores that change some calls to another store, for tests of errors and of concurrent requests.

use async_trait::async_trait;
use bytes::Bytes;
use headwater_model::ObjectId;

use crate::{BatchResult, JournalEntry, KeyRange, Result, Store, WriteBatch};

/// A store that passes every call to another store. An implementation overrides the calls that it
/// changes.
#[async_trait]
pub trait StoreWrapper: Send + Sync + std::fmt::Debug {
    /// Returns the store that executes the calls.
    fn inner(&self) -> &dyn Store;

    /// Executes [`Store::references`].
    async fn references(
        &self,
        prefix: &str,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Vec<(String, Bytes)>> {
        self.inner().references(prefix, after, limit).await
    }

    /// Executes [`Store::apply`].
    async fn apply(&self, batch: WriteBatch) -> Result<BatchResult> {
        self.inner().apply(batch).await
    }

    /// Executes [`Store::trim`].
    async fn trim(&self, journal: &str, range: &KeyRange) -> Result<u64> {
        self.inner().trim(journal, range).await
    }
}

#[async_trait]
impl<T: StoreWrapper> Store for T {
    async fn object(&self, id: &ObjectId) -> Result<Option<Bytes>> {
        self.inner().object(id).await
    }

    async fn objects(&self, ids: &[ObjectId]) -> Result<Vec<Option<Bytes>>> {
        self.inner().objects(ids).await
    }

    async fn objects_with_prefix(&self, digits: &str, limit: usize) -> Result<Vec<ObjectId>> {
        self.inner().objects_with_prefix(digits, limit).await
    }

    async fn reference(&self, name: &str) -> Result<Option<Bytes>> {
        self.inner().reference(name).await
    }

    async fn references(
        &self,
        prefix: &str,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Vec<(String, Bytes)>> {
        StoreWrapper::references(self, prefix, after, limit).await
    }

    async fn latest(&self, journal: &str, key: &str) -> Result<Option<JournalEntry>> {
        self.inner().latest(journal, key).await
    }

    async fn scan(&self, journal: &str, range: &KeyRange) -> Result<Vec<JournalEntry>> {
        self.inner().scan(journal, range).await
    }

    async fn read(&self, journal: &str, after: u64, limit: usize) -> Result<Vec<JournalEntry>> {
        self.inner().read(journal, after, limit).await
    }

    async fn history(
        &self,
        journal: &str,
        key_prefix: &str,
        after: u64,
        limit: usize,
    ) -> Result<Vec<JournalEntry>> {
        self.inner().history(journal, key_prefix, after, limit).await
    }

    async fn apply(&self, batch: WriteBatch) -> Result<BatchResult> {
        StoreWrapper::apply(self, batch).await
    }

    async fn trim(&self, journal: &str, range: &KeyRange) -> Result<u64> {
        StoreWrapper::trim(self, journal, range).await
    }
}
