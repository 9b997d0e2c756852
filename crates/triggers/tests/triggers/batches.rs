//! Events that clients send in batches.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use headwater_jobs::{Jobs, JobsOptions};
use headwater_model::{
    AcceptedEvent, Actor, Clock, CloudEvent, CloudEventFormat, ErrorCode, EventData, FixedClock,
    Limits, ToProblem, TriggerEventStatus,
};
use headwater_store::Store;
use headwater_triggers::{EventBatch, EventCall, NewCall, TriggerEventFilter, Triggers};
use serde_json::value::RawValue;
use serde_json::{Value, json};

use crate::support::{Dying, Mortal, clock, jobs, memory};
use crate::targets::{Tables, by_hand};

fn event(id: &str) -> Value {
    json!({"specversion": "1.0", "id": id, "source": "/shop", "type": "order"})
}

fn batch_of(user: Option<&str>, events: &[Value]) -> EventBatch {
    let body = json!(events).to_string();
    let call = EventCall {
        function: "store".into(),
        argument: Some("event".into()),
        user: user.map(str::to_owned),
        author: "ada".into(),
        actor: Actor::Owner,
    };
    let events = CloudEvent::parse(body.as_bytes(), CloudEventFormat::Batch).expect("events");
    EventBatch { call, events }
}

fn batch(ids: &[&str]) -> EventBatch {
    let events: Vec<Value> = ids.iter().map(|id| event(id)).collect();
    batch_of(None, &events)
}

struct Stage {
    store: Arc<dyn Store>,
    clock: Arc<FixedClock>,
    tables: Arc<Tables>,
    jobs: Jobs,
    triggers: Triggers,
}

impl Stage {
    async fn new() -> Self {
        let (store, clock, tables) = (memory(), clock(), Arc::new(Tables::default()));
        let jobs = jobs(&store, &clock).await;
        let triggers = open_with(&jobs, &store, &clock, &tables).await.expect("triggers");
        Stage { store, clock, tables, jobs, triggers }
    }

    /// Ends the process and starts another.
    async fn again(self) -> Self {
        self.triggers.stop();
        let triggers = open(&self.store, &self.clock, &self.tables).await.expect("triggers");
        Stage { triggers, ..self }
    }

    async fn accept(&self, ids: &[&str]) -> Vec<AcceptedEvent> {
        self.triggers.accept_events(batch(ids)).await.expect("accepted")
    }

    async fn tick(&self) {
        self.triggers.tick().await.expect("a tick");
    }

    /// Number of stored batches of ids.
    async fn stored_ids(&self) -> usize {
        let all = headwater_store::KeyRange::all();
        self.store.scan("trigger_batch_ids", &all).await.expect("ids").len()
    }

    /// The ids of the events that the function received, in order.
    fn received(&self) -> Vec<String> {
        let tries = self.tables.tries.lock().expect("tries");
        tries.iter().map(|event| id_of(&event.data)).collect()
    }
}

/// Returns the id that the client gave to an event.
fn id_of(data: &EventData) -> String {
    let EventData::FunctionInvoked { arguments, .. } = data else { panic!("{data:?}") };
    arguments["event"]["id"].as_str().expect("an id").to_owned()
}

/// The ids of all committed events, sorted.
fn committed(tables: &Tables) -> Vec<String> {
    let commits = tables.commits.lock().expect("commits");
    let mut ids: Vec<String> = commits.values().map(|event| id_of(&event.data)).collect();
    ids.sort();
    ids
}

async fn open(
    store: &Arc<dyn Store>,
    clock: &Arc<FixedClock>,
    tables: &Arc<Tables>,
) -> headwater_triggers::Result<Triggers> {
    let as_clock: Arc<dyn Clock> = clock.clone();
    let jobs = Jobs::open(store.clone(), as_clock, JobsOptions::default()).await?;
    open_with(&jobs, store, clock, tables).await
}

async fn open_with(
    jobs: &Jobs,
    store: &Arc<dyn Store>,
    clock: &Arc<FixedClock>,
    tables: &Arc<Tables>,
) -> headwater_triggers::Result<Triggers> {
    let triggers = by_hand(store, clock, jobs, Path::new("/"), tables).await?;
    triggers.reload(Vec::new()).await?;
    Ok(triggers)
}

