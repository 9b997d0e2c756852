//! Removal of a trigger while its events are being delivered.

use std::sync::Arc;

use async_trait::async_trait;
use headwater_jobs::{JobContext, Jobs, JobsOptions};
use headwater_model::{
    Actor, Clock, ErrorCode, Event, Problem, SystemClock, Trigger, TriggerEventStatus,
};
use headwater_triggers::{TargetExecutor, TriggerEventFilter, Triggers, TriggersOptions};
use serde_json::{Value, json};
use tokio::sync::Notify;

use crate::support::{memory, until};
use crate::targets::{file, trigger};

/// A target whose attempts wait until they are released.
struct Held {
    release: Notify,
    succeeds: bool,
}

#[async_trait]
impl TargetExecutor for Held {
    async fn execute(
        &self,
        _trigger: &Trigger,
        _event: &Event,
        _actor: Option<&Actor>,
        _context: JobContext,
    ) -> Result<Value, Problem> {
        self.release.notified().await;
        if self.succeeds {
            return Ok(Value::Null);
        }
        Err(Problem::new(ErrorCode::Storage, "no"))
    }
}

#[tokio::test]
async fn an_event_that_runs_while_its_trigger_is_removed_is_not_retried() {
    for succeeds in [true, false] {
        let (folder, store) = (tempfile::tempdir().expect("a folder"), memory());
        file(&folder.path().join("in/a.csv"), "1");
        let clock: Arc<dyn Clock> = Arc::new(SystemClock);
        let jobs = Jobs::open(store.clone(), clock.clone(), JobsOptions::default());
        let jobs = jobs.await.expect("jobs");
        let options = TriggersOptions::new(store.clone(), clock, jobs, folder.path());
        let target = Arc::new(Held { release: Notify::new(), succeeds });
        let triggers = Triggers::start(options, target.clone()).await.expect("triggers");
        let files = json!({"folder": "in", "debounce": "0s"});
        let landing = trigger(json!({"name": "landing", "files": files}));
        triggers.reload(vec![landing]).await.expect("a trigger");
        let statuses = async || {
            let events = triggers.events(&TriggerEventFilter::default()).await.expect("events");
            events.iter().map(|event| event.status).collect::<Vec<_>>()
        };
        until("it runs", async || statuses().await == [TriggerEventStatus::Running]).await;
        triggers.reload(Vec::new()).await.expect("no triggers");
        triggers.forget("landing").await.expect("the events are deleted");
        target.release.notify_one();
        let expected = if succeeds { vec![TriggerEventStatus::Done] } else { Vec::new() };
        until("the attempt has ended", async || statuses().await == expected).await;
    }
}
