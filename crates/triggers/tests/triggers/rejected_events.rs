//! Records of events that end as dead letters without a call: events that close a loop, that cannot
//! be parsed or read, or that are too old.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use headwater_jobs::{Jobs, JobsOptions};
use headwater_model::{
    Actor, Clock, CloudEvent, CloudEventFormat, ErrorCode, FixedClock, JobId, Trigger,
    TriggerEventStatus,
};
use headwater_queues::{NewMessage, Queues};
use headwater_store::{JournalAppend, Store, WriteBatch};
use headwater_triggers::{
    CallDestination, CallPolicy, EventBatch, EventCall, NewCall, Triggers, TriggersOptions,
};
use serde_json::value::RawValue;
use serde_json::{Value, json};

use crate::support::{Dying, Mortal, clock, memory};
use crate::targets::{Tables, sent_records};

const ALARMS: &str = "queue://alarms";

/// The text of an event that cannot be parsed.
const UNPARSABLE: &str = r#"{"id": "b", "data": "\ud800"}"#;

/// Returns tables whose function `notify` sends a record to `ALARMS` after a failure.
fn tables() -> Arc<Tables> {
    let tables = Arc::new(Tables::default());
    let destination = CallDestination { target: ALARMS.into(), actor: Actor::Owner };
    let policy = CallPolicy {
        retries: Some(3),
        max_age: Some(Duration::from_mins(1)),
        on_failure: Some(destination),
        ..CallPolicy::default()
    };
    tables.policies.lock().expect("policies").insert("notify".to_owned(), policy);
    tables
}

/// A process whose queue `orders` triggers calls of `notify`.
struct Process {
    queues: Queues,
    triggers: Triggers,
}

impl Process {
    async fn open(
        store: &Arc<dyn Store>,
        clock: &Arc<FixedClock>,
        tables: &Arc<Tables>,
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
        let trigger = json!({"name": "orders", "function": "notify", "queue": "orders"});
        triggers.reload(vec![serde_json::from_value::<Trigger>(trigger)?]).await?;
        Ok(Process { queues, triggers })
    }

    /// Sends a message that these triggers caused to the queue `orders`.
    async fn send_caused(&self, caused_by: &[String]) {
        let created = self.queues.create("orders", &BTreeMap::new(), BTreeMap::new()).await;
        created.expect("a queue");
        let caused_by = caused_by.to_vec();
        let message = NewMessage { body: "7".to_owned(), caused_by, ..NewMessage::default() };
        self.queues.send_once("orders", "owner", message, "7").await.expect("sent");
    }

    /// Accepts a call of `notify`. Returns the id of its event.
    async fn call(&self, order_key: Option<&str>) -> String {
        let call = NewCall {
            function: "notify".into(),
            arguments: [("n".to_owned(), json!(7))].into(),
            key: None,
            user: None,
            actor: Actor::Owner,
            order_key: order_key.map(str::to_owned),
            author: "ada".into(),
        };
        self.triggers.accept(call).await.expect("accepted").event
    }

    async fn tick(&self) {
        self.triggers.tick().await.expect("a tick");
    }

    /// Returns the only record for the destination.
    async fn record(&self) -> Value {
        let mut records = sent_records(&self.triggers, ALARMS).await;
        assert_eq!(records.len(), 1, "{records:?}");
        records.remove(0)
    }
}

/// Returns the tables, and a process over a new store.
async fn process() -> (Arc<dyn Store>, Arc<FixedClock>, Arc<Tables>, Process) {
    let (store, clock, tables) = (memory(), clock(), tables());
    let process = Process::open(&store, &clock, &tables).await.expect("a process");
    (store, clock, tables, process)
}

/// A batch with an event that cannot be parsed. An earlier version accepted such events.
fn unparsable_batch() -> EventBatch {
    let call = EventCall {
        function: "notify".into(),
        argument: Some("event".into()),
        user: None,
        author: "ada".into(),
        actor: Actor::Owner,
    };
    let body = json!([{"specversion": "1.0", "id": "b", "source": "/shop", "type": "order"}]);
    let body = body.to_string();
    let mut events = CloudEvent::parse(body.as_bytes(), CloudEventFormat::Batch).expect("an event");
    events[0].json = RawValue::from_string(UNPARSABLE.to_owned()).expect("scanned");
    EventBatch { call, events }
}