fn flags(accepted: &[AcceptedEvent]) -> Vec<bool> {
    accepted.iter().map(|one| one.duplicate).collect()
}

#[tokio::test]
async fn an_event_is_accepted_once_within_a_batch_and_across_batches_and_processes() {
    let stage = Stage::new().await;
    let first = stage.accept(&["a", "b", "a"]).await;
    assert_eq!(flags(&first), [false, false, true]);
    assert_eq!(first[0].event, first[2].event);
    assert!(stage.triggers.has_calls());
    let again = stage.accept(&["b", "c"]).await;
    assert_eq!(flags(&again), [true, false]);
    assert_eq!(again[0].event, first[1].event);

    let stage = stage.again().await;
    // Advance the clock: within a millisecond, the ids of two processes are not ordered.
    stage.clock.advance(Duration::from_millis(1));
    assert!(stage.triggers.has_calls(), "the events wait");
    assert_eq!(flags(&stage.accept(&["c", "a", "d"]).await), [true, true, false]);
    // Other users and sources are independent.
    let of_ana = || batch_of(Some("ana"), &[event("a")]);
    assert_eq!(flags(&stage.triggers.accept_events(of_ana()).await.expect("one")), [false]);
    assert_eq!(flags(&stage.triggers.accept_events(of_ana()).await.expect("one")), [true]);
    let mut other = event("a");
    other["source"] = "/other".into();
    let other = stage.triggers.accept_events(batch_of(None, &[other])).await.expect("one");
    assert_eq!(flags(&other), [false]);
    stage.tick().await;
    assert_eq!(stage.received(), ["a", "b", "c", "d", "a", "a"]);
    assert!(!stage.triggers.has_calls());

    let stage = stage.again().await;
    assert_eq!(flags(&stage.accept(&["a"]).await), [true], "also after its delivery");
    stage.clock.advance(Duration::from_secs(599));
    assert_eq!(flags(&stage.accept(&["a"]).await), [true]);
    stage.clock.advance(Duration::from_secs(1));
    assert_eq!(flags(&stage.accept(&["a", "e"]).await), [false, false], "the time is over");
    let stage = stage.again().await;
    stage.clock.advance(Duration::from_mins(10));
    assert_eq!(flags(&stage.accept(&["a"]).await), [false], "also with stored ids");
}

#[tokio::test]
async fn old_ids_are_removed_from_the_store_without_further_events() {
    let stage = Stage::new().await;
    stage.accept(&["a"]).await;
    stage.tick().await;
    stage.clock.advance(Duration::from_mins(10));
    stage.tick().await;
    assert_eq!(stage.stored_ids().await, 1, "the removal is delayed by a minute");
    stage.clock.advance(Duration::from_mins(1));
    stage.tick().await;
    assert_eq!(stage.stored_ids().await, 0);
}

#[tokio::test]
async fn old_ids_of_an_earlier_process_are_removed_without_further_events() {
    let stage = Stage::new().await;
    stage.accept(&["a"]).await;
    stage.tick().await;
    let stage = stage.again().await;
    stage.tick().await;
    assert_eq!(stage.stored_ids().await, 1, "the id is recent");
    stage.clock.advance(Duration::from_mins(11));
    stage.tick().await;
    assert_eq!(stage.stored_ids().await, 0);
}

/// A call of the same function.
fn call(id: &str, order_key: Option<&str>) -> NewCall {
    NewCall {
        function: "store".into(),
        arguments: BTreeMap::from([("event".to_owned(), event(id))]),
        key: None,
        order_key: order_key.map(str::to_owned),
        user: None,
        author: "ada".into(),
        actor: Actor::Owner,
    }
}

