//! Triggers on messages of queues.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use headwater_jobs::{Jobs, JobsOptions};
use headwater_model::{Clock, ErrorCode, Event, FixedClock, Trigger, TriggerEventStatus};
use headwater_queues::{NewMessage, Queues, ReceiveOptions};
use headwater_store::Store;
use headwater_triggers::{TriggerEventFilter, Triggers, TriggersOptions};
use serde_json::{Value, json};

use crate::support::{Dying, Mortal, clock, memory};
use crate::targets::Tables;

fn definition(queue: &Value) -> Trigger {
    let definition = json!({"name": "orders", "function": "f", "queue": queue});
    serde_json::from_value(definition).expect("a trigger")
}

fn is_fifo(queue: &str) -> bool {
    queue.strip_suffix(".fifo").is_some()
}

/// A process with queues and triggers.
struct Process {
    queues: Queues,
    triggers: Triggers,
}

impl Process {
    async fn open(
        store: &Arc<dyn Store>,
        clock: &Arc<FixedClock>,
        tables: &Arc<Tables>,
        trigger: Trigger,
    ) -> Result<Self, Box<dyn std::error::Error>> {
        let as_clock: Arc<dyn Clock> = clock.clone();
        let jobs = Jobs::open(store.clone(), as_clock.clone(), JobsOptions::default()).await?;
        let queues = Queues::open(store.clone(), as_clock.clone()).await?;
        let options = TriggersOptions {
            manual: true,
            queues: Some(queues.clone()),
            ..TriggersOptions::new(store.clone(), as_clock, jobs, Path::new("/"))
        };
        let triggers = Triggers::start(options, tables.clone()).await?;
        triggers.reload(vec![trigger]).await?;
        Ok(Process { queues, triggers })
    }

    async fn send(&self, queue: &str, bodies: &[&str]) -> headwater_queues::Result<()> {
        let message = |body: &&str| {
            let body = (*body).to_owned();
            let group = is_fifo(queue).then(|| body[..1].to_owned());
            let deduplication_id = group.as_ref().map(|_| body.clone());
            NewMessage { body, group, deduplication_id, ..NewMessage::default() }
        };
        let sent = self.queues.send(queue, "ana", bodies.iter().map(message).collect()).await?;
        sent.into_iter().try_for_each(|one| one.map(drop))
    }
}

/// A store, the tables that triggers write to, and a process.
struct Stage {
    store: Arc<dyn Store>,
    clock: Arc<FixedClock>,
    tables: Arc<Tables>,
    process: Process,
}

impl Stage {
    async fn new(trigger: Trigger) -> Self {
        let (store, clock, tables) = (memory(), clock(), Arc::new(Tables::default()));
        let process = Process::open(&store, &clock, &tables, trigger).await.expect("a process");
        Stage { store, clock, tables, process }
    }

    async fn create(&self, name: &str) {
        let fifo = [("FifoQueue".to_owned(), "true".to_owned())];
        let given = if is_fifo(name) { fifo.into() } else { BTreeMap::new() };
        self.process.queues.create(name, &given, BTreeMap::new()).await.expect("a queue");
    }

    async fn tick(&self) {
        self.process.triggers.tick().await.expect("a tick");
    }

    /// The payloads of the events that the target received, in order.
    fn received(&self) -> Vec<Vec<Value>> {
        let tries = self.tables.tries.lock().expect("tries");
        tries.iter().map(payloads).collect()
    }
}

fn payloads(event: &Event) -> Vec<Value> {
    event.payloads().into_iter().cloned().collect()
}

