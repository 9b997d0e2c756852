//! Preparation of targets ahead of scheduled times.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use crate::support::{clock, jobs, memory, time};
use crate::targets::trigger;
use async_trait::async_trait;
use headwater_jobs::JobContext;
use headwater_model::{Actor, Clock, Event, Problem, Timestamp, Trigger};
use headwater_triggers::{TargetExecutor, Triggers, TriggersOptions};
use serde_json::{Value, json};

/// A target that is prepared 30 seconds ahead.
#[derive(Default)]
struct Prepared {
    prepared: Mutex<Vec<Timestamp>>,
    executed: Mutex<u32>,
}

#[async_trait]
impl TargetExecutor for Prepared {
    async fn execute(
        &self,
        _trigger: &Trigger,
        _event: &Event,
        _actor: Option<&Actor>,
        _context: JobContext,
    ) -> Result<Value, Problem> {
        *self.executed.lock().expect("a count") += 1;
        Ok(Value::Null)
    }

    fn preparation_time(&self, _trigger: &Trigger) -> Option<Duration> {
        Some(Duration::from_secs(30))
    }

    async fn prepare(&self, _trigger: &Trigger, scheduled: Timestamp) {
        self.prepared.lock().expect("times").push(scheduled);
    }
}

#[tokio::test]
async fn a_target_is_prepared_once_before_each_scheduled_time() {
    let (store, clock, target) = (memory(), clock(), Arc::new(Prepared::default()));
    let jobs = jobs(&store, &clock).await;
    let folder = tempfile::tempdir().expect("a folder");
    let shared: Arc<dyn Clock> = clock.clone();
    let options = TriggersOptions {
        manual: true,
        ..TriggersOptions::new(store.clone(), shared, jobs, folder.path())
    };
    let triggers = Triggers::start(options, target.clone()).await.expect("triggers");
    let hourly = trigger(json!({"name": "hourly", "schedule": {"cron": "0 * * * *"}}));
    triggers.reload(vec![hourly]).await.expect("definitions");
    let [first, second] = ["2026-03-01T01:00:00Z", "2026-03-01T02:00:00Z"].map(time);
    for (seconds, prepared, executed) in [
        (0, vec![], 0),
        (3_569, vec![], 0),
        (1, vec![first], 0),
        (10, vec![first], 0),
        (20, vec![first], 1),
        (3_570, vec![first, second], 1),
        (30, vec![first, second], 2),
    ] {
        clock.advance(Duration::from_secs(seconds));
        triggers.tick().await.expect("a tick");
        assert_eq!(*target.prepared.lock().expect("times"), prepared, "{seconds}");
        assert_eq!(*target.executed.lock().expect("a count"), executed, "{seconds}");
    }
}