#[tokio::test]
async fn waiting_events_are_listed_removed_and_replayed() {
    let stage = Stage::new().await;
    let ids: Vec<String> = (0..1_003).map(|number| number.to_string()).collect();
    let ids: Vec<&str> = ids.iter().map(String::as_str).collect();
    let accepted = stage.accept(&ids).await;
    let list = async |limit, statuses: &[TriggerEventStatus]| {
        let trigger = Some("/functions/store".to_owned());
        let filter = TriggerEventFilter { limit, statuses: statuses.to_vec(), trigger };
        let events = stage.triggers.events(&filter).await.expect("events");
        events.into_iter().map(|event| id_of(&event.event.data)).collect::<Vec<_>>()
    };
    let pending = [TriggerEventStatus::Pending];
    assert_eq!(list(3, &[]).await, ["1002", "1001", "1000"]);
    assert_eq!(list(2_000, &pending).await.len(), 1_003);
    assert!(list(10, &[TriggerEventStatus::Failed]).await.is_empty());

    // The first and the last event of an entry, and one event within the entry.
    for removed in [1_002, 1_000, 700] {
        let id = &accepted[removed].event;
        let event = stage.triggers.remove(id).await.expect("removed");
        assert_eq!(id_of(&event.event.data), ids[removed]);
        let error = stage.triggers.event(id).await.expect_err("gone");
        assert_eq!(error.code(), ErrorCode::EventNotFound);
        stage.triggers.remove(id).await.expect_err("gone");
    }
    assert_eq!(list(2, &[]).await, ["1001", "999"]);
    let replayed = stage.triggers.replay(&accepted[1_001].event).await.expect("replayed");
    assert_eq!(replayed.status, TriggerEventStatus::Pending);
    assert_eq!(list(2, &[]).await, ["1001", "999"], "it is listed once");
    let stage = stage.again().await;
    stage.tick().await;
    stage.tick().await;
    let received = stage.received();
    assert_eq!(received.len(), 1_000);
    assert!(!["700", "1000", "1002"].iter().any(|id| received.iter().any(|one| one == id)));
    assert!(!stage.triggers.has_calls());
}

#[tokio::test]
async fn a_replayed_event_does_not_overtake_waiting_events_of_its_partition() {
    let stage = Stage::new().await;
    let keyed = |id: &str| {
        let mut event = event(id);
        event["partitionkey"] = "customer 7".into();
        event
    };
    let new = batch_of(None, &[event("a"), keyed("b"), keyed("c")]);
    let accepted = stage.triggers.accept_events(new).await.expect("accepted");
    let replayed = stage.triggers.replay(&accepted[2].event).await.expect("replayed");
    assert_eq!(replayed.status, TriggerEventStatus::Pending);
    stage.tick().await;
    assert_eq!(stage.received(), ["a", "b", "c"]);
}

#[tokio::test]
async fn a_call_with_an_order_key_does_not_overtake_waiting_events() {
    let stage = Stage::new().await;
    let keyed = |id: &str| {
        let mut event = event(id);
        event["partitionkey"] = "customer 7".into();
        event
    };
    stage.triggers.accept_events(batch_of(None, &[keyed("a"), keyed("b")])).await.expect("two");
    let key = Some("once".to_owned());
    let new = NewCall { key: key.clone(), ..call("c", Some("customer 7")) };
    let first = stage.triggers.accept(new.clone()).await.expect("accepted");
    let again = stage.triggers.accept(new).await.expect("accepted");
    assert_eq!((&again.event, again.duplicate), (&first.event, true));
    let shown = stage.triggers.event(&first.event).await.expect("an event that waits");
    assert_eq!(shown.status, TriggerEventStatus::Pending);
    stage.triggers.accept(call("d", None)).await.expect("accepted");
    stage.triggers.accept(call("e", Some("customer 7"))).await.expect("accepted");
    let stage = stage.again().await;
    stage.tick().await;
    let received = stage.received();
    let ordered: Vec<&String> = received.iter().filter(|id| *id != "d").collect();
    assert_eq!(ordered, ["a", "b", "c", "e"]);
    assert_eq!(received.len(), 5);
    assert!(!stage.triggers.has_calls());
}

#[tokio::test]
async fn waiting_events_of_a_user_over_a_limit_do_not_stop_those_of_others() {
    let stage = Stage::new().await;
    let is_over = Arc::new(AtomicBool::new(true));
    let current = is_over.clone();
    stage.jobs.set_limits_of(Arc::new(move |user| {
        let is_over = user == "ana" && current.load(Ordering::Relaxed);
        Limits { money_per_day: is_over.then_some(0.0), ..Limits::default() }
    }));
    // Send more events of Ana than fit into the queue, before one event of Ben.
    let of_ana: Vec<Value> = (0..3_000).map(|number| event(&number.to_string())).collect();
    stage.triggers.accept_events(batch_of(Some("ana"), &of_ana)).await.expect("accepted");
    let mut of_ben = event("of ben");
    of_ben["partitionkey"] = "a key".into();
    let mut of_ana = event("of ana");
    of_ana["partitionkey"] = "a key".into();
    stage.triggers.accept_events(batch_of(Some("ana"), &[of_ana])).await.expect("accepted");
    stage.triggers.accept_events(batch_of(Some("ben"), &[of_ben])).await.expect("accepted");
    stage.tick().await;
    stage.tick().await;
    assert_eq!(stage.received(), ["of ben"]);
    is_over.store(false, Ordering::Relaxed);
    for _ in 0..8 {
        stage.clock.advance(Duration::from_secs(61));
        stage.tick().await;
    }
    assert_eq!(stage.received().len(), 3_002);
    assert!(!stage.triggers.has_calls());
}

