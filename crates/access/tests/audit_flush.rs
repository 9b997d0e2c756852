//! Audit events are not lost if the request that stores them is cancelled.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use headwater_access::Access;
use headwater_model::{AuditOutcome, ObjectId, Principal, SystemClock};
use headwater_store::{
    BatchResult, JournalEntry, KeyRange, MemoryStore, Result, Store, WriteBatch,
};

/// A store whose writes wait forever while it is stuck.
#[derive(Debug)]
struct StuckStore {
    inner: MemoryStore,
    is_stuck: AtomicBool,
}

#[async_trait]
impl Store for StuckStore {
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
        if self.is_stuck.load(Ordering::SeqCst) {
            std::future::pending::<()>().await;
        }
        self.inner.apply(batch).await
    }

    async fn trim(&self, journal: &str, range: &KeyRange) -> Result<u64> {
        self.inner.trim(journal, range).await
    }
}

#[tokio::test]
async fn a_cancelled_flush_keeps_its_events_in_order() {
    let (inner, is_stuck) = (MemoryStore::new(), AtomicBool::new(false));
    let store = Arc::new(StuckStore { inner, is_stuck });
    let access = Access::open(store.clone(), Arc::new(SystemClock)).await.expect("a store");
    let audit = access.audit();
    let record = |action: &str| {
        let event = audit.event(&Principal::owner(), action, "table:a.b", AuditOutcome::Allowed);
        audit.record(event);
    };
    record("select");
    store.is_stuck.store(true, Ordering::SeqCst);
    let cancelled = tokio::time::timeout(Duration::from_millis(10), audit.flush()).await;
    assert!(cancelled.is_err(), "the store is stuck");
    store.is_stuck.store(false, Ordering::SeqCst);
    record("insert");
    let events = audit.list(10).await.expect("events");
    let actions: Vec<&str> = events.iter().map(|event| event.action.as_str()).collect();
    assert_eq!(actions, ["insert", "select"]);
}
