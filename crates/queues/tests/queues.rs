//! Queues that are opened again from their store, as after a crash.

use std::collections::BTreeMap;
use std::sync::Arc;

use chrono::TimeDelta;
use headwater_model::{FixedClock, Timestamp};
use headwater_queues::{Error, NewMessage, QueueCounts, Queues, ReceiveOptions, ReceivedMessage};
use headwater_store::{SqliteStore, Store};

struct Lake {
    store: Arc<dyn Store>,
    clock: Arc<FixedClock>,
    queues: Queues,
    _folder: tempfile::TempDir,
}

impl Lake {
    async fn new() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("lake.db");
        let store: Arc<dyn Store> = Arc::new(SqliteStore::open(&path).await.expect("a store"));
        let clock = Arc::new(FixedClock::at(Timestamp::UNIX_EPOCH + TimeDelta::days(20_000)));
        let queues = Queues::open(store.clone(), clock.clone()).await.expect("queues");
        Lake { store, clock, queues, _folder: folder }
    }

    /// Opens the queues again, as another process would.
    async fn reopen(&mut self) {
        let opened = Queues::open(self.store.clone(), self.clock.clone()).await;
        self.queues = opened.expect("queues");
    }

    async fn create(&self, name: &str, attributes: &[(&str, &str)]) {
        let pair = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
        let attributes = attributes.iter().map(pair).collect();
        self.queues.create(name, &attributes, BTreeMap::new()).await.expect("a queue");
    }

    async fn send(&self, queue: &str, bodies: &[&str]) -> Vec<String> {
        self.send_to_group(queue, None, bodies).await
    }

    async fn send_to_group(
        &self,
        queue: &str,
        group: Option<&str>,
        bodies: &[&str],
    ) -> Vec<String> {
        let message = |body: &&str| NewMessage {
            body: (*body).to_owned(),
            group: group.map(str::to_owned),
            ..NewMessage::default()
        };
        let messages = bodies.iter().map(message).collect();
        let sent = self.queues.send(queue, "ana", messages).await.expect("sent");
        sent.into_iter().map(|one| one.expect("a message").id).collect()
    }

    async fn receive(&self, queue: &str) -> Vec<ReceivedMessage> {
        let options = ReceiveOptions { limit: 10, wait: Some(0), visibility: None };
        self.queues.receive(queue, options).await.expect("received")
    }

    async fn bodies(&self, queue: &str) -> Vec<String> {
        self.receive(queue).await.into_iter().map(|one| one.message.body).collect()
    }

    async fn delete(&self, queue: &str, messages: &[ReceivedMessage]) {
        let receipts: Vec<String> = messages.iter().map(|one| one.receipt.clone()).collect();
        let deleted = self.queues.delete_messages(queue, &receipts).await.expect("deleted");
        assert!(deleted.iter().all(Result::is_ok), "{deleted:?}");
    }

    fn pass(&self, seconds: u64) {
        self.clock.advance(std::time::Duration::from_secs(seconds));
    }
}

const NONE: [String; 0] = [];

#[tokio::test]
async fn messages_deliveries_and_deletions_survive_a_restart() {
    let mut lake = Lake::new().await;
    lake.create("orders", &[("VisibilityTimeout", "30")]).await;
    lake.send("orders", &["a", "b", "c"]).await;
    let received = lake.receive("orders").await;
    assert_eq!(received.len(), 3);
    lake.delete("orders", &received[..1]).await;
    lake.send("orders", &["d"]).await;
    lake.reopen().await;
    assert_eq!(lake.bodies("orders").await, ["d"], "b and c are in flight");
    lake.delete("orders", &received[1..2]).await;
    lake.pass(31);
    lake.reopen().await;
    let again = lake.receive("orders").await;
    let found: Vec<_> = again.iter().map(|one| (one.message.body.as_str(), one.received)).collect();
    assert_eq!(found, [("c", 2), ("d", 2)]);
    // The receipts of earlier deliveries have no effect.
    lake.delete("orders", &received).await;
    lake.delete("orders", &again).await;
    lake.pass(100);
    lake.reopen().await;
    assert_eq!(lake.bodies("orders").await, NONE);
}

