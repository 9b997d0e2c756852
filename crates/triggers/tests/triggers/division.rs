//! Division of events: only the failed items are delivered again.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use headwater_jobs::{JobContext, Jobs, JobsOptions};
use headwater_model::{
    Actor, Clock, ErrorCode, Event, FixedClock, Problem, Trigger, TriggerEventStatus,
};
use headwater_queues::{NewMessage, Queues};
use headwater_store::Store;
use headwater_triggers::{
    FAILED_ITEMS, TargetExecutor, TriggerEventFilter, Triggers, TriggersOptions, mark_divisible,
};
use serde_json::{Value, json};

use crate::support::{Dying, Mortal, clock, memory};

/// The failed positions and the processed payloads of an event.
type Processed = (Vec<usize>, Vec<String>);

/// A function that fails for payloads that begin with `bad`. Its commits survive a crash.
#[derive(Default)]
struct Function {
    /// The result of each event.
    commits: Mutex<BTreeMap<String, Processed>>,
    /// The payloads of each call, in order.
    calls: Mutex<Vec<Vec<String>>>,
}

impl Function {
    /// Returns the payloads that were processed, in the order of the events' ids.
    fn processed(&self) -> Vec<String> {
        let commits = self.commits.lock().expect("commits");
        commits.values().flat_map(|(_, payloads)| payloads.clone()).collect()
    }

    fn calls(&self) -> Vec<String> {
        self.calls.lock().expect("calls").iter().map(|call| call.join(" ")).collect()
    }
}

fn payloads(event: &Event) -> Vec<String> {
    event.payloads().iter().filter_map(|payload| payload.as_str().map(str::to_owned)).collect()
}

#[async_trait]
impl TargetExecutor for Function {
    async fn execute(
        &self,
        trigger: &Trigger,
        event: &Event,
        _actor: Option<&Actor>,
        _context: JobContext,
    ) -> Result<Value, Problem> {
        let mut commits = self.commits.lock().expect("commits");
        if let Some((failed, _)) = commits.get(&event.id) {
            return Ok(json!({FAILED_ITEMS: failed}));
        }
        let items = payloads(event);
        self.calls.lock().expect("calls").push(items.clone());
        let is_bad = |item: &String| item.contains("bad");
        let failed: Vec<usize> = (0..items.len()).filter(|one| is_bad(&items[*one])).collect();
        if !failed.is_empty() && !trigger.report_failures {
            return Err(mark_divisible(Problem::new(ErrorCode::FunctionFailed, "a bad item")));
        }
        // A function that reports failures processes nothing after the first failure of a group.
        let is_ordered = event.group().is_some();
        let end = if is_ordered { failed.first().copied() } else { None };
        let end = end.unwrap_or(items.len());
        let processed = items.into_iter().take(end).filter(|item| !is_bad(item)).collect();
        commits.insert(event.id.clone(), (failed.clone(), processed));
        Ok(json!({FAILED_ITEMS: failed}))
    }
}

fn definition(queue: &str, settings: &Value) -> Trigger {
    let mut definition = json!({"name": "orders", "function": "f", "retries": 1, "concurrency": 1,
        "queue": {"name": queue, "batch": 8}});
    let settings = settings.as_object().expect("settings").clone();
    definition.as_object_mut().expect("a definition").extend(settings);
    serde_json::from_value(definition).expect("a trigger")
}

/// A process with a queue and a trigger.
struct Process {
    queues: Queues,
    triggers: Triggers,
    clock: Arc<FixedClock>,
}

impl Process {
    async fn open(
        store: &Arc<dyn Store>,
        clock: &Arc<FixedClock>,
        function: &Arc<Function>,
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
        let triggers = Triggers::start(options, function.clone()).await?;
        triggers.reload(vec![trigger]).await?;
        Ok(Process { queues, triggers, clock: clock.clone() })
    }

