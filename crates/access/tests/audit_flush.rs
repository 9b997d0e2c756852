//! Audit events are not lost if the request that stores them is cancelled, and are listed while
//! another request stores them.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use headwater_access::Access;
use headwater_model::{AuditOutcome, Principal, SystemClock};
use headwater_store::{BatchResult, MemoryStore, Result, Store, StoreWrapper, WriteBatch};
use tokio::sync::Notify;

/// A store whose writes wait for `resumed` while it is stuck.
#[derive(Debug, Default)]
struct StuckStore {
    inner: MemoryStore,
    is_stuck: AtomicBool,
    resumed: Notify,
}

#[async_trait]
impl StoreWrapper for StuckStore {
    fn inner(&self) -> &dyn Store {
        &self.inner
    }

    async fn apply(&self, batch: WriteBatch) -> Result<BatchResult> {
        if self.is_stuck.load(Ordering::SeqCst) {
            self.resumed.notified().await;
        }
        self.inner.apply(batch).await
    }
}

#[tokio::test]
async fn a_cancelled_flush_keeps_its_events_in_order() {
    let store = Arc::new(StuckStore::default());
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

#[tokio::test]
async fn a_list_contains_events_that_another_request_is_storing() {
    let store = Arc::new(StuckStore::default());
    let access = Access::open(store.clone(), Arc::new(SystemClock)).await.expect("a store");
    let audit = access.audit();
    audit.record(audit.event(&Principal::owner(), "select", "table:a.b", AuditOutcome::Allowed));
    store.is_stuck.store(true, Ordering::SeqCst);
    // The first future waits in the store, the second one lists, and the third one ends the wait.
    let resume = async {
        store.is_stuck.store(false, Ordering::SeqCst);
        store.resumed.notify_one();
    };
    let (flushed, listed, ()) = tokio::join!(audit.flush(), audit.list(10), resume);
    flushed.expect("flushed");
    assert_eq!(listed.expect("events").len(), 1);
}
