//! Asynchronous calls of functions, and concurrent deliveries.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::task::Poll;
use std::time::Duration;

use headwater_jobs::{CallBudget, NewJob};
use headwater_model::{
    Actor, DailyBudget, ErrorCode, Event, EventData, FixedClock, JobKind, Limits, Problem,
    ToProblem, Trigger, TriggerEvent, TriggerEventStatus, Usage,
};
use headwater_store::{JournalAppend, SqliteStore, Store, WriteBatch};
use headwater_triggers::{
    CallDestination, CallPolicy, NewCall, TriggerEventFilter, Triggers, with_retryable,
};
use serde_json::{Value, json};

use crate::support::{clock, jobs, memory, until};
use crate::targets::{Tables, by_hand, file};

struct Stage {
    store: Arc<dyn Store>,
    clock: Arc<FixedClock>,
    tables: Arc<Tables>,
    triggers: Triggers,
}

impl Stage {
    async fn new(project: &Path, definitions: Vec<Trigger>) -> Self {
        Self::on(memory(), project, definitions).await
    }

    async fn on(store: Arc<dyn Store>, project: &Path, definitions: Vec<Trigger>) -> Self {
        let (clock, tables) = (clock(), Arc::new(Tables::default()));
        let jobs = jobs(&store, &clock).await;
        let triggers = by_hand(&store, &clock, &jobs, project, &tables).await.expect("triggers");
        triggers.reload(definitions).await.expect("definitions");
        Stage { store, clock, tables, triggers }
    }

    /// Ends the process and starts another.
    async fn again(self, project: &Path) -> Self {
        self.triggers.stop();
        let jobs = jobs(&self.store, &self.clock).await;
        let triggers = by_hand(&self.store, &self.clock, &jobs, project, &self.tables).await;
        let triggers = triggers.expect("triggers");
        triggers.reload(Vec::new()).await.expect("definitions");
        Stage { triggers, ..self }
    }

    async fn tick(&self) {
        self.triggers.tick().await.expect("a tick");
    }

    async fn statuses(&self) -> Vec<TriggerEventStatus> {
        let events = self.triggers.events(&TriggerEventFilter::default()).await.expect("events");
        events.iter().rev().map(|event| event.status).collect()
    }

    /// Returns the argument `n` of each call attempt so far. For other events, returns the subject.
    fn tries(&self) -> Vec<String> {
        let tries = self.tables.tries.lock().expect("tries");
        let text = |event: &Event| match &event.data {
            EventData::FunctionInvoked { arguments, .. } => arguments["n"].to_string(),
            _ => event.subject.clone().unwrap_or_default(),
        };
        tries.iter().map(text).collect()
    }
}

fn call(number: u64) -> NewCall {
    NewCall {
        function: "notify".into(),
        arguments: BTreeMap::from([("n".to_owned(), json!(number))]),
        key: None,
        user: None,
        actor: Actor::Owner,
        order_key: None,
        author: "ada".into(),
    }
}