#[tokio::test]
async fn an_event_whose_user_lost_the_right_fails_without_an_attempt() {
    let stage = Stage::new().await;
    let accepted = stage.accept(&["a", "b"]).await;
    *stage.tables.denied.lock().expect("denied") = Some("no longer allowed".to_owned());
    stage.tick().await;
    assert!(stage.received().is_empty());
    let failed = stage.triggers.event(&accepted[0].event).await.expect("an event");
    assert_eq!((failed.status, failed.attempts), (TriggerEventStatus::Failed, 0));
    assert_eq!(failed.error.expect("an error").message, "no longer allowed");
    // With the right, the event can be replayed.
    *stage.tables.denied.lock().expect("denied") = None;
    stage.triggers.replay(&accepted[1].event).await.expect("replayed");
    stage.tick().await;
    assert_eq!(stage.received(), ["b"]);
}

#[tokio::test]
async fn concurrent_batches_with_the_same_ids_are_the_same_events() {
    let stage = Stage::new().await;
    let all = (0..8).map(|_| stage.triggers.accept_events(batch(&["a", "b"])));
    let all = futures::future::try_join_all(all).await.expect("accepted");
    assert_eq!(all.iter().flatten().filter(|one| !one.duplicate).count(), 2);
    let ids: BTreeSet<&str> = all.iter().flatten().map(|one| one.event.as_str()).collect();
    assert_eq!(ids.len(), 2);
    stage.tick().await;
    assert_eq!(stage.received(), ["a", "b"]);
}

#[tokio::test]
async fn events_wait_outside_the_queue_and_are_delivered_with_their_ids() {
    let stage = Stage::new().await;
    let ids: Vec<String> = (0..2_600).map(|number| number.to_string()).collect();
    let ids: Vec<&str> = ids.iter().map(String::as_str).collect();
    let accepted = stage.accept(&ids).await;
    let last = &accepted[2_599].event;
    let shown = stage.triggers.event(last).await.expect("an event that waits");
    assert_eq!((shown.status, shown.attempts), (TriggerEventStatus::Pending, 0));
    assert_eq!(
        (id_of(&shown.event.data), shown.trigger.as_str()),
        ("2599".into(), "/functions/store")
    );
    stage.tick().await;
    assert_eq!(stage.received(), ids[..1_000]);
    let stage = stage.again().await;
    for _ in 0..3 {
        stage.tick().await;
    }
    assert_eq!(stage.received(), ids);
    let shown = stage.triggers.event(last).await.expect("an event");
    assert_eq!((shown.status, id_of(&shown.event.data)), (TriggerEventStatus::Done, "2599".into()));
    assert!(!stage.triggers.has_calls());
    assert!(stage.triggers.event(&headwater_model::JobId::generate().to_string()).await.is_err());
}

#[tokio::test]
async fn events_of_a_partition_are_delivered_in_order() {
    let stage = Stage::new().await;
    let keyed = |id: &str| {
        let mut event = event(id);
        event["partitionkey"] = "customer 7".into();
        event
    };
    stage.tables.fail(ErrorCode::FunctionFailed, 1);
    let events = [keyed("a"), keyed("b"), event("c")];
    stage.triggers.accept_events(batch_of(None, &events)).await.expect("accepted");
    stage.tick().await;
    assert_eq!(stage.received(), ["a", "c"]);
    stage.clock.advance(Duration::from_secs(1));
    stage.tick().await;
    assert_eq!(stage.received(), ["a", "c", "a", "b"]);
    let mut long = event("d");
    long["partitionkey"] = "x".repeat(201).into();
    let wrong = stage.triggers.accept_events(batch_of(None, &[event("e"), long])).await;
    assert_eq!(wrong.expect_err("a long key").code(), ErrorCode::InvalidArgument);
    stage.tick().await;
    assert_eq!(stage.received().len(), 4, "no event of the batch was accepted");
}

