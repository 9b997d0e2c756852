//! Events that are divided while the deliveries of other events are removed.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use headwater_jobs::JobContext;
use headwater_model::{Actor, ErrorCode, Event, EventData, Problem, Trigger};
use headwater_queues::{NewMessage, Queues};
use headwater_store::{KeyRange, Store};
use headwater_triggers::{FAILED_ITEMS, NewCall, TargetExecutor, Triggers, TriggersOptions};
use serde_json::{Value, json};
use tokio::sync::Notify;

use crate::support::{Dying, Mortal, clock, jobs, memory, until};

const DELIVERIES: &str = "trigger_deliveries";

/// Number of deliveries of a trigger after which old deliveries are removed.
const CALLS: usize = 999;

/// A function that fails at first. The second attempt waits for `released`, and reports its first
/// item as failed.
#[derive(Default)]
struct Function {
    /// The payloads of each attempt.
    attempts: Mutex<Vec<Vec<String>>>,
    released: Notify,
}

#[async_trait]
impl TargetExecutor for Function {
    async fn execute(
        &self,
        _trigger: &Trigger,
        event: &Event,
        _actor: Option<&Actor>,
        _context: JobContext,
    ) -> Result<Value, Problem> {
        if matches!(event.data, EventData::FunctionInvoked { .. }) {
            return Ok(json!({"function": null}));
        }
        let payloads = event.payloads().into_iter().map(ToString::to_string).collect();
        let attempt = {
            let mut attempts = self.attempts.lock().expect("attempts");
            attempts.push(payloads);
            attempts.len()
        };
        match attempt {
            1 => Err(Problem::new(ErrorCode::FunctionFailed, "not now")),
            2 => {
                self.released.notified().await;
                Ok(json!({"function": null, FAILED_ITEMS: [0]}))
            }
            _ => Ok(json!({"function": null})),
        }
    }
}

fn call() -> NewCall {
    NewCall {
        function: "notify".into(),
        arguments: [].into(),
        key: None,
        user: None,
        actor: Actor::Owner,
        order_key: None,
        author: "ada".into(),
    }
}

#[tokio::test]
async fn the_parts_of_an_old_event_are_kept() {
    let (inner, clock, function) = (memory(), clock(), Arc::new(Function::default()));
    let pausing = Mortal::new(&inner, i64::MAX, Dying::Before);
    let store: Arc<dyn Store> = pausing.clone();
    let queues = Queues::open(store.clone(), clock.clone()).await.expect("queues");
    let jobs = jobs(&store, &clock).await;
    let options = TriggersOptions {
        manual: true,
        queues: Some(queues.clone()),
        done_kept: 10,
        ..TriggersOptions::new(store, clock.clone(), jobs, Path::new("/"))
    };
    let triggers = Triggers::start(options, function.clone()).await.expect("triggers");
    let definition = json!({"name": "orders", "function": "f", "retries": 5,
        "report_failures": true, "queue": {"name": "orders", "batch": 8}});
    let definition = serde_json::from_value(definition).expect("a trigger");
    triggers.reload(vec![definition]).await.expect("definitions");
    queues.create("orders", &BTreeMap::new(), BTreeMap::new()).await.expect("a queue");
    let message = |body: &str| NewMessage { body: body.to_owned(), ..NewMessage::default() };
    queues.send("orders", "ana", vec![message("bad"), message("good")]).await.expect("sent");
    triggers.accept(call()).await.expect("accepted");
    triggers.tick().await.expect("a tick");
    assert_eq!(function.attempts.lock().expect("attempts").len(), 1);

    for _ in 1..CALLS {
        triggers.accept(call()).await.expect("accepted");
    }
    clock.advance(Duration::from_secs(60));
    *pausing.paused.lock().expect("a journal") = Some(DELIVERIES);
    let divide = async {
        pausing.reached.notified().await;
        function.released.notify_one();
        let is_divided = async || {
            let open = inner.scan(DELIVERIES, &KeyRange::all()).await.expect("entries");
            open.iter().any(|entry| entry.key.contains('.'))
        };
        until("the event is divided", is_divided).await;
        pausing.resumed.notify_one();
    };
    let (ticked, ()) = tokio::join!(triggers.tick(), divide);
    ticked.expect("a tick");
    clock.advance(Duration::from_secs(60));
    triggers.tick().await.expect("a tick");
    let attempts = function.attempts.lock().expect("attempts").clone();
    assert_eq!(attempts.last(), Some(&vec![r#""bad""#.to_owned()]), "{attempts:?}");
}
