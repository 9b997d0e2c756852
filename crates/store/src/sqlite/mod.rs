//! The store in one SQLite file in WAL mode, which several processes can open concurrently.
//!
//! Writes use one connection ([`writer`]), reads a small pool ([`readers`]). A commit costs one
//! fsync of the WAL, and concurrent writers share it (group commit).

mod batch_sql;
mod checkpointer;
mod connect;
mod error_class;
mod reader_pool;
mod writer;

use std::path::Path;

use async_trait::async_trait;
use bytes::Bytes;
use headwater_model::ObjectId;

use self::connect::Connector;
use self::reader_pool::ReaderPool;
use self::writer::Writer;
use crate::{BatchResult, JournalEntry, KeyRange, Result, Store, WriteBatch};

/// Options of a SQLite store.
#[derive(Debug, Clone, Default)]
pub struct SqliteOptions {
    /// The size limit of the database in bytes; `None` for no limit.
    pub bytes_max: Option<u64>,
}

/// A store in one SQLite file.
#[derive(Debug)]
pub struct SqliteStore {
    readers: ReaderPool,
    writer: Writer,
}

impl SqliteStore {
    /// Opens the store in the file at `path`, and creates the file if it is missing. The folder
    /// must exist.
    ///
    /// Fails with `TooNew` if a later version of Headwater wrote the file.
    pub async fn open(path: &Path) -> Result<Self> {
        Self::open_with(path, SqliteOptions::default()).await
    }

    /// Like [`open`](Self::open), with options.
    pub async fn open_with(path: &Path, options: SqliteOptions) -> Result<Self> {
        let connector = Connector::new(path, options);
        let first = connector.create().await?;
        let readers = ReaderPool::new(connector.clone());
        Ok(SqliteStore { readers, writer: Writer::new(connector, first) })
    }
}

#[async_trait]
impl Store for SqliteStore {
    async fn object(&self, id: &ObjectId) -> Result<Option<Bytes>> {
        Ok(self.readers.objects(&[*id]).await?.pop().flatten())
    }

    async fn objects(&self, ids: &[ObjectId]) -> Result<Vec<Option<Bytes>>> {
        self.readers.objects(ids).await
    }

    async fn objects_with_prefix(&self, digits: &str, limit: usize) -> Result<Vec<ObjectId>> {
        self.readers.objects_with_prefix(digits, limit).await
    }

    async fn reference(&self, name: &str) -> Result<Option<Bytes>> {
        self.readers.reference(name).await
    }

    async fn references(
        &self,
        prefix: &str,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Vec<(String, Bytes)>> {
        self.readers.references(prefix, after, limit).await
    }

    async fn latest(&self, journal: &str, key: &str) -> Result<Option<JournalEntry>> {
        self.readers.latest(journal, key).await
    }

    async fn scan(&self, journal: &str, range: &KeyRange) -> Result<Vec<JournalEntry>> {
        self.readers.scan(journal, range).await
    }

    async fn read(&self, journal: &str, after: u64, limit: usize) -> Result<Vec<JournalEntry>> {
        self.readers.read(journal, after, limit).await
    }

    async fn history(
        &self,
        journal: &str,
        key_prefix: &str,
        after: u64,
        limit: usize,
    ) -> Result<Vec<JournalEntry>> {
        self.readers.history(journal, key_prefix, after, limit).await
    }

    async fn apply(&self, batch: WriteBatch) -> Result<BatchResult> {
        self.writer.apply(batch).await
    }

    async fn trim(&self, journal: &str, range: &KeyRange) -> Result<u64> {
        self.writer.trim(journal, range).await
    }
}
