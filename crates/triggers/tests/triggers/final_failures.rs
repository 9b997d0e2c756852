//! Records of calls that failed without a retry, or before they began.

use std::sync::Arc;
use std::time::Duration;

use headwater_model::{Actor, ErrorCode, FixedClock, Problem, Trigger, TriggerEventStatus};
use headwater_triggers::{CallDestination, CallPolicy, NewCall, Triggers, with_retryable};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::support::{clock, jobs, memory};
use crate::targets::{Tables, by_hand, file, sent_records};

/// A process whose calls of `notify` send a record to a queue after a failure.
struct Process {
    dir: TempDir,
    clock: Arc<FixedClock>,
    tables: Arc<Tables>,
    triggers: Triggers,
}

impl Process {
    async fn new(definitions: Vec<Trigger>) -> Self {
        let dir = tempfile::tempdir().expect("a folder");
        let (store, clock, tables) = (memory(), clock(), Arc::new(Tables::default()));
        let jobs = jobs(&store, &clock).await;
        let triggers = by_hand(&store, &clock, &jobs, dir.path(), &tables).await.expect("triggers");
        triggers.reload(definitions).await.expect("definitions");
        let destination = CallDestination { target: "queue://alarms".into(), actor: Actor::Owner };
        let policy =
            CallPolicy { retries: Some(3), on_failure: Some(destination), ..CallPolicy::default() };
        tables.policies.lock().expect("policies").insert("notify".to_owned(), policy);
        Process { dir, clock, tables, triggers }
    }

    /// Accepts a call of `notify`, and delivers it. Returns the id of its event.
    async fn call(&self) -> String {
        let call = NewCall {
            function: "notify".into(),
            arguments: [("n".to_owned(), json!(7))].into(),
            key: None,
            user: None,
            actor: Actor::Owner,
            order_key: None,
            author: "ada".into(),
        };
        let accepted = self.triggers.accept(call).await.expect("accepted");
        self.triggers.tick().await.expect("a tick");
        accepted.event
    }

    /// Returns the records for the queue.
    async fn records(&self) -> Vec<Value> {
        sent_records(&self.triggers, "queue://alarms").await
    }
}

#[tokio::test]
async fn a_call_that_is_not_retried_sends_a_record_to_its_destination() {
    let process = Process::new(Vec::new()).await;
    let rejected = with_retryable(Problem::new(ErrorCode::FunctionFailed, "rejected"), false);
    process.tables.problems.lock().expect("problems").push_back(rejected);
    let id = process.call().await;
    let ended = process.triggers.event(&id).await.expect("an event");
    assert_eq!((ended.status, ended.attempts), (TriggerEventStatus::Failed, 1));

    let records = process.records().await;
    assert_eq!(records.len(), 1);
    let record = &records[0];
    assert_eq!(record["requestContext"]["requestId"], id, "{record}");
    assert_eq!(record["requestContext"]["condition"], "RetriesExhausted");
    assert_eq!(record["requestContext"]["approximateInvokeCount"], 1);
    assert_eq!(record["requestPayload"], json!({"n": 7}));
    assert_eq!(record["responsePayload"]["errorMessage"], "rejected");
}

#[tokio::test]
async fn a_call_whose_user_lost_the_right_sends_a_record_to_its_destination() {
    let process = Process::new(Vec::new()).await;
    *process.tables.denied.lock().expect("denied") = Some("no longer allowed".to_owned());
    let id = process.call().await;
    let ended = process.triggers.event(&id).await.expect("an event");
    assert_eq!((ended.status, ended.attempts), (TriggerEventStatus::Failed, 0));

    let records = process.records().await;
    assert_eq!(records.len(), 1);
    let record = &records[0];
    assert_eq!(record["requestContext"]["requestId"], id, "{record}");
    assert_eq!(record["requestContext"]["approximateInvokeCount"], 0);
    assert_eq!(record["requestPayload"], json!({"n": 7}));
    let expected = json!({"errorType": "forbidden", "errorMessage": "no longer allowed"});
    assert_eq!(record["responsePayload"], expected);
}

#[tokio::test]
async fn the_record_of_an_event_that_a_trigger_may_not_see_does_not_contain_it() {
    let definition = json!({"name": "landing", "function": "notify", "retries": 1,
        "files": {"folder": "in", "batch": 1}});
    let definition = serde_json::from_value(definition).expect("a trigger");
    let process = Process::new(vec![definition]).await;
    *process.tables.denied.lock().expect("denied") = Some("no right to `in/a.csv`".to_owned());
    file(&process.dir.path().join("in/a.csv"), "x\n1\n");
    for _ in 0..6 {
        process.clock.advance(Duration::from_secs(5));
        process.triggers.tick().await.expect("a tick");
    }
    assert_eq!(process.tables.tries(), 0);

    let records = process.records().await;
    assert_eq!(records.len(), 1);
    let record = &records[0];
    assert_eq!(record["requestPayload"], Value::Null);
    assert_eq!(record["responsePayload"]["errorType"], "forbidden");
    assert!(!record.to_string().contains("a.csv"), "{record}");
}
