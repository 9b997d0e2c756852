//! Records of calls that failed without a retry.

use std::sync::Arc;

use headwater_model::{Actor, ErrorCode, Problem, TriggerEventStatus};
use headwater_triggers::{
    CallDestination, CallPolicy, NewCall, TriggerEventFilter, with_retryable,
};
use serde_json::json;

use crate::support::{clock, jobs, memory};
use crate::targets::{Tables, by_hand};

#[tokio::test]
async fn a_call_that_is_not_retried_sends_a_record_to_its_destination() {
    let dir = tempfile::tempdir().expect("a folder");
    let (store, clock, tables) = (memory(), clock(), Arc::new(Tables::default()));
    let jobs = jobs(&store, &clock).await;
    let triggers = by_hand(&store, &clock, &jobs, dir.path(), &tables).await.expect("triggers");
    triggers.reload(Vec::new()).await.expect("definitions");
    let destination = CallDestination { target: "queue://alarms".into(), actor: Actor::Owner };
    let policy =
        CallPolicy { retries: Some(3), on_failure: Some(destination), ..CallPolicy::default() };
    tables.policies.lock().expect("policies").insert("notify".to_owned(), policy);
    let rejected = with_retryable(Problem::new(ErrorCode::FunctionFailed, "rejected"), false);
    tables.problems.lock().expect("problems").push_back(rejected);
    let call = NewCall {
        function: "notify".into(),
        arguments: [("n".to_owned(), json!(7))].into(),
        key: None,
        user: None,
        actor: Actor::Owner,
        order_key: None,
        author: "ada".into(),
    };
    let accepted = triggers.accept(call).await.expect("accepted");
    triggers.tick().await.expect("a tick");
    let ended = triggers.event(&accepted.event).await.expect("an event");
    assert_eq!((ended.status, ended.attempts), (TriggerEventStatus::Failed, 1));

    let filter = TriggerEventFilter {
        trigger: Some("/destinations/queue://alarms".to_owned()),
        ..TriggerEventFilter::default()
    };
    let records = triggers.events(&filter).await.expect("events");
    assert_eq!(records.len(), 1);
    let record = json!(records[0].event)["data"]["arguments"]["event"].clone();
    assert_eq!(record["requestContext"]["requestId"], accepted.event, "{record}");
    assert_eq!(record["requestContext"]["condition"], "RetriesExhausted");
    assert_eq!(record["requestContext"]["approximateInvokeCount"], 1);
    assert_eq!(record["requestPayload"], json!({"n": 7}));
    assert_eq!(record["responsePayload"]["errorMessage"], "rejected");
}
