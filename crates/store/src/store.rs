//! The trait that every backend implements, and what each method promises.
//!
//! Reads see every batch that was applied before they began, whichever process applied it. Nothing is
//! read half: a batch is visible as a whole.

use async_trait::async_trait;
use bytes::Bytes;
use headwater_model::ObjectId;

use crate::{Applied, Batch, Entry, KeyRange, Result};

/// Durable state: objects, refs and journals.
#[async_trait]
pub trait Store: Send + Sync + std::fmt::Debug {
    /// The bytes of an object, or none where there is no such object.
    async fn object(&self, id: &ObjectId) -> Result<Option<Bytes>>;

    /// The bytes of several objects, in the order asked for.
    async fn objects(&self, ids: &[ObjectId]) -> Result<Vec<Option<Bytes>>>;

    /// The ids that begin with these hexadecimal digits, in order, at most `limit`.
    async fn objects_like(&self, digits: &str, limit: usize) -> Result<Vec<ObjectId>>;

    /// What a ref holds.
    async fn reference(&self, name: &str) -> Result<Option<Bytes>>;

    /// The refs whose names begin with `prefix`, by name, those after `after`, at most `limit`.
    async fn references(
        &self,
        prefix: &str,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Vec<(String, Bytes)>>;

    /// The newest entry of a key; none where there is none, or where it is a tombstone.
    async fn latest(&self, journal: &str, key: &str) -> Result<Option<Entry>>;

    /// The newest entry of each key in a range, by key; keys that ended in a tombstone are left out.
    async fn scan(&self, journal: &str, range: &KeyRange) -> Result<Vec<Entry>>;

    /// The entries after a position, by position, at most `limit`; tombstones are left out.
    async fn read(&self, journal: &str, after: u64, limit: usize) -> Result<Vec<Entry>>;

    /// As [`read`](Store::read), of the keys that begin with `key_prefix`. Cheapest where the prefix is
    /// a whole key.
    async fn history(
        &self,
        journal: &str,
        key_prefix: &str,
        after: u64,
        limit: usize,
    ) -> Result<Vec<Entry>>;

    /// Applies a batch, all or nothing; durable when it returns, unless the batch is relaxed.
    ///
    /// Fails with `Conflict` where a ref holds something else than expected, with `NotUnique` where a
    /// unique key exists. After any other error the batch may have been applied; a caller that cannot
    /// apply it twice finds out by reading.
    async fn apply(&self, batch: Batch) -> Result<Applied>;

    /// Removes for good every entry of the keys in a range, whatever its `reverse` and `limit`; returns
    /// how many. Their positions are not given again.
    async fn trim(&self, journal: &str, range: &KeyRange) -> Result<u64>;
}
