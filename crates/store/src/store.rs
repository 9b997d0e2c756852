//! The trait that every backend implements.
//!
//! A read sees every batch that any process applied before the read began. Batches are atomic: a
//! read sees all of a batch or nothing.

use async_trait::async_trait;
use bytes::Bytes;
use headwater_model::ObjectId;

use crate::{BatchResult, JournalEntry, KeyRange, Result, WriteBatch};

/// A durable store of objects, refs and journals.
#[async_trait]
pub trait Store: Send + Sync + std::fmt::Debug {
    /// Returns the content of an object, or `None` if it does not exist.
    async fn object(&self, id: &ObjectId) -> Result<Option<Bytes>>;

    /// Returns the content of several objects, in the order of `ids`.
    async fn objects(&self, ids: &[ObjectId]) -> Result<Vec<Option<Bytes>>>;

    /// Returns at most `limit` ids of objects that begin with these hexadecimal digits, in order.
    async fn objects_with_prefix(&self, digits: &str, limit: usize) -> Result<Vec<ObjectId>>;

    /// Returns the value of a ref, or `None` if it does not exist.
    async fn reference(&self, name: &str) -> Result<Option<Bytes>>;

    /// Lists at most `limit` refs with this prefix whose names follow `after`, in the order of
    /// their names.
    async fn references(
        &self,
        prefix: &str,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Vec<(String, Bytes)>>;

    /// Returns the newest entry of a key. Returns `None` if the key has no entry, or if its newest
    /// entry is a tombstone.
    async fn latest(&self, journal: &str, key: &str) -> Result<Option<JournalEntry>>;

    /// Returns the newest entry of each key in a range, ordered by key, without tombstones.
    async fn scan(&self, journal: &str, range: &KeyRange) -> Result<Vec<JournalEntry>>;

    /// Returns at most `limit` entries after a position, in order, without tombstones.
    async fn read(&self, journal: &str, after: u64, limit: usize) -> Result<Vec<JournalEntry>>;

    /// Like [`read`](Store::read), for the keys with a prefix. The read is fastest if the prefix is
    /// a complete key.
    async fn history(
        &self,
        journal: &str,
        key_prefix: &str,
        after: u64,
        limit: usize,
    ) -> Result<Vec<JournalEntry>>;

    /// Applies a batch atomically. The batch is durable on return, unless the batch is relaxed.
    ///
    /// Fails with `Conflict` if a ref has another value than expected, and with `NotUnique` if a
    /// unique key exists. After any other error, it is unknown whether the batch has been applied.
    /// Before it applies the batch again, a caller must read the state, unless applying it twice is
    /// harmless.
    async fn apply(&self, batch: WriteBatch) -> Result<BatchResult>;

    /// Deletes all entries of the keys in a range and returns their number. The range's `reverse`
    /// and `limit` have no effect. Positions are never reused.
    async fn trim(&self, journal: &str, range: &KeyRange) -> Result<u64>;
}