async fn overwrite(store: &Arc<dyn Store>, journal: &str, key: String) {
    let entries = vec![JournalAppend::put(journal, key, Bytes::from_static(b"{"))];
    store.apply(WriteBatch { entries, ..WriteBatch::default() }).await.expect("applied");
}

#[tokio::test]
async fn a_message_that_closes_a_loop_sends_one_record() {
    let (store, clock, tables, process) = process().await;
    process.send_caused(&["orders".to_owned(), "billing".to_owned()]).await;
    process.tick().await;
    process.tick().await;
    assert_eq!(tables.tries(), 1, "only the record is delivered");
    let record = process.record().await;
    assert_eq!(record["requestContext"]["condition"], "RetriesExhausted", "{record}");
    assert_eq!(record["requestContext"]["approximateInvokeCount"], 0);
    assert_eq!(record["responsePayload"]["errorType"], "loop_detected");
    let message = record["responsePayload"]["errorMessage"].as_str().expect("a message");
    assert!(message.ends_with("`orders` -> `billing` -> `orders`"), "{message}");
    assert_eq!(record["requestPayload"]["Records"][0]["body"], "7", "{record}");

    process.triggers.stop();
    let again = Process::open(&store, &clock, &tables).await.expect("a process");
    again.tick().await;
    again.record().await;
    assert_eq!(tables.tries(), 1, "the record is not delivered again");
}

#[tokio::test]
async fn a_message_of_a_chain_that_is_too_long_sends_a_record() {
    let (_store, _clock, tables, process) = process().await;
    let names: Vec<String> = (0..17).map(|number| format!("t{number}")).collect();
    process.send_caused(&names).await;
    process.tick().await;
    process.tick().await;
    assert_eq!(tables.tries(), 1, "only the record is delivered");
    let record = process.record().await;
    assert_eq!(record["responsePayload"]["errorType"], "loop_detected", "{record}");
}

#[tokio::test]
async fn a_replayed_loop_is_called_and_sends_no_second_record() {
    let (_store, _clock, tables, process) = process().await;
    process.send_caused(&["orders".to_owned()]).await;
    process.tick().await;
    let call = process.record().await["requestContext"]["requestId"].clone();
    let call = call.as_str().expect("an id");
    process.triggers.replay(call).await.expect("replayed");
    process.tick().await;
    let replayed = process.triggers.event(call).await.expect("an event");
    assert_eq!((replayed.status, replayed.attempts), (TriggerEventStatus::Done, 1));
    assert_eq!(tables.tries(), 2, "the record and the call");
    process.record().await;
}

#[tokio::test]
async fn an_event_that_cannot_be_parsed_sends_one_record_with_its_text() {
    let (store, clock, tables, process) = process().await;
    let accepted = process.triggers.accept_events(unparsable_batch()).await.expect("accepted");
    process.tick().await;
    let record = process.record().await;
    assert_eq!(record["requestContext"]["requestId"], accepted[0].event, "{record}");
    assert_eq!(record["responsePayload"]["errorType"], "invalid_argument");
    assert_eq!(record["requestPayload"], UNPARSABLE);
    let failed = process.triggers.event(&accepted[0].event).await.expect("an event");
    let hint = failed.error.and_then(|error| error.hint).expect("a hint");
    assert!(hint.contains("headwater event rm"), "{hint}");

    process.triggers.stop();
    let again = Process::open(&store, &clock, &tables).await.expect("a process");
    again.tick().await;
    again.record().await;
}

#[tokio::test]
async fn a_stored_event_that_cannot_be_read_sends_one_record_and_can_be_removed() {
    let (store, clock, tables, process) = process().await;
    let id = process.call(None).await;
    overwrite(&store, "trigger_events", id.clone()).await;
    process.tick().await;
    let record = process.record().await;
    assert_eq!(record["requestContext"]["requestId"], id, "{record}");
    let arn = record["requestContext"]["functionArn"].as_str().expect("an ARN");
    assert!(arn.contains(":function:notify"), "{arn}");
    assert_eq!(record["requestPayload"], Value::Null);
    assert_eq!(record["responsePayload"]["errorType"], "corrupt");

    process.triggers.stop();
    let again = Process::open(&store, &clock, &tables).await.expect("a process");
    again.tick().await;
    again.record().await;
    let removed = again.triggers.remove(&id).await.expect("removed");
    assert_eq!(removed.status, TriggerEventStatus::Failed);
    assert!(again.triggers.event(&id).await.is_err());
}

