//! Concurrent requests to a queue, and requests whose writes fail.
//!
//! A store pauses a purge or a send in the middle, so that another request runs then, or rejects
//! batches.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use async_trait::async_trait;
use chrono::TimeDelta;
use headwater_model::{FixedClock, Timestamp};
use headwater_queues::{NewMessage, Queues, ReceiveOptions};
use headwater_store::{
    BatchResult, Error, KeyRange, MemoryStore, Result, Store, StoreWrapper, WriteBatch,
};
use parking_lot::Mutex;
use tokio::sync::Notify;

/// The request that the store pauses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Pause {
    BeforeTrim,
    AfterApply,
}

#[derive(Debug, Default)]
struct PausingStore {
    inner: MemoryStore,
    /// The next request that pauses.
    paused: Mutex<Option<Pause>>,
    reached: Notify,
    resumed: Notify,
    /// Number of batches that the store rejects.
    failures: AtomicUsize,
}

impl PausingStore {
    async fn pause(&self, at: Pause) {
        let pauses = self.paused.lock().take_if(|paused| *paused == at).is_some();
        if pauses {
            self.reached.notify_one();
            self.resumed.notified().await;
        }
    }
}

#[async_trait]
impl StoreWrapper for PausingStore {
    fn inner(&self) -> &dyn Store {
        &self.inner
    }

    async fn apply(&self, batch: WriteBatch) -> Result<BatchResult> {
        let fails = |left: usize| left.checked_sub(1);
        if self.failures.fetch_update(Ordering::SeqCst, Ordering::SeqCst, fails).is_ok() {
            return Err(Error::DiskFull);
        }
        let applied = self.inner.apply(batch).await;
        self.pause(Pause::AfterApply).await;
        applied
    }

    async fn trim(&self, journal: &str, range: &KeyRange) -> Result<u64> {
        self.pause(Pause::BeforeTrim).await;
        self.inner.trim(journal, range).await
    }
}

struct Lake {
    store: Arc<PausingStore>,
    clock: Arc<FixedClock>,
    queues: Queues,
}

impl Lake {
    async fn new() -> Self {
        let store = Arc::new(PausingStore::default());
        let clock = Arc::new(FixedClock::at(Timestamp::UNIX_EPOCH + TimeDelta::days(20_000)));
        let queues = Queues::open(store.clone(), clock.clone()).await.expect("queues");
        Lake { store, clock, queues }
    }

    async fn create(&self, name: &str, attributes: &[(&str, &str)]) {
        let pair = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
        let attributes = attributes.iter().map(pair).collect();
        self.queues.create(name, &attributes, BTreeMap::new()).await.expect("a queue");
    }

    async fn send(&self, queue: &str, group: Option<&str>, body: &str) {
        let (body, group) = (body.to_owned(), group.map(str::to_owned));
        let message = NewMessage { body, group, ..NewMessage::default() };
        let sent = self.queues.send(queue, "ana", vec![message]).await.expect("sent");
        assert!(sent.iter().all(std::result::Result::is_ok), "{sent:?}");
    }

    async fn bodies(&self, queue: &str) -> Vec<String> {
        let options = ReceiveOptions { limit: 10, wait: Some(0), visibility: Some(5) };
        let received = self.queues.receive(queue, options).await.expect("received");
        received.into_iter().map(|one| one.message.body).collect()
    }

    /// Runs `work`. Runs `between` while the store pauses `work`.
    async fn interleave(
        &self,
        pause: Pause,
        work: impl Future<Output = ()>,
        between: impl Future<Output = ()>,
    ) {
        *self.store.paused.lock() = Some(pause);
        let between = async {
            self.store.reached.notified().await;
            between.await;
            self.store.resumed.notify_one();
        };
        tokio::join!(work, between);
    }

    async fn purge(&self, queue: &str) {
        self.queues.purge(queue).await.expect("purged");
    }

    /// Checks the messages of a queue now and after a restart.
    async fn check(mut self, queue: &str, expected: &[&str]) {
        assert_eq!(self.bodies(queue).await, expected);
        self.clock.advance(std::time::Duration::from_secs(6));
        let opened = Queues::open(self.store.clone(), self.clock.clone()).await;
        self.queues = opened.expect("queues");
        assert_eq!(self.bodies(queue).await, expected, "after a restart");
    }
}

#[tokio::test]
async fn a_message_sent_during_a_purge_stays() {
    let lake = Lake::new().await;
    lake.create("orders", &[]).await;
    lake.send("orders", None, "old").await;
    let between = async {
        lake.send("orders", None, "new").await;
        assert_eq!(lake.bodies("orders").await, ["new"], "the old message is being deleted");
        lake.clock.advance(std::time::Duration::from_secs(6));
    };
    lake.interleave(Pause::BeforeTrim, lake.purge("orders"), between).await;
    lake.check("orders", &["new"]).await;
}

#[tokio::test]
async fn a_message_being_stored_during_a_purge_is_kept_completely() {
    let lake = Lake::new().await;
    lake.create("orders", &[]).await;
    lake.send("orders", None, "old").await;
    let send = lake.send("orders", None, "new");
    lake.interleave(Pause::AfterApply, send, lake.purge("orders")).await;
    lake.check("orders", &["new"]).await;
}