    /// Creates the queue and sends messages. In a FIFO queue, all of them are in one group.
    async fn send(&self, queue: &str, bodies: &[&str]) {
        let is_fifo = queue.strip_suffix(".fifo").is_some();
        let fifo = [("FifoQueue".to_owned(), "true".to_owned())];
        let given: BTreeMap<String, String> =
            if is_fifo { BTreeMap::from(fifo) } else { BTreeMap::new() };
        self.queues.create(queue, &given, BTreeMap::new()).await.expect("a queue");
        let message = |body: &&str| NewMessage {
            body: (*body).to_owned(),
            group: is_fifo.then(|| "g".to_owned()),
            deduplication_id: is_fifo.then(|| (*body).to_owned()),
            ..NewMessage::default()
        };
        let sent = self.queues.send(queue, "ana", bodies.iter().map(message).collect()).await;
        for one in sent.expect("sent") {
            one.expect("sent");
        }
    }

    /// Delivers until all events are done or failed.
    async fn settle(&self) -> headwater_triggers::Result<()> {
        for _ in 0..4 {
            self.triggers.tick().await?;
            self.clock.advance(Duration::from_secs(40));
        }
        self.triggers.tick().await
    }

    /// The payloads of failed events.
    async fn failed(&self) -> Vec<String> {
        let filter = TriggerEventFilter {
            statuses: vec![TriggerEventStatus::Failed],
            ..TriggerEventFilter::default()
        };
        let failed = self.triggers.events(&filter).await.expect("events");
        failed.iter().map(|event| payloads(&event.event).join(" ")).collect()
    }
}

async fn delivered(queue: &str, settings: &Value, bodies: &[&str]) -> (Process, Arc<Function>) {
    let (store, clock, function) = (memory(), clock(), Arc::new(Function::default()));
    let process = Process::open(&store, &clock, &function, definition(queue, settings)).await;
    let process = process.expect("a process");
    process.send(queue, bodies).await;
    process.settle().await.expect("deliveries");
    (process, function)
}

#[tokio::test]
async fn only_the_reported_items_are_delivered_again() {
    let settings = json!({"report_failures": true});
    let (process, function) = delivered("orders", &settings, &["a", "bad1", "b", "bad2"]).await;
    assert_eq!(function.calls(), ["a bad1 b bad2", "bad1 bad2"]);
    assert_eq!(function.processed(), ["a", "b"]);
    assert_eq!(process.failed().await, ["bad1 bad2"]);
    let events = process.triggers.events(&TriggerEventFilter::default()).await.expect("events");
    let error = events[0].error.as_ref().expect("a reason");
    assert!(error.message.contains("2 of 2 items as failed"), "{}", error.message);
    let ids: Vec<&str> = events.iter().map(|event| event.event.id.as_str()).collect();
    // The retry, in which every item failed, adds no event.
    assert!(ids.len() == 2 && ids[0].starts_with(ids[1]), "{ids:?}");
    // A replay starts over with the failed items.
    process.triggers.replay(&events[0].event.id).await.expect("replayed");
    process.settle().await.expect("deliveries");
    assert_eq!(function.calls().len(), 4);
}

#[tokio::test]
async fn a_failed_batch_of_one_message_is_one_event() {
    for queue in ["orders", "orders.fifo"] {
        let settings = json!({"report_failures": true, "bisect": true, "retries": 2});
        let (process, function) = delivered(queue, &settings, &["bad"]).await;
        assert_eq!(function.calls(), ["bad", "bad", "bad"], "{queue}");
        let events = process.triggers.events(&TriggerEventFilter::default()).await;
        let events = events.expect("events");
        let states: Vec<_> = events.iter().map(|event| (event.status, event.attempts)).collect();
        assert_eq!(states, [(TriggerEventStatus::Failed, 3)], "{queue}");
        let status = &process.triggers.list()[0];
        assert_eq!((status.pending, status.done, status.failed), (0, 0, 1), "{queue}");
    }
}