#[tokio::test]
async fn waiting_events_that_cannot_be_read_send_one_record_and_stop_no_later_events() {
    let (store, clock, tables) = (memory(), clock(), tables());
    let id = JobId::generate();
    overwrite(&store, "trigger_batches", format!("/functions/notify\n{id}/1")).await;
    let process = Process::open(&store, &clock, &tables).await.expect("a process");
    // The call waits behind the unreadable event.
    process.call(Some("k")).await;
    process.tick().await;
    process.tick().await;
    assert_eq!(tables.tries(), 2, "the call and the record");
    let record = process.record().await;
    assert_eq!(record["requestContext"]["requestId"], id.to_string(), "{record}");
    assert_eq!(record["requestPayload"], "{", "the text of the unreadable event is kept");
    assert_eq!(record["responsePayload"]["errorType"], "corrupt");
    let failed = process.triggers.event(&id.to_string()).await.expect("an event");
    assert_eq!((failed.status, failed.attempts), (TriggerEventStatus::Failed, 0));

    process.triggers.stop();
    let again = Process::open(&store, &clock, &tables).await.expect("a process");
    again.tick().await;
    again.record().await;
}

#[tokio::test]
async fn an_event_that_is_too_old_sends_a_record_although_no_attempt_counted() {
    let (_store, clock, tables, process) = process().await;
    let id = process.call(None).await;
    clock.advance(Duration::from_mins(2));
    tables.fail(ErrorCode::TooBusy, 1);
    process.tick().await;
    let failed = process.triggers.event(&id).await.expect("an event");
    assert_eq!((failed.status, failed.attempts), (TriggerEventStatus::Failed, 0));
    let record = process.record().await;
    assert_eq!(record["requestContext"]["condition"], "EventAgeExceeded", "{record}");
    assert_eq!(record["requestContext"]["requestId"], id);
}

/// A process that accepts an event that cannot be parsed, and ends it as failed.
async fn live(
    store: &Arc<dyn Store>,
    clock: &Arc<FixedClock>,
    tables: &Arc<Tables>,
) -> Result<Process, Box<dyn std::error::Error>> {
    let process = Process::open(store, clock, tables).await?;
    process.triggers.accept_events(unparsable_batch()).await?;
    for _ in 0..3 {
        clock.advance(Duration::from_secs(1));
        process.triggers.tick().await?;
    }
    Ok(process)
}

/// Runs a process that crashes at its store call number `calls`, and another to which the client
/// sends the event again. Returns true if the first crashed.
async fn crash_at(calls: i64, dying: Dying) -> bool {
    let (store, clock, tables) = (memory(), clock(), tables());
    let mortal = Mortal::new(&store, calls, dying);
    let as_store: Arc<dyn Store> = mortal.clone();
    let died = tokio::select! {
        biased;
        () = mortal.dead.cancelled() => true,
        lived = live(&as_store, &clock, &tables) => lived.is_err() || mortal.dead.is_cancelled(),
    };
    let process = live(&store, &clock, &tables).await.expect("the second process");
    let records = sent_records(&process.triggers, ALARMS).await;
    assert_eq!(records.len(), 1, "{dying:?} call {calls}: {records:?}");
    died
}

#[tokio::test]
async fn a_crash_at_any_call_of_the_store_loses_and_doubles_no_record() {
    for dying in [Dying::Before, Dying::After] {
        let mut calls = 1;
        while crash_at(calls, dying).await {
            calls += 1;
        }
        assert!(calls > 20, "only {calls} calls");
    }
}

#[tokio::test]
async fn a_store_that_fails_for_a_while_loses_and_doubles_no_record() {
    for calls in 1..40 {
        let (store, clock, tables) = (memory(), clock(), tables());
        let mortal = Mortal::new(&store, i64::MAX, Dying::After);
        let as_store: Arc<dyn Store> = mortal.clone();
        let process = Process::open(&as_store, &clock, &tables).await.expect("a process");
        mortal.die_at(calls);
        let _ = process.triggers.accept_events(unparsable_batch()).await;
        let _ = process.triggers.tick().await;
        mortal.revive();
        process.triggers.accept_events(unparsable_batch()).await.expect("accepted");
        for _ in 0..4 {
            clock.advance(Duration::from_secs(1));
            process.tick().await;
        }
        let records = sent_records(&process.triggers, ALARMS).await;
        assert_eq!(records.len(), 1, "call {calls}: {records:?}");
    }
}