/// Polls a future until it has been pending this number of times, and then drops it. Returns true
/// if the future ends earlier.
async fn is_ended(pending: usize, future: impl Future) -> bool {
    let mut future = std::pin::pin!(future);
    let mut left = pending;
    std::future::poll_fn(|context| match future.as_mut().poll(context) {
        Poll::Ready(_) => Poll::Ready(true),
        Poll::Pending if left == 0 => Poll::Ready(false),
        Poll::Pending => {
            left -= 1;
            Poll::Pending
        }
    })
    .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stored_call_is_delivered_although_its_client_left() {
    let dir = tempfile::tempdir().expect("a folder");
    let store = SqliteStore::open(&dir.path().join("lake.db")).await.expect("a store");
    let stage = Stage::on(Arc::new(store), dir.path(), Vec::new()).await;
    for number in 0.. {
        let has_ended = is_ended(number, stage.triggers.accept(call(number as u64))).await;
        // The store applies batches in order, so it has applied the earlier batches after this one.
        let entries = vec![JournalAppend::put("other", "key", "value".into())];
        stage.store.apply(WriteBatch { entries, ..WriteBatch::default() }).await.expect("applied");
        until("all stored calls are delivered", async || {
            stage.tick().await;
            stage.statuses().await.iter().all(|status| *status == TriggerEventStatus::Done)
        })
        .await;
        if has_ended {
            break;
        }
    }
    assert!(!stage.tries().is_empty());
}

#[tokio::test]
async fn a_call_is_accepted_once_per_key_and_survives_the_process() {
    let dir = tempfile::tempdir().expect("a folder");
    let stage = Stage::new(dir.path(), Vec::new()).await;
    let keyed = || NewCall { key: Some("order-7".into()), ..call(1) };
    let first = stage.triggers.accept(keyed()).await.expect("accepted");
    assert!(!first.duplicate);
    assert!(stage.triggers.has_calls());

    let stage = stage.again(dir.path()).await;
    let second = stage.triggers.accept(keyed()).await.expect("accepted");
    assert_eq!((&second.event, second.duplicate), (&first.event, true));
    // Equal keys of different users are independent.
    let of = |owner: &str| NewCall { user: Some(owner.into()), ..keyed() };
    for owner in ["ana", "bob"] {
        assert!(!stage.triggers.accept(of(owner)).await.expect("accepted").duplicate, "{owner}");
        assert!(stage.triggers.accept(of(owner)).await.expect("accepted").duplicate, "{owner}");
    }
    stage.tick().await;
    assert_eq!(stage.tries(), ["1", "1", "1"]);
    assert!(!stage.triggers.has_calls());
    let event = stage.triggers.event(&first.event).await.expect("an event");
    assert_eq!((event.status, event.author.as_deref()), (TriggerEventStatus::Done, Some("ada")));
    assert_eq!(
        (event.trigger.as_str(), event.event.source.as_str()),
        ("/functions/notify", "/functions/notify")
    );
    assert!(stage.triggers.list().is_empty());
    for key in [String::new(), "x".repeat(201), "a\nb".into()] {
        let wrong = NewCall { key: Some(key), ..call(1) };
        let error = stage.triggers.accept(wrong).await.expect_err("an error");
        assert_eq!(error.code(), ErrorCode::InvalidArgument);
    }
}

/// Returns the records that a function received, in order.
fn records(stage: &Stage, wanted: &str) -> Vec<Value> {
    let tries = stage.tables.tries.lock().expect("tries");
    let record = |event: &Event| match &event.data {
        EventData::FunctionInvoked { function, arguments } if function == wanted => {
            Some(arguments["event"].clone())
        }
        _ => None,
    };
    tries.iter().filter_map(record).collect()
}

fn destination(target: &str) -> CallDestination {
    CallDestination { target: target.to_owned(), actor: Actor::Owner }
}

#[tokio::test]
async fn destinations_receive_a_record_of_each_call_that_ended() {
    let dir = tempfile::tempdir().expect("a folder");
    let stage = Stage::new(dir.path(), Vec::new()).await;
    let policy = CallPolicy {
        retries: Some(1),
        on_success: Some(destination("audit")),
        on_failure: Some(destination("alarm:live")),
        ..CallPolicy::default()
    };
    let back = CallPolicy { on_success: Some(destination("notify")), ..CallPolicy::default() };
    *stage.tables.policies.lock().expect("policies") =
        BTreeMap::from([("notify".to_owned(), policy), ("audit".to_owned(), back)]);
    let arguments = BTreeMap::from([("event".to_owned(), json!({"n": 1}))]);
    let first = NewCall { arguments, ..call(1) };
    let accepted = stage.triggers.accept(first).await.expect("accepted");
    stage.tick().await;
    stage.tick().await;
    let record = &records(&stage, "audit")[0];
    assert_eq!(record["requestContext"]["condition"], "Success");
    assert_eq!(record["requestContext"]["requestId"], accepted.event);
    assert_eq!(record["requestContext"]["approximateInvokeCount"], 1);
    assert_eq!(record["requestPayload"], json!({"n": 1}));
    assert_eq!(record["responsePayload"], json!({"done": true}));
    // The destination of the second function is the first function, so the loop is stopped here.
    stage.tick().await;
    assert_eq!(stage.tables.tries(), 2);

    stage.tables.fail(ErrorCode::FunctionFailed, 2);
    stage.triggers.accept(call(2)).await.expect("accepted");
    stage.tick().await;
    assert!(records(&stage, "alarm:live").is_empty(), "a retry is left");
    stage.clock.advance(Duration::from_secs(1));
    stage.triggers.tick().await.expect("a tick");
    let stage = stage.again(dir.path()).await;
    stage.tick().await;
    let alarms = records(&stage, "alarm:live");
    assert_eq!(alarms.len(), 1, "once, also after the process ended");
    assert_eq!(alarms[0]["requestContext"]["condition"], "RetriesExhausted");
    assert_eq!(alarms[0]["requestContext"]["approximateInvokeCount"], 2);
    assert_eq!(alarms[0]["responseContext"]["functionError"], "Unhandled");
    assert_eq!(alarms[0]["requestPayload"], json!({"n": 2}));
    assert!(!stage.triggers.has_calls());
}

#[tokio::test]
async fn destinations_receive_a_record_of_each_call_by_a_trigger() {
    let dir = tempfile::tempdir().expect("a folder");
    let definition = json!({"name": "landing", "function": "notify", "retries": 1,
        "files": {"folder": "in", "batch": 1}});
    let definition = serde_json::from_value(definition).expect("a trigger");
    let stage = Stage::new(dir.path(), vec![definition]).await;
    // The trigger's own number of retries applies, not the one of the policy.
    let policy = CallPolicy {
        retries: Some(0),
        on_success: Some(destination("audit")),
        on_failure: Some(destination("alarm")),
        ..CallPolicy::default()
    };
    stage.tables.policies.lock().expect("policies").insert("notify".to_owned(), policy);
    stage.tables.fail(ErrorCode::FunctionFailed, 2);
    file(&dir.path().join("in/a.csv"), "x\n1\n");
    let sent = async |function: &str| {
        for _ in 0..6 {
            stage.clock.advance(Duration::from_secs(5));
            stage.tick().await;
        }
        records(&stage, function)
    };
    let alarms = sent("alarm").await;
    assert_eq!(alarms.len(), 1, "{alarms:?}");
    let context = &alarms[0]["requestContext"];
    assert_eq!(context["condition"], "RetriesExhausted");
    assert_eq!(context["approximateInvokeCount"], 2);
    assert!(context["functionArn"].as_str().expect("an ARN").contains(":function:notify:"));
    assert_eq!(alarms[0]["requestPayload"]["id"], context["requestId"]);
    assert!(alarms[0]["requestPayload"].to_string().contains("a.csv"), "{alarms:?}");
    file(&dir.path().join("in/b.csv"), "x\n1\n");
    let audits = sent("audit").await;
    assert_eq!(audits.len(), 1, "{audits:?}");
    assert_eq!(audits[0]["responsePayload"], json!({"done": true}));
    let filter = TriggerEventFilter {
        trigger: Some("/functions/audit".to_owned()),
        ..TriggerEventFilter::default()
    };
    let events = stage.triggers.events(&filter).await.expect("events");
    assert_eq!(events[0].author.as_deref(), Some("trigger landing"));
}

#[tokio::test]
async fn an_address_receives_records_for_the_identity_that_set_it() {
    let dir = tempfile::tempdir().expect("a folder");
    let stage = Stage::new(dir.path(), Vec::new()).await;
    let policy =
        CallPolicy { on_success: Some(destination("queue://results")), ..CallPolicy::default() };
    stage.tables.policies.lock().expect("policies").insert("notify".to_owned(), policy);
    stage.triggers.accept(call(1)).await.expect("accepted");
    stage.tick().await;
    let trigger = "/destinations/queue://results";
    let filter =
        TriggerEventFilter { trigger: Some(trigger.to_owned()), ..TriggerEventFilter::default() };
    let event = async |stage: &Stage| {
        let events = stage.triggers.events(&filter).await.expect("events");
        assert_eq!(events.len(), 1);
        events[0].clone()
    };
    let queued = event(&stage).await;
    let author = queued.author.as_deref();
    assert_eq!((queued.status, author), (TriggerEventStatus::Pending, Some("owner")));
    assert_eq!(queued.event.source, trigger);
    assert_eq!(queued.event.caused_by, ["/functions/notify"]);

    // Attempts count even if the server is unavailable, so the second attempt is the last.
    let stage = stage.again(dir.path()).await;
    for is_retryable in [true, false] {
        let problem = Problem::new(ErrorCode::Unavailable, "no");
        let mut problems = stage.tables.problems.lock().expect("problems");
        problems.push_back(with_retryable(problem, is_retryable));
    }
    stage.tick().await;
    let retried = event(&stage).await;
    assert_eq!((retried.status, retried.attempts), (TriggerEventStatus::Pending, 1));
    stage.clock.advance(Duration::from_secs(1));
    stage.tick().await;
    let failed = event(&stage).await;
    assert_eq!((failed.status, failed.attempts), (TriggerEventStatus::Failed, 2));
    stage.triggers.replay(&failed.event.id).await.expect("replayed");
    stage.tick().await;
    assert_eq!(event(&stage).await.status, TriggerEventStatus::Done);
    assert_eq!(records(&stage, "queue://results").len(), 3);
}

#[tokio::test]
async fn a_failing_call_delays_only_calls_with_its_order_key() {
    let dir = tempfile::tempdir().expect("a folder");
    let stage = Stage::new(dir.path(), Vec::new()).await;
    let ordered = |number| NewCall { order_key: Some("a".into()), ..call(number) };
    stage.tables.fail(ErrorCode::FunctionFailed, 1);
    for new in [ordered(1), ordered(2), call(3)] {
        stage.triggers.accept(new).await.expect("accepted");
    }
    stage.tick().await;
    assert_eq!(stage.tries(), ["1", "3"]);
    stage.clock.advance(Duration::from_secs(1));
    stage.tick().await;
    assert_eq!(stage.tries(), ["1", "3", "1", "2"]);
    assert_eq!(stage.statuses().await, [TriggerEventStatus::Done; 3]);
}

#[tokio::test]
async fn a_throttled_call_pauses_its_queue_and_counts_as_no_attempt() {
    let dir = tempfile::tempdir().expect("a folder");
    let stage = Stage::new(dir.path(), Vec::new()).await;
    stage.tables.fail(ErrorCode::TooBusy, 1);
    stage.triggers.accept(call(1)).await.expect("accepted");
    let second = stage.triggers.accept(call(2)).await.expect("accepted");
    stage.tick().await;
    assert_eq!(stage.tries(), ["1"]);
    stage.clock.advance(Duration::from_secs(1));
    stage.tick().await;
    assert_eq!(stage.tries().len(), 3);
    let event = stage.triggers.event(&second.event).await.expect("an event");
    assert_eq!(event.attempts, 1);
    assert_eq!(stage.statuses().await, [TriggerEventStatus::Done; 2]);
}

#[tokio::test]
async fn a_failed_or_pending_event_is_removed_and_frees_its_order_key() {
    let dir = tempfile::tempdir().expect("a folder");
    let stage = Stage::new(dir.path(), Vec::new()).await;
    let ordered = |number| NewCall { order_key: Some("a".into()), ..call(number) };
    stage.tables.fail(ErrorCode::FunctionFailed, 1);
    let first = stage.triggers.accept(ordered(1)).await.expect("accepted");
    let second = stage.triggers.accept(ordered(2)).await.expect("accepted");
    stage.tick().await;
    assert_eq!(stage.tries(), ["1"]);
    stage.triggers.remove(&first.event).await.expect("removed");
    let error = stage.triggers.event(&first.event).await.expect_err("gone");
    assert_eq!(error.code(), ErrorCode::EventNotFound);
    stage.tick().await;
    assert_eq!(stage.tries(), ["1", "2"]);
    let error = stage.triggers.remove(&second.event).await.expect_err("an error");
    assert_eq!(
        error.to_string(),
        format!("event `{}` is done and cannot be removed", second.event)
    );
    let stage = stage.again(dir.path()).await;
    assert_eq!(stage.statuses().await, [TriggerEventStatus::Done]);
}

#[tokio::test]
async fn a_file_that_a_function_rejects_does_not_delay_other_files() {
    let dir = tempfile::tempdir().expect("a folder");
    let definition = json!({"name": "landing", "function": "f", "retries": 1,
        "files": {"folder": "in", "batch": 1}});
    let definition = serde_json::from_value(definition).expect("a trigger");
    let stage = Stage::new(dir.path(), vec![definition]).await;
    stage.tables.fail(ErrorCode::FunctionFailed, 1);
    for name in ["a.csv", "b.csv", "c.csv"] {
        file(&dir.path().join("in").join(name), "1");
    }
    stage.tick().await;
    stage.clock.advance(Duration::from_secs(1));
    stage.tick().await;
    stage.tick().await;
    assert_eq!(stage.tries(), ["a.csv", "b.csv", "c.csv"]);
    stage.clock.advance(Duration::from_secs(1));
    stage.tick().await;
    assert_eq!(stage.tries(), ["a.csv", "b.csv", "c.csv", "a.csv"]);
}

#[tokio::test]
async fn a_call_waits_while_its_user_is_over_a_limit_and_calls_of_others_do_not() {
    let dir = tempfile::tempdir().expect("a folder");
    let (store, clock, tables) = (memory(), clock(), Arc::new(Tables::default()));
    let jobs = jobs(&store, &clock).await;
    let limits = Arc::new(Mutex::new(Limits { jobs: Some(1), ..Limits::default() }));
    let current = limits.clone();
    jobs.set_limits_of(Arc::new(move |user| {
        if user == "ana" { *current.lock().expect("limits") } else { Limits::default() }
    }));
    let triggers = by_hand(&store, &clock, &jobs, dir.path(), &tables).await.expect("triggers");
    triggers.reload(Vec::new()).await.expect("definitions");
    let stage = Stage { store, clock, tables, triggers };
    let query = NewJob::new(JobKind::Query, "SELECT 1", "ana");
    let query = NewJob { user: Some("ana".to_owned()), ..query };
    let (_, running) = jobs.record(query).await.expect("a statement");
    let of = |user: &str, number| NewCall { user: Some(user.into()), ..call(number) };
    for new in [of("ana", 1), of("ben", 2)] {
        stage.triggers.accept(new).await.expect("accepted");
    }
    stage.tick().await;
    assert_eq!(stage.tries(), ["2"]);
    running.finish(Ok(serde_json::Value::Null));
    let spent = Limits { money_per_day: Some(0.0), ..Limits::default() };
    *limits.lock().expect("limits") = spent;
    stage.clock.advance(Duration::from_secs(1));
    stage.tick().await;
    assert_eq!(stage.tries(), ["2"], "the day's money is spent");
    assert_eq!(stage.statuses().await, [TriggerEventStatus::Pending, TriggerEventStatus::Done]);
    let events = stage.triggers.events(&TriggerEventFilter::default()).await.expect("events");
    let reason = |event: &TriggerEvent| event.error.as_ref().map(|problem| problem.code);
    let reasons: Vec<_> = events.iter().rev().map(reason).collect();
    assert_eq!(reasons, [Some(ErrorCode::QuotaExceeded), None], "the limit is shown");
    *limits.lock().expect("limits") = Limits::default();
    stage.clock.advance(Duration::from_secs(60));
    stage.tick().await;
    assert_eq!(stage.tries(), ["2", "1"]);
}

#[tokio::test]
async fn events_wait_while_the_deployer_of_their_trigger_is_over_a_limit() {
    let dir = tempfile::tempdir().expect("a folder");
    let (store, clock, tables) = (memory(), clock(), Arc::new(Tables::default()));
    *tables.deployer.lock().expect("a user") = Some("ana".to_owned());
    let jobs = jobs(&store, &clock).await;
    let spent = Limits { money_per_day: Some(0.0), ..Limits::default() };
    let limits = Arc::new(Mutex::new(spent));
    let current = limits.clone();
    jobs.set_limits_of(Arc::new(move |user| {
        if user == "ana" { *current.lock().expect("limits") } else { Limits::default() }
    }));
    let triggers = by_hand(&store, &clock, &jobs, dir.path(), &tables).await.expect("triggers");
    let definition =
        json!({"name": "landing", "function": "f", "files": {"folder": "in", "batch": 1}});
    let definition = serde_json::from_value(definition).expect("a trigger");
    triggers.reload(vec![definition]).await.expect("definitions");
    let stage = Stage { store, clock, tables, triggers };
    for name in ["a.csv", "b.csv"] {
        file(&dir.path().join("in").join(name), "1");
    }
    for _ in 0..3 {
        stage.tick().await;
        stage.clock.advance(Duration::from_secs(1));
    }
    let events = stage.triggers.events(&TriggerEventFilter::default()).await.expect("events");
    assert_eq!(events.len(), 2);
    for event in &events {
        assert_eq!((event.status, event.attempts), (TriggerEventStatus::Pending, 0));
        let code = event.error.as_ref().map(|problem| problem.code);
        assert_eq!(code, Some(ErrorCode::QuotaExceeded), "the limit is shown");
    }
    // A call by the owner has no limits.
    stage.triggers.accept(call(1)).await.expect("accepted");
    stage.tick().await;
    assert_eq!(stage.tries(), ["1"]);
    *limits.lock().expect("limits") = Limits::default();
    stage.clock.advance(Duration::from_secs(61));
    stage.tick().await;
    stage.tick().await;
    // The trigger may start its two events in any order.
    let mut tries = stage.tries();
    tries.sort();
    assert_eq!(tries, ["1", "a.csv", "b.csv"]);
}

#[tokio::test]
async fn calls_of_a_function_with_an_exhausted_budget_wait_for_the_next_day() {
    let dir = tempfile::tempdir().expect("a folder");
    let mut stage = Stage::new(dir.path(), Vec::new()).await;
    let budget = DailyBudget { calls_per_day: Some(2), ..DailyBudget::default() };
    let usage_max = Usage::default();
    let budget = CallBudget { function: "notify".to_owned(), budget, usage_max };
    stage.tables.budgets.lock().expect("budgets").insert("notify".to_owned(), budget);
    for number in 1..=4 {
        stage.triggers.accept(call(number)).await.expect("accepted");
    }
    stage.tick().await;
    assert_eq!(stage.tries(), ["1", "2"]);
    stage = stage.again(dir.path()).await;
    // The pause for a used budget is shorter than a day.
    for _ in 0..2 {
        stage.clock.advance(Duration::from_hours(11));
        stage.tick().await;
    }
    assert_eq!(stage.tries(), ["1", "2"], "the calls before the restart count");
    let events = stage.triggers.events(&TriggerEventFilter::default()).await.expect("events");
    let waiting: Vec<_> =
        events.iter().filter(|event| event.status == TriggerEventStatus::Pending).collect();
    assert_eq!(waiting.len(), 2);
    assert!(waiting.iter().all(|event| event.attempts == 0 && event.error.is_some()));
    stage.clock.advance(Duration::from_hours(3));
    stage.tick().await;
    assert_eq!(stage.tries(), ["1", "2", "3", "4"]);
}