#[tokio::test]
async fn each_message_is_one_event_and_leaves_the_queue() {
    let stage = Stage::new(definition(&json!("orders"))).await;
    stage.tick().await;
    let status = &stage.process.triggers.list()[0];
    let fault = status.error.as_ref().expect("the queue is missing");
    assert_eq!(fault.code, ErrorCode::QueueNotFound);
    assert!(fault.hint.as_ref().is_some_and(|hint| hint.contains("Create the queue")));

    stage.create("orders").await;
    stage.process.send("orders", &[r#"{"id": 1}"#, "text"]).await.expect("sent");
    stage.tick().await;
    assert_eq!(stage.received(), [[json!({"id": 1})], [json!("text")]]);
    assert!(stage.process.triggers.list()[0].error.is_none());
    let counts = stage.process.queues.counts("orders").await.expect("counts");
    assert_eq!((counts.visible, counts.in_flight), (0, 0));
    let events = stage.process.triggers.events(&TriggerEventFilter::default()).await;
    let events = events.expect("events");
    assert_eq!((events[0].event.source.as_str(), events.len()), ("/queues/orders", 2));
    assert_eq!(events[0].event.data.subjects(), "orders");
    let Stage { store, clock, tables, .. } = stage;
    let again = Process::open(&store, &clock, &tables, definition(&json!("orders"))).await;
    let again = again.expect("a process");
    clock.advance(Duration::from_mins(1));
    again.triggers.tick().await.expect("a tick");
    assert_eq!(tables.tries(), 2, "no message returned");
}

#[tokio::test]
async fn messages_are_collected_in_batches_and_filtered() {
    let mut trigger = definition(&json!({"name": "orders", "batch": 2}));
    trigger.filter =
        Some(json!({"data": {"messages": {"payload": {"n": [{"numeric": ["<", 9]}]}}}}));
    let stage = Stage::new(trigger).await;
    stage.create("orders").await;
    let bodies = [1, 2, 9, 10, 3].map(|n| json!({"n": n}).to_string());
    let bodies: Vec<&str> = bodies.iter().map(String::as_str).collect();
    stage.process.send("orders", &bodies).await.expect("sent");
    stage.tick().await;
    let of = |n: u32| json!({"n": n});
    assert_eq!(stage.received(), [vec![of(1), of(2)], vec![of(3)]]);
}

#[tokio::test]
async fn messages_of_a_group_are_delivered_in_order() {
    let stage = Stage::new(definition(&json!("orders.fifo"))).await;
    stage.create("orders.fifo").await;
    stage.tables.fail(ErrorCode::FunctionFailed, 1);
    stage.process.send("orders.fifo", &["a1", "b1", "a2"]).await.expect("sent");
    stage.tick().await;
    assert_eq!(stage.received(), [[json!("a1")], [json!("b1")]]);
    stage.clock.advance(Duration::from_secs(1));
    stage.tick().await;
    assert_eq!(stage.received()[2..], [[json!("a1")], [json!("a2")]]);
}

/// Sends a message that these triggers caused, like an output of a function.
async fn send_caused(stage: &Stage, queue: &str, body: &str, caused_by: &[&str]) {
    let caused_by = caused_by.iter().map(|name| (*name).to_owned()).collect();
    let message = NewMessage { body: body.to_owned(), caused_by, ..NewMessage::default() };
    let sent = stage.process.queues.send_once(queue, "owner", message, body).await;
    sent.expect("sent");
}

#[tokio::test]
async fn a_message_that_its_own_trigger_caused_becomes_a_failed_event_that_names_the_loop() {
    let stage = Stage::new(definition(&json!({"name": "orders", "batch": 10}))).await;
    stage.create("orders").await;
    stage.process.send("orders", &["first"]).await.expect("sent");
    send_caused(&stage, "orders", "own", &["orders", "other"]).await;
    send_caused(&stage, "orders", "of another", &["other"]).await;
    stage.process.send("orders", &["last"]).await.expect("sent");
    stage.tick().await;
    // Only the message that closes the loop fails, although one batch could contain all messages.
    assert_eq!(stage.received(), [[json!("first")], [json!("of another")], [json!("last")]]);
    let filter = TriggerEventFilter {
        statuses: vec![TriggerEventStatus::Failed],
        ..TriggerEventFilter::default()
    };
    let failed = stage.process.triggers.events(&filter).await.expect("events");
    assert_eq!(failed.len(), 1);
    let error = failed[0].error.as_ref().expect("a reason");
    assert_eq!((error.code, failed[0].attempts), (ErrorCode::LoopDetected, 0));
    assert!(error.message.ends_with("`orders` -> `other` -> `orders`"), "{}", error.message);
    let status = &stage.process.triggers.list()[0];
    assert_eq!((status.pending, status.failed), (0, 1));

    // A replay delivers the event.
    stage.process.triggers.replay(&failed[0].event.id).await.expect("replayed");
    stage.tick().await;
    assert_eq!(stage.received()[3..], [[json!("own")]]);
}

/// The payloads of all committed events, sorted.
fn committed(tables: &Tables) -> Vec<String> {
    let commits = tables.commits.lock().expect("commits");
    let payload = |event: &Event| event.payloads()[0].to_string();
    let mut payloads: Vec<String> = commits.values().map(payload).collect();
    payloads.sort();
    payloads
}

fn run() -> Trigger {
    let definition = json!({"name": "orders", "run": true, "queue": "orders"});
    serde_json::from_value(definition).expect("a trigger")
}

/// A process that receives messages, records and delivers their events.
async fn live(
    store: &Arc<dyn Store>,
    clock: &Arc<FixedClock>,
    tables: &Arc<Tables>,
) -> Result<Process, Box<dyn std::error::Error>> {
    let process = Process::open(store, clock, tables, run()).await?;
    for _ in 0..2 {
        process.triggers.tick().await?;
        clock.advance(Duration::from_secs(40));
    }
    process.triggers.tick().await?;
    Ok(process)
}

/// Runs a process that crashes at its store call number `calls`, and another that continues.
/// Returns true if the first crashed.
async fn crash_at(calls: i64, dying: Dying) -> bool {
    let (store, clock, tables) = (memory(), clock(), Arc::new(Tables::default()));
    let first = Process::open(&store, &clock, &tables, run()).await;
    let first = first.expect("a process");
    first.queues.create("orders", &BTreeMap::new(), BTreeMap::new()).await.expect("a queue");
    first.send("orders", &["a", "b", "c"]).await.expect("sent");
    drop(first);
    let mortal = Mortal::new(&store, calls, dying);
    let as_store: Arc<dyn Store> = mortal.clone();
    let died = tokio::select! {
        biased;
        () = mortal.dead.cancelled() => true,
        lived = live(&as_store, &clock, &tables) => lived.is_err() || mortal.dead.is_cancelled(),
    };
    clock.advance(Duration::from_mins(2));
    let process = live(&store, &clock, &tables).await.expect("the second process");
    assert_eq!(committed(&tables), ["\"a\"", "\"b\"", "\"c\""], "{dying:?} call {calls}");
    let events = process.triggers.events(&TriggerEventFilter::default()).await.expect("events");
    assert!(events.iter().all(|event| event.status == TriggerEventStatus::Done));
    let left = process
        .queues
        .receive("orders", ReceiveOptions { limit: 9, wait: Some(0), visibility: None });
    assert!(left.await.expect("messages").is_empty());
    died
}

#[tokio::test]
async fn a_crash_at_any_call_of_the_store_loses_and_doubles_no_message() {
    for dying in [Dying::Before, Dying::After] {
        let mut calls = 1;
        while crash_at(calls, dying).await {
            calls += 1;
        }
        assert!(calls > 15, "only {calls} calls");
    }
}
