//! A crash at every call of the store: no file is lost, and no file is recorded twice.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use crate::support::{Dying, Mortal, clock, memory};
use crate::targets::{Tables, by_hand, file, trigger};
use headwater_jobs::{Jobs, JobsOptions};
use headwater_model::{Clock, FixedClock, TriggerEventStatus};
use headwater_store::Store;
use headwater_triggers::{TriggerEventFilter, Triggers};
use serde_json::json;

const FILES: usize = 500;
const BATCH: usize = 60;

fn definition() -> headwater_model::Trigger {
    let files = json!({"folder": "in", "batch": BATCH});
    trigger(json!({"name": "landing", "files": files}))
}

async fn open(
    store: &Arc<dyn Store>,
    clock: &Arc<FixedClock>,
    project: &Path,
    tables: &Arc<Tables>,
) -> headwater_triggers::Result<Triggers> {
    let as_clock: Arc<dyn Clock> = clock.clone();
    let jobs = Jobs::open(store.clone(), as_clock, JobsOptions::default()).await?;
    let triggers = by_hand(store, clock, &jobs, project, tables).await?;
    triggers.reload(vec![definition()]).await?;
    Ok(triggers)
}

/// A process that polls, waits until the files are complete, records and delivers them.
async fn live(
    store: &Arc<dyn Store>,
    clock: &Arc<FixedClock>,
    project: &Path,
    tables: &Arc<Tables>,
) -> headwater_triggers::Result<Triggers> {
    let triggers = open(store, clock, project, tables).await?;
    for _ in 0..2 {
        triggers.tick().await?;
        clock.advance(Duration::from_secs(1));
    }
    triggers.tick().await?;
    Ok(triggers)
}

/// Runs a process that crashes at its store call number `calls`, and another process that
/// continues. Returns true if the first process crashed.
async fn crash_at(calls: i64, dying: Dying, project: &Path) -> bool {
    let (store, clock, tables) = (memory(), clock(), Arc::new(Tables::default()));
    let mortal = Mortal::new(&store, calls, dying);
    let as_store: Arc<dyn Store> = mortal.clone();
    let died = tokio::select! {
        biased;
        () = mortal.dead.cancelled() => true,
        lived = live(&as_store, &clock, project, &tables) => {
            lived.is_err() || mortal.dead.is_cancelled()
        }
    };
    clock.advance(Duration::from_secs(1));
    let triggers = live(&store, &clock, project, &tables).await.expect("the second process");
    let files = tables.files();
    let distinct: BTreeSet<&String> = files.iter().collect();
    assert_eq!((files.len(), distinct.len()), (FILES, FILES), "{dying:?} call {calls}");
    let filter = TriggerEventFilter { limit: 1_000, ..TriggerEventFilter::default() };
    let events = triggers.events(&filter).await.expect("events");
    assert!(events.iter().all(|event| event.status == TriggerEventStatus::Done));
    assert!(events.iter().all(|event| event.event.files().len() <= BATCH));
    assert_eq!(events.iter().map(|event| event.event.files().len()).sum::<usize>(), FILES);
    assert_eq!(triggers.list()[0].done, events.len() as u64);
    died
}

async fn crash_everywhere(dying: Dying) {
    let dir = tempfile::tempdir().expect("a folder");
    for number in 0..FILES {
        file(&dir.path().join(format!("in/{number}.csv")), "1");
    }
    let mut calls = 1;
    while crash_at(calls, dying, dir.path()).await {
        calls += 1;
    }
    assert!(calls > 30, "only {calls} calls");
}

#[tokio::test]
async fn a_crash_before_any_call_of_the_store_loses_and_doubles_nothing() {
    crash_everywhere(Dying::Before).await;
}

#[tokio::test]
async fn a_crash_after_any_call_of_the_store_loses_and_doubles_nothing() {
    crash_everywhere(Dying::After).await;
}

#[tokio::test]
async fn a_store_that_fails_for_a_while_loses_and_doubles_nothing_in_the_same_process() {
    let dir = tempfile::tempdir().expect("a folder");
    for number in 0..FILES {
        file(&dir.path().join(format!("in/{number}.csv")), "1");
    }
    for calls in (4..60).step_by(5) {
        let (store, clock, tables) = (memory(), clock(), Arc::new(Tables::default()));
        let mortal = Mortal::new(&store, i64::MAX, Dying::After);
        let as_store: Arc<dyn Store> = mortal.clone();
        let triggers = open(&as_store, &clock, dir.path(), &tables).await.expect("triggers");
        triggers.tick().await.expect("a look");
        clock.advance(Duration::from_secs(1));
        mortal.die_at(calls);
        // The error may be returned or shown in the status; the next tick continues in both cases.
        let _failed = triggers.tick().await;
        mortal.revive();
        for _ in 0..3 {
            clock.advance(Duration::from_secs(1));
            triggers.tick().await.expect("a tick");
        }
        let files = tables.files();
        let distinct: BTreeSet<&String> = files.iter().collect();
        assert_eq!((files.len(), distinct.len()), (FILES, FILES), "call {calls}");
        assert_eq!(triggers.list()[0].pending, 0);
    }
}
