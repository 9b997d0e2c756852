//! Audit events are not lost if the request that stores them is cancelled.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use headwater_access::Access;
use headwater_model::{AuditOutcome, Principal, SystemClock};
use headwater_store::{BatchResult, MemoryStore, Result, Store, StoreWrapper, WriteBatch};

/// A store whose writes wait forever while it is stuck.
#[derive(Debug)]
struct StuckStore {
    inner: MemoryStore,
    is_stuck: AtomicBool,
}

#[async_trait]
impl StoreWrapper for StuckStore {
    fn inner(&self) -> &dyn Store {
        &self.inner
    }

    async fn apply(&self, batch: WriteBatch) -> Result<BatchResult> {
        if self.is_stuck.load(Ordering::SeqCst) {
            std::future::pending::<()>().await;
        }
        self.inner.apply(batch).await
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