#[tokio::test]
async fn a_message_with_an_id_is_sent_once_although_the_process_ended() {
    let mut lake = Lake::new().await;
    lake.create("q", &[]).await;
    lake.create("q.fifo", &[("FifoQueue", "true")]).await;
    let of = |queue: &str| NewMessage {
        body: "record".to_owned(),
        group: (queue != "q").then(|| "g".to_owned()),
        deduplication_id: (queue != "q").then(|| "e1".to_owned()),
        ..NewMessage::default()
    };
    for queue in ["q", "q.fifo"] {
        lake.queues.send_once(queue, "ana", of(queue), "e1").await.expect("sent");
        lake.queues.send_once(queue, "ana", of(queue), "e1").await.expect("sent before");
        lake.reopen().await;
        lake.queues.send_once(queue, "ana", of(queue), "e1").await.expect("sent before");
        let received = lake.receive(queue).await;
        assert_eq!(received.len(), 1, "{queue}");
        lake.delete(queue, &received).await;
        lake.pass(600);
        lake.queues.send_once(queue, "ana", of(queue), "e1").await.expect("sent before");
        assert_eq!(lake.receive(queue).await.len(), 0, "{queue}");
        lake.reopen().await;
        assert_eq!(lake.receive(queue).await.len(), 0, "{queue}");
    }
    let other = NewMessage { body: "other".to_owned(), ..NewMessage::default() };
    lake.queues.send_once("q", "ana", other, "e2").await.expect("sent");
    assert_eq!(lake.bodies("q").await, ["other"]);
    let empty = lake.queues.send_once("q", "ana", NewMessage::default(), "e3").await;
    assert!(matches!(empty, Err(Error::Missing { .. })), "{empty:?}");
    let gone = lake.queues.send_once("none", "ana", of("q"), "e1").await;
    assert!(matches!(gone, Err(Error::QueueNotFound { .. })), "{gone:?}");
}

#[tokio::test]
async fn messages_beyond_the_byte_limit_stay_visible() {
    let lake = Lake::new().await;
    lake.create("orders", &[]).await;
    let body = "x".repeat(1_000);
    lake.send("orders", &[&body, &body, &body]).await;
    let options = ReceiveOptions { limit: 10, wait: Some(0), visibility: None };
    let received = lake.queues.receive_limited("orders", options, 2_500).await.expect("received");
    assert_eq!(received.len(), 2);
    let received = lake.queues.receive_limited("orders", options, 1).await.expect("received");
    let counts: Vec<u32> = received.iter().map(|one| one.received).collect();
    assert_eq!(counts, [1], "at least one message, which was not received before");
}

#[tokio::test]
async fn a_deleted_message_does_not_return_after_its_timeout_has_passed() {
    let mut lake = Lake::new().await;
    lake.create("orders", &[("VisibilityTimeout", "1")]).await;
    lake.send("orders", &["a"]).await;
    let received = lake.receive("orders").await;
    lake.pass(5);
    // The message is visible again, but was not received again, so the receipt is still valid.
    lake.delete("orders", &received).await;
    let change = lake.queues.change_visibility("orders", &received[0].receipt, 0).await;
    assert!(matches!(change, Err(Error::NotInFlight { .. })), "{change:?}");
    lake.reopen().await;
    assert_eq!(lake.bodies("orders").await, NONE);
}

#[tokio::test]
async fn groups_keep_their_order_over_a_restart() {
    let mut lake = Lake::new().await;
    let attributes = [("FifoQueue", "true"), ("ContentBasedDeduplication", "true")];
    lake.create("steps.fifo", &attributes).await;
    lake.send_to_group("steps.fifo", Some("x"), &["1"]).await;
    lake.send_to_group("steps.fifo", Some("y"), &["2"]).await;
    let first = lake.receive("steps.fifo").await;
    assert_eq!(first.len(), 2);
    lake.send_to_group("steps.fifo", Some("x"), &["3", "4"]).await;
    lake.reopen().await;
    assert_eq!(lake.bodies("steps.fifo").await, NONE);
    lake.delete("steps.fifo", &first[..1]).await;
    assert_eq!(lake.bodies("steps.fifo").await, ["3", "4"]);
    lake.pass(40);
    assert_eq!(lake.bodies("steps.fifo").await, ["2", "3", "4"]);
    let ids = lake.send_to_group("steps.fifo", Some("x"), &["1", "1", "5"]).await;
    assert_eq!(ids[0], first[0].message.id);
    assert_eq!(ids[0], ids[1]);
    lake.reopen().await;
    assert_eq!(lake.send_to_group("steps.fifo", Some("x"), &["5"]).await, ids[2..]);
    lake.pass(301);
    assert_ne!(lake.send_to_group("steps.fifo", Some("x"), &["5"]).await, ids[2..]);
}