#[tokio::test]
async fn the_messages_of_a_failed_purge_stay() {
    let lake = Lake::new().await;
    lake.create("orders", &[]).await;
    lake.send("orders", None, "old").await;
    lake.store.failures.store(1, Ordering::SeqCst);
    lake.queues.purge("orders").await.expect_err("the disk is full");
    // The entries are removed, but perhaps not durably. A repeated purge completes the removal.
    lake.purge("orders").await;
    lake.send("orders", None, "new").await;
    lake.check("orders", &["new"]).await;
}

#[tokio::test]
async fn a_change_completes_although_its_caller_is_cancelled() {
    let lake = Lake::new().await;
    lake.create("orders", &[]).await;
    *lake.store.paused.lock() = Some(Pause::AfterApply);
    let given = BTreeMap::from([("DelaySeconds".to_owned(), "7".to_owned())]);
    tokio::select! {
        changed = lake.queues.set_attributes("orders", &given) => panic!("no pause: {changed:?}"),
        () = lake.store.reached.notified() => {}
    }
    lake.store.resumed.notify_one();
    // Waits for the change, because changes of queues run one after another.
    lake.queues.tag("orders", BTreeMap::new()).await.expect("tagged");
    assert_eq!(lake.queues.get("orders").expect("a queue").attributes.delay, 7);
}

#[tokio::test]
async fn a_purge_completes_although_its_caller_is_cancelled() {
    let lake = Lake::new().await;
    lake.create("orders", &[]).await;
    lake.send("orders", None, "old").await;
    *lake.store.paused.lock() = Some(Pause::BeforeTrim);
    {
        let purge = lake.queues.purge("orders");
        tokio::select! {
            purged = purge => panic!("the purge has not paused: {purged:?}"),
            () = lake.store.reached.notified() => {}
        }
    }
    lake.store.resumed.notify_one();
    // Waits for the purge, because changes of queues run one after another.
    lake.queues.tag("orders", BTreeMap::new()).await.expect("tagged");
    lake.send("orders", None, "new").await;
    lake.check("orders", &["new"]).await;
}

#[tokio::test]
async fn a_failed_move_of_dead_letters_does_not_block_the_group_of_an_expired_message() {
    let lake = Lake::new().await;
    let redrive = r#"{"deadLetterTargetArn": "arn:aws:sqs:r:0:dead.fifo", "maxReceiveCount": 1}"#;
    let fifo = [("FifoQueue", "true"), ("ContentBasedDeduplication", "true")];
    lake.create("dead.fifo", &fifo).await;
    let [kind, deduplication] = fifo;
    let limits = [("RedrivePolicy", redrive), ("MessageRetentionPeriod", "60")];
    lake.create("steps.fifo", &[kind, deduplication, limits[0], limits[1]]).await;
    let pass = |seconds| lake.clock.advance(std::time::Duration::from_secs(seconds));
    lake.send("steps.fifo", Some("x"), "expired").await;
    pass(50);
    lake.send("steps.fifo", Some("y"), "dead").await;
    assert_eq!(lake.bodies("steps.fifo").await, ["expired", "dead"]);
    pass(11);
    lake.store.failures.store(2, Ordering::SeqCst);
    let options = ReceiveOptions { limit: 10, wait: Some(0), visibility: Some(5) };
    lake.queues.receive("steps.fifo", options).await.expect_err("the disk is full");
    lake.store.failures.store(0, Ordering::SeqCst);
    lake.send("steps.fifo", Some("x"), "next").await;
    assert_eq!(lake.bodies("steps.fifo").await, ["next"]);
    assert_eq!(lake.bodies("dead.fifo").await, ["dead"]);
}

#[tokio::test]
async fn a_message_whose_delivery_fails_is_not_a_dead_letter() {
    let lake = Lake::new().await;
    let redrive = r#"{"deadLetterTargetArn": "arn:aws:sqs:r:0:dead", "maxReceiveCount": 1}"#;
    lake.create("dead", &[]).await;
    lake.create("orders", &[("RedrivePolicy", redrive)]).await;
    lake.send("orders", None, "a").await;
    lake.store.failures.store(1, Ordering::SeqCst);
    let options = ReceiveOptions { limit: 10, wait: Some(0), visibility: Some(5) };
    lake.queues.receive("orders", options).await.expect_err("the disk is full");
    let received = lake.queues.receive("orders", options).await.expect("received");
    let counts: Vec<u32> = received.iter().map(|one| one.received).collect();
    assert_eq!(counts, [1], "the message is visible at once");
    lake.clock.advance(std::time::Duration::from_secs(6));
    assert_eq!(lake.bodies("orders").await, [""; 0]);
    assert_eq!(lake.bodies("dead").await, ["a"]);
}

#[tokio::test]
async fn messages_that_could_not_be_taken_were_not_received() {
    let lake = Lake::new().await;
    let redrive = r#"{"deadLetterTargetArn": "arn:aws:sqs:r:0:dead", "maxReceiveCount": 1}"#;
    lake.create("dead", &[]).await;
    lake.create("orders", &[("RedrivePolicy", redrive)]).await;
    lake.send("orders", None, "a").await;
    let options = ReceiveOptions { limit: 10, wait: Some(0), visibility: Some(5) };
    for _ in 0..3 {
        let received = lake.queues.receive("orders", options).await.expect("received");
        assert_eq!(received.iter().map(|one| one.received).collect::<Vec<_>>(), [1]);
        // The caller's batch fails, so it drops the messages.
        drop(lake.queues.take("orders", received).expect("taken"));
    }
    lake.clock.advance(std::time::Duration::from_secs(6));
    assert_eq!(lake.bodies("dead").await, [""; 0]);
}