#[tokio::test]
async fn an_event_that_cannot_be_parsed_fails_and_does_not_block_the_others() {
    let stage = Stage::new().await;
    let mut new = batch(&["a", "b", "c"]);
    // The second event cannot be parsed. An earlier version accepted such events.
    let text = r#"{"id": "b", "data": "\ud800"}"#;
    new.events[1].json = RawValue::from_string(text.to_owned()).expect("scanned");
    let accepted = stage.triggers.accept_events(new).await.expect("accepted");
    stage.tick().await;
    assert_eq!(stage.received(), ["a", "c"]);
    let failed = stage.triggers.event(&accepted[1].event).await.expect("an event");
    assert_eq!(failed.status, TriggerEventStatus::Failed);
    let error = failed.error.expect("an error").message;
    assert!(error.contains(&accepted[1].event), "{error}");
    let EventData::FunctionInvoked { arguments, .. } = failed.event.data else { panic!("a call") };
    assert_eq!(arguments["event"], text);
}

/// A process that accepts batches, and queues and delivers their events.
async fn live(
    store: &Arc<dyn Store>,
    clock: &Arc<FixedClock>,
    tables: &Arc<Tables>,
) -> headwater_triggers::Result<Triggers> {
    let triggers = open(store, clock, tables).await?;
    for ids in [&["a", "b", "c"][..], &["c", "d"]] {
        triggers.accept_events(batch(ids)).await?;
        triggers.tick().await?;
    }
    triggers.tick().await?;
    Ok(triggers)
}

/// Runs a process that crashes at its store call number `calls`, and another to which the client
/// sends all batches again. Returns true if the first crashed.
async fn crash_at(calls: i64, dying: Dying) -> bool {
    let (store, clock, tables) = (memory(), clock(), Arc::new(Tables::default()));
    let mortal = Mortal::new(&store, calls, dying);
    let as_store: Arc<dyn Store> = mortal.clone();
    let died = tokio::select! {
        biased;
        () = mortal.dead.cancelled() => true,
        lived = live(&as_store, &clock, &tables) => lived.is_err() || mortal.dead.is_cancelled(),
    };
    clock.advance(Duration::from_secs(1));
    let triggers = live(&store, &clock, &tables).await.expect("the second process");
    assert_eq!(committed(&tables), ["a", "b", "c", "d"], "{dying:?} call {calls}");
    let events = triggers.events(&TriggerEventFilter::default()).await.expect("events");
    // After a crash, an attempt reports that the event is already committed. The attempt is
    // repeated later.
    assert!(events.iter().all(|event| event.status != TriggerEventStatus::Failed));
    assert_eq!(events.len(), 4);
    died
}

#[tokio::test]
async fn a_crash_at_any_call_of_the_store_loses_and_doubles_no_event() {
    for dying in [Dying::Before, Dying::After] {
        let mut calls = 1;
        while crash_at(calls, dying).await {
            calls += 1;
        }
        assert!(calls > 20, "only {calls} calls");
    }
}

#[tokio::test]
async fn a_store_that_fails_for_a_while_loses_and_doubles_no_event() {
    for calls in 1..40 {
        let (store, clock, tables) = (memory(), clock(), Arc::new(Tables::default()));
        let mortal = Mortal::new(&store, i64::MAX, Dying::After);
        let as_store: Arc<dyn Store> = mortal.clone();
        let triggers = open(&as_store, &clock, &tables).await.expect("triggers");
        mortal.die_at(calls);
        for ids in [&["a", "b"][..], &["c"]] {
            let _ = triggers.accept_events(batch(ids)).await;
            let _ = triggers.tick().await;
        }
        mortal.revive();
        for ids in [&["a", "b"][..], &["c"]] {
            triggers.accept_events(batch(ids)).await.expect("accepted");
        }
        for _ in 0..3 {
            clock.advance(Duration::from_secs(1));
            triggers.tick().await.expect("a tick");
        }
        assert_eq!(committed(&tables), ["a", "b", "c"], "call {calls}");
    }
}