#[tokio::test]
async fn dead_letters_move_in_one_batch() {
    let mut lake = Lake::new().await;
    let dead = r#"{"deadLetterTargetArn": "arn:aws:sqs:r:0:dead", "maxReceiveCount": 2}"#;
    let own = dead.replace(":dead", ":tried");
    lake.create("dead", &[]).await;
    lake.create("tried", &[("RedrivePolicy", dead), ("VisibilityTimeout", "10")]).await;
    let own = BTreeMap::from([("RedrivePolicy".to_owned(), own)]);
    lake.queues.set_attributes("tried", &own).await.expect_err("its own dead-letter queue");
    let ids = lake.send("tried", &["poison"]).await;
    for _ in 0..2 {
        assert_eq!(lake.bodies("tried").await, ["poison"]);
        lake.pass(11);
    }
    assert_eq!(lake.bodies("tried").await, NONE);
    lake.reopen().await;
    assert_eq!(lake.bodies("tried").await, NONE);
    let moved = lake.receive("dead").await;
    assert_eq!(moved.len(), 1);
    assert_eq!((&moved[0].message.id, moved[0].received), (&ids[0], 1));
}

#[tokio::test]
async fn dead_letters_of_a_fifo_queue_keep_their_order() {
    let lake = Lake::new().await;
    let dead = r#"{"deadLetterTargetArn": "arn:aws:sqs:r:0:dead.fifo", "maxReceiveCount": 1}"#;
    let fifo = [("FifoQueue", "true"), ("ContentBasedDeduplication", "true")];
    lake.create("dead.fifo", &fifo).await;
    let tried = [&fifo[..], &[("RedrivePolicy", dead), ("VisibilityTimeout", "10")]].concat();
    lake.create("tried.fifo", &tried).await;
    let bodies = ["0", "1", "2", "3", "4", "5", "6", "7", "8", "9"];
    lake.send_to_group("tried.fifo", Some("x"), &bodies).await;
    assert_eq!(lake.bodies("tried.fifo").await, bodies);
    lake.pass(11);
    assert_eq!(lake.bodies("tried.fifo").await, NONE);
    assert_eq!(lake.bodies("dead.fifo").await, bodies);
}

#[tokio::test]
async fn a_released_message_is_not_counted_as_received() {
    let mut lake = Lake::new().await;
    lake.create("orders", &[]).await;
    lake.send("orders", &["a"]).await;
    let received = lake.receive("orders").await;
    lake.queues.release("orders", &received[0].receipt, 5).await.expect("released");
    lake.reopen().await;
    assert_eq!(lake.bodies("orders").await, NONE);
    lake.pass(6);
    assert_eq!(lake.receive("orders").await[0].received, 1);
}

#[tokio::test]
async fn purged_and_deleted_queues_stay_empty() {
    let mut lake = Lake::new().await;
    lake.create("orders", &[]).await;
    lake.send("orders", &["a", "b"]).await;
    lake.receive("orders").await;
    lake.queues.purge("orders").await.expect("purged");
    lake.send("orders", &["c"]).await;
    lake.reopen().await;
    assert_eq!(lake.bodies("orders").await, ["c"]);
    lake.queues.delete("orders").await.expect("deleted");
    let missing = lake.queues.send("orders", "ana", Vec::new()).await;
    assert!(matches!(missing, Err(Error::QueueNotFound { .. })), "{missing:?}");
    lake.create("orders", &[]).await;
    lake.reopen().await;
    assert_eq!(lake.queues.counts("orders").await.expect("counts"), QueueCounts::default());
}

#[tokio::test]
async fn old_and_deleted_messages_leave_no_entries() {
    let lake = Lake::new().await;
    lake.create("orders", &[("MessageRetentionPeriod", "60"), ("VisibilityTimeout", "5")]).await;
    lake.send("orders", &["kept in flight"]).await;
    for _ in 0..60 {
        let bodies = ["x"; 10];
        lake.send("orders", &bodies).await;
        let received = lake.receive("orders").await;
        lake.delete("orders", &received).await;
    }
    let entries = lake.store.read("queue_messages", 0, 10_000).await.expect("entries");
    assert!(entries.len() < 200, "{}", entries.len());
    lake.pass(61);
    assert_eq!(lake.queues.counts("orders").await.expect("counts"), QueueCounts::default());
    assert_eq!(lake.bodies("orders").await, NONE);
}

#[tokio::test]
async fn a_receiver_waits_for_a_message() {
    let lake = Lake::new().await;
    lake.create("orders", &[]).await;
    let options = ReceiveOptions { limit: 1, wait: Some(20), visibility: None };
    let (received, _) =
        tokio::join!(lake.queues.receive("orders", options), lake.send("orders", &["late"]));
    assert_eq!(received.expect("received").len(), 1);
    let (ended, deleted) =
        tokio::join!(lake.queues.receive("orders", options), lake.queues.delete("orders"));
    deleted.expect("deleted");
    assert!(matches!(ended, Err(Error::QueueNotFound { .. })), "{ended:?}");
}