#[tokio::test]
async fn a_poison_item_ends_alone_and_the_others_are_delivered_once() {
    let bodies = ["a", "b", "c", "bad", "d", "e", "f"];
    let (process, function) = delivered("orders", &json!({"bisect": true}), &bodies).await;
    assert_eq!(function.processed(), ["a", "b", "c", "d", "e", "f"]);
    assert_eq!(process.failed().await, ["bad"]);
    // A part with a single item has all its attempts: attempts before a division do not count.
    assert_eq!(function.calls().iter().filter(|call| *call == "bad").count(), 2);
    let status = &process.triggers.list()[0];
    assert_eq!((status.pending, status.failed), (0, 1));
}

#[tokio::test]
async fn the_parts_of_a_group_keep_their_order() {
    let bodies = ["a", "b", "bad", "c", "d", "e", "f", "g", "h", "i"];
    for settings in [
        json!({"bisect": true, "concurrency": 4}),
        json!({"bisect": true, "report_failures": true, "concurrency": 4}),
    ] {
        let (process, function) = delivered("orders.fifo", &settings, &bodies).await;
        let expected = ["a", "b", "c", "d", "e", "f", "g", "h", "i"];
        assert_eq!(function.processed(), expected, "{settings}");
        assert_eq!(process.failed().await, ["bad"], "{settings}");
        // The function received the messages of each group in the order of sending.
        let calls = function.calls.lock().expect("calls").clone();
        let good = |call: &&Vec<String>| !call.iter().any(|item| item == "bad");
        let called: Vec<String> = calls.iter().filter(good).flatten().cloned().collect();
        let last = called.last().map(String::as_str);
        assert!(called.is_sorted() && last == Some("i"), "{called:?}");
    }
}

#[tokio::test]
async fn without_bisect_all_items_of_a_group_after_the_failed_one_fail_with_it() {
    let settings = json!({"report_failures": true});
    let (process, function) = delivered("orders.fifo", &settings, &["a", "bad", "b"]).await;
    assert_eq!(function.calls(), ["a bad b", "bad b"]);
    assert_eq!(process.failed().await, ["bad b"]);
}

/// Runs a process that crashes at its store call number `calls`, and another that continues.
/// Returns true if the first crashed.
async fn crash_at(calls: i64, dying: Dying, settings: &Value) -> bool {
    let (store, clock, function) = (memory(), clock(), Arc::new(Function::default()));
    let trigger = || definition("orders", settings);
    let first = Process::open(&store, &clock, &function, trigger()).await.expect("a process");
    first.send("orders", &["a", "bad", "b", "c", "d"]).await;
    drop(first);
    let mortal = Mortal::new(&store, calls, dying);
    let as_store: Arc<dyn Store> = mortal.clone();
    let live = async {
        let process = Process::open(&as_store, &clock, &function, trigger()).await?;
        process.settle().await?;
        Ok::<(), Box<dyn std::error::Error>>(())
    };
    let died = tokio::select! {
        biased;
        () = mortal.dead.cancelled() => true,
        lived = live => lived.is_err() || mortal.dead.is_cancelled(),
    };
    clock.advance(Duration::from_mins(2));
    let second = Process::open(&store, &clock, &function, trigger()).await.expect("a process");
    second.settle().await.expect("deliveries");
    let mut processed = function.processed();
    processed.sort();
    let at = format!("{settings} {dying:?} call {calls}");
    assert_eq!(processed, ["a", "b", "c", "d"], "{at}");
    assert_eq!(second.failed().await, ["bad"], "{at}");
    let status = &second.triggers.list()[0];
    assert_eq!((status.pending, status.failed), (0, 1), "{at}");
    died
}

#[tokio::test]
async fn a_crash_between_division_and_delivery_loses_and_doubles_nothing() {
    for settings in [json!({"report_failures": true}), json!({"bisect": true})] {
        for dying in [Dying::Before, Dying::After] {
            let mut calls = 1;
            while crash_at(calls, dying, &settings).await {
                calls += 1;
            }
            assert!(calls > 15, "only {calls} calls");
        }
    }
}
